"""What wraps the data keys, at the command line: a key file is made once, grows and is judged; doctor tries what is in use."""

import asyncio
import json
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway import cli
from gateway.state_keys import WRAPPED
from gateway.stores.sqlite import SqliteTable
from tenants.ports import Key, Put
from tests.e2e import warm
from tests.worlds.kms import arn, kms_world

Said = Callable[..., tuple[int, str, str]]


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def said(state: Path, capsys: pytest.CaptureFixture[str]) -> Said:
    def run(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main([*words, "--state", str(state)])
        printed = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, printed.out, printed.err

    return run


def test_a_key_file_is_made_once_grows_and_shows_its_keys_and_no_secret(said: Said, state: Path) -> None:
    code, _, failed = said("key-file", "check")
    assert code == 1
    assert "the first `gateway serve` makes it" in failed
    assert not state.exists()
    made = json.loads(said("key-file", "create", "--json")[1])["key"]
    content = (state / "keys.json").read_bytes()
    code, _, failed = said("key-file", "create")
    assert code == 1
    assert "there is a key file" in failed
    assert (state / "keys.json").read_bytes() == content
    added = json.loads(said("key-file", "add", "--json")[1])["key"]
    code, printed, failed = said("key-file", "check", "--json")
    assert (code, failed) == (0, "")
    assert [(it["key"], it["wraps"]) for it in json.loads(printed)] == [(made, False), (added, True)]
    assert not any(it["key"] in printed for it in json.loads((state / "keys.json").read_bytes())["keys"])


def test_no_new_key_file_is_made_where_an_old_one_is_needed(said: Said, state: Path) -> None:
    said("key-file", "create")
    asyncio.run(_wrap(state))
    (state / "keys.json").rename(state / "away.json")
    code, _, failed = said("key-file", "create")
    assert code == 1
    assert "restore" in failed
    assert not (state / "keys.json").exists()
    code, _, failed = said("key-file", "check")
    assert code == 1
    assert "restore it from its back-up" in failed


async def _wrap(state: Path) -> None:
    async with SqliteTable(state / WRAPPED) as table:
        await table.transact(Put(Key("keys", "d_1"), b"wrapped", 0))


def test_a_file_that_others_may_read_is_refused_with_what_to_do(said: Said, state: Path) -> None:
    said("key-file", "create")
    (state / "keys.json").chmod(0o644)
    for words in (("key-file", "check"), ("key-file", "add")):
        code, _, failed = said(*words)
        assert code == 1
        assert f"chmod 600 {state / 'keys.json'}" in failed


# Doctor


async def doctor(state: Path, **environ: str) -> tuple[bool, str, str]:
    """What it finds of the data keys: whether that is good, what it is and what to do."""
    program = await asyncio.create_subprocess_exec(
        warm.program(),
        *("doctor", "--json", "--state", state),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, **environ},
    )
    printed, _ = await asyncio.wait_for(program.communicate(), 60)
    found: list[dict[str, Any]] = [it for it in json.loads(printed) if it["what"].startswith("data keys")]
    (it,) = found
    return it["ok"], it["what"], it["advice"]


async def test_doctor_tries_the_key_file_and_makes_nothing(state: Path) -> None:
    ok, what, _ = await doctor(state)
    assert (ok, what.endswith("keys.json, which the first start makes")) == (True, True)
    assert not state.exists()
    await asyncio.to_thread(_created, state)
    before = sorted(state.iterdir())
    ok, what, _ = await doctor(state)
    assert (ok, what.endswith("keys.json: it wraps and unwraps")) == (True, True)
    assert sorted(state.iterdir()) == before
    (state / "keys.json").write_bytes(b"{")
    ok, what, advice = await doctor(state)
    assert not ok
    assert "restore it from its back-up" in advice


def _created(state: Path) -> None:
    with pytest.raises(SystemExit):
        cli.main(["key-file", "create", "--json", "--state", str(state)])


async def test_doctor_asks_kms_and_says_what_it_answers(state: Path) -> None:
    signed = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": secrets.token_hex(4)}
    async with kms_world() as kms:
        environ = {**signed, "GATEWAY_KEYS_KMS_KEY": arn(1), "GATEWAY_KEYS_KMS_ENDPOINT": kms.url}
        ok, what, _ = await doctor(state, **environ)
        assert (ok, what) == (True, f"data keys are wrapped by AWS KMS with {arn(1)}: it wraps and unwraps")
        assert kms.calls == 2
        kms.states[arn(1)] = "Disabled"
        ok, _, advice = await doctor(state, **environ)
        assert (ok, "enable the key" in advice) == (False, True)
        kms.fault = "cut"
        ok, _, advice = await doctor(state, **environ)
        assert (ok, "cannot be asked" in advice) == (False, True)
    assert not state.exists()
