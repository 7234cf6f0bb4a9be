"""`gateway audit show` over a real state: also while its log is written, and in words where a body cannot be opened."""

import argparse
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.audit.ledger import IntentBody, Ledger, Outcome
from gateway.commands.audit_show import show
from gateway.loops import running
from gateway.settings import Settings
from gateway.state import boot_clock, new_id, now_us, opened_directory, opened_segments
from gateway.state_keys import KEY_FILE, WRAPPED, opened_data_keys
from tenants.acts import Act
from tenants.errors import NotFound
from tenants.plans import Limits, Plan

MODEL = "m\x1b[2J"  # what a client may call a model
BY = Act("cli:test", 1)
BODY = IntentBody(tenant_name="acme", key_name="ci", address="192.0.2.7", action="infer", protocol="oip")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state=tmp_path / "state")


@asynccontextmanager
async def acme(settings: Settings) -> AsyncIterator[str]:
    """A request of acme's has its intent in the log, sealed, and the gateway goes on; its outcome is there behind that. The tenant's id."""
    async with (
        opened_directory(settings) as directory,
        opened_data_keys(settings, directory, boot_clock) as keys,
        opened_segments(settings) as segments,
        Ledger.open(segments, clock=now_us, new_id=new_id, keyring=keys.keyring) as ledger,
        running(committer=ledger.run()),
    ):
        await directory.values.put(Plan("team", 1, Limits(10)), act=BY)
        tenant = (await directory.tenants.create("acme", "team", BY)).id
        intent = ledger.intend(
            request="r1", tenant=tenant, key="k", model=MODEL, model_version="1", now_us=now_us(),
            body=BODY, sealer=await ledger.sealer(tenant),
        )  # fmt: skip
        await intent.durable()
        yield tenant
        ledger.settle(intent, Outcome(status="done", http_status=200), now_us=now_us())


Shown = Callable[[], Awaitable[tuple[int, list[Any]]]]


@pytest.fixture
def shown(settings: Settings, capsys: pytest.CaptureFixture[str]) -> Shown:
    """The exit code, and the records, as programs have them."""

    async def run() -> tuple[int, list[Any]]:
        code = await show(settings, argparse.Namespace(request="r1", json=True))
        return code, json.loads(capsys.readouterr().out)

    return run


async def test_a_request_is_shown_opened_while_its_gateway_runs_and_whole_behind_that(
    settings: Settings, shown: Shown
) -> None:
    async with acme(settings) as tenant:
        code, (intent,) = await shown()
    assert (code, intent["entry"]["tenant"], intent["not_opened"]) == (0, tenant, None)
    assert intent["body"]["address"] == "192.0.2.7"
    code, rows = await shown()
    assert (code, [it["entry"]["kind"] for it in rows]) == (0, ["intent", "outcome"])
    assert rows[1]["body"] == {"status": "done", "http_status": 200}


async def test_people_see_a_line_for_each_field_and_no_control_character_of_a_clients(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    async with acme(settings):
        pass
    assert await show(settings, argparse.Namespace(request="r1", json=False)) == 0
    printed = capsys.readouterr().out
    lines = dict(line.split(maxsplit=1) for line in printed.splitlines() if line)
    assert (lines["kind"], lines["body.address"], lines["body.status"]) == ("outcome", "192.0.2.7", "done")
    assert printed.replace("\n", "").isprintable()


async def test_entries_are_shown_where_the_key_is_destroyed_and_that_is_all_that_can_be(
    settings: Settings, shown: Shown
) -> None:
    async with acme(settings) as tenant:
        pass
    async with opened_directory(settings) as directory:
        (key,) = await directory.data_keys.of(tenant)
        await directory.data_keys.destroy("acme", key, Act("cli:test", 2), wait_seconds=0, backup_days=0)
    code, rows = await shown()
    assert (code, [it["body"] for it in rows]) == (0, [None, None])
    assert all("destroyed" in it["not_opened"] and key in it["not_opened"] for it in rows)


@pytest.mark.parametrize(("lost", "code", "words"), [(WRAPPED, 0, "is gone"), (KEY_FILE, 1, KEY_FILE)])
async def test_entries_are_shown_where_a_part_of_the_state_is_lost(
    settings: Settings, shown: Shown, lost: str, code: int, words: str
) -> None:
    async with acme(settings):
        pass
    (settings.state / lost).rename(settings.state / "elsewhere")
    for more in settings.state.glob(f"{lost}-*"):
        more.unlink()
    said, rows = await shown()
    assert (said, [it["body"] for it in rows]) == (code, [None, None])
    assert all(words in it["not_opened"] for it in rows)


async def test_a_state_restored_without_its_keys_gets_no_new_ones_from_who_only_reads(
    settings: Settings, shown: Shown
) -> None:
    async with acme(settings):
        pass
    for lost in (KEY_FILE, WRAPPED):
        for path in settings.state.glob(f"{lost}*"):
            path.unlink()
    before = sorted(settings.state.iterdir())
    code, rows = await shown()
    assert (code, [it["body"] for it in rows]) == (1, [None, None])
    assert all(f"restore it and {WRAPPED}" in it["not_opened"] for it in rows)
    assert sorted(settings.state.iterdir()) == before


async def test_a_request_that_nobody_recorded_is_not_found(settings: Settings) -> None:
    async with acme(settings):
        pass
    with pytest.raises(NotFound, match="r2"):
        await show(settings, argparse.Namespace(request="r2", json=True))


async def test_a_state_without_a_log_is_named_and_nothing_is_made(settings: Settings) -> None:
    with pytest.raises(FileNotFoundError, match="--state"):
        await show(settings, argparse.Namespace(request="r1", json=True))
    assert not settings.state.exists()
