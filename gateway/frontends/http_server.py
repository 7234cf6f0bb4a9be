"""The listening side of the HTTP doors: uvicorn with our protocol and our own signal handling. All of them start and end together."""

import asyncio
import os
import resource
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Final, Protocol

import uvicorn

from gateway.frontends.http_protocol import HttpLimits, Refused, http_protocol
from gateway.frontends.tls_protocol import tls_protocol
from gateway.settings import Http
from gateway.supervision.plan import HAND_OVER
from gateway.tls.current import Shown

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_OTHER_FILES = 256  # kept for the audit log, the directory, starting Triton, and refusing
_OF_HANDSHAKES = 4  # one in so many connections may be in its handshake
_KEPT_BYTES = 4 * 1024 * 1024
_MOST_FILES = 65_536  # connections take memory too, and some programs that we start look at every number below the limit


@dataclass(frozen=True, slots=True)
class Listener:
    """An application and the bound socket it listens on. `refused` is told of refusals that are not the application's."""

    app: Any
    socket: socket.socket
    refused: Refused
    connections: int | None = None  # None: as many as this process may open files for
    tls: Shown | None = None  # None: in the clear

    @property
    def address(self) -> str:
        host, port = self.socket.getsockname()[:2]
        scheme = "https" if self.tls else "http"
        return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


class Serving(Protocol):
    """A server that starts and ends with the others."""

    async def serve(self) -> None:
        """Return when it has stopped, and what was under way is finished, or cut after the grace."""

    def stop(self) -> None:
        """Finish what is under way; the second time, do not."""

    def hand_over(self) -> None:
        """Finish what is under way, while another process takes what comes."""

    def end(self) -> None:
        """Finish what is under way, as another server has ended."""


@dataclass(frozen=True, slots=True)
class Orders:
    """What tells a process to end. `pipe` is a descriptor: its end does, and to hand over if HAND_OVER came before."""

    heeds_signals: bool = True
    pipe: int | None = None


ALONE: Final = Orders()
"""Of a process that nobody supervises."""


async def serve_http(
    listeners: Sequence[Listener],
    settings: Http,
    new_id: Callable[[], str],
    *,
    started: Callable[[list[str]], None],
    beside: Sequence[Serving] = (),
    orders: Orders = ALONE,
) -> None:
    """Serve until SIGTERM or SIGINT, or what else `orders` say, then finish what is under way; a second signal ends it at once. So it goes
    with `beside`.

    Raises this process's limit of open files as far as it may, and takes no more connections than that allows. `started` gets the
    addresses once all of them listen.
    """
    _keep_freed_memory()
    most = connections_within(_raised_file_limit())
    waiting = [listener.address for listener in reversed(listeners)]
    addresses: list[str] = []

    def one_started() -> None:
        addresses.append(waiting.pop())
        if not waiting:
            started(addresses)

    servers: list[Serving] = [*beside]
    for listener in listeners:
        protocol = _protocol(listener, settings, listener.connections or most, new_id)
        servers.append(_Server(_config(listener.app, settings, protocol), one_started, listener.socket))
    with _heeded(orders, servers):
        await _all_ended(servers)


def _protocol(
    listener: Listener, settings: Http, connections: int, new_id: Callable[[], str]
) -> type[asyncio.Protocol]:
    limits = HttpLimits(
        head_bytes=settings.head_bytes,
        head_seconds=settings.head_seconds,
        body_bytes_per_second=settings.body_bytes_per_second,
        drain_seconds=settings.drain_seconds,
        connections=connections,
    )
    protocol = http_protocol(limits, new_id, listener.refused)
    if (tls := listener.tls) is None:
        return protocol
    return tls_protocol(protocol, lambda: tls.context, max(connections // _OF_HANDSHAKES, 1))


def connections_within(files: int) -> int:
    """How many connections a process may have that may open so many files: the rest is for whatever else it opens."""
    return max(files - _OTHER_FILES, files // 2) // 2  # each may need one to Triton as well


def _raised_file_limit() -> int:
    """The soft limit is 1024 by custom, for programs that use select(); ours does not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return most


def _keep_freed_memory() -> None:
    """glibc gives large freed blocks back to the kernel, which clears memory anew for the next piece of a body: a fifth of what a large
    body costs. Once a block of this size was freed, it keeps up to twice as much (mallopt(3), "dynamic mmap threshold").
    """
    bytearray(_KEPT_BYTES)


def _config(app: Any, settings: Http, protocol: type[asyncio.Protocol]) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        lifespan="off",
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_config=None,
        timeout_keep_alive=round(settings.keep_alive_seconds),
        timeout_graceful_shutdown=round(settings.grace_seconds),
    )


class _Server(uvicorn.Server):
    """uvicorn raises a caught signal again when it stops serving, which would end the process before the rooms are closed."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None], listener: socket.socket) -> None:
        super().__init__(config)
        self._announce = started
        self._listener = listener

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._announce()

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        await super().serve(sockets or [self._listener])

    def stop(self) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True

    def hand_over(self) -> None:
        self.should_exit = True

    def end(self) -> None:
        self.should_exit = True


@contextmanager
def _heeded(orders: Orders, servers: Sequence[Serving]) -> Iterator[None]:
    """Orders stop all of them, while the block runs."""
    loop, signals = asyncio.get_running_loop(), _SIGNALS if orders.heeds_signals else ()

    def stop() -> None:
        for server in servers:
            server.stop()

    for number in signals:
        loop.add_signal_handler(number, stop)
    reading = _heard(orders.pipe, servers) if orders.pipe is not None else nullcontext()
    try:
        with reading:
            yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


@contextmanager
def _heard(pipe: int, servers: Sequence[Serving]) -> Iterator[None]:
    """The end of the pipe stops all of them, while the block runs."""
    loop, said = asyncio.get_running_loop(), bytearray()

    def hear() -> None:
        try:
            piece = os.read(pipe, len(HAND_OVER))
        except BlockingIOError:
            return
        said.extend(piece)
        if piece:
            return
        loop.remove_reader(pipe)
        for server in servers:
            server.hand_over() if said == HAND_OVER else server.end()

    os.set_blocking(pipe, False)
    loop.add_reader(pipe, hear)
    try:
        yield
    finally:
        loop.remove_reader(pipe)


async def _all_ended(servers: Sequence[Serving]) -> None:
    """Serve until all have ended. When one ends, whyever, none goes on without it. Raises what went wrong first."""

    async def until_ended(server: Serving) -> None:
        try:
            await server.serve()
        finally:
            for other in servers:
                other.end()

    ended = await asyncio.gather(*map(until_ended, servers), return_exceptions=True)
    for fault in ended:
        if fault is not None:
            raise fault
