"""The composition root: settings become opened rooms, the rooms an application, and the application a server.

Only here, in `state`, in `roles` and in `cli` are adapters named, clocks read and ids made.
"""

import gc
import logging
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from gateway.frontends.grpc_server import GrpcDoor, listening
from gateway.frontends.http import HttpDoor
from gateway.frontends.http_server import Listener, bound_socket, is_loopback, serve_http
from gateway.frontends.operator import CONNECTIONS, OperatorDoor, operator_paths
from gateway.roles.shared import opened_shared
from gateway.roles.side import opened_side
from gateway.roles.worker import opened_worker
from gateway.scaling.scalers.process import ProcessScaler, Wheel, find_wheel, free_port
from gateway.settings import CLOSED, Settings
from gateway.state import TRITON, new_id
from gateway.telemetry.prometheus import text
from gateway.tls.current import Certificates

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Gateway:
    """What is served, and how."""

    settings: Settings
    door: HttpDoor
    operator: OperatorDoor
    grpc: GrpcDoor
    certificates: Certificates


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a gateway listens."""

    http: str
    operator: str
    grpc: str | None


def process_scaler(wheel: Wheel, state: Path) -> ProcessScaler:
    """The servers of this host. Raises StartFailed for a state folder that none could start with."""
    scaler = ProcessScaler(
        wheel=wheel,
        folder=state / TRITON,
        new_id=lambda: new_id()[:12],
        new_secret=new_id,
        choose_port=secrets.choice,
    )
    scaler.check()
    return scaler


@asynccontextmanager
async def opened(
    settings: Settings, progress: Callable[[str], None], member: str = ""
) -> AsyncIterator[Gateway]:
    """A whole process: all rooms, open and with their loops running, while the block runs; `member` as in `opened_shared`. Raises
    StartFailed, SinkFailed, TlsRefused, TableUnavailable, Crowded.
    """
    wheel = find_wheel()
    async with AsyncExitStack() as stack:
        shared = await stack.enter_async_context(opened_shared(settings, member))
        scaler = process_scaler(wheel, shared.state)
        worker = await stack.enter_async_context(opened_worker(shared))
        await stack.enter_async_context(opened_side(shared, scaler, progress))
        figures = operator_paths(lambda: text(shared.meter.read()), worker.present)
        operator = OperatorDoor(figures, new_id, shared.control.paths("operator"))
        yield Gateway(settings, worker.door, operator, worker.grpc, shared.certificates)


def _spare_the_collector() -> None:
    """The rooms live as long as the process, and what a call makes goes by reference count: the collector need not look at the one, and
    seldom at the other.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


def tell_what_is_in_the_clear(settings: Settings) -> None:
    """A line for each listener that others reach and that has no TLS."""
    if settings.tls.certificate is not None:
        return
    listeners = [("public", settings.host), ("operator", settings.operator_host)]
    if settings.grpc_port != CLOSED:
        listeners.append(("gRPC", settings.grpc_host))
    for name, host in listeners:
        if not is_loopback(host):
            log.warning(
                "the %s listener on %s is in the clear: keys go by as they are. Name tls.certificate and tls.key, or have a proxy "
                "that speaks TLS in front",
                name,
                host,
            )


async def serve(gateway: Gateway, started: Callable[[Addresses], None]) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is under way. `started` gets the addresses. Raises OSError."""
    settings, certificates = gateway.settings, gateway.certificates
    _spare_the_collector()
    tell_what_is_in_the_clear(settings)
    async with AsyncExitStack() as stack:
        public = stack.enter_context(bound_socket(settings.host, settings.port or free_port(secrets.choice)))
        private = stack.enter_context(
            bound_socket(settings.operator_host, settings.operator_port or free_port(secrets.choice))
        )
        beside = []
        if settings.grpc_port != CLOSED:
            port = settings.grpc_port or free_port(secrets.choice)
            grpc = listening(
                gateway.grpc, settings.grpc_host, port, settings.grpc, settings.http, tls=certificates.public
            )
            beside.append(await stack.enter_async_context(grpc))
        listeners = [
            Listener(gateway.door, public, gateway.door.oip.pipeline.refused, tls=certificates.public),
            # Nobody is denied anything there, so nothing is recorded.
            Listener(gateway.operator, private, lambda *_: None, CONNECTIONS, certificates.operator),
        ]
        await serve_http(
            listeners,
            settings.http,
            new_id,
            started=lambda found: started(
                Addresses(found[0], found[1], next((it.address for it in beside), None))
            ),
            beside=beside,
        )
