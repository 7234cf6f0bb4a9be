"""Step 1 over TLS: records between a socket and the protocol of an HTTP connection, on the standard library's SSLObject.

uvloop's own TLS tells the server of a connection only behind its handshake, so that nobody counts the half-open ones, knows no half-close,
and waits half a minute for a client's farewell. Here the handshakes under way have a number and a time; of too many the oldest gives way,
as an honest one takes a round trip or two. Nothing of a connection's own is told before its handshake is over.

An answer that broke off ends without close_notify (`abort`), so that it cannot look whole, whatever its framing was (RFC 8446, 6.1).
"""

import asyncio
import logging
import ssl
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, cast

import uvicorn
from uvicorn.server import ServerState

from gateway.auth.presented import of_der
from gateway.errors import Code, GatewayError
from gateway.frontends.http_protocol import GatewayProtocol, refusal

_RECEIVED: Final = memoryview(
    bytearray(128 * 1024)
)  # all connections read into the same bytes, as in http_protocol
_PIECE_BYTES: Final = 256 * 1024  # sealed at once: a large answer is not there twice as a whole
_HANDSHAKE: Final = 0x16  # ContentType of a record, RFC 8446, 5.1
_OWN_BYTES: Final = 16 * 1024  # of alerts and key updates that a client who does not read may cause

_log: Final = logging.getLogger(__name__)


@dataclass(slots=True)
class Handshakes:
    """Those under way at one listener, the oldest first."""

    most: int
    _under_way: dict["TlsProtocol", None] = field(default_factory=dict)

    def begin(self, connection: "TlsProtocol") -> None:
        self._under_way[connection] = None
        if len(self._under_way) > self.most:
            oldest = next(iter(self._under_way))
            self.end(oldest)
            oldest.give_up()

    def end(self, connection: "TlsProtocol") -> None:
        self._under_way.pop(connection, None)


class TlsTransport(asyncio.Transport):
    """What the protocol within writes to. Its socket's transport has the buffer and its marks."""

    def __init__(
        self,
        below: asyncio.Transport,
        tls: ssl.SSLObject,
        sealed: ssl.MemoryBIO,
        resumed: Callable[[], object],
    ) -> None:
        super().__init__()
        self._below = below
        self._tls = tls
        self._sealed = sealed
        self._resumed = resumed
        self._is_closing = False
        self.has_ended = False  # nothing more is written
        self.is_paused = False  # nothing more is read

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        match name:
            case "ssl_object":
                return self._tls
            case "sslcontext":
                return self._tls.context
            case "peercert":
                return self._tls.getpeercert()
            case "client_certificate":  # verified in the handshake, or none was shown
                der = self._tls.getpeercert(binary_form=True)
                return default if der is None else of_der(der)
        return self._below.get_extra_info(name, default)

    def is_closing(self) -> bool:
        return self._is_closing or self._below.is_closing()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writelines((data,))

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        if self.has_ended:
            return
        try:
            for data in list_of_data:
                self._seal(memoryview(data).cast("B"))
        except ssl.SSLError as fault:
            _log.debug("a connection is given up: %s", fault.reason)
            self.abort()
            return
        self.flush()

    def _seal(self, plain: memoryview) -> None:
        while plain:
            plain = plain[self._tls.write(plain[:_PIECE_BYTES]) :]
            if self._sealed.pending >= _PIECE_BYTES:
                self.flush()

    def flush(self) -> int:
        """Write what was sealed; how much that was."""
        count = self._sealed.pending
        if count and not self._below.is_closing():
            self._below.write(self._sealed.read())
        return count

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        """The client is told that nothing more comes; what it still sends is dropped unread."""
        self._say_farewell()
        if not self._below.is_closing():
            self._below.write_eof()

    def close(self) -> None:
        """Say farewell and go, once the client has read what was written; nobody waits for its own farewell (RFC 8446, 6.1)."""
        if not self._is_closing:
            self._is_closing = True
            self._say_farewell()
            self._below.close()

    def _say_farewell(self) -> None:
        if self.has_ended:
            return
        self.has_ended = True
        with suppress(ssl.SSLError):  # it is written first, and then SSLObject asks for the client's
            self._tls.unwrap()
        self.flush()

    def abort(self) -> None:
        self._is_closing = self.has_ended = True
        self._below.abort()

    def is_reading(self) -> bool:
        return not self.is_paused

    def pause_reading(self) -> None:
        if not self.is_paused and not self.is_closing():
            self.is_paused = True
            self._below.pause_reading()

    def resume_reading(self) -> None:
        if self.is_paused and not self.is_closing():
            self.is_paused = False
            self._below.resume_reading()
            self._resumed()

    def get_write_buffer_size(self) -> int:
        return self._below.get_write_buffer_size()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._below.set_write_buffer_limits(high, low)


