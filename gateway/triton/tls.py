"""TLS to a server that somebody else runs: its handshake, in front of the protocol of a connection to it.

What the server proved is all that is trusted: a certificate of the authorities, over names that have the one it is called by. An end
without close_notify is told as a fault; a reply says its own length, so one that was cut looks whole with neither.
"""

import asyncio
import ssl

from gateway.tls.records import RECEIVED, Records, Within


class ServerTls(Records):
    """One connection. `shaken` is done when the handshake is over: with SSLError or OSError if there was none."""

    _fault: ssl.SSLError | None = None

    def __init__(
        self, within: Within, context: ssl.SSLContext, loop: asyncio.AbstractEventLoop, host: str
    ) -> None:
        super().__init__(within, context, loop, host)
        self.shaken: asyncio.Future[None] = loop.create_future()

    # asyncio.BufferedProtocol

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._connect(transport)
        self._shake()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._is_open:
            self._within.connection_lost(self._fault or exc)
        else:
            self._give_up(exc or ConnectionResetError("closed within the TLS handshake"))

    def buffer_updated(self, nbytes: int) -> None:
        self._received.write(RECEIVED[:nbytes])
        if self._is_open:
            self._deliver()
        else:
            self._shake()

    def eof_received(self) -> bool:
        """What is here is handed over before the end is told, also when it is wanted only later."""
        self._received.write_eof()
        if self._is_open:
            self._deliver()
        return self._is_open

    def _shake(self) -> None:
        if self.shaken.done():  # given up
            return
        try:
            if not self._shaken():
                return
        except ssl.SSLError as fault:
            self._give_up(fault)
            self._below.close()  # behind the alert
            return
        self._open()
        self.shaken.set_result(None)
        self._deliver()

    def _give_up(self, fault: Exception) -> None:
        if not self.shaken.done():
            self.shaken.set_exception(fault)
            self.shaken.exception()  # told, should nobody wait for it any more

    def _failed(self, fault: ssl.SSLError) -> None:
        self._fault = fault
        super()._failed(fault)

    def _ended(self) -> None:
        """Nobody waits until the server has read what it will not answer."""
        self._transport.abort()
