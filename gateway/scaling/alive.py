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


def _opened(path: Path) -> int:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _locked(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
