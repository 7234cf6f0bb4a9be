"""Data keys on the command line: what is destroyed says why, what would be is shown, and what may be is taken back."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest

from gateway import cli
from tenants.acts import Act
from tenants.data_keys import DataKeyRecord, Purpose
from tenants.directory import Directory
from tests.e2e.world import change

Said = Callable[..., tuple[int, str, str]]
OF = ("--tenant", "acme")
IDS = {purpose: f"d_{number:020d}" for number, purpose in enumerate(get_args(Purpose))}
NEVER = "never"


@pytest.fixture
def said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Said:
    """Runs a command of data keys over a state where acme has one for each purpose: its exit code, and what it printed where."""
    state = tmp_path / "state"

    def command(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main([*words, "--state", str(state)])
        printed = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, printed.out, printed.err

    async def sealed(directory: Directory) -> None:
        owner = await directory.tenants.show("acme")
        for purpose in get_args(Purpose):
            made = DataKeyRecord(IDS[purpose], owner.id, purpose, 1_700_000_000_000_000)
            await directory.data_keys.add(made, Act("gateway:keyring", made.made_us))

    command("tenants", "create", "acme")
    change(state, sealed)
    return lambda verb, *words: command("data-keys", verb, *OF, *words)


def states(said: Said) -> dict[str, str]:
    return {it["purpose"]: it["state"] for it in json.loads(said("list", "--json")[1])}


def test_without_a_reason_a_destruction_is_shown_and_not_done(said: Said) -> None:
    before = said("list", "--json")
    code, out, err = said("destroy", "--all", "--json")
    assert (code, [it["state"] for it in json.loads(out)]) == (2, ["destroying"] * 3)
    assert "nothing is done" in err
    assert "--reason" in err
    for words in (("--all",), (IDS["audit"],), ("--all", "--reason", "  ")):
        assert said("destroy", *words)[0] == 2
    assert said("list", "--json") == before


def test_all_keys_of_a_tenant_are_destroyed_with_a_reason_and_taken_back(said: Said) -> None:
    code, out, err = said("destroy", "--all", "--reason", "they asked", "--json")
    told = json.loads(out)
    assert (code, err, {it["state"] for it in told}) == (0, "", {"destroying"})
    assert NEVER not in {it[name] for it in told for name in ("destroys", "backups_end")}
    assert set(states(said).values()) == {"destroying"}
    kept = json.loads(said("keep", IDS["audit"], "--reason", "they did not", "--json")[1])
    assert (kept["state"], kept["destroys"], kept["backups_end"]) == ("retired", NEVER, NEVER)
    assert set(json.loads(said("keep", "--all", "--json")[1])[1].items()) >= {("state", "retired")}
    assert set(states(said).values()) == {"retired"}


def test_with_no_wait_it_is_destroyed_at_once_and_for_ever(said: Said) -> None:
    done = json.loads(said("destroy", IDS["audit"], "--wait", "0", "--reason", "leaked", "--json")[1])
    assert done["state"] == "destroyed"
    assert states(said) == {"audit": "destroyed", "replies": "active", "capture": "active"}
    code, _, err = said("keep", IDS["audit"])
    assert (code, "it is destroyed, and cannot keep" in err) == (1, True)
    assert len(json.loads(said("destroy", "--all", "--json")[1])) == 2  # what is destroyed is no more to be


@pytest.mark.parametrize("reason", ["", "why"])
def test_a_wait_that_nobody_may_have_is_refused_by_what_is_shown_too(said: Said, reason: str) -> None:
    code, out, err = said("destroy", IDS["audit"], "--wait", "31d", "--reason", reason)
    assert (code, out) == (1, "")
    assert "30 days" in err
    assert states(said)["audit"] == "active"


def test_rotation_is_of_one_purpose_and_says_what_is_next(said: Said) -> None:
    assert json.loads(said("rotate", "--purpose", "audit", "--json")[1])["state"] == "retired"
    assert states(said) == {"audit": "retired", "replies": "active", "capture": "active"}
    code, _, err = said("rotate", "--purpose", "audit")
    assert (code, "makes one when it next seals" in err) == (1, True)


def test_a_rewrap_is_shown_until_it_is_done(said: Said) -> None:
    assert json.loads(said("show", IDS["audit"], "--json")[1])["rewrap_asked"] == NEVER
    assert said("rewrap", "--all")[0] == 0
    for key in IDS.values():
        assert json.loads(said("show", key, "--json")[1])["rewrap_asked"] != NEVER


def test_a_key_that_is_not_there_is_said_to_be_in_no_list(said: Said) -> None:
    for verb in ("show", "rewrap", "destroy", "keep"):
        code, _, err = said(verb, "d_" + "9" * 20)
        assert (code, "data-keys list" in err) == (1, True)
