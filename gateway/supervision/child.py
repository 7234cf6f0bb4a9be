"""One life of a worker or of the side, as its supervisor sees it.

Its standard input is where it gets its orders: their end, also that of the supervisor's own process, means that it drains and ends. On its
standard output it says that it can serve, and beats. Its standard error is ours.
"""

import asyncio
import logging
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import msgspec

from gateway.cluster.certificates import Process
from gateway.supervision.plan import HAND_OVER, Part, Ready, Stage

log = logging.getLogger(__name__)

BEAT: Final = b"beat\n"


@dataclass(slots=True, eq=False)
class Child:
    """`identity` is None of one that had ended before anybody could look. `clock` gives seconds; `born` and the others are by it."""

    part: Part
    process: asyncio.subprocess.Process
    identity: Process | None
    clock: Callable[[], float]
    stage: Stage
    born: float
    beat_at: float = 0.0
    ready_at: float | None = None
    ended: "asyncio.Future[int]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    """Its exit code, below 0 for a signal."""
    _orders_over: bool = False

    @property
    def name(self) -> str:
        return self.part.name

    @property
    def served_seconds(self) -> float:
        return 0.0 if self.ready_at is None else self.clock() - self.ready_at

    async def watch(self, ready: Callable[[Ready], None]) -> int:
        """Hear what it says, until it has ended: gives its exit code. `ready` is told once it can serve."""
        while line := await _line(self.process):
            self.beat_at = self.clock()
            if line != BEAT and self.ready_at is None and (found := self._read(line)):
                self.ready_at = self.beat_at
                ready(found)
        code = await self.process.wait()
        self._end_orders()
        self.ended.set_result(code)
        return code

    def _read(self, line: bytes) -> Ready | None:
        try:
            return msgspec.json.decode(line, type=Ready)
        except (msgspec.DecodeError, UnicodeDecodeError):
            log.warning("%s says what nobody understands: %r", self.name, line[:200])
            return None

    def drain(self, *, hands_over: bool) -> None:
        """It finishes what is under way and ends; it hands over, if another one takes what comes meanwhile."""
        self.stage = "drains"
        if hands_over and not self._orders_over and self.process.stdin is not None:
            self.process.stdin.write(HAND_OVER)
        self._end_orders()

    def _end_orders(self) -> None:
        if not self._orders_over and self.process.stdin is not None:
            self._orders_over = True
            self.process.stdin.close()

    def hurry(self) -> None:
        """It waits for nothing more."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if not self.ended.done():
            with suppress(ProcessLookupError):
                self.process.send_signal(number)


async def _line(process: asyncio.subprocess.Process) -> bytes:
    """Empty at the end."""
    try:
        return await process.stdout.readline() if process.stdout is not None else b""
    except ValueError:  # longer than anything that it should say
        return b"?\n"
