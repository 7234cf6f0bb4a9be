"""A world of segments in memory: the Segment port, with faults on demand and an eye on how it is used.

Appends become durable on the next tick of the loop unless a fault is scripted. Each loss comes in two kinds: before
the write and after it. `crash` kills the owner of every lock, and tears what was being written.
"""

import asyncio
from asyncio import Future
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum

from gateway.audit.ports import Segment, SegmentFailed, Stored


class Fault(Enum):
    LOST_BEFORE = "the error came instead of the write"
    LOST_AFTER = "the error came instead of the answer"
    TORN = "some first bytes were written, then an error"
    SLOW = "no answer until released"
    LATE = "the next segment comes only when released"
    FULL = "no room for another segment"


@dataclass
class MemorySegment:
    world: "SegmentWorld"
    id: str
    left_bytes: int
    is_closed: bool = False
    last: Future[None] | None = None

    def append(self, frame: bytes) -> Future[None]:
        if self.world.breaks is not None:
            raise self.world.breaks
        assert self.last is None or self.last.done(), "a second append before the first was answered"
        last = self.last
        has_failed = last is not None and (last.cancelled() or last.exception() is not None)
        done = self.last = asyncio.get_running_loop().create_future()
        if self.id not in self.world.locked and not self.is_closed:
            done.set_exception(SegmentFailed("its process is dead"))
            return done
        if has_failed or self.is_closed:
            self.world.misuses.append(f"append to {self.id} after it failed or was closed")
            done.set_exception(SegmentFailed("takes nothing more"))
            return done
        self.left_bytes -= len(frame)
        self.world.appends += 1
        match self.world.faults.popleft() if self.world.faults else None:
            case Fault.LOST_BEFORE:
                done.set_exception(SegmentFailed("lost before"))
            case Fault.LOST_AFTER:
                self.world.disk[self.id] += frame
                done.set_exception(SegmentFailed("lost after"))
            case Fault.TORN:
                self.world.disk[self.id] += frame[: self.world.torn_bytes % len(frame)]
                done.set_exception(SegmentFailed("torn"))
            case Fault.SLOW:
                self.world.held.append((self, frame, done))
                self.world.has_held.set()
            case _:
                asyncio.get_running_loop().call_soon(self._write, frame, done)
        return done

    def close(self) -> Future[None]:
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        self.is_closed = True
        self.world.locked.discard(self.id)
        return done

    def _write(self, frame: bytes, done: Future[None]) -> None:
        if not done.done() and self.id in self.world.locked:
            self.world.disk[self.id] += frame
            done.set_result(None)


@dataclass
class SegmentWorld:
    segment_bytes: int = 1 << 20
    torn_bytes: int = 0
    faults: deque[Fault] = field(default_factory=deque)
    disk: dict[str, bytearray] = field(default_factory=dict)
    locked: set[str] = field(default_factory=set)
    held: list[tuple[MemorySegment, bytes, Future[None]]] = field(default_factory=list)
    late: list[tuple[str, Future[Segment]]] = field(default_factory=list)
    has_held: asyncio.Event = field(default_factory=asyncio.Event)
    misuses: list[str] = field(default_factory=list)
    appends: int = 0
    breaks: Exception | None = None  # what the next append raises, which no segment may
    replaced: list[str] = field(default_factory=list)
    reads: list[str] = field(default_factory=list)  # of whole segments
    is_recovering: bool = False
    is_retaining: bool = False
    is_dead: bool = False
    place: str = "memory"

    def create(self, segment_id: str) -> Future[Segment]:
        done: Future[Segment] = asyncio.get_running_loop().create_future()
        if self.is_dead:
            done.set_exception(SegmentFailed("its process is dead"))
        elif self.faults and self.faults[0] is Fault.FULL:
            self.faults.popleft()
            done.set_exception(SegmentFailed("no space left"))
        elif segment_id in self.disk:
            done.set_exception(SegmentFailed("exists"))
        elif self.faults and self.faults[0] is Fault.LATE:
            self.faults.popleft()
            self.late.append((segment_id, done))
            self.has_held.set()
        else:
            self._appear(segment_id, done)
        return done

    def _appear(self, segment_id: str, done: Future[Segment]) -> None:
        self.disk[segment_id] = bytearray()
        self.locked.add(segment_id)
        done.set_result(MemorySegment(self, segment_id, self.segment_bytes))

    async def stored(self) -> list[Stored]:
        return [Stored(segment_id, segment_id in self.locked) for segment_id in sorted(self.disk)]

    async def read(self, segment_id: str, limit_bytes: int | None = None) -> bytes:
        if limit_bytes is None:
            self.reads.append(segment_id)
        return self.bytes_of(segment_id)[:limit_bytes]

    async def cut(self, segment_id: str, kept: bytes) -> None:
        if segment_id in self.locked:
            raise SegmentFailed("belongs to a living process")
        assert self.disk[segment_id].startswith(kept), "a cut adds nothing and changes nothing"
        self.disk[segment_id][:] = kept

    async def replace(self, segment_id: str, data: bytes) -> None:
        if segment_id in self.locked or segment_id not in self.disk:
            raise SegmentFailed("belongs to a living process, or is none")
        fault = self.faults.popleft() if self.faults else None
        if fault is not Fault.LOST_BEFORE:
            self.disk[segment_id] = bytearray(data)
            self.replaced.append(segment_id)
        if fault is not None:
            raise SegmentFailed(fault.value)

    @asynccontextmanager
    async def retention(self) -> AsyncIterator[bool]:
        is_alone = not self.is_retaining
        self.is_retaining = True
        try:
            yield is_alone
        finally:
            self.is_retaining = not is_alone

    @asynccontextmanager
    async def recovery(self) -> AsyncIterator[None]:
        assert not self.is_recovering
        self.is_recovering = True
        try:
            yield
        finally:
            self.is_recovering = False

    def bytes_of(self, segment_id: str) -> bytes:
        """As a file would be: what was written, and zeros up to the prepared size while somebody owns it."""
        written = bytes(self.disk[segment_id])
        return written.ljust(self.segment_bytes, b"\0") if segment_id in self.locked else written

    def everything(self) -> dict[str, bytes]:
        return {segment_id: self.bytes_of(segment_id) for segment_id in self.disk}

    def release(self) -> None:
        """What was slow is written now, also where nobody waits for it any more."""
        for segment, frame, done in self.held:
            self.disk[segment.id] += frame
            if not done.done():
                done.set_result(None)
        for segment_id, created in self.late:
            self._appear(segment_id, created)
        self.late.clear()
        self.held.clear()
        self.has_held.clear()

    def crash(self, torn_bytes: int = 0) -> None:
        """The owners die; what they still try has no effect. Some first bytes of each slow write are there."""
        self.is_dead = True
        for segment, frame, done in self.held:
            done.cancel()
            self.disk[segment.id] += frame[: torn_bytes % (len(frame) + 1)]
        for segment_id in self.locked:
            self.disk[segment_id] = self.disk[segment_id].ljust(self.segment_bytes, b"\0")
        for _, created in self.late:
            created.cancel()
        self.late.clear()
        self.held.clear()
        self.has_held.clear()
        self.locked.clear()
        self.faults.clear()

    def restart(self) -> None:
        """Another process may begin."""
        self.is_dead = False
