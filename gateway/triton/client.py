"""Calls to one Triton server over a pool of kept-alive connections.

Idle connections are closed after five seconds by one timer for the whole pool. Releasing a reply gives its connection back when
request and reply were whole, and closes it otherwise, which is also how a cancelled call stops in Triton.
"""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, Literal

from gateway.call import InferenceCall, Outgoing, Source
from gateway.triton.connection import Connection, NotSent, UpstreamFailed, UpstreamReply

_ANSWER_BYTES = 4 * 1024**2

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """The reply to a question of our own, whole; of a body above 4 MiB only its beginning."""

    status: int
    content_type: bytes
    body: bytes


@dataclass(slots=True)
class Client:
    """The pool of one server at `host`:`port`. Not shared between loops."""

    host: str
    port: int
    idle_seconds: float = 5.0
    connect_seconds: float = 1.0
    _idle: list[Connection] = field(default_factory=list)
    _busy: set[Connection] = field(default_factory=set)
    _timer: asyncio.TimerHandle | None = None
    _closed: bool = False
    _aborted: bool = False

    def send(self, call: InferenceCall, body: Outgoing) -> Coroutine[Any, Any, UpstreamReply]:
        """Send a judged call; give its reply, which must be released. Raises NotSent if it cannot have run, else UpstreamFailed."""
        return self._send(request_head(call, body) + body.head, body.rest, first=body.first)

    def release(self, reply: UpstreamReply) -> None:
        """The caller is done with this reply, read to its end or not."""
        self._release(reply.connection)

    async def ask(
        self, method: Literal["GET", "POST"], path: str, body: bytes = b"", headers: Headers = ()
    ) -> Answer:
        """A question of our own. Raises NotSent, UpstreamFailed."""
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
        head = f"{method} {path} HTTP/1.1\r\nHost: triton\r\n{lines}Content-Length: {len(body)}\r\n\r\n"
        reply = await self._send(head.encode() + body)
        try:
            kept = bytearray()
            await reply.pour(lambda piece: kept.extend(piece[: _ANSWER_BYTES - len(kept)]))
            return Answer(reply.status, reply.content_type, bytes(kept))
        finally:
            self.release(reply)

    async def _send(
        self, head: bytes, rest: Source | None = None, *, first: bytes | memoryview = b""
    ) -> UpstreamReply:
        connection = self._take_idle() or await self._connect()
        self._busy.add(connection)
        try:
            await connection.send(head, rest, first=first)
            return await connection.reply()
        except BaseException:
            self._release(connection)
            raise

    def _take_idle(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
        return None

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self.connect_seconds):
                _, connection = await loop.create_connection(lambda: Connection(loop), self.host, self.port)
        except OSError as fault:  # TimeoutError is one
            raise NotSent(f"cannot connect to {self.host}:{self.port}: {fault!r}") from fault
        if self._aborted:
            connection.abort()
            raise NotSent(f"{self.host}:{self.port} was given up")
        return connection

    def _release(self, connection: Connection) -> None:
        self._busy.discard(connection)
        if self._closed or not connection.finished:
            connection.abort()
            return
        connection.recycle()
        self._idle.append(connection)
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self.idle_seconds, self._close_idle)

    def _close_idle(self) -> None:
        """The oldest idle connections lie first, as the newest is taken first."""
        self._timer = None
        loop = asyncio.get_running_loop()
        oldest = loop.time() - self.idle_seconds
        while self._idle and self._idle[0].idle_since <= oldest:
            self._idle.pop(0).abort()
        if self._idle:
            self._timer = loop.call_at(self._idle[0].idle_since + self.idle_seconds, self._close_idle)

    def close(self) -> None:
        """Keep no connection; what is under way goes on."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        while self._idle:
            self._idle.pop().abort()

    def abort(self) -> None:
        """Give the server up: who waits for a reply gets UpstreamFailed at once, who comes later gets NotSent."""
        self._aborted = True
        self.close()
        for connection in self._busy:
            connection.abort()


def request_head(call: InferenceCall, body: Outgoing) -> bytes:
    """The head that Triton gets: ours alone, of the client's headers only what was judged is in it."""
    path = f"/v2/models/{call.model}"
    if call.version:
        path += f"/versions/{call.version}"
    extra = f"traceparent: {call.traceparent}\r\n" if call.traceparent else ""
    if call.endpoint == "metadata":
        return f"GET {path} HTTP/1.1\r\nHost: triton\r\n{extra}\r\n".encode()
    if call.encoding:
        extra += f"Accept-Encoding: {call.encoding}\r\n"
    kind = "application/json"
    if body.binary:
        kind = "application/octet-stream"
        extra += f"Inference-Header-Content-Length: {len(body.head)}\r\n"
    length = len(body.head) + body.tensor_bytes
    return (
        f"POST {path}/{call.endpoint} HTTP/1.1\r\nHost: triton\r\nContent-Type: {kind}\r\n{extra}Content-Length: {length}\r\n\r\n"
    ).encode()


__all__ = ["Answer", "Client", "Headers", "NotSent", "UpstreamFailed", "UpstreamReply"]
