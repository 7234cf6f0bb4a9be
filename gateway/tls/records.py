"""TLS records between a socket and the protocol of a connection, on the standard library's SSLObject: what both ends have.

uvloop's own TLS drops what it has not handed over yet when the peer ends, knows no half-close, and waits half a minute for a farewell.

An answer that broke off ends without close_notify (`abort`), so that it cannot look whole, whatever its framing was (RFC 8446, 6.1).
"""

import asyncio
import logging
import ssl
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Final, Protocol, cast

RECEIVED: Final = memoryview(
    bytearray(128 * 1024)
)  # all connections read into the same bytes: none is kept there beyond a call
_PIECE_BYTES: Final = 256 * 1024  # sealed at once: what is large is not there twice as a whole
_OWN_BYTES: Final = 16 * 1024  # of alerts and key updates that a peer who does not read may cause

_log: Final = logging.getLogger(__name__)


class Within(Protocol):
    """The protocol that the records are for: one of asyncio's, buffered."""

    def connection_made(self, transport: asyncio.Transport) -> None: ...
    def connection_lost(self, exc: Exception | None) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...
    def get_buffer(self, sizehint: int) -> memoryview: ...
    def buffer_updated(self, nbytes: int) -> None: ...


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
        """The peer is told that nothing more comes; what it still sends is dropped unread."""
        self._say_farewell()
        if not self._below.is_closing():
            self._below.write_eof()

    def close(self) -> None:
        """Say farewell and go, once the peer has read what was written; nobody waits for its own farewell (RFC 8446, 6.1)."""
        if not self._is_closing:
            self._is_closing = True
            self._say_farewell()
            self._below.close()

    def _say_farewell(self) -> None:
        if self.has_ended:
            return
        self.has_ended = True
        with suppress(ssl.SSLError):  # it is written first, and then SSLObject asks for the peer's
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


class Records(asyncio.BufferedProtocol):
    """One connection, between its handshake, which is each end's own, and its end."""

    _is_open = False  # the handshake is over, and `within` is connected
    _is_choked = False  # the peer does not read
    _own_bytes = 0  # written since then without `within`'s asking
    _below: asyncio.Transport
    _transport: TlsTransport

    def __init__(
        self,
        within: Within,
        context: ssl.SSLContext,
        loop: asyncio.AbstractEventLoop,
        server: str | None = None,
    ) -> None:
        """`server`: whom a client wants to talk to; None on a server's side. Raises ValueError if it can be nobody's name."""
        self._within = within
        self._loop = loop
        self._received, self._sealed = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._received, self._sealed, server_side=server is None, server_hostname=server
        )

    def _connect(self, transport: asyncio.Transport) -> None:
        """Over this one, which has just been made."""
        self._below = transport
        self._transport = TlsTransport(
            transport, self._tls, self._sealed, lambda: self._loop.call_soon(self._deliver)
        )

    def _shaken(self) -> bool:
        """Whether the handshake is over; what has to be sent for it is. Raises SSLError if there will be none."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        finally:  # an alert, too
            self._transport.flush()
        return True

    def _open(self) -> None:
        self._is_open = True
        self._within.connection_made(self._transport)

    def _failed(self, fault: ssl.SSLError) -> None:
        """What came is no record of this connection's: it is given up."""
        _log.debug("a connection is given up: %s", fault.reason)
        self._transport.abort()

    def _ended(self) -> None:
        """The peer said farewell."""
        self._transport.close()

    # asyncio.BufferedProtocol

    def pause_writing(self) -> None:
        self._is_choked, self._own_bytes = True, 0
        if self._is_open:
            self._within.pause_writing()

    def resume_writing(self) -> None:
        self._is_choked = False
        if self._is_open:
            self._within.resume_writing()

    def get_buffer(self, sizehint: int) -> memoryview:
        return RECEIVED

    def _deliver(self) -> None:
        """Hand over what is here, as far as it is wanted."""
        transport, within = self._transport, self._within
        while not (transport.is_paused or transport.has_ended or transport.is_closing()):
            buffer = within.get_buffer(-1)
            count = 0
            is_empty = is_over = False
            fault: ssl.SSLError | None = None
            try:
                while count < len(buffer) and not is_over:
                    if not self._may_be_more:
                        is_empty = True
                        break
                    got = self._tls.read(len(buffer) - count, cast("bytearray", buffer[count:]))
                    count, is_over = count + cast("int", got), not got
            except ssl.SSLWantReadError:
                is_empty = True
            except ssl.SSLError as found:
                fault = found
            if self._sealed.pending and self._answers_too_much(transport.flush()):
                transport.abort()
                return
            if count:
                within.buffer_updated(count)
            if fault is not None:
                self._failed(fault)
                return
            if is_over:
                self._ended()
            if is_empty:
                return

    @property
    def _may_be_more(self) -> bool:
        """Whether a read is worth it: one that finds nothing costs more than one that does, as OpenSSL says so by an error."""
        return bool(self._received.pending or self._received.eof or self._tls.pending())

    def _answers_too_much(self, count: int) -> bool:
        """Whether a peer that does not read has us write what is nobody's answer without end."""
        self._own_bytes += count if self._is_choked else 0
        return self._own_bytes > _OWN_BYTES
