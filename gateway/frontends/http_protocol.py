"""Step 1, accept: HTTP/1.1 on httptools, a protocol of our own for uvicorn's server.

uvicorn's protocols take heads of any size and let a half-sent one stand for ever, take bodies a byte an hour, and close kept-alive
connections without an answer when it stops. This one owns the number of connections, the size and the time of a head, the pace of a body,
cancellation when the client leaves, and drain. What the server gives to a protocol is private, hence its exact version in pyproject.toml.

A refusal is written only where the client will read it as the answer to the request at fault: never into or before the answer to an
earlier one. Behind it the client is heard out for a moment, as closing on a client that still sends would lose the answer on its way.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, cast
from urllib.parse import unquote

import httptools
import uvicorn
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.utils import get_local_addr, get_remote_addr
from uvicorn.server import ServerState

from gateway.auth.presented import of_tls
from gateway.errors import Code, GatewayError
from gateway.frontends.http_downstream import error_headers
from gateway.frontends.http_exchange import STATUS_LINES, Application, Exchange, Headers, Message
from gateway.loops import request_task
from gateway.wire.oip import error_body

# long because one connection is one state machine, and its refusals depend on all of it
# What comes in is parsed before the loop reads again, so all connections of the process read into the same bytes: as many as stay in a
# core's second cache on the way from one socket to the other.
_RECEIVED = memoryview(bytearray(128 * 1024))
_TLS_HANDSHAKE = 0x16  # how a client begins that takes this for another port
_ASGI = {"version": "3.0", "spec_version": "2.3"}


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


class _Flow(FlowControl):
    """Remembers that the client was kept from sending, until that is set back."""

    was_paused = False

    def pause_reading(self) -> None:
        self.was_paused = True
        super().pause_reading()


class GatewayProtocol(asyncio.BufferedProtocol):
    """One connection. uvicorn makes it with what its own protocols get, and asks it to `shutdown`."""

    limits: ClassVar[HttpLimits] = HttpLimits()
    new_id: ClassVar[Callable[[], str]]
    refused: ClassVar[Refused]

    # What is coming in: a head, then a body, then nothing until the next head begins.
    _in_head = False
    _in_body = False
    _url = b""
    _head_bytes = 0  # of the head, or of the trailers
    _framing_bytes = 0  # came in since a head, a piece of a body or a message last ended
    _body_bytes = 0  # since the pace was last judged
    _discarded_bytes = 0
    _refusal: GatewayError | None = None  # what a callback stopped the parser for
    _is_deaf = False  # refused: what still comes is dropped
    _is_draining = False
    _timer: asyncio.TimerHandle | None = None
    _idle_timer: asyncio.TimerHandle | None = None
    _idle_since = 0.0
    _exchange: Exchange = None  # type: ignore[assignment]  # the newest; there is one from the first whole head on
    _answering: Exchange | None = None  # the oldest one that is not done
    _task: asyncio.Task[None] | None = None

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._app: Application = config.loaded_app
        self._keep_alive_seconds = config.timeout_keep_alive
        self._server = server_state
        self._loop = _loop or asyncio.get_event_loop()
        self._parser = httptools.HttpRequestParser(self)
        # The first of several requests has its answer, whatever stands behind one that ends the connection.
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._waiting: deque[Exchange] = deque()  # for an earlier one's answer
        self._headers: Headers = []

    # asyncio.BufferedProtocol

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        self._flow = _Flow(transport)
        self._here, self._client = get_local_addr(transport), get_remote_addr(transport)
        self._scheme = "https" if transport.get_extra_info("sslcontext") else "http"
        self._certificate = of_tls(transport.get_extra_info("ssl_object"))
        self._server.connections.add(self)  # type: ignore[arg-type]  # its own are named
        surplus = len(self._server.connections) - self.limits.connections
        if surplus <= 0:
            self._arm(self.limits.head_seconds, self._head_late)
            return
        self._refuse(GatewayError(Code.OVERLOADED, retry_after_seconds=1))
        if surplus > self.limits.lingering:
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        self._server.connections.discard(self)
        self._flow.resume_writing()
        self._leave()
        del self._parser  # it holds us, and would keep us until the collector comes by

    def pause_writing(self) -> None:
        self._flow.pause_writing()
        if self._answering is not None:
            self._answering.client_reads(reads=False)

    def resume_writing(self) -> None:
        self._flow.resume_writing()
        if self._answering is not None:
            self._answering.client_reads(reads=True)

    def get_buffer(self, sizehint: int) -> memoryview:
        return _RECEIVED

    def buffer_updated(self, nbytes: int) -> None:
        self._idle_since = 0.0
        if self._is_deaf:
            return
        self._framing_bytes += nbytes
        try:
            self._parser.feed_data(_RECEIVED[:nbytes])
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as fault:
            self._refuse(
                self._refusal
                or GatewayError(Code.BAD_REQUEST, detail=_not_http(fault, is_first=self._exchange is None))
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
        self._url = b""
        self._headers = []
        self._expects_continue = False
        self._in_head = True
        self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        self._url += url
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # else a trailer, which nobody asked for and which must not become a header
            lowered = name.lower()
            self._headers.append((lowered, value))
            if lowered == b"expect":
                self._expects_continue = value.lower() == b"100-continue"
        self._head_bytes += len(name) + len(value) + 4
        if self._head_bytes > self.limits.head_bytes:
            raise self._stop(GatewayError(Code.HEAD_TOO_LARGE))

    def on_headers_complete(self) -> None:
        parser = self._parser
        if parser.should_upgrade():  # nobody would read the body of such a request
            raise self._stop(GatewayError(Code.BAD_REQUEST, detail="the protocol cannot be changed here"))
        scope = self._scope()
        self._disarm()
        self._in_head, self._in_body = False, True
        self._head_bytes = self._framing_bytes = self._body_bytes = self._discarded_bytes = 0
        self._flow.was_paused = False
        is_behind_another = self._is_under_way
        exchange = self._exchange = Exchange(
            scope,
            self._transport,
            self._flow,
            own_headers=self._server.default_headers,
            keep_alive=parser.should_keep_alive() and not self._is_draining,
            expects_continue=self._expects_continue,
            answered=self._on_answered,
            cut=self._on_cut,
        )
        if is_behind_another:
            self._flow.pause_reading()
            self._waiting.append(exchange)
        else:
            self._start(exchange)

    def on_body(self, body: bytes) -> None:
        self._framing_bytes = 0
        self._body_bytes += len(body)
        if not self._exchange.is_answered:
            self._exchange.add_body(body)
            return
        self._discarded_bytes += len(body)
        if self._discarded_bytes > self.limits.discard_bytes:
            raise self._stop(GatewayError(Code.BODY_TOO_LARGE))

    def on_message_complete(self) -> None:
        self._exchange.end_body()
        self._disarm()
        self._in_body = False
        self._framing_bytes = 0

    def _scope(self) -> Message:
        try:
            url = httptools.parse_url(self._url)
        except httptools.HttpParserInvalidURLError as fault:
            raise self._stop(
                GatewayError(Code.BAD_REQUEST, detail="the request's target is no URL")
            ) from fault
        if not url.path:
            raise self._stop(GatewayError(Code.BAD_REQUEST, detail="the request's target has no path"))
        path = url.path.decode("ascii")
        version = self._parser.get_http_version()
        return {
            "type": "http",
            "asgi": _ASGI,
            "http_version": version,
            "server": self._here,
            "client": self._client,
            "scheme": self._scheme,
            "client_certificate": self._certificate,
            "root_path": "",
            "headers": self._headers,
            "state": {},
            "method": self._parser.get_method().decode("ascii"),
            "path": unquote(path) if "%" in path else path,
            "raw_path": url.path,
            "query_string": url.query or b"",
        }

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > self.limits.head_bytes:
            raise self._stop(GatewayError(Code.HEAD_TOO_LARGE))

    def _stop(self, error: GatewayError) -> GatewayError:
        """To be raised in a callback: httptools stops parsing, and buffer_updated refuses."""
        self._refusal = error
        return error

    # Exchanges

    @property
    def _is_under_way(self) -> bool:
        return self._exchange is not None and not self._exchange.is_answered

    def _start(self, exchange: Exchange) -> None:
        self._answering = exchange
        self._task = task = request_task(self._loop, exchange.run(self._app))
        self._server.tasks.add(task)
        task.add_done_callback(self._server.tasks.discard)

    def _on_cut(self) -> None:
        """An answer that broke off ends with its connection, also when the client does not read what is still to be sent."""
        if not self._is_deaf:
            self._transport.abort()

    def _on_answered(self) -> None:
        if self._transport.is_closing():
            self._disarm()
            self._arm(self._keep_alive_seconds, self._transport.abort)
            return
        self._flow.resume_reading()
        if self._waiting:
            self._start(self._waiting.popleft())
        elif self._is_draining:
            self._last_call()
        else:
            self._idle_since = self._loop.time()
            if self._idle_timer is None:
                self._idle_timer = self._loop.call_later(self._keep_alive_seconds, self._end_idle)

    def _end_idle(self) -> None:
        """One timer for all the idle times of a connection: it is set again for what is left of the present one."""
        self._idle_timer = None
        if not self._idle_since:
            return
        left_seconds = self._idle_since + self._keep_alive_seconds - self._loop.time()
        if left_seconds > 0:
            self._idle_timer = self._loop.call_later(left_seconds, self._end_idle)
        else:
            self._transport.abort()  # closing would wait for a client that does not read

    def shutdown(self) -> None:
        """Stop: a request under way is finished; an idle client may ask once more and is told that the connection closes."""
        self._is_draining = True
        if self._is_deaf:
            return
        if not self._is_under_way:
            self._last_call()
        elif not self._exchange.has_begun:
            self._exchange.keep_alive = False

    def _last_call(self) -> None:
        self._idle_since = 0.0
        self._disarm()
        self._arm(self.limits.drain_seconds, self._head_late)

    def _leave(self) -> None:
        """The client is gone, or will not be served: what it asked for is cancelled, unless it goes on, and says nothing more."""
        if self._answering is not None:
            self._answering.disconnect()
        if self._task is not None and not (self._answering is not None and self._answering.goes_on):
            self._task.cancel()

    # Timers: one at a time, for the head or for the body

    def _arm(self, seconds: float, then: Callable[[], None]) -> None:
        self._timer = self._loop.call_later(seconds, then)

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
            self._transport.abort()  # nothing was asked, so nothing is answered

    def _judge_pace(self) -> None:
        """The client must send a fair share in each period; one in which we kept it from sending is not counted."""
        self._timer = None
        enough = self._body_bytes >= self.limits.body_bytes_per_second * self.limits.body_seconds
        paused = self._flow.was_paused or self._exchange.awaits_continue
        self._body_bytes, self._flow.was_paused = 0, self._flow.read_paused
        if enough or paused:
            self._arm(self.limits.body_seconds, self._judge_pace)
        else:
            self._refuse(GatewayError(Code.BODY_TOO_SLOW))

    # Refusals

    def _refuse(self, error: GatewayError) -> None:
        """Answer without the application where that is possible, and hear no more of this client."""
        self._disarm()
        if self._transport.is_closing():
            return
        answered = self._in_body and not self._is_under_way
        earlier = bool(self._waiting) or (self._is_under_way and not self._in_body)
        if earlier or (self._in_body and self._exchange.has_begun and not answered):
            self._transport.abort()
            return
        self._is_deaf = True
        self._leave()
        if not answered:
            request_id = type(self).new_id()
            self._transport.write(refusal(error, request_id))
            type(self).refused(request_id, self._client[0] if self._client else "", error)
        self._transport.write_eof()
        self._arm(self.limits.linger_seconds, self._transport.abort)


def _not_http(fault: Exception, *, is_first: bool) -> str:
    is_hello = is_first and _RECEIVED[0] == _TLS_HANDSHAKE
    return "this port speaks no TLS: ask for http://" if is_hello else f"not an HTTP/1.1 request: {fault}"


def refusal(error: GatewayError, request_id: str) -> bytes:
    """A whole answer, behind which the connection ends."""
    body = error_body(error.sentence)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"x-request-id", request_id.encode()),
        (b"connection", b"close"),
        *error_headers(error),
    ]
    head = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
    return STATUS_LINES[error.rendering.http] + head + b"\r\n" + body


def http_protocol(limits: HttpLimits, new_id: Callable[[], str], refused: Refused) -> type[asyncio.Protocol]:
    """The protocol class for one server. uvicorn's annotation knows only one kind of protocol; its server takes what a loop takes."""
    ports = {"limits": limits, "new_id": staticmethod(new_id), "refused": staticmethod(refused)}
    return cast("type[asyncio.Protocol]", type("HttpProtocol", (GatewayProtocol,), ports))
