"""What who has charge of a host's Tritons knows: the servers, the models on them, and what all members together ask of each model. Plain
state, changed by the autoscaler and its jobs, and by what the members report (`desk`), on one loop.
"""

import asyncio
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Protocol, cast

from gateway.call import Outgoing
from gateway.scaling.breaker import Breaker
from gateway.scaling.decider import Decider
from gateway.scaling.draining import Spot
from gateway.scaling.registry import FREE_FAILURES
from gateway.scaling.residency import Phase, Place, Server
from gateway.scaling.scaler import Replica
from gateway.triton.client import Client
from gateway.triton.control import Deployment, ModelConfig
from tenants.model import Model

_PASSIVE_FAILURES: Final = 5


class Measures(Protocol):
    """Who measures what models compute. No method may fail, and none waits for more than some seconds."""

    async def loaded(self, place: "Lodging", load_seconds: float, try_seconds: float) -> None:
        """The place is there, after so long, of which its first inference took the last part. It takes no calls yet."""

    async def leaving(self, server: "ManagedServer", name: str = "") -> None:
        """This model, or with "" the whole server, is about to go."""

    def tried(self, place: "Lodging", seconds: float) -> None:
        """A canary was there, for so long until now."""


class Unmeasured:
    """Nobody measures."""

    async def loaded(self, place: "Lodging", load_seconds: float, try_seconds: float) -> None: ...

    async def leaving(self, server: "ManagedServer", name: str = "") -> None: ...

    def tried(self, place: "Lodging", seconds: float) -> None: ...


NOBODY_MEASURES: Final[Measures] = Unmeasured()


@dataclass(slots=True, eq=False, kw_only=True)
class ManagedServer(Server):
    """A server with its handles. `replica` is None until its process runs."""

    fleet: str
    replica: Replica | None = None
    control: Client | None = None  # for our own questions
    started_at: float = 0.0
    checked_at: float = 0.0
    well: int = 0  # replies of its models
    repairs: int = 0  # models that it could not unload
    cut_a_load: bool = False  # that model answers for it, should the server be gone


@dataclass(slots=True, eq=False, kw_only=True)
class Lodging(Place):
    """A place as who has charge keeps it. `client` is for canaries: members' calls have connections of their own. Of calls it knows what
    was reported."""

    row: Model
    server: ManagedServer
    replica: Replica
    client: Client
    asked: "Asked"
    loaded: int = 0  # which load of the model it is; 0: that is not written yet
    takes: bool = True  # new calls
    looks: int = 0  # how often it was suspected and works
    is_cut: bool = False
    versions: tuple[str, ...] = ()  # the newest last
    canary: Outgoing | None = None
    config: ModelConfig | None = None  # as Triton loaded it
    deployment: Deployment | None = None
    uses: int = 0
    well: int = 0  # replies that show that it works
    failures: int = 0  # calls in a row that met a dead process or a cut connection
    is_broken: bool = False
    is_suspect: bool = False
    is_checked: bool = False  # a check is under way
    was_left: bool = False  # a caller left lately: the model may work on for it
    used_at_check: int = 0
    judged_at: float = -math.inf
    silent_since: float | None = None

    @property
    def spot(self) -> Spot:
        return Spot(self.replica.id, self.model)

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


@dataclass(slots=True, eq=False)
class Asked:
    """What all members ask of one model, and what is known of its loads. `refusals` counts how often who waited was to be refused."""

    waiting: int = 0  # for a place, or for a turn
    waiting_since: float | None = None  # for a place
    in_flight: int = 0
    called_at: float = -math.inf
    ready_at: float = math.inf  # when a place came last
    wanted: int = 1
    decider: Decider = field(default_factory=Decider)
    loads: Breaker = field(default_factory=lambda: Breaker(threshold=FREE_FAILURES))
    load_seconds: float = 1.0  # the last one's
    refusals: int = 0
    zeros_worked_in: str = ""  # the repository whose model answered a canary: there it must again


@dataclass(slots=True, eq=False)
class FleetBoard:
    starts: Breaker = field(default_factory=lambda: Breaker(threshold=FREE_FAILURES))
    boot_seconds: float = 1.0  # the last one's
    refusals: int = 0


@dataclass(slots=True)
class Board:
    """`wake` tells the autoscaler that there is something to decide."""

    wake: asyncio.Event = field(default_factory=asyncio.Event)
    servers: dict[str, ManagedServer] = field(default_factory=dict)
    models: dict[str, Asked] = field(default_factory=dict)
    fleets: dict[str, FleetBoard] = field(default_factory=dict)

    def asked(self, model: str) -> Asked:
        return self.models.setdefault(model, Asked())

    def fleet(self, name: str) -> FleetBoard:
        return self.fleets.setdefault(name, FleetBoard())

    def of_fleet(self, name: str) -> list[ManagedServer]:
        return [server for server in self.servers.values() if server.fleet == name]

    def lodgings(self) -> Iterator[Lodging]:
        for server in self.servers.values():
            yield from lodgings_on(server)

    def taking(self, model: str) -> int:
        """How many of its places take calls."""
        return sum(
            place.model == model and place.takes and place.phase is Phase.READY for place in self.lodgings()
        )


def lodgings_on(server: ManagedServer) -> Iterator[Lodging]:
    """Its places as what they are: nothing else is put there."""
    return cast("Iterator[Lodging]", iter(list(server.places.values())))
