"""What this machine runs: seen through /proc."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path


def processes_of(word: str) -> list[tuple[int, list[str]]]:
    """The pid and the command line of every running process that has the word in an argument; zombies have none."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue  # it ended meanwhile
        if any(word in argument for argument in line):
            found.append((int(path.parent.name), line))
    return found


async def eventually(is_so: Callable[[], Awaitable[bool]], *, seconds: float) -> None:
    """Return once it is so; fail when it is not within that many seconds."""
    async with asyncio.timeout(seconds):
        while not await is_so():
            await asyncio.sleep(0.02)
