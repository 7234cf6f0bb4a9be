"""Calls to one Triton server over a pool of kept-alive connections.

Idle connections are closed after five seconds by one timer for the whole pool. Releasing a reply gives its connection back when
request and reply were whole, and closes it otherwise, which is also how a cancelled call stops in Triton.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from gateway.call import InferenceCall, Outgoing
from gateway.triton.connection import Connection, NotSent, UpstreamFailed, UpstreamReply


@dataclass(slots=True)
class Client:
    """The pool of one server at `host`:`port`. Not shared between loops."""

    host: str
    port: int
    idle_seconds: float = 5.0
    connect_seconds: float = 1.0
    _idle: list[Connection] = field(default_factory=list)
    _timer: asyncio.TimerHandle | None = None
    _closed: bool = False

    async def send(self, call: InferenceCall, body: Outgoing) -> UpstreamReply:
        """Send a judged call; give its reply, which must be released. Raises NotSent if it cannot have run, else UpstreamFailed."""
        return await self._send(request_head(call, body) + body.head + body.first, body.rest)

    def release(self, reply: UpstreamReply) -> None:
        """The caller is done with this reply, read to its end or not."""
        self._release(reply.connection)

    async def get(self, path: str) -> tuple[int, bytes]:
        """A small GET of our own, for probes: its status and body. Raises NotSent, UpstreamFailed."""
        reply = await self._send(f"GET {path} HTTP/1.1\r\nHost: triton\r\n\r\n".encode(), None)
        try:
            return reply.status, b"".join([chunk async for chunk in reply.chunks()])
        finally:
            self.release(reply)

    async def _send(self, data: bytes, rest: AsyncIterator[bytes] | None) -> UpstreamReply:
        connection = await self._acquire()
        try:
            await connection.send(data, rest)
            return await connection.reply()
        except BaseException:
            self._release(connection)
            raise

    async def _acquire(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self.connect_seconds):
                _, connection = await loop.create_connection(lambda: Connection(loop), self.host, self.port)
        except OSError as fault:  # TimeoutError is one
            raise NotSent(f"cannot connect to {self.host}:{self.port}: {fault!r}") from fault
        return connection

    def _release(self, connection: Connection) -> None:
        if self._closed or not connection.finished:
            connection.abort()
            return
        loop = asyncio.get_running_loop()
        connection.recycle()
        connection.idle_since = loop.time()
        self._idle.append(connection)
        if self._timer is None:
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
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        while self._idle:
            self._idle.pop().abort()


def request_head(call: InferenceCall, body: Outgoing) -> bytes:
    """The head that Triton gets: ours alone, no header of the client's is in it."""
    path = f"/v2/models/{call.model}"
    if call.version:
        path += f"/versions/{call.version}"
    if call.verb == "describe":
        return f"GET {path} HTTP/1.1\r\nHost: triton\r\n\r\n".encode()
    kind = "application/json"
    extra = ""
    if body.binary:
        kind = "application/octet-stream"
        extra = f"Inference-Header-Content-Length: {len(body.head)}\r\n"
    length = len(body.head) + body.tensor_bytes
    return (
        f"POST {path}/infer HTTP/1.1\r\nHost: triton\r\nContent-Type: {kind}\r\n{extra}Content-Length: {length}\r\n\r\n"
    ).encode()


__all__ = ["Client", "NotSent", "UpstreamFailed", "UpstreamReply"]
