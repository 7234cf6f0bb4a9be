"""What there is: the servers, the models on them, and what is asked of each model. Plain state, changed by the throttler (calls come and
go) and the autoscaler (servers and models come and go), on one loop.
"""

import asyncio
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol, cast

from gateway.admission.fair_order import FairOrder
from gateway.admission.fair_queueing import Ticket
from gateway.admission.slots import Grant, slots_of
from gateway.call import GRPC, GRPC_STREAM, PASSED, InferenceCall, Outgoing, Upstream
from gateway.errors import Code, GatewayError
from gateway.scaling.breaker import Breaker
from gateway.scaling.decider import Decider
from gateway.scaling.residency import Life, Place, Server
from gateway.scaling.scaler import Replica
from gateway.triton.client import Client
from gateway.triton.control import Correlation, Deployment, ModelConfig
from gateway.triton.grpc_client import GrpcClient
from tenants.model import Model

ColdPhase = Literal["queue", "boot", "load", "first_inference"]
FleetEvent = Literal["start", "start_failed", "crash", "stop"]
ModelEvent = Literal["load", "load_failed", "eviction", "idle_unload", "canary_failed", "breaker_opened"]
QueueEvent = Literal["full", "late"]
Event = FleetEvent | ModelEvent | QueueEvent

# Slots of a place of which nobody knows how many calls run there at once: none of its calls waits for another.
UNBOUNDED = 1_000_000
_PASSIVE_FAILURES = 5
_FREE_FAILURES = 2  # the first failure is tried again at once


class Observer(Protocol):
    """Who counts what happens here. No method may fail or wait."""

    def phase(self, phase: ColdPhase, seconds: float) -> None:
        """One phase of a cold start took so long."""

    def happened(self, event: Event, name: str) -> None:
        """To the fleet or the model of this name."""


class Measures(Protocol):
    """Who measures what models compute. No method may fail, and none waits for more than some seconds."""

    async def loaded(self, place: "Resident", load_seconds: float, try_seconds: float) -> None:
        """The place is there, after so long, of which its first inference took the last part. It takes no calls yet."""

    async def leaving(self, server: "ManagedServer", name: str = "") -> None:
        """This model, or with "" the whole server, is about to go."""

    def tried(self, place: "Resident", seconds: float) -> None:
        """A canary was there, for so long until now."""


class Unmeasured:
    """Nobody measures."""

    async def loaded(self, place: "Resident", load_seconds: float, try_seconds: float) -> None: ...

    async def leaving(self, server: "ManagedServer", name: str = "") -> None: ...

    def tried(self, place: "Resident", seconds: float) -> None: ...


NOBODY_MEASURES: Final[Measures] = Unmeasured()


@dataclass(slots=True, eq=False, kw_only=True)
class ManagedServer(Server):
    """A server with its handles. `replica` is None until its process runs."""

    fleet: str
    replica: Replica | None = None
    control: Client | None = None  # for our own questions; calls have connections of their own
    started_at: float = 0.0
    checked_at: float = 0.0
    well: int = 0  # replies of its models
    repairs: int = 0  # models that it could not unload
    cut_a_load: bool = False  # that model answers for it, should the server be gone


