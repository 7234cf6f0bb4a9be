"""Who has charge of the servers of this host? The one process that has all of the flock `charge` in their folder.

The kernel gives it to one at a time and takes it back when that one dies, however it dies. So the next has it at once, and no clock is
needed to be sure that the one before does nothing more. It has to be on a disk of this host.
"""

import asyncio
import contextlib
import fcntl
import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gateway.scaling.scaler import Scaler

CHARGE: Final = "charge"


@dataclass(slots=True)
class Charge:
    """Of the servers in this folder, which is there. To be closed: then somebody else may have it."""

    folder: Path
    _held: int | None = None
    _waits: "asyncio.Future[None] | None" = None
    _is_closed: bool = field(default=False)

    @property
    def is_taken(self) -> bool:
        return self._held is not None

    async def taken(self) -> None:
        """This process has charge, until it is closed or dies. Several may wait. Raises OSError."""
        if self._held is None and self._waits is None:
            self._ask()
        if self._waits is not None:
            await asyncio.shield(self._waits)

    def close(self) -> None:
        self._is_closed = True
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def _ask(self) -> None:
        descriptor = os.open(self.folder / CHARGE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            loop = asyncio.get_running_loop()
            self._waits = loop.create_future()
            # A daemon: nothing else ends the wait for a lock, and a process that ends does not wait for that.
            wait = threading.Thread(target=self._wait, args=(loop, descriptor), name="charge", daemon=True)
            wait.start()
        else:
            self._held = descriptor

    def _wait(self, loop: asyncio.AbstractEventLoop, descriptor: int) -> None:
        """In a thread of its own."""
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # what it may raise, it raised when it was asked for at once
        try:
            loop.call_soon_threadsafe(self._had, descriptor)
        except RuntimeError:  # the loop is closed: nobody waits any more
            os.close(descriptor)

    def _had(self, descriptor: int) -> None:
        waits, self._waits = self._waits, None
        if self._is_closed:
            os.close(descriptor)
        else:
            self._held = descriptor
        if waits is not None and not waits.done():
            waits.set_result(None)


@dataclass(slots=True)
class Orphans:
    """Servers of gateways that are gone: who has charge stops those that nobody gives calls to."""

    charge: Charge
    scaler: Scaler

    async def look(self) -> None:
        await self.charge.taken()
        for replica in await self.scaler.adopt():
            with contextlib.suppress(OSError):
                await self.scaler.stop(replica, 0.0)
