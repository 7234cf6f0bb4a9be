"""Step 1, accept: uvicorn's HTTP/1.1 protocol with the limits that it lacks.

uvicorn takes heads of any size and lets a half-sent one stand for ever, takes bodies a byte an hour, and closes kept-alive connections
without an answer when it stops. This subclass of its httptools protocol (a private class, hence the exact version in pyproject.toml)
owns the number of connections, the size and the time of a head, the pace of a body, cancellation when the client leaves, and drain.

A refusal is written only where the client will read it as the answer to the request at fault: never into or before the answer to an
earlier one. Behind it the client is heard out for a moment, as closing on a client that still sends would lose the answer on its way.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from gateway.errors import Code, GatewayError
from gateway.frontends.oip_rest import error_headers
from gateway.loops import request_task
from gateway.wire.oip import error_body


@dataclass(frozen=True, slots=True)
class HttpLimits:
    head_bytes: int = 32 * 1024  # of a head; also of trailers, and of whatever else is neither head nor body
    head_seconds: float = 10.0
    body_bytes_per_second: int = 1024
    body_seconds: float = 10.0  # over how long the pace is judged
    discard_bytes: int = 1024 * 1024  # read and dropped behind an early answer, so that the client sees it
    drain_seconds: float = 1.0  # how long a kept-alive connection may still ask once more
    linger_seconds: float = 1.0  # how long a refused client is heard out
    connections: int = 384  # open at once; by default what 1024 files allow
    lingering: int = 64  # more connections than that, to hear their refused clients out


# Told of a refusal that is not an application's: its request id, the client's address, and what it is.
Refused = Callable[[str, str, GatewayError], None]


class GatewayProtocol(HttpToolsProtocol):
    limits: ClassVar[HttpLimits] = HttpLimits()
    new_id: ClassVar[Callable[[], str]]
    refused: ClassVar[Refused]

    # What is coming in: a head, then a body, then nothing until the next head begins.
    _in_head = False
    _in_body = False
    _head_bytes = 0  # of the head, or of the trailers
    _framing_bytes = 0  # came in since a head, a piece of a body or a message last ended
    _body_bytes = 0  # since the pace was last judged
    _was_paused = False  # since then
    _discarded_bytes = 0
    _refusal: GatewayError | None = None  # what a callback stopped the parser for
    _is_deaf = False  # refused: what still comes is dropped
    _is_draining = False
    _timer: asyncio.TimerHandle | None = None
    _answering: RequestResponseCycle | None = None  # the oldest one that is not done; `cycle` is the newest
    _task: asyncio.Task[None] | None = None

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        surplus = len(self.connections) - self.limits.connections
        if surplus <= 0:
            self._arm(self.limits.head_seconds, self._head_late)
            return
        self._refuse(GatewayError(Code.OVERLOADED, retry_after_seconds=1))
        if surplus > self.limits.lingering:
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)
        self._leave()

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        if self._is_deaf:
            return
        self._framing_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as fault:
            self._refuse(
                self._refusal or GatewayError(Code.BAD_REQUEST, detail=f"not an HTTP/1.1 request: {fault}")
            )
            return
        if self._framing_bytes > self.limits.head_bytes:
            self._refuse(GatewayError(Code.HEAD_TOO_LARGE))
        elif self._timer is None:
            if self._in_body:
                self._arm(self.limits.body_seconds, self._judge_pace)
            elif self._in_head or not self._is_under_way:
                self._arm(self.limits.head_seconds, self._head_late)

    # httptools

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # else a trailer, which nobody asked for and which must not become a header
            super().on_header(name, value)
        self._count_head(len(name) + len(value) + 4)

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():  # nobody would read the body of such a request
            raise self._stop(GatewayError(Code.BAD_REQUEST, detail="the protocol cannot be changed here"))
        super().on_headers_complete()
        self._disarm()
        self._in_head, self._in_body = False, True
        self._head_bytes = self._framing_bytes = self._body_bytes = self._discarded_bytes = 0
        self._was_paused = False
        if self._is_draining:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        self._framing_bytes = 0
        self._body_bytes += len(body)
        if self.cycle.response_complete:
            self._discarded_bytes += len(body)
            if self._discarded_bytes > self.limits.discard_bytes:
                raise self._stop(GatewayError(Code.BODY_TOO_LARGE))
        super().on_body(body)
        self._was_paused |= self.flow.read_paused

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._disarm()
        self._in_body = False
        self._framing_bytes = 0

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > self.limits.head_bytes:
            raise self._stop(GatewayError(Code.HEAD_TOO_LARGE))

    def _stop(self, error: GatewayError) -> GatewayError:
        """To be raised in a callback: httptools stops parsing, and data_received refuses."""
        self._refusal = error
        return error

    # uvicorn

    @property
    def _is_under_way(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answering = cycle
        self._task = task = request_task(self.loop, cycle.run_asgi(app))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        task.add_done_callback(lambda _: self._check_whole(cycle))

    def _check_whole(self, cycle: RequestResponseCycle) -> None:
        """A reply that broke off ends with its connection, also when the client does not read what is still to be sent."""
        if not cycle.response_complete and not self._is_deaf:
            self.transport.abort()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._disarm()
            self._arm(self.timeout_keep_alive, self.transport.abort)
        elif self._is_draining and not self._is_under_way:
            self._last_call()

    def timeout_keep_alive_handler(self) -> None:
        self.transport.abort()  # closing would wait for a client that does not read

    def shutdown(self) -> None:
        """Stop: a request under way is finished; an idle client may ask once more and is told that the connection closes."""
        self._is_draining = True
        if self._is_deaf:
            return
        if not self._is_under_way:
            self._last_call()
        elif not self.cycle.response_started:
            self.cycle.keep_alive = False

    def _last_call(self) -> None:
        self._unset_keepalive_if_required()
        self._disarm()
        self._arm(self.limits.drain_seconds, self._head_late)

    def _leave(self) -> None:
        """The client is gone, or will not be served: what it asked for is cancelled, and says nothing more."""
        if self._answering is not None:
            self._answering.disconnected = True
        if self._task is not None:
            self._task.cancel()

    # Timers: one at a time, for the head or for the body

    def _arm(self, seconds: float, then: Callable[[], None]) -> None:
        self._timer = self.loop.call_later(seconds, then)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _head_late(self) -> None:
        self._timer = None
        if self._is_under_way:  # while an earlier request is answered, the next one is not late
            self._arm(self.limits.head_seconds, self._head_late)
        elif self._in_head:
            self._refuse(GatewayError(Code.BODY_TOO_SLOW))
        else:
            self.transport.abort()  # nothing was asked, so nothing is answered

    def _judge_pace(self) -> None:
        """The client must send a fair share in each period; one in which we kept it from sending is not counted."""
        self._timer = None
        enough = self._body_bytes >= self.limits.body_bytes_per_second * self.limits.body_seconds
        paused = self._was_paused or self.flow.read_paused or self.cycle.waiting_for_100_continue
        self._body_bytes, self._was_paused = 0, self.flow.read_paused
        if enough or paused:
            self._arm(self.limits.body_seconds, self._judge_pace)
        else:
            self._refuse(GatewayError(Code.BODY_TOO_SLOW))

    # Refusals

    def _refuse(self, error: GatewayError) -> None:
        """Answer without the application where that is possible, and hear no more of this client."""
        self._disarm()
        if self.transport.is_closing():
            return
        answered = self._in_body and self.cycle.response_complete
        earlier = bool(self.pipeline) or (self._is_under_way and not self._in_body)
        if earlier or (self._in_body and self.cycle.response_started and not answered):
            self.transport.abort()
            return
        self._is_deaf = True
        self._leave()
        if not answered:
            request_id = type(self).new_id()
            self.transport.write(_refusal(error, request_id))
            type(self).refused(request_id, self.client[0] if self.client else "", error)
        self.transport.write_eof()
        self._arm(self.limits.linger_seconds, self.transport.abort)


def _refusal(error: GatewayError, request_id: str) -> bytes:
    body = error_body(error.sentence)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"x-request-id", request_id.encode()),
        (b"connection", b"close"),
        *error_headers(error),
    ]
    head = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
    return STATUS_LINE[error.rendering.http] + head + b"\r\n" + body


def http_protocol(limits: HttpLimits, new_id: Callable[[], str], refused: Refused) -> type[GatewayProtocol]:
    """The protocol class for one server."""
    ports = {"limits": limits, "new_id": staticmethod(new_id), "refused": staticmethod(refused)}
    return type("HttpProtocol", (GatewayProtocol,), ports)
