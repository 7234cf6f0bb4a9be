"""What this process sends to: the servers, the models on them, and what is asked of each model here. Plain state, changed by the
throttler (calls come and go) and the follower (servers and models come and go, as the placements say), on one loop.
"""

import asyncio
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol, cast

from gateway.admission.fair_order import FairOrder
from gateway.admission.fair_queueing import Ticket
from gateway.admission.slots import Grant, slots_of
from gateway.call import GRPC, GRPC_STREAM, PASSED, InferenceCall, Upstream
from gateway.errors import Code, GatewayError
from gateway.scaling.breaker import Breaker
from gateway.scaling.draining import Spot
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

UNBOUNDED: Final = 1_000_000
"""Slots of a place of which nobody knows how many calls run there at once: none of its calls waits for another."""
FREE_FAILURES: Final = 2  # the first failure is tried again at once


class Observer(Protocol):
    """Who counts what happens here. No method may fail or wait."""

    def phase(self, phase: ColdPhase, seconds: float) -> None:
        """One phase of a cold start took so long."""

    def happened(self, event: Event, name: str) -> None:
        """To the fleet or the model of this name."""


@dataclass(slots=True, eq=False, kw_only=True)
class KnownServer(Server):
    """A server that this process sends to."""

    fleet: str
    replica: Replica
    control: Client | None = None  # for our own questions; calls have connections of their own


@dataclass(slots=True, eq=False, kw_only=True)
class Resident(Place):
    """A place with its handles: what a call holds while it is under way. Each has connections of its own, so that those of a model that
    hangs can be cut without touching another's. The counts are of this process, for who judges it (`reports`)."""

    row: Model
    server: KnownServer
    replica: Replica
    client: Client
    grpc: GrpcClient
    demand: "Demand"
    spot: Spot | None = (
        None  # None: on a server that somebody else runs, and that speaks OpenAI's API and no other
    )
    loaded: int = 0  # which load of the model it is
    versions: tuple[str, ...] = ()  # the newest last
    config: ModelConfig | None = None  # as Triton loaded it
    deployment: Deployment | None = None
    at_once: int = UNBOUNDED  # so many calls run there together
    slots_taken: int = 0  # of its calls, those that came in fair order
    looks: int = 0  # the placements' count
    is_lost: bool = False  # it gets no calls until it has been looked at
    uses: int = 0
    well: int = 0  # replies that show that it works
    left: int = 0  # callers that left: the model may work on for them
    suspicions: int = 0
    failures: int = 0  # calls in a row that met a dead process or a cut connection
    is_suspect: bool = False  # as who looks at it himself keeps it (elsewhere), and so on
    is_checked: bool = False
    used_at_check: int = 0
    judged_at: float = -math.inf

    @property
    def is_elsewhere(self) -> bool:
        return self.spot is None

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
    """What is asked of one model here, and what is known of its loads."""

    rotation: list[Resident] = field(default_factory=list)  # the places that take calls
    order: FairOrder = field(default_factory=lambda: FairOrder(slots=0, is_open=False))
    waiting: dict[Ticket, Waiter] = field(default_factory=dict)  # those of the order; who came first is first
    grant: Grant | None = None  # of its slots, to this member; None: an even part
    closed_at: float = -math.inf  # when the last place went
    is_timed: bool = False  # who waits for a place too long will be refused
    in_flight: int = 0
    last_use: float = -math.inf
    is_untrusted: bool = False  # its server did not prove who it is when it was last looked at
    loads: Breaker = field(default_factory=lambda: Breaker(threshold=FREE_FAILURES))
    load_seconds: float = 1.0  # the last one's
    refusals: int = 0  # the placements' count


@dataclass(slots=True, eq=False)
class FleetState:
    starts: Breaker = field(default_factory=lambda: Breaker(threshold=FREE_FAILURES))
    boot_seconds: float = 1.0  # the last one's
    refusals: int = 0


@dataclass(slots=True)
class Registry:
    """`wake` tells the follower that there is something to do; `is_urgent` that who has charge has to know it at once."""

    wake: asyncio.Event = field(default_factory=asyncio.Event)
    is_urgent: bool = False
    servers: dict[str, KnownServer] = field(default_factory=dict)
    demands: dict[str, Demand] = field(default_factory=dict)
    fleets: dict[str, FleetState] = field(default_factory=dict)

    def hurry(self) -> None:
        """Who has charge is told."""
        self.is_urgent = True
        self.wake.set()

    def demand(self, model: str) -> Demand:
        return self.demands.setdefault(model, Demand())

    def fleet(self, name: str) -> FleetState:
        return self.fleets.setdefault(name, FleetState())

    def of_fleet(self, name: str) -> list[KnownServer]:
        return [server for server in self.servers.values() if server.fleet == name]

    def residents(self) -> Iterator[Resident]:
        for server in self.servers.values():
            yield from residents_on(server)

    def eta_seconds(self, row: Model) -> float:
        """How long a call of this model would wait for a place, as the last starts went."""
        is_up = any(server.life is Life.READY for server in self.of_fleet(row.fleet))
        boot = 0.0 if is_up else self.fleet(row.fleet).boot_seconds
        return boot + self.demand(row.name).load_seconds


def residents_on(server: KnownServer) -> Iterator[Resident]:
    """Its places as what they are: nothing else is put there."""
    return cast("Iterator[Resident]", iter(list(server.places.values())))
