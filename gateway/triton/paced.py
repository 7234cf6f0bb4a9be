"""What a connection to a server has in every protocol: its transport, the one caller that waits for it, and whether it is read."""

import asyncio
import ssl
from typing import cast

READ_AHEAD_BYTES = 256 * 1024


class Paced(asyncio.BaseProtocol):
    """One exchange at a time. What ends it early (a cancelled caller, a broken peer) ends the connection."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._writable = True
        self._reading = True
        self._lost = False
        self._is_leaving = False  # the peer takes no further exchanges on it
        self._broken = ""  # why the exchange cannot go on
        self._is_held = False  # who takes the reply cannot keep up
        self.buffered_bytes = 0  # of the reply, which nobody has taken yet
        self.idle_since = 0.0
        self.trust: ssl.SSLContext | None = None  # whose word was taken for the server

    @property
    def usable(self) -> bool:
        """No exchange is under way, and the peer has not hung up."""
        transport = self._transport
        return transport is not None and not (
            self._lost or self._broken or self._is_leaving or transport.is_closing()
        )

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _hold(self, *, held: bool) -> None:
        self._is_held = held
        self._set_reading(wanted=not held and self.buffered_bytes <= READ_AHEAD_BYTES)

    def _changed(self) -> "asyncio.Future[None]":
        """To be awaited by the one caller that there is; the next event of the exchange wakes it."""
        self._waiter = self._loop.create_future()
        return self._waiter

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _set_reading(self, *, wanted: bool) -> None:
        if self._transport is None or wanted == self._reading or self._transport.is_closing():
            return
        self._reading = wanted
        if wanted:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def _fail(self, why: str) -> None:
        self._broken = self._broken or why
        self.abort()
        self._wake()

    # asyncio.BaseProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        if isinstance(exc, ssl.SSLError):
            self._broken = self._broken or f"TLS failed: {exc.reason or exc}"
        self._wake()

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        self._wake()
