"""What is printed: tables for people, JSON for programs; what happens meanwhile goes to the standard error."""

import argparse
import json
import logging
import os
import shutil
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from tenants.directory import Minted, Page
from tenants.errors import Fault
from tenants.ports import MOST_ROWS

if TYPE_CHECKING:
    from gateway.frontends.sockets import Addresses

Row: TypeAlias = Mapping[str, Any]

_log: Final = logging.getLogger("gateway")

_Value = TypeVar("_Value")


def _cell(value: object) -> str:
    return "none" if value is None else str(value)


class Sheet:
    """Rows that are printed as they come, so that there may be any number: a table for people, a list in JSON for programs.

    The columns are as wide as the first rows want them.
    """

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._widths: dict[str, int] = {}
        self._rows = 0

    def add(self, rows: Sequence[Row]) -> None:
        if not self._as_json and rows and not self._rows:
            titles = {column: column.upper() for column in rows[0]}
            for column in titles:
                self._widths[column] = max(len(_cell(row[column])) for row in (titles, *rows))
            self._line(titles)
        for row in rows:
            if self._as_json:
                print(", " if self._rows else "[", json.dumps(row), sep="", end="")
            else:
                self._line(row)
            self._rows += 1

    def end(self) -> int:
        if self._as_json:
            print("]" if self._rows else "[]")
        elif not self._rows:
            print("none")
        return 0

    def _line(self, row: Row) -> None:
        print("  ".join(_cell(row[column]).ljust(width) for column, width in self._widths.items()).rstrip())


async def show_all(
    given: argparse.Namespace,
    listing: Callable[[str | None, int], Awaitable[Page[_Value]]],
    row: Callable[[_Value], Row],
    *,
    first: Callable[[_Value], int] | None = None,
) -> int:
    """Every page of a listing behind `--after`, `--limit` rows at most. All that fit in one page come in the order that `first` says."""
    sheet = Sheet(as_json=given.json)
    after, left = given.after, given.limit
    while True:
        page = await listing(after, min(left or MOST_ROWS, MOST_ROWS))
        whole = after is None and page.next_after is None
        sheet.add([row(it) for it in (sorted(page.values, key=first) if whole and first else page.values)])
        after = page.next_after
        left = left and left - len(page.values)
        if after is None or left == 0:
            break
    sheet.end()
    if after is not None:
        sys.stdout.flush()  # it goes behind the list, also where both go to one place
        remark(f"there is more: --after {after}")
    return 0


def show(row: Row, given: argparse.Namespace) -> int:
    """What was done to one thing: a table with one row, or an object in JSON."""
    if given.json:
        print(json.dumps(row))
        return 0
    sheet = Sheet(as_json=False)
    sheet.add([row])
    return sheet.end()


def card(row: Row, given: argparse.Namespace) -> int:
    """All of one thing: a line for each field, or an object in JSON."""
    if given.json:
        return show(row, given)
    fields = dict(_flat(row))
    width = max(map(len, fields))
    for name, value in fields.items():
        print(f"{name.ljust(width)}  {value}".rstrip())
    return 0


def _flat(row: Row, path: str = "") -> Iterator[tuple[str, object]]:
    for name, value in row.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{path}{name}.")
        else:
            text = "none" if value is None else json.dumps(value)
            yield f"{path}{name}", value if isinstance(value, str) else text


def show_minted(minted: Minted, given: argparse.Namespace) -> int:
    key = minted.secret.reveal()
    if given.json:
        print(json.dumps({"id": minted.key.id, "api_key": key}))
    else:
        print(f"{key}\n\nThis is key {minted.key.id}. Its text is shown this once and stored nowhere.")
    return 0


def doors(found: "Addresses") -> dict[str, str | None]:
    """Where each door is, for programs; one that is not built yet is null."""
    return {"http": found.http, "grpc": found.grpc, "operator": found.operator, "portal": None}


def over_grpc(found: "Addresses") -> str:
    """The line for people about the door that may be closed."""
    return f"gRPC clients find it at {found.grpc}.\n" if found.grpc else ""


def faults(found: Iterable[Fault]) -> list[dict[str, str | int]]:
    return [{"file": it.file, "line": it.line, "path": it.path, "reason": it.reason} for it in found]


def when(us: int | None) -> str:
    return "never" if us is None else datetime.fromtimestamp(us / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def short(path: Path) -> str:
    """The path as it is shortest to type from here; this folder itself by its name, as a dot says little."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) and path != here else str(path)


def program() -> str:
    """What to type for this program: as it was called, or shorter."""
    called = Path(sys.argv[0])
    if called.suffix == ".py":
        return "python -m gateway.cli"
    found = shutil.which(called.name)
    if found and called.exists() and Path(found).samefile(called):
        return called.name
    return short(called)


def colours() -> bool:
    """Whether people look at the output, on something that knows colours, and did not ask for none (no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def progress(text: str) -> None:
    """What happens while a gateway runs."""
    _log.info(text)


def remark(text: str) -> None:
    """What is worth knowing of a command that is done."""
    print(f"gateway: {text}", file=sys.stderr, flush=True)
