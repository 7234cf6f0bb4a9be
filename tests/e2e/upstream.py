"""A server of OpenAI's embeddings that takes its time and knows how many requests are under way in it: who holds a limit of calls at once
over several gateways is judged here, where all of them come together.

It runs on a loop and a thread of its own. A request is under way from when it has come to its answer, or to the end of its connection.
"""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

import uvloop

from gateway.state import clock

MODEL: Final = "embedder"
_BODY: Final = json.dumps(
    {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": [1.0, 0.5]}],
        "model": MODEL,
        "usage": {"prompt_tokens": 1, "total_tokens": 1},
    }
).encode()
_OK: Final = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"


@dataclass(slots=True)
class Upstream:
    """`levels` says from when on how many were under way."""

    hold_seconds: float
    port: int = 0
    levels: list[tuple[float, int]] = field(default_factory=lambda: [(clock(), 0)])
    _is_over: asyncio.Event = field(default_factory=asyncio.Event)
    _loop: asyncio.AbstractEventLoop | None = None

    @property
    def most(self) -> int:
        """That were under way at once."""
        return max(level for _, level in self.levels)

    def mean(self, since: float, until: float) -> float:
        """How many were under way in that time."""
        spans = [*self.levels, (until, 0)]
        area = sum(
            level * max(0.0, min(end, until) - max(start, since))
            for (start, level), (end, _) in pairwise(spans)
        )
        return area / (until - since)

    @property
    def calls(self) -> int:
        """That have come so far."""
        return sum(after > before for (_, before), (_, after) in pairwise(self.levels))

    def came(self) -> None:
        self.levels.append((clock(), self.levels[-1][1] + 1))

    def went(self) -> None:
        self.levels.append((clock(), self.levels[-1][1] - 1))

    async def run(self, is_up: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        server = await self._loop.create_server(lambda: _Connection(self), "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        is_up.set()
        await self._is_over.wait()
        server.close()

    def end(self) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._is_over.set)


class _Connection(asyncio.Protocol):
    """Of one gateway: one request after another."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream, self._data = upstream, b""
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, end, body = self._data.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        if not end or len(body) < length:
            return
        self._data = b""
        if head.startswith(b"POST"):
            self._upstream.came()
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._upstream.hold_seconds, self._answer)
        else:
            self._write(_OK % 0)

    def _answer(self) -> None:
        self._went()
        self._write(_OK % len(_BODY) + _BODY)

    def _write(self, data: bytes) -> None:
        assert self._transport is not None
        self._transport.write(data)  # type: ignore[attr-defined]  # uvloop's is no asyncio.Transport

    def connection_lost(self, _: Exception | None) -> None:
        self._went()

    def _went(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._upstream.went()


def embedding(model: str, key: str) -> bytes:
    """A request for one, with that key."""
    body = json.dumps({"model": model, "input": "a"}).encode()
    head = f"POST /v1/embeddings HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n"
    return head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body


@contextmanager
def holding(hold_seconds: float) -> Iterator[Upstream]:
    """It serves until the block ends."""
    upstream, is_up = Upstream(hold_seconds), threading.Event()
    thread = threading.Thread(target=lambda: uvloop.run(upstream.run(is_up)))
    thread.start()
    is_up.wait()
    try:
        yield upstream
    finally:
        upstream.end()
        thread.join()
