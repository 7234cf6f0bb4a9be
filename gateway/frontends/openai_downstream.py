"""The client's side of one call of OpenAI's API: what Triton replies becomes the answer that the API has."""

import asyncio
from collections.abc import Callable

from gateway.call import Reply, Standing
from gateway.errors import TABLE, Code, GatewayError
from gateway.frontends.answering import Answering
from gateway.frontends.http_downstream import HttpDownstream, error_headers
from gateway.kept.answer import Answer
from gateway.wire.generate import EVENT_STREAM
from gateway.wire.openai_readings import Reading
from gateway.wire.openai_replies import error_body, error_of
from gateway.wire.openai_to_oip import Failed, Unreadable
from gateway.wire.ratelimit import Headers, ratelimit_headers
from gateway.wire.sse import Events, TooLong, event

_ERROR_BYTES = 64 * 1024
_AT_ONCE_BYTES = 64 * 1024  # more is counted and encoded in a thread
_OK = 200
_BAD = 400
_FAILED = 500


class OpenAiDownstream:
    """A stream begins with the first text. Before that, and of an answer that is not streamed, whatever goes wrong is an error with its
    status; after it, an event that says so, and no [DONE].
    """

    has_failed = False  # an error of the model's is raised

    def __init__(self, answering: Answering, request_id: str) -> None:
        self.request_id = request_id
        self._answering = answering
        self._plain = HttpDownstream(answering, request_id)
        self._reading: Reading | None = None
        self._hold: Callable[[int], None] = lambda _: None
        self._standing: Standing = ()
        self._status = 0
        self._content_type = b""
        self._head_length = b""
        self._error: bytearray | None = None
        self._streams = False
        self._kept_bytes = 0

    def expect(self, reading: Reading, hold: Callable[[int], None]) -> None:
        """How the reply will be read. `hold` is told of bytes that are kept, and raises GatewayError when they are too many."""
        self._reading, self._hold = reading, hold

    @property
    def started(self) -> bool:
        return self._plain.started

    @property
    def tokens(self) -> int:
        return self._reading.tokens if self._reading and self._error is None else 0

    @property
    def guessed_tokens(self) -> int:
        return self._reading.guessed_tokens if self._reading and self._error is None else 0

    pieces = 0  # they are read, and what they say is counted

    async def start(self, reply: Reply, standing: Standing) -> None:
        await self._answering.writable()
        self._answering.follow(reply)
        self._status, self._content_type, self._standing = reply.status, reply.content_type, standing
        self._head_length = reply.head_length
        if reply.status >= _BAD:
            self._error = bytearray()
        elif not reply.content_type.startswith(self._expected.content_type):
            private = f"a reply of the type {reply.content_type!r}"
            raise GatewayError(Code.MODEL_FAILED, private=private)

    def take(self, piece: bytes) -> bool:
        """True when the answer is complete, though Triton might go on."""
        if self._error is not None:
            self._error += piece[: _ERROR_BYTES - len(self._error)]
            return False
        reading = self._expected
        try:
            told = reading.take(piece)
        except Failed as fault:
            told_of = reading.failure(_FAILED, b"", fault.event)
            raise GatewayError(Code.MODEL_FAILED, detail=told_of.sentence, private=str(fault)) from fault
        except (Unreadable, TooLong) as fault:
            raise GatewayError(Code.MODEL_FAILED, private=str(fault)) from fault
        self._keep(reading.kept_bytes)
        if told:
            self._write(told, more_body=True)
        return reading.is_over

    def _keep(self, size: int) -> None:
        """So much of the reply and the answer is in memory now. Raises GatewayError."""
        if size > self._kept_bytes:
            self._hold(size - self._kept_bytes)
            self._kept_bytes = size

    async def end(self) -> int:
        if self._error is not None:
            return await self._end_error(bytes(self._error))
        reading = self._expected
        self._keep(reading.kept_bytes + reading.answer_bytes)
        try:
            if reading.kept_bytes > _AT_ONCE_BYTES:
                told = await asyncio.to_thread(reading.end, self._head_length)
            else:
                told = reading.end(self._head_length)
        except Unreadable as fault:
            raise GatewayError(Code.MODEL_FAILED, private=str(fault)) from fault
        except GatewayError as refusal:  # only the reply could show it
            refusal.standing = self._standing
            await self._answer_error(refusal)
            return refusal.rendering.http
        if reading.is_stream:
            self._write(told, more_body=False)
        else:
            await self._plain.answer(_OK, told, self._standing)
        return _OK

    async def _end_error(self, error: bytes) -> int:
        """An error of the server's, which of a stream is its first event."""
        if self._content_type.startswith(EVENT_STREAM):
            error = next(iter(Events().feed(error)), b"")
        found = self._expected.failure(self._status, self._content_type, error)
        if found.private:
            raise GatewayError(found.code, private=found.private)
        body = error_body(found.sentence, TABLE[found.code].openai, found.code.value, found.param)
        await self._plain.answer(found.status, body, self._standing)
        return found.status

    def cut(self, error: GatewayError) -> None:
        """The answer broke off. Its connection will be closed without its end; a stream says why before that."""
        if self._streams:
            self._answering.write(event(error_of(error)), more_body=True)

    async def answer(self, body: bytes, standing: Standing) -> None:
        """A whole answer of our own."""
        await self._plain.answer(_OK, body, standing)

    def hold(self, account: Callable[[int], None]) -> None:
        """As HttpDownstream's."""
        self._answering = self._plain.hold(account)

    @property
    def told(self) -> Answer | None:
        return self._plain.told

    async def release(self, seconds: float) -> None:
        """As HttpDownstream's."""
        await self._plain.release(seconds)

    async def replay(self, answer: Answer, standing: Standing) -> int:
        return await self._plain.replay(answer, standing)

    async def refuse(self, error: GatewayError, extra: Headers | None = None) -> None:
        """A refusal, as the one table says it. None is held: it is not the call's answer."""
        self._plain.let_go()
        await self._answer_error(error, extra)

    async def _answer_error(self, error: GatewayError, extra: Headers | None = None) -> None:
        headers = error_headers(error) + (extra or [])
        await self._plain.answer(error.rendering.http, error_of(error), error.standing, headers)

    @property
    def _expected(self) -> Reading:
        assert self._reading is not None, "judging the body says how its reply is read"  # noqa: S101
        return self._reading

    def _write(self, events: bytes, *, more_body: bool) -> None:
        if not self._streams:
            self._streams = True
            headers = [
                (b"x-request-id", self.request_id.encode()),
                *ratelimit_headers(self._standing),
                (b"content-type", b"text/event-stream; charset=utf-8"),
                (b"cache-control", b"no-cache"),
            ]
            self._answering.begin(_OK, headers)
        self._answering.write(events, more_body=more_body)