class TlsProtocol(asyncio.BufferedProtocol):
    """One connection: a handshake, then records for `within`. uvicorn makes it, counts it, and asks it to `shutdown`."""

    _timer: asyncio.TimerHandle | None = None
    _is_open = False  # the handshake is over, and `within` is connected
    _is_deaf = False  # refused: what still comes is dropped
    _has_received = False
    _is_choked = False  # the client does not read
    _own_bytes = 0  # written since then without `within`'s asking
    _transport: TlsTransport

    def __init__(
        self,
        within: GatewayProtocol,
        context: ssl.SSLContext,
        handshakes: Handshakes,
        server_state: ServerState,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._within = within
        self._handshakes = handshakes
        self._server = server_state
        self._loop = loop
        self._received, self._sealed = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._received, self._sealed, server_side=True)

    # asyncio.BufferedProtocol

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        limits = self._within.limits
        self._below = transport
        self._transport = TlsTransport(
            transport, self._tls, self._sealed, lambda: self._loop.call_soon(self._deliver)
        )
        self._server.connections.add(self)  # type: ignore[arg-type]  # its own are named
        if len(self._server.connections) > limits.connections + limits.lingering:
            transport.abort()
            return
        self._timer = self._loop.call_later(limits.head_seconds, transport.abort)
        self._handshakes.begin(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._over()
        if self._is_open:
            self._within.connection_lost(exc)

    def pause_writing(self) -> None:
        self._is_choked, self._own_bytes = True, 0
        if self._is_open:
            self._within.pause_writing()

    def resume_writing(self) -> None:
        self._is_choked = False
        if self._is_open:
            self._within.resume_writing()

    def get_buffer(self, sizehint: int) -> memoryview:
        return _RECEIVED

    def buffer_updated(self, nbytes: int) -> None:
        if self._is_deaf or self._transport.has_ended:
            return
        if not self._has_received:
            self._has_received = True
            if _RECEIVED[0] != _HANDSHAKE:
                self._refuse_plain()
                return
        self._received.write(_RECEIVED[:nbytes])
        if self._is_open or self._shaken():
            self._deliver()

    def eof_received(self) -> bool:
        """Who leaves is not answered any more, with a farewell or without: the framing within says what was whole."""
        if self._is_open:
            self._transport.close()
        return False

    # The handshake

    def _shaken(self) -> bool:
        """Whether the handshake is over; then `within` is connected."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._transport.flush()
            return False
        except ssl.SSLError as fault:
            _log.debug("no handshake: %s", fault.reason)
            self._transport.flush()  # the alert
            self._hang_up()
            return False
        self._transport.flush()
        self._over()
        self._is_open = True
        self._within.connection_made(self._transport)
        return True

    def _over(self) -> None:
        """It is under way no more, and the number of connections is that of `within`."""
        self._handshakes.end(self)
        self._server.connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()

    def give_up(self) -> None:
        """For another one's sake."""
        self._below.abort()

    def shutdown(self) -> None:
        """The server stops: who has not shaken hands has asked for nothing."""
        self._below.abort()

    def _refuse_plain(self) -> None:
        if chr(_RECEIVED[0]).isalpha():
            error = GatewayError(Code.BAD_REQUEST, detail="this port speaks TLS: ask for https://")
            within = type(self._within)
            request_id = within.new_id()
            self._below.write(refusal(error, request_id))
            peer = self._below.get_extra_info("peername")
            within.refused(request_id, str(peer[0]) if peer else "", error)
        self._hang_up()

    def _hang_up(self) -> None:
        """Hear the client out for a moment: closing on one that still sends would lose what it was told on its way."""
        self._handshakes.end(self)
        self._is_deaf = True
        self._below.write_eof()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(self._within.limits.linger_seconds, self._below.abort)

    # Records

    def _deliver(self) -> None:
        """Hand over what is here, as far as it is wanted."""
        transport, within = self._transport, self._within
        while not (transport.is_paused or transport.has_ended or transport.is_closing()):
            buffer = within.get_buffer(-1)
            count = 0
            is_empty = is_over = False
            try:
                while count < len(buffer) and not is_over:
                    got = self._tls.read(len(buffer) - count, cast("bytearray", buffer[count:]))
                    count, is_over = count + cast("int", got), not got
            except ssl.SSLWantReadError:
                is_empty = True
            except ssl.SSLError as fault:
                _log.debug("a connection is given up: %s", fault.reason)
                transport.abort()
                return
            if self._sealed.pending and self._answers_too_much(transport.flush()):
                transport.abort()
                return
            if count:
                within.buffer_updated(count)
            if is_over:
                transport.close()
            if is_empty:
                return

    def _answers_too_much(self, count: int) -> bool:
        """Whether a client that does not read has us write what is nobody's answer without end."""
        self._own_bytes += count if self._is_choked else 0
        return self._own_bytes > _OWN_BYTES


def tls_protocol(
    within: type[asyncio.Protocol], context: Callable[[], ssl.SSLContext], most_handshakes: int
) -> type[asyncio.Protocol]:
    """The protocol of one server, around the one that `http_protocol` made. `context` is asked at each connection."""
    handshakes = Handshakes(most_handshakes)
    made = cast("type[GatewayProtocol]", within)

    def protocol(
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> TlsProtocol:
        loop = _loop or asyncio.get_running_loop()
        return TlsProtocol(
            made(config, server_state, app_state, loop), context(), handshakes, server_state, loop
        )

    return cast("type[asyncio.Protocol]", protocol)
