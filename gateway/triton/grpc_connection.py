"""One kept-alive gRPC connection to a Triton server: an asyncio protocol over our own reading of HTTP/2.

One call at a time: `send` writes a request of one message and ends it, `reply` waits until the reply's status is known, or its first
message is here. Both directions have back-pressure: a request waits for the server's windows, a reply is held by reading no more. What
ends a call early closes the connection, as in `connection`; the server cancels what it ran for it.

grpc's own asyncio client costs 0.35 ms of CPU a call, as a thread of its own polls and wakes the loop for each event; this costs a fifth.
"""

import asyncio
from collections import deque
from functools import lru_cache

from msgspec import Struct

from gateway.call import Take
from gateway.triton import http2
from gateway.triton.connection import NotSent, UpstreamFailed
from gateway.triton.grpc_messages import Messages, prefix
from gateway.triton.grpc_status import Status, http_status, unquoted
from gateway.triton.http2 import ACK, END_HEADERS, END_STREAM, Kind, Malformed
from gateway.triton.paced import READ_AHEAD_BYTES, Paced

_HEADER_BYTES = 64 * 1024
_MOST_STREAM = 2**30
_REFUSED_STREAM = 7
# An Enum's member is looked up more slowly than a name, and these are of every reply.
_DATA, _HEADERS, _CONTINUATION, _OK = Kind.DATA, Kind.HEADERS, Kind.CONTINUATION, Status.OK
_RENEWED_BYTES = 2**30
_NOT_METADATA = (":", "grpc-", "content-type", "endpoint-load-metrics")


class Ending(Struct, frozen=True):
    """What the trailers of a reply say."""

    code: Status
    message: bytes
    metadata: tuple[tuple[str, str], ...]
    """What is the client's: not gRPC's own, and not the load of the server, which others share."""


@lru_cache(maxsize=64)  # of replies that went well it is the same block again and again
def ending(block: bytes) -> Ending:
    """Raises Malformed."""
    trailers = http2.headers(block)
    code = trailers.get("grpc-status", "")
    if not code.isascii() or not code.isdigit():
        raise Malformed("an end without a status")
    return Ending(
        code=Status.of(int(code)),
        message=unquoted(trailers.get("grpc-message", "")),
        metadata=tuple(item for item in trailers.items() if not item[0].startswith(_NOT_METADATA)),
    )


class GrpcReply:
    """The reply of one call: its status, and the source of its messages. Of an error, the one piece is its text."""

    __slots__ = ("code", "connection", "is_error", "is_ordered", "is_stream", "message", "metadata", "status")

    content_type = (
        b"text/plain"  # what goes wrong while the model runs: what Triton cannot read does not get past us
    )
    content_encoding = b""
    head_length = b""

    def __init__(self, connection: "GrpcConnection") -> None:
        self.connection = connection
        self.code = _OK
        self.status = 200  # as HTTP says it
        self.message = b""
        self.metadata: tuple[tuple[str, str], ...] = ()  # behind it, what is the client's
        self.is_error = False  # the piece that is handed over is the text of its status
        self.is_stream = False  # any number of messages come, and not all at once
        self.is_ordered = True  # on a stream, it comes behind the replies to earlier requests

    @property
    def length_bytes(self) -> int:
        return -1 if self.is_stream else self.connection.buffered_bytes

    async def pour(self, take: Take) -> None:
        if self.message or self.code is not _OK:
            self.is_error = True
            take(self.message)
        else:
            await self.connection.pour(take)

    def pause(self) -> None:
        self.connection.hold(self, held=True)

    def resume(self) -> None:
        self.connection.hold(self, held=False)


