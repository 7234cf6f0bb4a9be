"""The client's side of one call over HTTP: what becomes of a reply, and how a refusal is said."""

from collections.abc import Callable, MutableMapping
from typing import Any

from gateway.call import Reply, Standing
from gateway.errors import Code, GatewayError, forget_frames
from gateway.frontends.answering import Answering, Held, replayed, tell
from gateway.kept.answer import Answer
from gateway.wire.generate import EVENT_STREAM, Events, error_event, public_event
from gateway.wire.oip import error_body, public_error
from gateway.wire.ratelimit import Headers, ratelimit_headers, retry_after

_JSON = b"application/json"
_ERROR_BYTES = 64 * 1024
_ERROR = b'{"error":'
_BAD = 400


class HttpDownstream:
    """An error of Triton's is held back and cleaned, and so is one among the events of a stream; everything else passes as it comes."""

    has_failed = False
    tokens = 0
    guessed_tokens = 0
    # Held back until there is a body: a reply that breaks off before is an error of ours.
    _head: Headers | None = None
    _left_bytes = 0  # -1: the reply says itself when it is whole
    _status = 0
    _content_type = b""
    _events: Events | None = None
    _held = b""  # too little to see whether it is an error
    _standing: Standing = ()
    _error: bytearray | None = None
    _holding: Held | None = None

    def __init__(self, answering: Answering, request_id: str) -> None:
        self.request_id = request_id
        self._answering = answering
        self._headers: Headers = [(b"x-request-id", request_id.encode())]

    @property
    def started(self) -> bool:
        """The client has been told a status, or it is decided which."""
        return self._answering.has_begun

    @property
    def pieces(self) -> int:
        return self._events.pieces if self._events is not None else 0

    async def start(self, reply: Reply, standing: Standing) -> None:
        await self._answering.writable()
        self._answering.follow(reply)
        self._status, self._standing, self._content_type = reply.status, standing, reply.content_type
        if reply.status >= _BAD:
            self._error = bytearray()
            return
        headers = [*self._headers, *ratelimit_headers(standing), (b"content-type", reply.content_type)]
        if reply.length_bytes >= 0:
            headers.append((b"content-length", b"%d" % reply.length_bytes))
        if reply.content_encoding:
            headers.append((b"content-encoding", reply.content_encoding))
        if reply.head_length:
            headers.append((b"inference-header-content-length", reply.head_length))
        if reply.content_type.startswith(EVENT_STREAM):
            headers.append((b"cache-control", b"no-cache"))
            self._events = Events()
        self._left_bytes = reply.length_bytes
        self._head = headers
        if not self._left_bytes:
            self.take(b"")

    def resize(self, length_bytes: int, head_length: int) -> None:
        """Another length of the reply, and of its JSON head, 0 for none, before the first piece."""
        sizes = {b"content-length": length_bytes, b"inference-header-content-length": head_length}
        kept = [header for header in self._head or () if header[0] not in sizes]
        self._head = [*kept, *((name, b"%d" % size) for name, size in sizes.items() if size)]
        self._left_bytes = length_bytes

    async def writable(self) -> None:
        await self._answering.writable()

    def take(self, piece: bytes) -> None:
        if self._left_bytes < 0 and self._error is None:
            piece = self._judge(piece)
            if not piece:
                return
        if self._error is not None:
            self._error += piece[: _ERROR_BYTES - len(self._error)]
            return
        if self._head is not None:
            self._begin_reply(self._head)
        if self._left_bytes < 0:
            self._answering.write(piece, more_body=True)
            return
        self._left_bytes -= len(piece)
        self._answering.write(piece, more_body=self._left_bytes > 0)

    def _judge(self, piece: bytes) -> bytes:
        """Of a reply that comes bit by bit. What may be sent of it now."""
        if self._events is not None:
            piece = self._events.feed(piece)
            self.has_failed = self._events.has_failed
            return piece
        if self._head is None:
            return piece
        piece, self._held = self._held + piece, b""
        if len(piece) < len(_ERROR):
            self._held, piece = piece, b""
        elif piece.startswith(_ERROR):
            # generate has sent its status before it sees that the model replies more or less than once.
            self._error, self.has_failed = bytearray(), True
        return piece

    async def end(self) -> int:
        if self._error is not None:
            await self._end_error(bytes(self._error))
        elif self._left_bytes < 0:
            if self._head is not None:  # a stream without an event
                self._begin_reply(self._head)
            self._answering.write(self._held, more_body=False)
        return self._status

    async def _end_error(self, error: bytes) -> None:
        if self._content_type.startswith(EVENT_STREAM):
            self._status, event = public_event(self._status, error.partition(b"\n\n")[0])
            await self.answer(self._status, event, self._standing, content_type=self._content_type)
            return
        self._status, sentence = public_error(self._status, self._content_type, error)
        await self.answer(self._status, error_body(sentence), self._standing)

    # Of a call with an Idempotency-Key

    def hold(self, account: Callable[[int], None]) -> Held:
        """What is told from here on is held until `release`; `account` is told of its bytes."""
        self._answering = self._holding = Held(self._answering, account)
        return self._holding

    def let_go(self) -> None:
        """What is told from here on is told at once."""
        if self._holding is not None:
            self._answering = self._holding.behind

    @property
    def told(self) -> Answer | None:
        return self._holding.told if self._holding is not None else None

    async def release(self, seconds: float) -> None:
        """Tell what was held, in so many seconds."""
        if self._holding is not None:
            await self._holding.release(seconds)

    async def replay(self, answer: Answer, standing: Standing) -> int:
        self.let_go()
        if self._holding is not None:
            self._holding.account(len(answer.body))
        headers = [*self._headers, *ratelimit_headers(standing), *replayed(answer)]
        await tell(self._answering, answer.status, headers, answer.body)
        return answer.status

    def cut(self, error: GatewayError) -> None:
        """The reply broke off: the connection will be closed without its end, and a stream says why before that."""
        if self._events is not None and self._events.is_between and self.started:
            self._answering.write(error_event(error.sentence), more_body=True)

    async def answer(
        self,
        status: int,
        body: bytes,
        standing: Standing = (),
        extra: Headers | None = None,
        *,
        content_type: bytes = _JSON,
    ) -> None:
        """A whole answer of our own."""
        headers = self._headers + ratelimit_headers(standing) + (extra or [])
        headers.append((b"content-type", content_type))
        await tell(self._answering, status, headers, body)

    async def relay(self, message: MutableMapping[str, Any]) -> None:
        """An answer of Starlette's, as it comes."""
        if message["type"] == "http.response.start":
            message["headers"] = self._headers + message["headers"]
        await self._answering.send(message)

    async def refuse(self, error: GatewayError) -> None:
        """A refusal, as the one table says it. None is held: it is not the call's answer."""
        forget_frames(error)
        self.let_go()
        await self.answer(
            error.rendering.http, error_body(error.sentence), error.standing, error_headers(error)
        )

    def _begin_reply(self, headers: Headers) -> None:
        self._head = None
        self._answering.begin(self._status, headers)


def error_headers(error: GatewayError) -> Headers:
    """What goes with a refusal beside its body."""
    headers: Headers = []
    if error.retry_after_seconds is not None:
        headers.append((b"retry-after", retry_after(error.retry_after_seconds)))
    if error.code is Code.UNAUTHENTICATED:
        headers.append((b"www-authenticate", b"Bearer"))
    return headers
