"""Every command is declared alike: an example that its own parser takes, a reason with every change, exactly one owner of a key."""

import argparse
import shlex
from collections.abc import Iterator

import pytest

from gateway.cli import parser

CHANGES = (
    *("create", "move", "suspend", "resume", "close", "reopen", "invite", "change", "remove"),
    *("revoke", "rotate", "put", "delete", "rewrap", "destroy", "keep"),
)
PARSER: argparse.ArgumentParser = parser()
"""Parsing does not change it."""


def commands(of: argparse.ArgumentParser, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command, as `("tenants", "create")`."""
    found = [it for it in of._actions if isinstance(it, argparse._SubParsersAction)]
    for name, inner in found[0].choices.items() if found else ():
        yield from commands(inner, (*words, name))
    if not found:
        yield words


def parser_of(words: tuple[str, ...]) -> argparse.ArgumentParser:
    found = PARSER
    for word in words:
        (under,) = [it for it in found._actions if isinstance(it, argparse._SubParsersAction)]
        found = under.choices[word]
    return found


ALL = [*commands(PARSER)]
each = pytest.mark.parametrize("words", ALL, ids=" ".join)


@each
def test_the_help_of_a_command_ends_with_an_example_that_it_understands(words: tuple[str, ...]) -> None:
    last = parser_of(words).format_help().splitlines()[-1]
    assert last.startswith(f"  gateway {' '.join(words)}"), (
        f"`gateway {' '.join(words)} --help` ends without an example: give it one in gateway/cli.py (_EXAMPLES), "
        "or in the table of its noun"
    )
    PARSER.parse_args(shlex.split(last)[1:])


# A key file is a file, and a capture an object beside the directory: neither has events that would keep a reason.
@pytest.mark.parametrize(
    "words", [it for it in ALL if it[-1] in CHANGES and it[0] not in ("key-file", "captures")], ids=" ".join
)
def test_every_change_takes_a_reason(words: tuple[str, ...]) -> None:
    assert "--reason TEXT" in parser_of(words).format_help()


@pytest.mark.parametrize("words", [it for it in ALL if len(it) == 2], ids=" ".join)
def test_every_command_of_a_noun_finds_its_state_both_ways_and_speaks_json(words: tuple[str, ...]) -> None:
    told = parser_of(words).format_help()
    assert all(option in told for option in ("--state DIR", "--config FILE", "--json"))


@pytest.mark.parametrize(
    "line",
    [
        *("keys create", "keys list", "keys show k_1", "keys revoke k_1", "keys rotate k_1"),
        *(f"keys {what} --tenant acme --operator" for what in ("create", "list", "show k_1", "revoke k_1")),
        "tenants list --limit 0",
        "tenants list --limit ten",
        "tenants list --limit -1",
        f"tenants list --after {'a' * 501}",
        "tenants list --after \udcff",
        "tenants close acme --after tomorrow",
        "tenants move acme",
        "members invite --tenant acme --email ann@acme.example",
        "members invite --tenant acme --email ann@acme.example --role king",
        "members list",
        "accounts create --tenant acme --role viewer",
        "data-keys destroy --tenant acme",
        "data-keys destroy d_1 --tenant acme --all",
        "data-keys destroy d_1 --tenant acme --wait soon",
        "data-keys rotate --tenant acme",
        "data-keys rotate --tenant acme --purpose everything",
        "data-keys list",
        "plans put",
        "models delete",
        "audit events --limit 1.5",
        "audit",
    ],
)
def test_what_makes_no_sense_is_wrong_usage(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        PARSER.parse_args(line.split())
    assert ended.value.code == 64
    told = capsys.readouterr().err.splitlines()
    assert told[0].startswith("usage: gateway")
    assert told[-1].startswith("gateway")
    assert "--help" in told[-1]


@each
def test_what_a_command_does_not_know_is_told_with_its_own_usage(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    right = shlex.split(parser_of(words).format_help().splitlines()[-1])[1:]
    with pytest.raises(SystemExit) as ended:
        PARSER.parse_args([*right, "--colour"])
    assert ended.value.code == 64
    told = capsys.readouterr().err.splitlines()
    assert told[0].startswith(f"usage: gateway {' '.join(words)} ")
    assert told[-1].endswith(f"unrecognized arguments: --colour; see: gateway {' '.join(words)} --help")