class GrpcConnection(Paced, asyncio.Protocol):
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._left = b""  # the beginning of a frame
        self._window = http2.FIRST_WINDOW_BYTES  # what the server takes on the connection
        self._stream_window_bytes = http2.FIRST_WINDOW_BYTES  # and at first on a stream
        self._received_bytes = 0
        self._stream = -1
        self._incoming = Messages()
        self._messages: deque[bytes] = deque()
        self._reset()

    def _reset(self) -> None:
        self._stream += 2
        self._stream_window = self._stream_window_bytes
        self._stream_received_bytes = 0
        self._reply: GrpcReply | None = None
        self._block = b""
        self._block_flags = 0
        self._messages.clear()  # of those that come in none is partial: a reply that has ended so is malformed
        self.buffered_bytes = 0
        self._is_held = False
        self._sent = False
        self._complete = False
        self._not_run = False

    # What the pool asks

    @property
    def finished(self) -> bool:
        return self._sent and self._complete and self._stream < _MOST_STREAM and self.usable

    def recycle(self) -> None:
        self._reset()
        self._set_reading(wanted=True)
        self.idle_since = self._loop.time()

    # One call

    async def send(self, block: bytes, head: bytes, tensors: bytes | memoryview = b"") -> None:
        """Write a request of this header block and one message, which is `head` and `tensors`. An early reply ends the writing."""
        transport = self._transport
        if transport is None or not self.usable:
            raise NotSent("the connection was closed before the request")
        self._reply = GrpcReply(self)
        headers = http2.frame_head(_HEADERS, END_HEADERS, self._stream, len(block))
        start = prefix(len(head) + len(tensors))
        whole = len(start) + len(head) + len(tensors)
        if whole <= min(http2.MOST_FRAME_BYTES, self._window, self._stream_window):
            self._spend(whole)
            data = http2.frame_head(_DATA, END_STREAM, self._stream, whole)
            transport.write(b"".join((headers, block, data, start, head, tensors)))
        else:
            transport.write(headers + block)
            for piece in (start + head, tensors):
                await self._send_all(transport, memoryview(piece))
            if self._is_over:
                return
            transport.write(http2.frame(Kind.DATA, END_STREAM, self._stream))
        self._sent = True

    async def _send_all(self, transport: asyncio.Transport, piece: memoryview) -> None:
        while piece and not self._is_over:
            room = min(self._window, self._stream_window, http2.MOST_FRAME_BYTES)
            if room <= 0 or not self._writable:
                await self._changed()
                continue
            part, piece = piece[:room], piece[room:]
            self._spend(len(part))
            transport.writelines((http2.frame_head(Kind.DATA, 0, self._stream, len(part)), part))

    def _spend(self, size: int) -> None:
        self._window -= size
        self._stream_window -= size

    @property
    def _is_over(self) -> bool:
        return self._complete or self._lost or bool(self._broken)

    async def reply(self, *, is_stream: bool = False) -> GrpcReply:
        """The reply once its status is known; of a stream, once there is a message of it. Raises NotSent, UpstreamFailed."""
        while not (self._is_over or (is_stream and self._messages)):
            await self._changed()
        if self._not_run:
            raise NotSent(self._broken or "the server refused the stream")
        if self._reply is None or not (self._complete or self._messages):
            raise UpstreamFailed(self._broken or "the server closed the connection without an answer")
        return self._reply

    @property
    def first_message(self) -> bytes:
        """Of a reply that nobody has taken anything of; b"" without one."""
        return self._messages[0] if self._messages else b""

    async def pour(self, take: Take) -> None:
        """Hand over the messages of the reply. Raises UpstreamFailed when it breaks off."""
        while True:
            while self._messages:
                message = self._messages.popleft()
                self.buffered_bytes -= len(message)
                if take(message):
                    return
            self._set_reading(wanted=not self._is_held)
            if self._complete:
                break
            if self._is_over:
                raise UpstreamFailed(self._broken or "the server closed the connection within its answer")
            await self._changed()
        if self._reply is not None and self._reply.code is not _OK:
            raise UpstreamFailed(f"the stream broke off: {self._reply.code.name} {self._reply.message!r}")

    def hold(self, reply: GrpcReply, *, held: bool) -> None:
        """Whether who takes the reply cannot keep up. Of a reply that is over it does not matter."""
        if reply is self._reply:
            self._hold(held=held)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._write(http2.GREETING)

    def data_received(self, data: bytes) -> None:
        if self._left:
            data = self._left + data
        view, at, end = memoryview(data), 0, len(data)
        try:
            while end - at >= http2.FRAME_HEAD_BYTES:
                high, low, kind, flags, stream = http2.FRAME_HEAD.unpack_from(data, at)
                length = http2.frame_length(high, low)
                body = at + http2.FRAME_HEAD_BYTES
                if end - body < length:
                    break
                at = body + length
                self._on_frame(kind, flags, stream & 0x7FFFFFFF, view[body:at])
        except Malformed as fault:
            self._fail(f"not a reply that we can take: {fault}")
            return
        self._left = data[at:]

    # Frames

    def _on_frame(self, kind: int, flags: int, stream: int, payload: memoryview) -> None:
        if self._block_flags and kind != _CONTINUATION:
            raise Malformed("a header block that is interrupted")
        is_ours = stream == self._stream and self._reply is not None and not self._complete
        if kind == _DATA:
            self._on_data(flags, payload, is_ours=is_ours)
        elif kind in (_HEADERS, _CONTINUATION):
            self._on_headers(kind, flags, payload, is_ours=is_ours)
        else:
            self._on_control(kind, flags, stream, payload, is_ours=is_ours)

    def _on_control(self, kind: int, flags: int, stream: int, payload: memoryview, *, is_ours: bool) -> None:
        match kind:
            case Kind.WINDOW_UPDATE if len(payload) == 4:  # noqa: PLR2004
                self._on_window(stream, int.from_bytes(payload) & 0x7FFFFFFF)
            case Kind.SETTINGS if not flags & ACK:
                self._on_settings(bytes(payload))
            case Kind.PING if not flags & ACK:
                self._write(http2.frame(Kind.PING, ACK, 0, bytes(payload)))
            case Kind.RST_STREAM if is_ours:
                self._not_run = int.from_bytes(payload) == _REFUSED_STREAM
                self._fail(f"the server reset the stream: {int.from_bytes(payload)}")
            case Kind.GOAWAY:
                self._is_leaving = True
                if is_ours and int.from_bytes(payload[:4]) & 0x7FFFFFFF < self._stream:
                    self._not_run = True
                    self._fail("the server takes no more calls on this connection")
            case Kind.PUSH_PROMISE:
                raise Malformed("a push that nobody asked for")

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def _on_settings(self, payload: bytes) -> None:
        for name, value in http2.settings(payload):
            if name == http2.INITIAL_WINDOW_SIZE:
                self._stream_window += value - self._stream_window_bytes
                self._stream_window_bytes = value
        self._write(http2.frame(Kind.SETTINGS, ACK, 0))
        self._wake()

    def _on_window(self, stream: int, size: int) -> None:
        if stream == 0:
            self._window += size
        elif stream == self._stream:
            self._stream_window += size
        self._wake()

    def _on_headers(self, kind: int, flags: int, payload: memoryview, *, is_ours: bool) -> None:
        if kind == _HEADERS:
            self._block = bytes(http2.unpadded(_HEADERS, flags, payload))
            self._block_flags = flags | 0x100  # also without a flag there is a block
        elif self._block_flags:
            self._block += payload
        else:
            raise Malformed("headers that go on from nowhere")
        if len(self._block) > _HEADER_BYTES:
            raise Malformed("the reply's headers are too large")
        if not flags & END_HEADERS:
            return
        is_last, self._block_flags = self._block_flags & END_STREAM, 0
        found = http2.headers(self._block)
        if not is_ours or self._reply is None:
            return
        if found.get(":status", "200") != "200":
            raise Malformed(f"HTTP status {found[':status']}")
        if is_last:
            self._end(self._reply, ending(self._block))

    def _end(self, reply: GrpcReply, said: Ending) -> None:
        if self._incoming.is_partial:
            raise Malformed("a message that breaks off")
        reply.code, reply.message, reply.metadata = said.code, said.message, said.metadata
        if said.code is not _OK:  # else it stays what the first message of a stream told
            reply.status = http_status(said.code)
        self._complete = True
        self._wake()

    def _on_data(self, flags: int, payload: memoryview, *, is_ours: bool) -> None:
        self._renew_windows(len(payload))
        if not is_ours:
            return
        data = http2.unpadded(_DATA, flags, payload)
        for message in self._incoming.feed(data):
            self._on_message(message)
        if flags & END_STREAM:
            raise Malformed("an end without a status")

    def _on_message(self, message: bytes) -> None:
        self._messages.append(message)
        self.buffered_bytes += len(message)
        if self.buffered_bytes > READ_AHEAD_BYTES and len(self._messages) > 1:
            self._set_reading(wanted=False)
        self._wake()

    def _renew_windows(self, size: int) -> None:
        """Long before the server's windows close: who cannot keep up stops to read."""
        self._received_bytes += size
        self._stream_received_bytes += size
        if self._received_bytes >= _RENEWED_BYTES:
            self._write(http2.window_update(0, self._received_bytes))
            self._received_bytes = 0
        if self._stream_received_bytes >= _RENEWED_BYTES:
            self._write(http2.window_update(self._stream, self._stream_received_bytes))
            self._stream_received_bytes = 0
