"""One kept-alive HTTP/1.1 connection to a Triton server: an asyncio protocol on httptools.

One exchange at a time: `send` writes a request, `reply` waits for the reply's head and is the source of its body. Both directions have
back-pressure. What ends an exchange early (a cancelled caller, a broken peer, an early reply) closes the connection: a connection is
reused only after a whole request and a whole reply. A reply must say its length or be chunked, else one that was cut could look whole.
"""

import asyncio
from collections import deque

import httptools

from gateway.call import Source, Take, Tap
from gateway.triton.paced import READ_AHEAD_BYTES, Paced

# What comes in is parsed before the loop reads again, so all connections of the process read into the same bytes: as many as stay in a
# core's second cache on the way from one socket to the other.
_RECEIVED = memoryview(bytearray(128 * 1024))
_REPLY_HEAD_BYTES = 64 * 1024
_JOINED_BYTES = 64 * 1024  # beyond it a second buffer is cheaper than a copy
_FIRST_FINAL = 200


class UpstreamFailed(Exception):
    """The server broke off, or answered what is not HTTP. The request may have run."""


class NotSent(Exception):
    """The server could not be reached. The request cannot have run, so another replica may take it."""


class Untrusted(NotSent):
    """The server did not prove over TLS who it is. It would not the next time either, until somebody has seen to it."""


class UpstreamReply:
    """The reply of one exchange: its head, and the source of its body. UpstreamFailed when that ends before its end."""

    __slots__ = (
        "connection",
        "content_encoding",
        "content_type",
        "head_length",
        "is_chunked",
        "length_bytes",
        "status",
    )

    def __init__(self, connection: "Connection") -> None:
        self.connection = connection
        self.status = 0
        self.length_bytes = -1  # not told, or chunked
        self.is_chunked = False
        self.content_type = b""
        self.content_encoding = b""
        self.head_length = b""

    async def pour(self, take: Take) -> None:
        await self.connection.pour(take)

    def pause(self) -> None:
        self.connection.hold(self, held=True)

    def resume(self) -> None:
        self.connection.hold(self, held=False)


class Connection(Paced, asyncio.BufferedProtocol):
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._parser = httptools.HttpResponseParser(self)
        self._chunks: deque[bytes] = deque()
        self._reset()

    def _reset(self) -> None:
        self._rest: Source | None = None  # what the request still waits for
        self._tap: Tap | None = None  # who takes the reply's body
        self._is_held = False
        self.buffered_bytes = 0
        self._head_bytes = 0
        self._reply: UpstreamReply | None = None
        self._has_head = False
        self._sent = False
        self._complete = False
        self._is_kept = False

    # What the pool asks

    @property
    def finished(self) -> bool:
        """Request and reply were whole, and the server keeps the connection."""
        return self._sent and self._is_kept and self.usable

    def recycle(self) -> None:
        """Ready for the next exchange, as the one before is `finished`: its parser stands before the next reply."""
        self._chunks.clear()
        self._reset()
        self._set_reading(wanted=True)
        self.idle_since = self._loop.time()

    # One exchange

    async def send(self, head: bytes, rest: Source | None, *, first: bytes | memoryview = b"") -> None:
        """Write a request. `rest` streams behind `head` and `first`; an early reply ends the writing, and with it the connection."""
        transport = self._transport
        if transport is None or not self.usable:
            raise NotSent("the connection was closed before the request")
        self._reply = UpstreamReply(self)
        if len(first) > _JOINED_BYTES:
            transport.writelines((head, first))
        else:
            transport.write(head + first)
        if rest is not None:
            self._rest = rest
            if not self._writable:
                rest.pause()
            try:
                await rest.pour(self._send_piece)
            finally:
                self._rest = None
                rest.resume()  # of a client that is not read nobody would see that it leaves
            if self._is_over:
                return
        self._sent = True

    def _send_piece(self, piece: bytes) -> bool:
        if self._transport is None or self._is_over:
            return True
        self._transport.write(piece)
        return False

    @property
    def _is_over(self) -> bool:
        """The server answered or is gone: there is nobody to send more of the request to."""
        return self._has_head or self._lost or bool(self._broken)

    async def reply(self) -> UpstreamReply:
        """The reply's status and headers. Raises UpstreamFailed."""
        while not (self._has_head or self._lost or self._broken):
            await self._changed()
        if self._reply is None or not self._has_head:
            raise UpstreamFailed(self._broken or "the server closed the connection without an answer")
        return self._reply

    async def pour(self, take: Take) -> None:
        """Hand over the body of the reply. Raises UpstreamFailed when it breaks off."""
        while self._chunks:
            if take(self._chunks.popleft()):
                return
        self.buffered_bytes = 0
        tap = self._tap = Tap(take)
        self._set_reading(wanted=not self._is_held)
        try:
            while tap.is_open and not self._complete:
                if self._lost or self._broken:
                    raise UpstreamFailed(self._broken or "the server closed the connection within its answer")
                await self._changed()
            if tap.fault is not None:
                raise tap.fault
        finally:
            self._tap = None

    def hold(self, reply: UpstreamReply, *, held: bool) -> None:
        """Whether who takes the body of the reply cannot keep up. Of a reply that is over it does not matter."""
        if reply is self._reply:
            self._hold(held=held)

    def _wake(self) -> None:
        if self._rest is not None:  # the server reads again, or there is nobody any more to hold it back for
            self._rest.resume()
        super()._wake()

    # asyncio.BufferedProtocol

    def get_buffer(self, sizehint: int) -> memoryview:
        return _RECEIVED

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(_RECEIVED[:nbytes])

    def data_received(self, data: bytes | memoryview) -> None:
        if self._reply is None:
            self._fail("bytes outside of an exchange")
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as fault:
            self._fail(f"not a reply that we can take: {fault.__context__ or fault}")
            return
        if not self._has_head:
            self._head_bytes += len(data)
            if self._head_bytes > _REPLY_HEAD_BYTES:
                self._fail("the reply's head is too large")

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._rest is not None:
            self._rest.pause()

    # httptools: what is raised here ends the exchange as _fail does

    def on_message_begin(self) -> None:
        if self._has_head:
            raise ValueError("a second reply to one request")

    def on_header(self, name: bytes, value: bytes) -> None:
        reply = self._reply
        if reply is None or self._has_head:
            return
        lowered = name.lower()
        if lowered == b"content-length":
            reply.length_bytes = int(value)
        elif lowered == b"content-type":
            reply.content_type = value
        elif lowered == b"inference-header-content-length":
            reply.head_length = value
        elif lowered == b"content-encoding":
            reply.content_encoding = value
        elif lowered == b"transfer-encoding":
            reply.is_chunked = value.lower() == b"chunked"

    def on_headers_complete(self) -> None:
        reply = self._reply
        status = self._parser.get_status_code()
        if reply is None or status < _FIRST_FINAL:
            raise ValueError("an interim reply that nobody asked for")
        if reply.length_bytes < 0 and not reply.is_chunked:
            raise ValueError("a reply that does not say its length")
        reply.status = status
        self._has_head = True
        self._wake()

    def on_body(self, body: bytes) -> None:
        if self._tap is not None:
            if not self._tap.give(body):
                self._tap = None
                self._wake()
            return
        self._chunks.append(body)
        self.buffered_bytes += len(body)
        if self.buffered_bytes > READ_AHEAD_BYTES:
            self._set_reading(wanted=False)

    def on_message_complete(self) -> None:
        self._complete = True
        self._is_kept = self._parser.should_keep_alive()  # the parser forgets it with the message
        self._wake()
