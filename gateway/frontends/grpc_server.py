"""The listening side of the gRPC door: grpc.aio with our methods and limits. It starts and ends with the HTTP doors."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

import grpc

from gateway.frontends.grpc_health import Health
from gateway.frontends.http import Readiness
from gateway.frontends.oip_grpc import Handler, OipGrpc
from gateway.loops import every, running
from gateway.process import close_listeners, connections_at, deafen, waiting_at
from gateway.settings import Grpc, Http
from gateway.tls.current import Shown
from gateway.tls.material import Material

_LOOK_SECONDS: Final = 0.1  # from one at what awaited messages take to the next
_JITTER: Final = 1.1  # so much longer than it is told grpc keeps some connections
_SLACK_SECONDS: Final = 1.0
_BEGUN_SECONDS: Final = (
    0.5  # what a handshake may take that has begun; who is not heard tries again after a second
)
_ACCEPTED_SECONDS: Final = 5.0
# Two gateways that are started for one port by mistake: grpc shares it else, and each gets half of the clients.
_ALONE: Final = (("grpc.so_reuseport", 0),)


@dataclass(slots=True)
class GrpcDoor(grpc.GenericRpcHandler):
    """The methods of the door, by full name."""

    oip: OipGrpc
    readiness: Callable[[], Readiness]
    new_id: Callable[[], str]
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _methods: dict[str, Handler] = field(init=False)
    _nowhere: Handler = field(init=False)

    def __post_init__(self) -> None:
        health = Health(self.readiness, self.stopping, self.new_id, self.oip.memory)
        self._methods = self.oip.methods() | health.methods()
        self._nowhere = self.oip.nowhere()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler:
        return self._methods.get(handler_call_details.method, self._nowhere)

    def drain(self) -> None:
        """What is under way is finished, and nothing more is taken."""
        self.stopping.set()
        self.oip.drain()


@dataclass(slots=True)
class GrpcServer:
    """A server that listens. `stop` is for signals: the second one does not wait. `connection_seconds` is how long it keeps a connection
    where others share its port.
    """

    door: GrpcDoor
    server: grpc.aio.Server
    address: str
    port: int
    grace_seconds: float
    connection_seconds: float
    _asked: asyncio.Event = field(default_factory=asyncio.Event)
    _forced: asyncio.Event = field(default_factory=asyncio.Event)
    _hands_over: bool = False

    async def serve(self) -> None:
        """Return when it has stopped, and what was under way is finished, or cut after the grace."""
        await self._asked.wait()
        if self._hands_over:
            await self._left()
        self.door.drain()
        await asyncio.gather(self._finish(), self._cut())

    async def _left(self) -> None:
        """Every client has gone over to who shares the port, or had the time to. A server that stops gives up calls that come before its
        clients know, and they are told that this is the answer; one that sends a connection away for its age serves them. So first no
        connection begins any more, then those that had are accepted, and then all that are there grow old.
        """
        with suppress(OSError):  # then who connects in this very moment is reset
            deafen(self.port)
            await self._until(lambda: False, _BEGUN_SECONDS)
            await self._until(lambda: not waiting_at(self.port), _ACCEPTED_SECONDS)
        close_listeners(self.port)
        over = self.connection_seconds * _JITTER + _SLACK_SECONDS
        await self._until(lambda: not connections_at(self.port), over)

    async def _until(self, is_so: Callable[[], bool], seconds: float) -> None:
        """It is, or the time is over, or nobody waits any more."""
        loop = asyncio.get_running_loop()
        over = loop.time() + seconds
        while not is_so() and loop.time() < over and not self._forced.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._forced.wait()

    async def _finish(self) -> None:
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + self.grace_seconds
        await self.server.stop(self.grace_seconds)
        # Only now: until its RPC has ended, a call may begin to outlive it.
        await self.door.oip.outliving.over(max(0.0, ends_at - loop.time()))
        self._forced.set()

    async def _cut(self) -> None:
        await self._forced.wait()
        self.door.oip.outliving.end()
        await self.server.stop(0)

    def stop(self) -> None:
        if self._asked.is_set():
            self._forced.set()
        self.end()

    def hand_over(self) -> None:
        """Finish what is under way, while others that share the port take what comes."""
        self._hands_over = not self._asked.is_set() and self.connection_seconds > 0
        self.end()

    def end(self) -> None:
        """Finish what is under way, as another server has ended."""
        self._asked.set()


@asynccontextmanager
async def listening(
    door: GrpcDoor,
    host: str,
    port: int,
    knobs: Grpc,
    http: Http,
    *,
    tls: Shown | None = None,
    shares_port: bool = False,
) -> AsyncIterator[GrpcServer]:
    """A server at this address, while the block runs; without `tls` in the clear. Where it shares the port, clients are spread over all who
    do, each connection for `connection_seconds`. Raises OSError that names the address.
    """
    server = grpc.aio.server(
        handlers=[door],
        options=[*options(knobs, http), *(_shared(knobs) if shares_port else _ALONE)],
        maximum_concurrent_rpcs=knobs.most_calls,
    )
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        if tls is None:
            server.add_insecure_port(where)
        else:
            server.add_secure_port(where, credentials(tls))
    except RuntimeError as fault:
        raise OSError(f"cannot listen on {where} for gRPC; choose another port") from fault
    await server.start()
    try:
        async with running(memory=every(_LOOK_SECONDS, door.oip.memory.look)):
            seconds = knobs.connection_seconds if shares_port else 0.0
            yield GrpcServer(door, server, where, port, http.grace_seconds, seconds)
    finally:
        await server.stop(0)
        await door.oip.over()  # the rooms behind it are closed next


def credentials(tls: Shown) -> grpc.ServerCredentials:
    """What is shown at each handshake, by what it is then. grpc's Python asks for a client's certificate only where it insists on one."""
    last = tls.material

    def changed() -> grpc.ServerCertificateConfiguration | None:
        """On a thread of grpc's, at each handshake; None: as before."""
        nonlocal last
        if tls.material is last:
            return None
        last = tls.material
        return _configuration(last)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(last),
        changed,  # type: ignore[arg-type]  # None is in its documentation
        require_client_authentication=tls.clients == "required",
    )


def _configuration(material: Material) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(material.key, material.chain)], root_certificates=material.authorities or None
    )


def _shared(knobs: Grpc) -> list[tuple[str, int]]:
    return [("grpc.so_reuseport", 1), ("grpc.max_connection_age_ms", round(knobs.connection_seconds * 1000))]


def options(knobs: Grpc, http: Http) -> list[tuple[str, int]]:
    """What grpc's core is to keep to. It counts a message's bytes when they are inflated."""
    return [
        # It counts as a connection from its first byte on.
        ("grpc.server_handshake_timeout_ms", round(http.head_seconds * 1000)),
        ("grpc.max_receive_message_length", knobs.message_bytes),
        ("grpc.max_send_message_length", -1),
        # With it, grpc takes whole messages that nobody has asked for yet, however large they are.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.max_metadata_size", http.head_bytes),
        ("grpc.absolute_max_metadata_size", http.head_bytes),
        ("grpc.max_concurrent_streams", knobs.connection_calls),
        ("grpc.max_allowed_incoming_connections", knobs.connections),
        # Pings: a client may send one every ten seconds, also when it has no call; more often, and it is sent away.
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.http2.max_ping_strikes", 3),
        # A peer that is gone is found out.
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
    ]
