"""Who has charge of the servers of this host? The one process that has all of the flock `charge` in their folder.

The kernel gives it to one at a time and takes it back when that one dies, however it dies. So the next has it at once, and no clock is
needed to be sure that the one before does nothing more. It has to be on a disk of this host.

A process that dies gives back one lock after the other, and this one may be free while others are not: servers that it had in hand. So
the file names who has charge, and the next one waits until that process is over. JSON, of a `Process`; empty where it was given back in
good order. What cannot be read is waited for by nobody: it is about an instant.
"""

import asyncio
import contextlib
import fcntl
import os
import select
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from gateway.cluster.certificates import Process
from gateway.process import identity

CHARGE: Final = "charge"

_MOST_BYTES: Final = 4_096


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
            _name(self._held, b"")
            os.close(self._held)
            self._held = None

    def _ask(self) -> None:
        descriptor = os.open(self.folder / CHARGE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_free = _dying(descriptor) is None
        except BlockingIOError:
            is_free = False
        if is_free:
            self._had(descriptor)
        else:
            loop = asyncio.get_running_loop()
            self._waits = loop.create_future()
            # A daemon: nothing else ends the wait for a lock, and a process that ends does not wait for that.
            wait = threading.Thread(target=self._wait, args=(loop, descriptor), name="charge", daemon=True)
            wait.start()

    def _wait(self, loop: asyncio.AbstractEventLoop, descriptor: int) -> None:
        """In a thread of its own."""
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # what it may raise, it raised when it was asked for at once
        if (before := _dying(descriptor)) is not None:
            _await_end(before)
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
            _name(descriptor, msgspec.json.encode(identity(os.getpid())))
        if waits is not None and not waits.done():
            waits.set_result(None)


def _name(descriptor: int, who: bytes) -> None:
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, who, 0)


def _dying(descriptor: int) -> Process | None:
    """Who had charge, has it no more, and is still there."""
    try:
        before = msgspec.json.decode(os.pread(descriptor, _MOST_BYTES, 0), type=Process)
        is_there = identity(before.pid) == before
    except (msgspec.MsgspecError, OSError):
        return None
    return before if is_there and before.pid != os.getpid() else None


def _await_end(process: Process) -> None:
    with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
        descriptor = os.pidfd_open(process.pid)
        stack.callback(os.close, descriptor)
        if identity(process.pid) == process:
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            poll.poll()
