"""What is printed: tables for people, JSON for programs; what happens meanwhile goes to the standard error."""

import argparse
import json
import logging
import os
import shutil
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tenants.directory import Minted
from tenants.errors import Fault

if TYPE_CHECKING:
    from gateway.app import Addresses

_log: Final = logging.getLogger("gateway")


def show(rows: list[dict[str, str]], given: argparse.Namespace, *, one: bool = False) -> int:
    """A table for people; for programs a list, or one object where there is always one."""
    if given.json:
        print(json.dumps(rows[0] if one else rows))
        return 0
    if not rows:
        print("none")
        return 0
    columns = list(rows[0])
    widths = {column: max(len(column), *(len(row[column]) for row in rows)) for column in columns}
    for row in ({column: column.upper() for column in columns}, *rows):
        print("  ".join(row[column].ljust(widths[column]) for column in columns).rstrip())
    return 0


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