@dataclass(slots=True, eq=False, kw_only=True)
class Resident(Place):
    """A place with its handles: what a call holds while it is under way. Each has connections of its own, so that those of a model that
    hangs can be cut without touching another's."""

    row: Model
    server: ManagedServer
    replica: Replica
    client: Client
    grpc: GrpcClient
    demand: "Demand"
    is_elsewhere: bool = (
        False  # on a server that somebody else runs, and that speaks OpenAI's API and no other
    )
    versions: tuple[str, ...] = ()  # the newest last
    canary: Outgoing | None = None
    config: ModelConfig | None = None  # as Triton loaded it
    deployment: Deployment | None = None
    at_once: int = UNBOUNDED  # so many calls run there together
    slots_taken: int = 0  # of its calls, those that came in fair order
    well: int = 0  # replies that show that it works
    failures: int = 0  # calls in a row that met a dead process or a cut connection
    is_broken: bool = False
    is_suspect: bool = False
    is_checked: bool = False  # a check is under way
    was_left: bool = False  # a caller left lately: the model may work on for it
    used_at_check: int = 0
    judged_at: float = -math.inf
    silent_since: float | None = None

    def upstream(self, call: InferenceCall) -> Upstream:
        """Who takes this call. Raises MODEL_UNAVAILABLE for one of another API than its server speaks: the document changed meanwhile."""
        if (call.endpoint in PASSED) is not self.is_elsewhere:
            private = f"{self.replica.id} does not speak {call.endpoint}"
            raise GatewayError(Code.MODEL_UNAVAILABLE, private=private, retry_after_seconds=1)
        return self.grpc if call.protocol in (GRPC, GRPC_STREAM) else self.client

    def close(self) -> None:
        """Keep no connection; what is under way goes on."""
        self.client.close()
        self.grpc.close()

    def abort(self) -> None:
        """Who waits for a reply gets none."""
        self.client.abort()
        self.grpc.abort()

    def may_be_busy(self, now: float) -> bool:
        """Whether its silence can mean that it works on long calls: it has some, or had, and is not silent for so long that who waits
        could not be served once it is loaded again."""
        self.silent_since = now if self.silent_since is None else self.silent_since
        patience = self.row.scaling.start_deadline_seconds / 2
        return (self.in_flight > 0 or self.was_left) and now - self.silent_since < patience

    @property
    def is_failing(self) -> bool:
        """Whether calls alone have shown that it does not work: how a model without a canary is found out."""
        return self.failures >= _PASSIVE_FAILURES

    @property
    def correlation(self) -> Correlation | None:
        """How it knows its sequences, should it keep any."""
        return self.config.correlation if self.config else None

    @property
    def slots(self) -> int:
        """How many calls may be under way there."""
        found = self.deployment
        if found is None or not found.instances:
            return UNBOUNDED
        return slots_of(found.instances, found.batch, self.demand.order.costs.batch_seconds)

    @property
    def newest(self) -> str:
        """The version that serves a call which names none."""
        return self.versions[-1] if self.versions else ""


@dataclass(slots=True, eq=False)
class Waiter:
    """A call that is held until it is its turn."""

    place: "asyncio.Future[Resident]"
    since: float
    at: "Resident | None" = None  # the place that it has already
    is_past: bool = False  # it waits for a place, and for no turn


@dataclass(slots=True, eq=False)
class Demand:
    """What is asked of one model, and what is known of its loads."""

    rotation: list[Resident] = field(default_factory=list)  # the places that take calls
    order: FairOrder = field(default_factory=lambda: FairOrder(slots=0, is_open=False))
    waiting: dict[Ticket, Waiter] = field(default_factory=dict)  # those of the order; who came first is first
    grant: Grant | None = None  # of its slots, to this member; None: an even part
    closed_at: float = -math.inf  # when the last place went
    is_timed: bool = False  # who waits for a place too long will be refused
    in_flight: int = 0
    last_use: int = 0
    seen_use: int = 0
    called_at: float = -math.inf
    is_untrusted: bool = False  # its server did not prove who it is when it was last looked at
    ready_at: float = math.inf  # when a place came last
    wanted: int = 1
    decider: Decider = field(default_factory=Decider)
    loads: Breaker = field(default_factory=lambda: Breaker(threshold=_FREE_FAILURES))
    load_seconds: float = 1.0  # the last one's
    zeros_worked_in: str = ""  # the repository whose model answered a canary: there it must again


@dataclass(slots=True, eq=False)
class FleetState:
    starts: Breaker = field(default_factory=lambda: Breaker(threshold=_FREE_FAILURES))
    boot_seconds: float = 1.0  # the last one's


@dataclass(slots=True)
class Registry:
    """`wake` tells the autoscaler that there is something to decide."""

    wake: asyncio.Event = field(default_factory=asyncio.Event)
    servers: dict[str, ManagedServer] = field(default_factory=dict)
    demands: dict[str, Demand] = field(default_factory=dict)
    fleets: dict[str, FleetState] = field(default_factory=dict)

    def demand(self, model: str) -> Demand:
        return self.demands.setdefault(model, Demand())

    def fleet(self, name: str) -> FleetState:
        return self.fleets.setdefault(name, FleetState())

    def of_fleet(self, name: str) -> list[ManagedServer]:
        return [server for server in self.servers.values() if server.fleet == name]

    def residents(self) -> Iterator[Resident]:
        for server in self.servers.values():
            yield from residents_on(server)

    def eta_seconds(self, row: Model) -> float:
        """How long a call of this model would wait for a place, as the last starts went."""
        is_up = any(server.life is Life.READY for server in self.of_fleet(row.fleet))
        boot = 0.0 if is_up else self.fleet(row.fleet).boot_seconds
        return boot + self.demand(row.name).load_seconds


def residents_on(server: ManagedServer) -> Iterator[Resident]:
    """Its places as what they are: nothing else is put there."""
    return cast("Iterator[Resident]", iter(list(server.places.values())))
