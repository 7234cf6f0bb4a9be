"""The operators' page is true: its blocks are run from top to bottom over a fresh state, and print what it shows; no command is missing."""

import os
import re
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.e2e import warm
from tests.e2e.callers import data_key
from tests.e2e.world import change
from tests.gateway.commands.test_declared import ALL

PAGE = ROOT / "gateway" / "commands" / "README.md"

ID = re.compile(r"\b[a-z]_[0-9a-z]{20}\b")
# What is another each time, and what it looks like.
FORMS = {
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z": "<time>",
    r"gw_live_[0-9A-Za-z]{38}": "<key>",
    r"gw_live_[0-9A-Za-z]{4}\.\.\.": "<hint>",
    r"\bcli:[\w.-]+": "<actor>",
    r"\bw_[0-9a-f]{32}\b": "<wrapping key>",
    r"\b\d+ bytes": "<bytes>",
    r"\bversion [0-9a-f]{12}\b": "<version>",
    r" {2,}": "  ",  # an actor's name moves the columns behind it
    r" +$": "",
}


# What the page cannot print, and which test runs it.
ELSEWHERE = {
    **dict.fromkeys(("gateway demo", "gateway serve", "gateway doctor"), "test_command_line.py"),
    "gateway audit verify": "test_command_line.py",  # nothing is called on the page
    "gateway audit show": "test_audit_show.py",
    # nothing is captured on the page
    **dict.fromkeys((f"gateway captures {it}" for it in ("list", "show", "delete")), "test_captures.py"),
    **dict.fromkeys(("gateway data-keys backup", "gateway data-keys restore"), "test_key_backup.py"),
}


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)


def files() -> dict[str, str]:
    found = re.findall(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return dict(found)


def steps() -> Iterator[tuple[str, str]]:
    """Each command of the page, and what it prints there."""
    for block in blocks("console"):
        for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            line, _, printed = step.partition("\n")
            yield line, printed


def run(line: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    environ["PATH"] = f"{Path(warm.program()).parent}:{environ['PATH']}"
    return subprocess.run(
        ["bash", "-c", f"exec 2>&1; {line}"],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def form(text: str) -> str:
    for pattern, stands_for in FORMS.items():
        text = re.sub(pattern, stands_for, text, flags=re.MULTILINE)
    return text


def renamed(text: str, names: dict[str, str]) -> str:
    return ID.sub(lambda found: names.get(found[0], found[0]), text)


def test_every_block_of_the_operators_page_prints_what_it_shows(tmp_path: Path) -> None:
    for name, content in files().items():
        (tmp_path / name).write_text(content)
    ours: dict[str, str] = {}  # the page's ids, and what they are in this run
    for line, shown in steps():
        if line.startswith("gateway data-keys list"):
            # As a gateway makes one for a first record.
            change(tmp_path / ".state", partial(data_key, "acme", "audit"))
        done = run(renamed(line, ours), tmp_path)
        for theirs, own in zip(ID.findall(shown), ID.findall(done.stdout), strict=False):
            ours.setdefault(theirs, own)
        printed = renamed(done.stdout, {own: theirs for theirs, own in ours.items()})
        printed = printed.replace(str(tmp_path), "/srv/gateway")
        assert form(printed) == form(shown), line
        fails = shown.startswith(("gateway: ", "DENY: ")) or shown.endswith(" does not take it.\n")
        assert (done.returncode == 1) == fails, line


@pytest.mark.parametrize("command", [" ".join(("gateway", *words)) for words in ALL])
def test_every_command_is_on_the_operators_page(command: str) -> None:
    named = (*blocks("sh"), *re.findall("`(gateway [^`]*)`", PAGE.read_text()))
    text = "\n".join(named if command in ELSEWHERE else blocks("console"))
    assert re.search(rf"^(\$ )?{command}\b", text, re.MULTILINE), (
        f"{PAGE.relative_to(ROOT)} has no example of `{command}`: show it in a console block with what it prints, "
        "or name it there and in ELSEWHERE when it cannot be run on a bare state"
    )
