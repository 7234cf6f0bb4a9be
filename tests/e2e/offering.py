"""Requests at a given pace to several processes, whatever they answer: an open load, as of many callers that do not wait for one another.

It runs on a loop and a thread of its own, is bounded in time and in count, and tells afterwards what each request saw and when. A request
is a question whether a model is ready: it passes all steps of admission, and no Triton is asked.
"""

import asyncio
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Final, cast

import uvloop

from gateway.state import clock
from tests.e2e.limits_judge import Offer

MOST: Final = 100_000
_TICK_SECONDS: Final = 0.005
_MOST_LINES: Final = 256
"""To one process; as many can be under way there, and what is more is not sent."""
_LENGTH: Final = b"content-length: "


class _Line(asyncio.Protocol):
    """A kept-alive connection with one request under way at most."""

    def __init__(self, seen: Callable[["_Line", int], None], lost: Callable[["_Line"], None]) -> None:
        self._seen, self._lost, self._data = seen, lost, b""
        self.sent = 0.0
        self.is_lost = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def ask(self, request: bytes) -> None:
        assert self._transport is not None
        self.sent = clock()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, end, body = self._data.partition(b"\r\n\r\n")
        if end and len(body) >= _length(head):
            self._data = b""
            self._answered(int(head[9:12]))

    def connection_lost(self, _: Exception | None) -> None:
        self.is_lost = True
        self._lost(self)
        self._answered(0)

    def _answered(self, status: int) -> None:
        if self.sent:
            self._seen(self, status)
            self.sent = 0.0

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


def _length(head: bytes) -> int:
    found = head.lower().partition(_LENGTH)[2]
    return int(found.partition(b"\r\n")[0] or 0)


@dataclass(slots=True)
class _Door:
    """One process, as it is asked."""

    number: int
    port: int
    pace: float
    owed: float = 0.0
    idle: list[_Line] = field(default_factory=list)
    lines: set[_Line] = field(default_factory=set)
    connecting: set["asyncio.Task[None]"] = field(default_factory=set)


@dataclass(slots=True)
class Offering:
    """`seen` grows while it runs. Processes are at 127.0.0.1, each asked `pace` times a second."""

    request: bytes
    rng: random.Random
    until: float
    doors: list[_Door]
    seen: list[Offer] = field(default_factory=list)
    unsent: int = 0
    thread: threading.Thread = field(init=False)
    _begun: int = 0
    _stopped: threading.Event = field(default_factory=threading.Event)

    def moved(self, number: int, port: int) -> None:
        """That process is at another port now."""
        self.doors[number].port = port

    def burst(self, number: int, requests: int) -> None:
        """So many at once, beside its pace."""
        self.doors[number].owed += requests

    def stop(self) -> None:
        self._stopped.set()

    async def run(self) -> None:
        before = clock()
        while not self._stopped.is_set() and clock() < self.until and self._begun < MOST:
            now = clock()
            for door in self.doors:
                door.owed += door.pace * (now - before) * self.rng.uniform(0.5, 1.5)
                self._send(door)
            before = now
            await asyncio.sleep(_TICK_SECONDS)
        await asyncio.sleep(0.2)  # for what is under way
        for door in self.doors:
            for task in tuple(door.connecting):
                task.cancel()
            for line in tuple(door.lines):
                line.close()
        await asyncio.sleep(0.05)  # uvloop does not end with connections that are open

    def _send(self, door: _Door) -> None:
        requests = int(door.owed)
        door.owed -= requests
        while requests and door.idle:
            line = door.idle.pop()
            if not line.is_lost:
                self._ask(line)
                requests -= 1
        more = max(0, min(requests, _MOST_LINES - len(door.lines) - len(door.connecting)))
        self.unsent += requests - more
        for _ in range(more):
            task = asyncio.create_task(self._connected(door))
            door.connecting.add(task)
            task.add_done_callback(door.connecting.discard)

    async def _connected(self, door: _Door) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, line = await loop.create_connection(
                lambda: _Line(partial(self._answered, door), door.lines.discard), "127.0.0.1", door.port
            )
        except OSError:
            self.unsent += 1
        else:
            door.lines.add(line)
            self._ask(line)

    def _ask(self, line: _Line) -> None:
        self._begun += 1
        line.ask(self.request)

    def _answered(self, door: _Door, line: _Line, status: int) -> None:
        self.seen.append(Offer(door.number, line.sent, clock(), status))
        if not line.is_lost:
            door.idle.append(line)


def readiness(model: str, key: str) -> bytes:
    """Whether that model is ready, asked with that key."""
    return f"GET /v2/models/{model}/ready HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n\r\n".encode()


@contextmanager
def offering(
    request: bytes, rng: random.Random, ports: Sequence[int], paces: Sequence[float], *, seconds: float
) -> Iterator[Offering]:
    """The load runs while the block does, and no longer than that. Slow paces do not fall together."""
    doors = [
        _Door(number, *it, owed=number / len(ports))
        for number, it in enumerate(zip(ports, paces, strict=True))
    ]
    load = Offering(request, rng, clock() + seconds, doors)
    load.thread = threading.Thread(target=lambda: uvloop.run(load.run()))
    load.thread.start()
    try:
        yield load
    finally:
        load.stop()
        load.thread.join()
