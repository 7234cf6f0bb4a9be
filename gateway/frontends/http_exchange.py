"""One request and its answer on a connection, as ASGI shows them to an application, and with less ado to ours.

As ASGI asks, the head of an answer waits for the first piece of the body, and both leave in one write. What a client sends ahead of an
application that does not read yet is kept up to a mark; beyond it the connection is not read.

ASGI wakes a task for each piece of a body and has no word for back-pressure but waiting. The exchange itself is therefore in the scope,
as the extension EXTENSION: it is the source of the request's body, and takes an answer without waiting.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl

from gateway.call import Source, Take, Tap

log = logging.getLogger(__name__)

Headers = list[tuple[bytes, bytes]]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

EXTENSION = "gateway.exchange"
STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}
_READ_AHEAD_BYTES = 256 * 1024  # more than one read gives: who is read as it sends is never held up
_SMALL_BYTES = 4096  # pieces below are joined: a client could send very many
_JOINED_BYTES = 64 * 1024  # beyond it a second buffer is cheaper than a copy
_NO_BODY = (204, 304)


class Exchange:
    """What comes in is told by `add_body`, `end_body` and `disconnect`; `answered` and `cut` are called when the application is done.

    `answered`: with a whole answer. `cut`: without one; the connection must not go on as if it were whole.
    """

    # How each begins; on the class, as there is one for every request and most end as they began.
    has_begun = False  # the application gave a status
    goes_on = False  # its task is not cancelled when the client leaves
    is_answered = False
    _disconnected = False
    _ahead_bytes = 0
    _more_body = True
    _knows_end = False  # the application was told that no more comes
    _waiter: asyncio.Future[None] | None = None
    _tap: Tap | None = None  # who takes the body as it comes
    _is_held = False  # cannot take it now
    _source: Source | None = None  # what the answer comes from
    _head = b""  # of the answer, until it is written
    _left_bytes: int | None = None  # of the answer; None: chunked

    def __init__(
        self,
        scope: Message,
        transport: asyncio.Transport,
        flow: FlowControl,
        *,
        own_headers: Headers,
        keep_alive: bool,
        expects_continue: bool,
        answered: Callable[[], None],
        cut: Callable[[], None],
    ) -> None:
        self.keep_alive = keep_alive
        self.awaits_continue = expects_continue
        self._scope = scope
        self._is_head = scope["method"] == "HEAD"
        self._transport = transport
        self._flow = flow
        self._own_headers = own_headers
        self._answered = answered
        self._cut = cut
        self._ahead: deque[bytes] = deque()

    async def run(self, app: Application) -> None:
        # It will name us, and in that circle both would stay until the collector comes by.
        scope, self._scope = self._scope, {}
        scope["extensions"] = {EXTENSION: self}
        try:
            await app(scope, self.receive, self.send)
        except Exception:
            log.exception("the application failed")
        else:
            if not (self.has_begun or self._disconnected):
                log.error("the application gave no answer")
        finally:
            if not (self.has_begun or self._disconnected or self._transport.is_closing()):
                self.begin(500, [(b"content-length", b"0")])
                self.write(b"", more_body=False)
            if not self.is_answered:
                self._source = None
                self._cut()

    # What the connection tells

    def add_body(self, piece: bytes) -> None:
        if self._tap is not None:
            if not self._tap.give(piece):
                self._tap = None
                self._wake()
            return
        if self._ahead and len(self._ahead[-1]) < _SMALL_BYTES:
            self._ahead[-1] += piece
        else:
            self._ahead.append(piece)
        self._ahead_bytes += len(piece)
        if self._ahead_bytes > _READ_AHEAD_BYTES:
            self._flow.pause_reading()
        self._wake()

    def end_body(self) -> None:
        self._more_body = False
        self._wake()

    def disconnect(self) -> None:
        self._disconnected = True
        self._wake()

    def client_reads(self, *, reads: bool) -> None:
        """Whether the client reads as fast as we send."""
        if self._source is not None:
            if reads:
                self._source.resume()
            else:
                self._source.pause()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # What an ASGI application asks

    async def receive(self) -> Message:
        self._ask_for_body()
        if self._ahead_bytes <= _READ_AHEAD_BYTES:
            self._flow.resume_reading()
        while not (self._ahead or self._disconnected or self.is_answered) and (
            self._more_body or self._knows_end
        ):
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        if self._disconnected or self.is_answered:
            return {"type": "http.disconnect"}
        body = self._ahead.popleft() if self._ahead else b""
        self._ahead_bytes -= len(body)
        self._knows_end = not (self._ahead or self._more_body)
        return {"type": "http.request", "body": body, "more_body": not self._knows_end}

    async def send(self, message: Message) -> None:
        await self.writable()
        if message["type"] == "http.response.start":
            self.begin(message["status"], message["headers"])
        else:
            self.write(message.get("body", b""), more_body=message.get("more_body", False))

    # What ours asks

    async def pour(self, take: Take) -> None:
        """Hand over the body, in the callbacks that bring it. Ends early when the client leaves: see `is_gone`."""
        self._ask_for_body()
        while self._ahead:
            if take(self._ahead.popleft()):
                return
        self._ahead_bytes = 0
        tap = self._tap = Tap(take)
        if not self._is_held:
            self._flow.resume_reading()
        try:
            while tap.is_open and self._more_body and not self.is_gone:
                self._waiter = asyncio.get_running_loop().create_future()
                await self._waiter
            if tap.fault is not None:
                raise tap.fault
        finally:
            self._tap = None

    def _ask_for_body(self) -> None:
        if self.awaits_continue and not self._transport.is_closing():
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.awaits_continue = False

    @property
    def is_gone(self) -> bool:
        """Nothing more of the body comes: the client has left, or its answer."""
        return self._disconnected or self.is_answered

    def pause(self) -> None:
        self._is_held = True
        self._flow.pause_reading()

    def resume(self) -> None:
        self._is_held = False
        self._flow.resume_reading()

    async def writable(self) -> None:
        """Wait until the client reads what was written to it."""
        if self._flow.write_paused and not self._disconnected:
            await self._flow.drain()

    def follow(self, source: Source) -> None:
        """The answer comes from there: it is paused while the client reads too slowly."""
        self._source = source

    def begin(self, status: int, headers: Headers) -> None:
        """The answer's status and headers. Once; nothing is written when the client has left, here and in `write`."""
        if self._disconnected:
            self.has_begun = True
            return
        if self.has_begun:
            raise RuntimeError("an answer that had begun")
        lines = [STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status]
        for name, value in (*self._own_headers, *headers):
            lines.append(b"%b: %b\r\n" % (name, value))
            if name == b"content-length":
                self._left_bytes = int(value)
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        if self._is_head or status in _NO_BODY:
            self._left_bytes = 0
        elif self._left_bytes is None:
            lines.append(b"transfer-encoding: chunked\r\n")
        head = b"".join(lines)
        if head.count(b"\n") != len(lines) or head.count(b"\r") != len(lines):
            raise RuntimeError("a line break in a header")
        self._head = head + b"\r\n"
        self.has_begun = True
        self.awaits_continue = False

    def write(self, body: bytes, *, more_body: bool) -> None:
        """The next piece of the answer's body, to be sent as soon as the client reads."""
        if self._disconnected:
            return
        if not self.has_begun or self.is_answered:
            raise RuntimeError("a body without its head, or behind its end")
        if self._left_bytes is None:
            body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + (
                b"" if more_body else b"0\r\n\r\n"
            )
        else:
            if self._is_head:
                body = b""
            self._left_bytes -= len(body)
            if self._left_bytes < 0 or (self._left_bytes and not more_body):
                raise RuntimeError("a body of another length than its head promised")
        head, self._head = self._head, b""
        if head and len(body) > _JOINED_BYTES:
            self._transport.writelines((head, body))
        elif head or body:
            self._transport.write(head + body)
        if not more_body:
            self.is_answered = True
            self._source = None
            self._wake()
            if not self.keep_alive:
                self._transport.close()
            self._answered()
