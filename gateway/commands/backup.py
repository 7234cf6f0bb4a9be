"""`gateway backup` and `gateway restore`: the table and the audit log of a state, to a folder and back."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Final

from gateway.commands.arguments import Commands, Parser
from gateway.commands.printing import program, progress, short, when
from gateway.settings import Settings
from gateway.state import backed_up, restored

_AFTER: Final = (
    "What was done after that is undone: keys that were revoked after it work again until they are revoked anew, "
    "tenants that were closed after it are open, and keys that were made after it are gone."
)


def add(commands: Commands, common: Parser) -> None:
    back_up = commands.add_parser(
        "backup", parents=[common], help="copy keys, tenants and the audit log to a new folder"
    )
    back_up.set_defaults(run=_backup)
    back_up.add_argument("backup", type=Path, metavar="TO", help="the folder to make; gateways may go on")
    restore = commands.add_parser("restore", parents=[common], help="make a state directory of a back-up")
    restore.set_defaults(run=_restore)
    restore.add_argument("backup", type=Path, metavar="FROM", help="the folder that `gateway backup` made")


async def _backup(settings: Settings, given: argparse.Namespace) -> int:
    made = backed_up(settings, given.backup, _told(given))
    segments = sum(file.path.endswith(".segment") for file in made.files)  # the others are tables
    if given.json:
        said = {"backup": str(given.backup), "made": when(made.made_us)}
        print(json.dumps({**said, "segments": segments, "bytes": made.bytes}))
    else:
        print(
            f"{short(given.backup.absolute())} holds the state as it was at {when(made.made_us)}: the tables and {segments} audit "
            f"segments, {made.bytes} bytes. Whoever can write it can make keys: keep it as safe as the state.\n"
            f"To go back to it:\n\n  {program()} restore {given.backup} --state NEW_DIR"
        )
    return 0


async def _restore(settings: Settings, given: argparse.Namespace) -> int:
    made = restored(settings, given.backup, _told(given))
    if given.json:
        print(json.dumps({"state": str(settings.state), "made": when(made.made_us), "note": _AFTER}))
    else:
        gateway = program()
        print(
            f"{short(settings.state.absolute())} is the state as it was at {when(made.made_us)}. {_AFTER}\n\n"
            f"  {gateway} audit verify --state {settings.state}\n"
            f"  {gateway} keys list --tenant NAME --state {settings.state}"
        )
    return 0


def _told(given: argparse.Namespace) -> Callable[[str], None]:
    """People see it go on; programs are told when it is done."""
    return (lambda _: None) if given.json else progress
