"""The composition root: settings become opened rooms, the rooms an application, and the application a server.

Only here, in `state`, in `roles` and in `cli` are adapters named, clocks read and ids made.
"""

import gc
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.cluster.member import Says
from gateway.frontends.grpc_server import GrpcServer, listening
from gateway.frontends.http import Readiness
from gateway.frontends.http_server import ALONE, Listener, Orders, serve_http
from gateway.frontends.operator import CONNECTIONS, OperatorDoor, operator_paths
from gateway.frontends.sockets import Addresses, bound_socket, tell_what_is_in_the_clear
from gateway.loops import every, running
from gateway.roles.shared import Shared, opened_shared
from gateway.roles.side import opened_side
from gateway.roles.worker import Worker, opened_worker
from gateway.scaling.scalers.process import ProcessScaler, Wheel, find_wheel, free_port
from gateway.settings import CLOSED, Settings
from gateway.state import RUN, TRITON, new_id
from gateway.supervision.figures import Gathering, leaving, telling
from gateway.supervision.plan import Part
from gateway.telemetry.prometheus import text
from gateway.telemetry.rooms import watch_silent
from gateway.telemetry.sums import encoded
from gateway.tls.current import Certificates

_GATHER_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Gateway:
    """What a process serves, and how. A worker has no door for operators, the side none for clients."""

    settings: Settings
    certificates: Certificates
    clients: Worker | None = None
    operator: OperatorDoor | None = None


@dataclass(frozen=True, slots=True)
class Sockets:
    """Where it listens. None, or -1: that door is closed. `shares_grpc_port`: others listen there too."""

    http: socket.socket | None = None
    operator: socket.socket | None = None
    grpc_port: int = CLOSED
    shares_grpc_port: bool = False


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
        watch_silent(shared.meter, lambda: 0)

        async def figures() -> str:
            return text(shared.meter.read())

        async def present() -> Readiness:
            return worker.present()

        yield Gateway(settings, shared.certificates, worker, operator_door(shared, figures, present))


@asynccontextmanager
async def opened_as(
    part: Part, settings: Settings, progress: Callable[[str], None]
) -> AsyncIterator[Gateway]:
    """A process of several: the rooms of a worker, or those of the side. As `opened` in all else."""
    wheel = find_wheel()
    async with AsyncExitStack() as stack:
        shared = await stack.enter_async_context(opened_shared(settings, part.name))
        if part.role == "side":
            shared.life.membership.say(Says(serves=False))
            scaler = process_scaler(wheel, shared.state)
            await stack.enter_async_context(opened_side(shared, scaler, progress))
            yield await _side(shared, part, stack)
            return
        worker = await stack.enter_async_context(opened_worker(shared))

        def tell() -> bytes:
            now = worker.present()
            return encoded(shared.meter.read(), ready=now.ready, state=now.state)

        await stack.enter_async_context(telling(shared.state / RUN / part.supervisor, part.name, tell))
        yield Gateway(settings, shared.certificates, worker)


async def _side(shared: Shared, part: Part, stack: AsyncExitStack) -> Gateway:
    folder = shared.state / RUN / part.supervisor
    gathering = Gathering(folder, part.workers, shared.meter.read, shared.present)
    watch_silent(shared.meter, lambda: gathering.silent)
    stack.enter_context(
        leaving(folder, part.name, lambda: encoded(shared.meter.read(), ready=False, state=""))
    )
    await stack.enter_async_context(running(figures=every(_GATHER_SECONDS, gathering.look)))

    async def figures() -> str:
        return text(await gathering.figures())

    return Gateway(
        shared.settings, shared.certificates, operator=operator_door(shared, figures, gathering.readiness)
    )


def operator_door(
    shared: Shared, figures: Callable[[], Awaitable[str]], readiness: Callable[[], Awaitable[Readiness]]
) -> OperatorDoor:
    return OperatorDoor(operator_paths(figures, readiness), new_id, shared.control.paths("operator"))


def _spare_the_collector() -> None:
    """The rooms live as long as the process, and what a call makes goes by reference count: the collector need not look at the one, and
    seldom at the other.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


@contextmanager
def own_sockets(settings: Settings) -> Iterator[Sockets]:
    """Those of a process that nobody supervises. Raises OSError, StartFailed."""
    with (
        bound_socket(settings.host, settings.port or free_port(secrets.choice)) as http,
        bound_socket(settings.operator_host, settings.operator_port or free_port(secrets.choice)) as operator,
    ):
        port = settings.grpc_port
        yield Sockets(http, operator, free_port(secrets.choice) if port == 0 else port)


async def serve(gateway: Gateway, started: Callable[[Addresses], None]) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is under way. `started` gets the addresses. Raises OSError."""
    tell_what_is_in_the_clear(gateway.settings)
    with own_sockets(gateway.settings) as sockets:
        await serve_at(sockets, gateway, started, ALONE)


async def serve_at(
    sockets: Sockets, gateway: Gateway, started: Callable[[Addresses], None], orders: Orders
) -> None:
    """Serve what there is until orders say otherwise, then finish what is under way. `started` gets the addresses. Raises OSError."""
    settings, certificates, clients = gateway.settings, gateway.certificates, gateway.clients
    _spare_the_collector()
    listeners: list[Listener] = []
    beside: list[GrpcServer] = []
    async with AsyncExitStack() as stack:
        if clients is not None and sockets.grpc_port != CLOSED:
            grpc = listening(
                clients.grpc,
                settings.grpc_host,
                sockets.grpc_port,
                settings.grpc,
                settings.http,
                tls=certificates.public,
                shares_port=sockets.shares_grpc_port,
            )
            beside.append(await stack.enter_async_context(grpc))
        public = private = None
        if clients is not None and sockets.http is not None:
            public = Listener(
                clients.door, sockets.http, clients.door.oip.pipeline.refused, tls=certificates.public
            )
            listeners.append(public)
        if gateway.operator is not None and sockets.operator is not None:
            # Nobody is denied anything there, so nothing is recorded.
            private = Listener(
                gateway.operator, sockets.operator, lambda *_: None, CONNECTIONS, certificates.operator
            )
            listeners.append(private)
        found = Addresses(
            public.address if public else "",
            private.address if private else "",
            next((it.address for it in beside), None),
        )
        await serve_http(
            listeners, settings.http, new_id, started=lambda _: started(found), beside=beside, orders=orders
        )
