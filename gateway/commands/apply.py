"""`gateway apply`: the documents of a file or folder, made true or compared with what is."""

import argparse
import json
from pathlib import Path
from typing import Final

from gateway.commands.arguments import USAGE, Commands, Parser, actor
from gateway.commands.files import documents
from gateway.commands.printing import colours, faults, progress, remark
from gateway.settings import Settings
from gateway.state import has_directory, now_us, opened_directory
from tenants import declare
from tenants.acts import Act
from tenants.catalogue import name_of
from tenants.documents import Documents
from tenants.errors import Faulty
from tenants.outline import Action, Difference, Outline, Prune, Stored
from tenants.outline import outlined as compared

_DIFFERENT: Final = 2
_VALUE_CHARACTERS: Final = 60
_DONE: Final[dict[Action, str]] = {
    "create": "created",
    "change": "changed",
    "remove": "removed",
    "unchanged": "unchanged",
}
_TO_DO: Final[dict[Action, str]] = {"create": "to create", "change": "to change", "remove": "to remove"}
_MARK: Final[dict[Action, str]] = {"create": "+", "change": "~", "remove": "-"}
_COLOUR: Final = {"+": "\x1b[32m", "~": "\x1b[33m", "-": "\x1b[31m"}
_PLAIN: Final = "\x1b[0m"


def add(commands: Commands, common: Parser) -> None:
    apply = commands.add_parser(
        "apply", parents=[common], help="make the fleets, models, plans and tenants of documents true"
    )
    apply.set_defaults(run=_apply)
    apply.add_argument(
        "-f", "--file", type=Path, required=True, metavar="PATH", help="a file, or a folder of *.yaml"
    )
    apply.add_argument(
        "--dry-run", action="store_true", help="change nothing; print what would change, exit 2 if anything"
    )
    apply.add_argument(
        "--prune",
        action="store_true",
        help="remove fleets, models and plans that documents declared before and these do not",
    )
    apply.add_argument(
        "--prune-tenants",
        action="store_true",
        help="with --prune: close tenants too; they are not served from then on, and after 30 days that is for ever",
    )


async def _apply(settings: Settings, given: argparse.Namespace) -> int:
    if given.prune_tenants and not given.prune:
        remark("--prune-tenants goes with --prune")
        return USAGE
    declared, prune = documents(given.file), _prune(given)
    try:
        outline = await outlined(settings, declared, prune)
        if not given.json:
            _show(outline)
        if not given.dry_run:
            outline = await applied(settings, declared, prune, seen=outline)
    except Faulty as fault:
        if given.json:
            print(json.dumps({"faults": faults(fault.faults)}))
        raise
    if given.json:
        _tell(outline, given)
    elif outline.changes and not given.dry_run:
        print(f"Applied: {_summed(outline, _DONE)}.")
    return _DIFFERENT if given.dry_run and outline.changes else 0


def _prune(given: argparse.Namespace) -> Prune:
    if not given.prune:
        return Prune.NOTHING
    return Prune.ALL if given.prune_tenants else Prune.CATALOGUE


async def outlined(settings: Settings, declared: Documents, prune: Prune = Prune.NOTHING) -> Outline:
    """What applying would do; changes nothing and makes no state. Raises Faulty."""
    if not has_directory(settings):
        return compared(declared, Stored(), prune)
    async with opened_directory(settings) as directory:
        return compared(declared, await declare.read(directory, declared, prune), prune)


async def applied(
    settings: Settings, declared: Documents, prune: Prune = Prune.NOTHING, *, seen: Outline | None = None
) -> Outline:
    """What was done. Raises Faulty, and then nothing was, and no state was made; Moved where it would be something else than was seen."""
    if seen is None:
        await outlined(settings, declared, prune)
    async with opened_directory(settings) as directory:
        return await declare.apply(directory, declared, Act(actor(), now_us()), prune=prune, seen=seen)


def counted(outline: Outline) -> str:
    """As in `1 created, 2 unchanged`."""
    actions = [it.action for it in outline.differences]
    return ", ".join(f"{actions.count(action)} {word}" for action, word in _DONE.items() if action in actions)


def tell(outline: Outline) -> None:
    """What `serve` says of the documents that it starts with."""
    progress(f"documents: {counted(outline)}")
    for note in outline.notes:
        progress(f"note: {note}")


def _show(outline: Outline) -> None:
    """For people: a line for each thing that changes, one for each of its fields that does, and how many."""
    colour, plain = (_COLOUR, _PLAIN) if colours() else (dict.fromkeys(_COLOUR, ""), "")
    for difference in outline.changes.values():
        mark = _MARK[difference.action]
        print(f"{colour[mark]}{mark} {' '.join(name_of(difference.value))}{plain}")
        for path, (before, after) in difference.fields.items():
            print(f"    {path}: {_value(before)} -> {_value(after)}")
    print(f"Plan: {_summed(outline, _TO_DO)}." if outline.changes else f"nothing to do: {counted(outline)}")
    for note in outline.notes:
        remark(f"note: {note}")


def _tell(outline: Outline, given: argparse.Namespace) -> None:
    """For programs."""
    changes = [_row(it) for it in outline.changes.values()]
    unchanged = len(outline.differences) - len(changes)
    said = {"applied": not given.dry_run, "changes": changes, "unchanged": unchanged}
    print(json.dumps({**said, "notes": faults(outline.notes)}))


def _summed(outline: Outline, words: dict[Action, str]) -> str:
    """As in `2 created, 1 changed, 0 removed`."""
    actions = [it.action for it in outline.differences]
    return ", ".join(f"{actions.count(action)} {words[action]}" for action in _MARK)


def _row(difference: Difference) -> dict[str, object]:
    kind, name = name_of(difference.value)
    fields = {path: {"before": before, "after": after} for path, (before, after) in difference.fields.items()}
    return {"kind": kind, "name": name, "action": difference.action, "fields": fields}


def _value(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= _VALUE_CHARACTERS else f"{text[:_VALUE_CHARACTERS]}..."
