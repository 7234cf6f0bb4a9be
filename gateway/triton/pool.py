"""Kept-alive connections to one server, one exchange at a time on each, whatever they speak.

Idle connections are closed after five seconds by one timer for the whole pool. A connection is kept when its exchange was whole, and
closed otherwise, which is also how a cancelled call stops in Triton.

A name is looked up for each connection, each of its addresses is judged, and what was judged is what is connected to: no second answer of
the name's can come in between. Over TLS a connection is there once the server has proven who it is, and is taken no more when other
authorities have come to be trusted.
"""

import asyncio
import socket
import ssl
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from gateway.triton.connection import NotSent, Untrusted
from gateway.triton.reach import LOOPBACK, Reach
from gateway.triton.tls import ServerTls
from tenants.networks import address_of


class Pooled(Protocol):
    """An asyncio protocol; who has it from the pool has it alone."""

    idle_since: float
    trust: ssl.SSLContext | None

    @property
    def usable(self) -> bool:
        """No exchange is under way, and the peer has not hung up."""

    @property
    def finished(self) -> bool:
        """Request and reply were whole, and the server keeps the connection."""

    def recycle(self) -> None:
        """Ready for the next exchange."""

    def abort(self) -> None: ...


C = TypeVar("C", bound=Pooled)

# The addresses of a name, as numbers. Raises OSError, UnicodeError.
Names = Callable[[str], Awaitable[Sequence[str]]]


async def addresses_of(host: str) -> list[str]:
    """The addresses of a name, or the one that it is. Raises OSError, UnicodeError."""
    if address_of(host) is not None:
        return [host]
    found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(place[0]) for *_, place in found))


@dataclass(slots=True)
class Pool(ABC, Generic[C]):
    """The pool of one server at `host`:`port`. Not shared between loops."""

    host: str
    port: int
    idle_seconds: float = 5.0
    connect_seconds: float = 1.0
    reach: Reach = LOOPBACK
    names: Names = addresses_of
    trust: Callable[[], ssl.SSLContext] | None = None
    """Whose certificates are taken, now; None: in the clear. For connections that are buffered protocols."""
    _idle: list[C] = field(default_factory=list)
    _busy: set[C] = field(default_factory=set)
    _timer: asyncio.TimerHandle | None = None
    _closed: bool = False
    _aborted: bool = False

    @abstractmethod
    def _new(self, loop: asyncio.AbstractEventLoop) -> C:
        """A connection's protocol, before it is connected."""

    async def _taken(self) -> C:
        """A connection, to be released. Raises NotSent."""
        connection = self._take_idle() or await self._connect()
        self._busy.add(connection)
        return connection

    def _take_idle(self) -> C | None:
        trust = self.trust() if self.trust else None
        while self._idle:
            connection = self._idle.pop()
            if connection.trust is not trust:
                connection.abort()
            elif connection.usable:
                return connection
        return None

    async def _connect(self) -> C:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self.connect_seconds):
                connection = await self._connected(loop)
        except ssl.SSLError as fault:
            why = getattr(fault, "verify_message", "") or fault.reason or fault
            raise Untrusted(f"{self.host}:{self.port} did not prove who it is: {why}") from fault
        except (OSError, ValueError) as fault:  # TimeoutError is one; a host's name may be none
            raise NotSent(f"cannot connect to {self.host}:{self.port}: {fault!r}") from fault
        if self._aborted:
            connection.abort()
            raise NotSent(f"{self.host}:{self.port} was given up")
        return connection

    async def _connected(self, loop: asyncio.AbstractEventLoop) -> C:
        """To the first address that may be reached and that answers. Raises NotSent if none may be, OSError, UnicodeError."""
        addresses = await self.names(self.host)
        within = [it for it in addresses if self.reach.holds(it)]
        if not within:
            raise NotSent(self.reach.refusal(self.host, addresses))
        for address in within:
            connection = self._new(loop)
            try:
                await self._open(loop, connection, address)
            except OSError:
                if address == within[-1]:
                    raise
            else:
                break
        return connection

    async def _open(self, loop: asyncio.AbstractEventLoop, connection: C, address: str) -> None:
        """Raises OSError, which SSLError is, and ValueError."""
        protocol: Any = connection
        trust = connection.trust = self.trust() if self.trust else None
        if trust is not None:
            protocol = ServerTls(protocol, trust, loop, self.host)
        transport, _ = await loop.create_connection(lambda: protocol, address, self.port)
        if trust is not None:
            try:
                await protocol.shaken
            except asyncio.CancelledError:
                transport.abort()
                raise

    def _release(self, connection: C) -> None:
        self._busy.discard(connection)
        if self._closed or not connection.finished:
            connection.abort()
            return
        connection.recycle()
        self._idle.append(connection)
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self.idle_seconds, self._close_idle)

    def _close_idle(self) -> None:
        """The oldest idle connections lie first, as the newest is taken first."""
        self._timer = None
        loop = asyncio.get_running_loop()
        oldest = loop.time() - self.idle_seconds
        while self._idle and self._idle[0].idle_since <= oldest:
            self._idle.pop(0).abort()
        if self._idle:
            self._timer = loop.call_at(self._idle[0].idle_since + self.idle_seconds, self._close_idle)

    def close(self) -> None:
        """Keep no connection; what is under way goes on."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        while self._idle:
            self._idle.pop().abort()

    def abort(self) -> None:
        """Give the server up: who waits for a reply gets UpstreamFailed at once, who comes later gets NotSent."""
        self._aborted = True
        self.close()
        for connection in self._busy:
            connection.abort()
