"""The listening side of the HTTP door: uvicorn with our protocol and our own signal handling."""

import asyncio
import resource
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from gateway.frontends.http_protocol import GatewayProtocol, HttpLimits, Refused, http_protocol
from gateway.settings import Http

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_OTHER_FILES = 256  # kept for the audit log, the directory, starting Triton, and refusing
_MOST_FILES = 65_536  # connections take memory too, and some programs that we start look at every number below the limit


async def serve_http(
    app: Any,
    listener: socket.socket,
    settings: Http,
    new_id: Callable[[], str],
    refused: Refused,
    *,
    started: Callable[[str], None],
) -> None:
    """Serve `app` until SIGTERM or SIGINT, then finish what is under way; a second signal ends it at once.

    Raises this process's limit of open files as far as it may, and takes no more connections than that allows.
    """
    host, port = listener.getsockname()[:2]
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    limits = HttpLimits(
        head_bytes=settings.head_bytes,
        head_seconds=settings.head_seconds,
        body_bytes_per_second=settings.body_bytes_per_second,
        drain_seconds=settings.drain_seconds,
        connections=connections_within(_raised_file_limit()),
    )
    config = _config(app, settings, http_protocol(limits, new_id, refused))
    await _Server(config, lambda: started(address)).serve(sockets=[listener])


def bound_socket(host: str, port: int) -> socket.socket:
    """A socket bound to this address. Raises OSError that names the address."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as fault:
        listener.close()
        raise OSError(
            fault.errno, f"cannot listen on {host}:{port}: {fault.strerror}; choose another port"
        ) from fault
    return listener


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


def _config(app: Any, settings: Http, protocol: type[GatewayProtocol]) -> uvicorn.Config:
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

    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._announce = started

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._stop)
        try:
            yield
        finally:
            for number in _SIGNALS:
                loop.remove_signal_handler(number)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._announce()

    def _stop(self) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True
