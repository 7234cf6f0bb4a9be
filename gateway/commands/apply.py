"""`gateway apply`: the documents of a file or folder, made true or compared with what is."""

import argparse
import json
from pathlib import Path
from typing import Final

from gateway.commands.arguments import Commands, Parser, actor
from gateway.commands.files import documents
from gateway.commands.printing import faults, progress, remark
from gateway.settings import Settings
from gateway.state import has_directory, now_us, opened_directory
from tenants import declare
from tenants.acts import Act
from tenants.catalogue import name_of
from tenants.declare import Difference, Outline, Stored
from tenants.documents import Documents
from tenants.errors import Faulty

_DIFFERENT: Final = 2
_VALUE_CHARACTERS: Final = 60
_DONE: Final = {"create": "created", "change": "changed", "unchanged": "unchanged"}
_TO_DO: Final = {"create": "to create", "change": "to change", "unchanged": "unchanged"}


def add(commands: Commands, common: Parser) -> None:
    apply = commands.add_parser(
        "apply", parents=[common], help="make the fleets, models and plans of documents true"
    )
    apply.set_defaults(run=_apply)
    apply.add_argument(
        "-f", "--file", type=Path, required=True, metavar="PATH", help="a file, or a folder of *.yaml"
    )
    apply.add_argument(
        "--dry-run", action="store_true", help="change nothing; print what would change, exit 2 if anything"
    )


async def _apply(settings: Settings, given: argparse.Namespace) -> int:
    declared = documents(given.file)
    try:
        outline = await outlined(settings, declared) if given.dry_run else await applied(settings, declared)
    except Faulty as fault:
        if given.json:
            print(json.dumps({"faults": faults(fault.faults)}))
        raise
    _print(outline, given)
    return _DIFFERENT if given.dry_run and outline.changes else 0


async def outlined(settings: Settings, declared: Documents) -> Outline:
    """What applying would do; changes nothing and makes no state. Raises Faulty."""
    if not has_directory(settings):
        return declare.outlined(declared, Stored())
    async with opened_directory(settings) as directory:
        return declare.outlined(declared, await declare.read(directory, declared))


async def applied(settings: Settings, declared: Documents) -> Outline:
    """What was done. Raises Faulty, and then nothing was, and no state was made."""
    await outlined(settings, declared)
    async with opened_directory(settings) as directory:
        return await declare.apply(directory, declared, act=Act(actor(), now_us()))


def counted(outline: Outline, words: dict[str, str]) -> str:
    """As in `1 created, 2 unchanged`."""
    actions = [it.action for it in outline.differences]
    return ", ".join(f"{actions.count(action)} {word}" for action, word in words.items() if action in actions)


def tell(outline: Outline) -> None:
    """What `serve` says of the documents that it starts with."""
    progress(f"documents: {counted(outline, _DONE)}")
    for note in outline.notes:
        progress(f"note: {note}")


def _print(outline: Outline, given: argparse.Namespace) -> None:
    if given.json:
        changes = [_row(it) for it in outline.changes.values()]
        unchanged = len(outline.differences) - len(changes)
        said = {"applied": not given.dry_run, "changes": changes, "unchanged": unchanged}
        print(json.dumps({**said, "notes": faults(outline.notes)}))
        return
    for difference in outline.changes.values():
        print(f"{difference.action}  {' '.join(name_of(difference.value))}")
        for path, (before, after) in difference.fields.items():
            print(f"          {path}: {_value(before)} -> {_value(after)}")
    print(
        "" if outline.changes else "nothing to do: ",
        counted(outline, _TO_DO if given.dry_run else _DONE),
        sep="",
    )
    for note in outline.notes:
        remark(f"note: {note}")


def _row(difference: Difference) -> dict[str, object]:
    kind, name = name_of(difference.value)
    fields = {path: {"before": before, "after": after} for path, (before, after) in difference.fields.items()}
    return {"kind": kind, "name": name, "action": difference.action, "fields": fields}


def _value(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= _VALUE_CHARACTERS else f"{text[:_VALUE_CHARACTERS]}..."
