"""`gateway export`: what is stored, as documents that `gateway apply` finds unchanged."""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from gateway.commands.arguments import Commands, Parser
from gateway.commands.files import documents_in
from gateway.commands.printing import remark, short
from gateway.settings import Settings
from gateway.state import has_directory, opened_directory
from tenants import declare
from tenants.catalogue import Declared, name_of
from tenants.documents import KINDS, MOST_DOCUMENTS
from tenants.errors import Invalid
from tenants.nodes import MOST_BYTES
from tenants.writing import tree, written

_ENOUGH_BYTES: Final = MOST_BYTES // 2


def add(commands: Commands, common: Parser) -> None:
    export = commands.add_parser(
        "export", parents=[common], help="write what is stored as documents; no keys are among it"
    )
    export.set_defaults(run=_export)
    export.add_argument(
        "-f", "--file", type=Path, metavar="DIR", help="a folder without documents (default: print them)"
    )


async def _export(settings: Settings, given: argparse.Namespace) -> int:
    if not has_directory(settings):
        raise FileNotFoundError(
            f"there is nothing in {settings.state.resolve()}; name its state with --state"
        )
    if given.file is not None and given.file.exists() and documents_in(given.file):
        raise Invalid("", f"{given.file} has documents already; name another folder with -f")
    async with opened_directory(settings) as directory:
        stored = await declare.everything(directory)
    if given.file is not None:
        _write(given.file, stored, given)
    elif given.json:
        print(json.dumps([tree(value) for value in stored]))
    else:
        print(written(map(tree, stored)), end="")
    if len(stored) > MOST_DOCUMENTS:
        remark(f"note: {len(stored)} documents; gateway apply takes {MOST_DOCUMENTS} at once")
    return 0


def _write(folder: Path, stored: Sequence[Declared], given: argparse.Namespace) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[str] = []
    for name, text in _files(stored):
        path = folder / name
        path.write_text(text, encoding="utf-8")
        paths.append(str(path))
    print(json.dumps({"files": paths}) if given.json else "\n".join(map(short, map(Path, paths))) or "none")


def _files(stored: Sequence[Declared]) -> Iterator[tuple[str, str]]:
    """By kind, and so many as one file may hold."""
    for kind in KINDS:
        part: list[str] = []
        number = 1
        for text in (written([tree(it)]) for it in stored if name_of(it)[0] == kind):
            if part and len("".join((*part, text)).encode()) > _ENOUGH_BYTES:
                yield _named(kind, number), "---\n".join(part)
                part, number = [], number + 1
            part.append(text)
        if part:
            yield _named(kind, number), "---\n".join(part)


def _named(kind: str, number: int) -> str:
    return f"{kind.lower()}s{'' if number == 1 else f'-{number}'}.yaml"
