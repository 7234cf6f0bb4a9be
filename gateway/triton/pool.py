"""Kept-alive connections to one server, one exchange at a time on each, whatever they speak.

Idle connections are closed after five seconds by one timer for the whole pool. A connection is kept when its exchange was whole, and
closed otherwise, which is also how a cancelled call stops in Triton.
"""

import asyncio
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from gateway.triton.connection import NotSent


class Pooled(Protocol):
    """An asyncio protocol; who has it from the pool has it alone."""

    idle_since: float

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


@dataclass(slots=True)
class Pool(ABC, Generic[C]):
    """The pool of one server at `host`:`port`. Not shared between loops."""

    host: str
    port: int
    idle_seconds: float = 5.0
    connect_seconds: float = 1.0
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
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
        return None

    async def _connect(self) -> C:
        loop = asyncio.get_running_loop()
        connection = self._new(loop)
        protocol: Any = connection
        try:
            async with asyncio.timeout(self.connect_seconds):
                await loop.create_connection(lambda: protocol, self.host, self.port)
        except (OSError, UnicodeError) as fault:  # TimeoutError is one; a host's name may be none
            raise NotSent(f"cannot connect to {self.host}:{self.port}: {fault!r}") from fault
        if self._aborted:
            connection.abort()
            raise NotSent(f"{self.host}:{self.port} was given up")
        return connection

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
