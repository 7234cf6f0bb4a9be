"""Step 1 over TLS: a handshake in front of the protocol of an HTTP connection, whose records are in `tls/records`.

uvloop's own TLS tells the server of a connection only behind its handshake, so that nobody counts the half-open ones. Here the handshakes
under way have a number and a time; of too many the oldest gives way, as an honest one takes a round trip or two. Nothing of a connection's
own is told before its handshake is over.
"""

import asyncio
import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, cast

import uvicorn
from uvicorn.server import ServerState

from gateway.errors import Code, GatewayError
from gateway.frontends.http_protocol import GatewayProtocol, refusal
from gateway.tls.records import RECEIVED, Records

_HANDSHAKE: Final = 0x16  # ContentType of a record, RFC 8446, 5.1

_log: Final = logging.getLogger(__name__)


@dataclass(slots=True)
class Handshakes:
    """Those under way at one listener, the oldest first; who is still told why there will be none is among them."""

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


class TlsProtocol(Records):
    """One connection: a handshake, then records for `within`. uvicorn makes it, counts it, and asks it to `shutdown`."""

    _timer: asyncio.TimerHandle | None = None
    _is_deaf = False  # refused: what still comes is dropped
    _has_received = False
    _within: GatewayProtocol

    def __init__(
        self,
        within: GatewayProtocol,
        context: ssl.SSLContext,
        handshakes: Handshakes,
        server_state: ServerState,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(within, context, loop)
        self._handshakes = handshakes
        self._server = server_state

    # asyncio.BufferedProtocol

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        limits = self._within.limits
        self._connect(transport)
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

    def buffer_updated(self, nbytes: int) -> None:
        if self._is_deaf or self._transport.has_ended:
            return
        if not self._has_received:
            self._has_received = True
            if RECEIVED[0] != _HANDSHAKE:
                self._refuse_plain()
                return
        self._received.write(RECEIVED[:nbytes])
        if self._is_open or self._opened():
            self._deliver()

    def eof_received(self) -> bool:
        """Who leaves is not answered any more, with a farewell or without: the framing within says what was whole."""
        if self._is_open:
            self._transport.close()
        return False

    # The handshake

    def _opened(self) -> bool:
        """Whether the handshake is over; then `within` is connected."""
        try:
            if not self._shaken():
                return False
        except ssl.SSLError as fault:
            _log.debug("no handshake: %s", fault.reason)
            self._hang_up()
            return False
        self._over()
        self._open()
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
        if chr(RECEIVED[0]).isalpha():
            error = GatewayError(Code.BAD_REQUEST, detail="this port speaks TLS: ask for https://")
            within = type(self._within)
            request_id = within.new_id()
            self._below.write(refusal(error, request_id))
            peer = self._below.get_extra_info("peername")
            within.refused(request_id, str(peer[0]) if peer else "", error)
        self._hang_up()

    def _hang_up(self) -> None:
        """Hear the client out for a moment: closing on one that still sends would lose what it was told on its way."""
        self._is_deaf = True
        self._below.write_eof()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(self._within.limits.linger_seconds, self._below.abort)


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
