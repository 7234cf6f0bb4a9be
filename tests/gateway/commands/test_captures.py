"""`gateway captures` over a real state: what was captured is found, opened for whoever has the keys, and gone when it is deleted."""

import json
import secrets
import stat
from argparse import Namespace
from base64 import b64decode
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.call import Outgoing
from gateway.commands import captures
from gateway.kept.capture import MOST_BYTES, Head
from gateway.kept.capturing import Captures
from gateway.settings import Settings
from gateway.state import clock, opened_blobs, opened_directory
from gateway.state_keys import opened_key_service, opened_openers
from tenants.acts import Act
from tenants.errors import Conflict, NotFound
from tenants.plans import Limits, Plan
from tenants.ports import Put
from tenants.rows import capture_at
from tests.gateway.house import NOW_US

BY = Act("cli:test", 1)
DAY_US = 86_400_000_000
SECRET = b"\x1b[2Jplanted9x"
CALLS = {"r1": 0, "r2-1": 1, "r3": 1}
"""Requests, and how many days behind the first they were made."""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state=tmp_path / "state")


@pytest.fixture
async def kept(settings: Settings) -> None:
    """Acme's, and one of beta's that has the same id."""
    async with opened_directory(settings) as directory:
        await directory.values.put(Plan("team", 1, Limits(10)), act=BY)
        tenants = {it: (await directory.tenants.create(it, "team", BY)).id for it in ("acme", "beta")}
    async with opened_key_service(settings):  # as the first start makes the key file, which no command does
        pass
    async with opened_openers(settings) as keyring, opened_blobs(settings) as blobs:
        made = Captures(keyring, blobs, draw=lambda: 0.0, clock=clock, entropy=secrets.token_bytes)
        async with made.writing(60.0):
            for request, days in CALLS.items():
                put(made, tenants["acme"], request, days, SECRET)
            put(made, tenants["beta"], "r1", 0, b"of beta")
        assert made.stored == 4


def put(made: Captures, tenant: str, request: str, days: int, said: bytes) -> None:
    one = made.drawn(tenant, 1.0)
    assert one is not None
    one.asked(Outgoing(head=b'{"in":1}'))
    one.replied(lambda _: None)(said if request != "r3" else b"\xff" * (MOST_BYTES + 1))
    at_us = NOW_US + days * DAY_US
    one.settled(
        Head(request=request, model="m", protocol="oip-rest", endpoint="infer", asked_us=at_us, ended_us=at_us + 5,
             ending="done", http_status=200, reply_status=200)
    )  # fmt: skip


Run = Callable[..., Awaitable[tuple[int, str, str]]]


@pytest.fixture
def run(settings: Settings, kept: None, capsys: pytest.CaptureFixture[str]) -> Run:
    """Exit code, and what is printed and remarked."""

    async def asked(verb: str, **given: Any) -> tuple[int, str, str]:
        (command,) = [it for it in captures.COMMANDS if it.name == verb]
        said = {
            "tenant": "acme",
            "day": None,
            "json": True,
            "limit": None,
            "after": None,
            "out": None,
        } | given
        code = await command.run(settings, Namespace(**said))
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return asked


async def listed(run: Run, **given: Any) -> list[tuple[str, str]]:
    code, out, _ = await run("list", **given)
    assert code == 0
    return [(it["day"], it["request"]) for it in json.loads(out)]


async def test_captures_are_listed_by_day_and_page_by_page_and_none_of_another_tenant(run: Run) -> None:
    everything = [("2023-11-14", "r1"), ("2023-11-15", "r2-1"), ("2023-11-15", "r3")]
    assert await listed(run) == everything
    assert await listed(run, day="20231115") == everything[1:]
    assert await listed(run, day="20231116") == []
    assert await listed(run, tenant="beta") == everything[:1]
    _, out, err = await run("list", limit=2)
    assert len(json.loads(out)) == 2
    after = err.split("--after ")[1].strip()
    assert await listed(run, after=after) == everything[2:]
    with pytest.raises(NotFound):
        await run("list", tenant="nobody")


@pytest.mark.parametrize("day", [None, "20231115"])
async def test_one_is_shown_opened_to_programs_and_to_people_without_a_clients_control_characters(
    run: Run, day: str | None
) -> None:
    code, out, _ = await run("show", request="r2-1", day=day)
    shown = json.loads(out)
    assert (code, shown["head"]["request"], shown["head"]["ending"]) == (0, "r2-1", "done")
    assert b64decode(shown["request_base64"]) == b'{"in":1}'
    assert b64decode(shown["reply_base64"]) == SECRET
    _, out, _ = await run("show", request="r2-1", day=day, json=False)
    lines = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert (lines["id"], lines["asked"], lines["request"]) == ("r2-1", "2023-11-15T22:13:20Z", '{"in":1}')
    assert "planted9x" in lines["reply"]
    assert out.replace("\n", "").isprintable()


