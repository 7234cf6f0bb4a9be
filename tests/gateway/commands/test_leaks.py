"""A key of which only the text is known is ended over the standard input, and its text is nowhere to be seen."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import warm

Ran = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ran(tmp_path: Path) -> Ran:
    """Runs a command over one state, with that on its standard input."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}

    def run(*words: str, given: str = "") -> tuple[int, str, str]:
        line = [warm.program(), *words, "--state", str(tmp_path / "state")]
        done = subprocess.run(
            line, input=given, env=environ, capture_output=True, text=True, timeout=60, check=False
        )
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.fixture
def text(ran: Ran) -> str:
    """That of a key of acme's."""
    ran("tenants", "create", "acme")
    _, out, _ = ran("keys", "create", "--tenant", "acme", "--name", "ci")
    return out.partition("\n")[0]


def test_a_text_on_the_standard_input_ends_its_key_and_is_not_printed(ran: Ran, text: str) -> None:
    code, out, err = ran("keys", "revoke", "--by-secret", "-", given=f"{text}\n")
    assert (code, err) == (0, "")
    assert ("acme" in out, "was      active" in out, text in out) == (True, True, False)
    _, again, err = ran("keys", "revoke", "--by-secret", "-", "--json", given=text)
    assert "it was revoked before" not in again + err
    _, out, err = ran("keys", "revoke", "--by-secret", "-", given=text)
    assert "it was revoked before" in err
    _, events, _ = ran("audit", "events", "--tenant", "acme", "--json")
    assert events.count("key.revoked") == 1
    assert text not in events + again + out + err


@pytest.mark.parametrize(
    "words",
    [
        ("--by-secret", "TEXT"),
        ("--tenant", "acme", "TEXT"),
        ("--by-secret", "-", "TEXT"),
    ],
)
def test_a_text_among_the_arguments_is_refused_and_not_repeated(ran: Ran, text: str, words: Any) -> None:
    code, out, err = ran("keys", "revoke", *(text if it == "TEXT" else it for it in words))
    assert code == 64
    assert "standard input" in err or "--by-secret -" in err
    assert text not in out + err


@pytest.mark.parametrize("given", ["", "\n", "gw_live_nonsense", "x" * 5000])
def test_what_is_no_key_on_the_standard_input_is_refused_and_not_repeated(
    ran: Ran, text: str, given: str
) -> None:
    code, out, err = ran("keys", "revoke", "--by-secret", "-", given=given)
    assert (code, out) == (1, "")
    assert not given.strip() or given not in err
    assert ran("keys", "list", "--tenant", "acme")[1].count("active") == 1


def test_what_does_not_go_together_is_refused(ran: Ran, text: str) -> None:
    for words in (
        ("--by-secret", "-", "k_1"),
        ("--tenant", "acme"),
        ("--tenant", "acme", "k_1", "--and-made"),
    ):
        code, out, err = ran("keys", "revoke", *words, given=text)
        assert (code, out) == (1, ""), err
