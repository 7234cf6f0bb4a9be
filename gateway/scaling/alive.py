"""Does any gateway of this host live? Asked by what outlives each of them, the servers, and by a gateway that ends.

<folder>/alive   every gateway process has a part in this flock for as long as it lives, and the kernel takes it back however that ends.
                 Each nanny waits for all of it: who gets it knows that no gateway lives, strikes its server from the list, ends it and
                 lets the next one have the lock
<folder>/last    the same gateways have a part in it. One that ends asks for all of it, and does not wait: who gets it is the last one.
                 Why not `alive`: who makes its part the whole gives up the part first (flock(2)), and a nanny may be faster
"""

import asyncio
import contextlib
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.scaling.scaler import StartFailed

ALIVE: Final = "alive"
LAST: Final = "last"

_POLL_SECONDS: Final = 0.01


@dataclass(slots=True)
class Alive:
    """That this process lives. `last` is its part in the lock of that name."""

    last: int
    _answer: bool | None = None

    def is_last(self) -> bool:
        """Whether no other gateway lives; then none comes before this process has ended. For one that ends: after "no" it does not count
        for the others any more. Of several that end at the same moment one at least is told yes. An answer is for good.
        """
        if self._answer is None:
            self._answer = _locked(self.last, fcntl.LOCK_EX)
        return self._answer


@asynccontextmanager
async def alive(folder: Path, patience_seconds: float = 10.0) -> AsyncIterator[Alive]:
    """This process counts as alive in the folder of the servers, which is made, while the block runs. Raises StartFailed when those of an
    earlier life do not end in time, OSError.
    """
    with contextlib.ExitStack() as stack:
        last = await _shared(folder / LAST, stack, patience_seconds)
        await _shared(folder / ALIVE, stack, patience_seconds)
        yield Alive(last)


async def deserted(folder: Path, patience_seconds: float = 5.0) -> None:
    """No server is left there, where no gateway lives: their nannies have ended them, or so long has passed. For who has waited for
    the end of gateways, and is none.
    """
    with contextlib.suppress(StartFailed), contextlib.ExitStack() as stack:
        last = await _shared(folder / LAST, stack, patience_seconds)
        if not _locked(last, fcntl.LOCK_EX):
            return
        nannies = _locks_of_nannies(folder, stack)
        for _ in range(round(patience_seconds / _POLL_SECONDS)):
            nannies = [it for it in nannies if not _locked(it, fcntl.LOCK_SH)]
            if not nannies:
                return
            await asyncio.sleep(_POLL_SECONDS)


async def _shared(path: Path, stack: contextlib.ExitStack, patience_seconds: float) -> int:
    """A part in this lock until the stack ends. Exclusively somebody has it for a moment only."""
    descriptor = _opened(path)
    stack.callback(os.close, descriptor)
    clock = asyncio.get_running_loop().time
    began = clock()
    while not _locked(descriptor, fcntl.LOCK_SH):
        if clock() - began > patience_seconds:
            raise StartFailed(f"an earlier gateway on {path.parent} has been ending for too long: try again")
        await asyncio.sleep(_POLL_SECONDS)
    return descriptor


def _locks_of_nannies(folder: Path, stack: contextlib.ExitStack) -> list[int]:
    """Each has the folder of its server locked for as long as it lives."""
    found = []
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            found.append(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            stack.callback(os.close, found[-1])
    return found


def _opened(path: Path) -> int:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _locked(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