async def test_what_was_cut_says_so_and_what_is_no_text_is_not_printed(run: Run) -> None:
    _, out, _ = await run("show", request="r3", json=False)
    lines = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert lines["reply_bytes"] == str(MOST_BYTES + 1)
    assert lines["reply"].startswith(f"{MOST_BYTES} bytes that are no text")
    assert f"the first {MOST_BYTES} bytes" in lines["reply"]


async def test_bodies_are_written_for_their_owner_alone_and_over_nothing(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "bodies"
    code, out, _ = await run("show", request="r1", out=folder)
    request, reply = (Path(json.loads(out)[f"{kind}_file"]) for kind in ("request", "reply"))
    assert (code, request.read_bytes(), reply.read_bytes()) == (0, b'{"in":1}', SECRET)
    assert {stat.S_IMODE(it.stat().st_mode) for it in (request, reply)} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    with pytest.raises(FileExistsError):
        await run("show", request="r1", out=folder)


async def told(settings: Settings, tenant: str) -> list[tuple[str, str, str]]:
    """What a tenant's history says of its captures: what, of which, and why."""
    async with opened_directory(settings) as directory:
        page = await directory.tenants.events(tenant)
    return [(it.action, it.subject, it.reason) for it in page.values if it.subject.startswith("capture/")]


async def test_one_that_is_deleted_is_gone_and_that_of_another_tenant_stays(
    settings: Settings, run: Run
) -> None:
    code, out, _ = await run("delete", request="r1", reason="ticket 4711")
    assert (code, json.loads(out)["request"]) == (0, "r1")
    assert await told(settings, "acme") == [("capture.deleted", "capture/r1", "ticket 4711")]
    assert await told(settings, "beta") == []
    for verb in ("show", "delete"):
        with pytest.raises(NotFound):
            await run(verb, request="r1")
    assert len(await told(settings, "acme")) == 1  # of what is not there nothing is told
    assert (await run("show", request="r1", tenant="beta"))[0] == 0


async def test_what_the_history_cannot_say_is_not_deleted(settings: Settings, run: Run) -> None:
    async with opened_directory(settings) as directory:
        at = capture_at((await directory.tenants.show("acme")).id, "r1")
        await directory.journal.table.transact(Put(at, b"{}", None))  # what is told has no row
    with pytest.raises(Conflict):
        await run("delete", request="r1")
    assert await told(settings, "acme") == []
    assert (await run("show", request="r1"))[0] == 0


async def test_when_its_data_key_is_destroyed_nobody_reads_it(settings: Settings, run: Run) -> None:
    async with opened_directory(settings) as directory:
        owner = await directory.tenants.show("acme")
        (key,) = await directory.data_keys.of(owner.id)
        await directory.data_keys.destroy("acme", key, Act("cli:test", 2), wait_seconds=0, backup_days=0)
    code, out, err = await run("show", request="r1")
    assert (code, out) == (1, "")
    assert "destroyed" in err
    assert (await run("show", request="r1", tenant="beta"))[0] == 0


async def test_one_that_was_changed_or_put_in_anothers_place_does_not_open(
    settings: Settings, run: Run
) -> None:
    async with opened_directory(settings) as directory:
        of_acme = settings.state / "blobs" / "capture" / (await directory.tenants.show("acme")).id
    one, other = of_acme / "20231114" / "r1,blob", of_acme / "20231115" / "r2-1,blob"
    whole = one.read_bytes()
    for harmed in (whole[:-1], whole[:-1] + bytes([whole[-1] ^ 1]), other.read_bytes(), b"", b"GWS"):
        one.chmod(0o600)
        one.write_bytes(harmed)
        code, out, err = await run("show", request="r1")
        assert (code, out) == (1, "")
        assert "does not open it" in err


async def test_nothing_of_a_capture_is_in_the_state_in_the_clear(settings: Settings, kept: None) -> None:
    found = [it for it in settings.state.rglob("*") if it.is_file() and b"planted9x" in it.read_bytes()]
    assert found == []
    assert len(list(settings.state.rglob("*,blob"))) == 4
