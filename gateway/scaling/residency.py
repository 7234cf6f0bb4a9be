"""Which replicas there should be and which models on them: the plan that leads from what is to what is wanted. Pure.

Level-triggered: each plan looks at all there is and gives the next steps, so a step that failed or came too late is planned again, and
what is under way (a server that starts, a model that loads) is never ordered twice.

    place     LOADING -> READY -> DRAINING (gets no more calls) -> UNLOADING (its calls are done) -> gone (Triton says UNAVAILABLE)
    server    STARTING -> READY -> [RETIRING (is being replaced, serves what it has)] -> STOPPING -> gone

A model that waits gets a place, in this order: on a replica with room; on a new replica; in the room of models that were used longest
ago and have no call under way; and when it has waited `STARVING_SECONDS`, in the room of busy ones, which get no more calls until then.
What still loads is not stopped, but who starves is the next to have its room.
Memory is taken until the place is gone. Only a model that waits evicts another; one that wants more replicas takes free room only.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from tenants.fleet import Fleet

STARVING_SECONDS = 1.0


class Phase(Enum):
    """Of a place."""

    LOADING = auto()
    READY = auto()
    DRAINING = auto()
    UNLOADING = auto()


class Life(Enum):
    """Of a server."""

    STARTING = auto()
    READY = auto()
    RETIRING = auto()
    STOPPING = auto()


@dataclass(slots=True, eq=False, kw_only=True)
class Place:
    """A model on a server. `last_use` orders places by when they took their last call. `is_drained`: of one that drains, whether it is
    known that nobody can send there any more; it may be known later than that no call is there."""

    model: str
    memory_bytes: int
    phase: Phase = Phase.LOADING
    in_flight: int = 0
    last_use: float = 0.0
    is_drained: bool = True
    outdated: bool = False  # its document changed: to be replaced

    @property
    def counts(self) -> bool:
        """Whether it is, or will be, a place for calls."""
        return self.phase in (Phase.LOADING, Phase.READY) and not self.outdated


@dataclass(slots=True, eq=False, kw_only=True)
class Server:
    """A replica as the plan sees it; `empty_since` is when it last got ready or lost its last place."""

    name: str
    life: Life = Life.STARTING
    places: dict[str, Place] = field(default_factory=dict)
    empty_since: float = 0.0

    @property
    def is_open(self) -> bool:
        """Whether models may come to it."""
        return self.life in (Life.STARTING, Life.READY)


@dataclass(frozen=True, slots=True)
class Want:
    """So many replicas of a model; `waiting_since` is when the oldest call came that waits for a place, None when none does."""

    model: str
    memory_bytes: int
    replicas: int
    waiting_since: float | None = None


@dataclass(frozen=True, slots=True)
class Start:
    """A new server."""


@dataclass(frozen=True, slots=True)
class Stop:
    server: str


@dataclass(frozen=True, slots=True)
class Load:
    server: str
    model: str


@dataclass(frozen=True, slots=True)
class Drain:
    server: str
    model: str


@dataclass(frozen=True, slots=True)
class Keep:
    """A place that drains takes calls again: nobody waits for its room any more."""

    server: str
    model: str


@dataclass(frozen=True, slots=True)
class Unload:
    server: str
    model: str


Step = Start | Stop | Load | Drain | Keep | Unload


def plan(
    fleet: Fleet, servers: Sequence[Server], wants: Collection[Want], now: float, *, may_start: bool
) -> list[Step]:
    """The next steps. Nothing is changed here; whoever takes a step changes places and servers before the next plan.

    A model without a want is not wanted: its places go.
    """
    unwanted = {model for server in servers for model in server.places} - {want.model for want in wants}
    ordered = sorted([*wants, *(Want(model, 0, 0) for model in unwanted)], key=_urgency)
    waiting = frozenset(want.model for want in ordered if want.waiting_since is not None)
    board = _Board(fleet, servers, waiting, now, may_start=may_start)
    for want in ordered:
        board.settle(want)
    board.unload_and_size()
    return board.steps


def _urgency(want: Want) -> tuple[bool, float, str]:
    return want.waiting_since is None, want.waiting_since or 0.0, want.model


class _Board:
    """One plan in the making: what there is, less what the steps so far will take."""

    def __init__(
        self, fleet: Fleet, servers: Sequence[Server], waiting: frozenset[str], now: float, *, may_start: bool
    ) -> None:
        self.steps: list[Step] = []
        self._fleet, self._waiting, self._now, self._may_start = fleet, waiting, now, may_start
        self._servers = list(servers)
        self._alive = len(servers)
        self._drained: set[Place] = set()
        # With what this plan loads there: what is judged by places is judged as the next plan will.
        self._places = {server.name: list(server.places.values()) for server in servers}
        # Less than 0 where more is promised than is free by now: nothing else comes there until that is kept.
        self._free = {
            server.name: fleet.memory_bytes - sum(place.memory_bytes for place in server.places.values())
            for server in servers
        }

    def settle(self, want: Want) -> None:
        """Bring one model closer to as many places as it wants."""
        held = [
            (server, server.places[want.model]) for server in self._servers if want.model in server.places
        ]
        staying = [
            (server, place)
            for server, place in held
            if server.life is not Life.STOPPING and not self._leaves(place)
        ]
        counted = [(server, place) for server, place in staying if server.is_open and place.counts]
        kept = self._keep(want, held, want.replicas - len(counted))
        serving = [(server, place) for server, place in staying if place.phase is Phase.READY] + kept
        counted += kept
        for server, place in _idlest(counted)[: max(0, len(counted) - want.replicas)]:
            self._drain(server, place)
        placed = bool(counted)
        if serving or want.waiting_since is not None:
            others = [
                server for server in self._servers if server.is_open and want.model not in server.places
            ]
            for _ in range(want.replicas - len(counted)):
                chosen = self._place(want, others, may_evict=not serving and not placed)
                if chosen is None:
                    break
                placed = True
                others = [server for server in others if server is not chosen]
        # What is to be replaced serves until another place does; where there is no room for another one it makes room.
        if not placed or kept or any(place.phase is Phase.READY for _, place in counted):
            for server, place in serving:
                if (server, place) not in counted:
                    self._drain(server, place)

    def _keep(self, want: Want, held: list[tuple[Server, Place]], missing: int) -> list[tuple[Server, Place]]:
        """Those that drain with calls on them for a model that does not wait any more."""
        if missing <= 0 or self._waiting - {want.model}:
            return []
        draining = [
            (server, place) for server, place in held if server.is_open and place.phase is Phase.DRAINING
        ]
        kept = [
            (server, place)
            for server, place in draining
            if (place.in_flight or not place.is_drained) and not place.outdated
        ][:missing]
        self.steps += [Keep(server.name, want.model) for server, _ in kept]
        return kept

    def _place(self, want: Want, others: list[Server], *, may_evict: bool) -> Server | None:
        """Find one more place on one of the others; the server where there is one, or will be."""
        need = want.memory_bytes
        fitting = [server for server in others if self._free[server.name] >= need]
        if fitting:
            server = min(fitting, key=lambda each: (each.life is Life.STARTING, self._free[each.name]))
            if server.life is Life.READY:
                self.steps.append(Load(server.name, want.model))
                self._places[server.name].append(Place(model=want.model, memory_bytes=need))
        elif self._can_start and need <= self._fleet.memory_bytes:
            server = self._start()
        else:
            ready = [server for server in others if server.life is Life.READY]
            chosen = self._evict(want, ready) if may_evict else None
            if chosen is None:
                return None
            server = chosen
        self._free[server.name] -= need
        return server

    @property
    def _can_start(self) -> bool:
        return self._may_start and self._alive < self._fleet.replicas.max

    def _start(self) -> Server:
        """A new server, on which later wants of this plan find room."""
        server = Server(name=f"new {self._alive}")
        self.steps.append(Start())
        self._servers.append(server)
        self._free[server.name] = self._fleet.memory_bytes
        self._alive += 1
        return server

    def _drain(self, server: Server, place: Place) -> None:
        if place.phase is Phase.READY and place not in self._drained:
            self._drained.add(place)
            self.steps.append(Drain(server.name, place.model))

    def _leaves(self, place: Place) -> bool:
        return place.phase in (Phase.DRAINING, Phase.UNLOADING) or place in self._drained

    def _evict(self, want: Want, servers: list[Server]) -> Server | None:
        """Free room on the server where that hurts least; None where there is none to be had."""
        starving = want.waiting_since is not None and self._now - want.waiting_since > STARVING_SECONDS
        choices = []
        for server in servers:
            victims = self._victims(server, want.memory_bytes - self._free[server.name], starving=starving)
            if victims is None:
                continue
            waits = _is_changing(self._places[server.name]) and not all(map(self._leaves, victims))
            if not waits or starving:
                choices.append((max(map(self._hurt, victims)), server.name, server, () if waits else victims))
        if not choices:
            return None
        _, _, server, drained = min(choices, key=lambda choice: choice[:2])
        for victim in drained:
            self._drain(server, victim)
        return server

    def _victims(self, server: Server, need: int, *, starving: bool) -> list[Place] | None:
        """The places whose memory to wait for, those that hurt least first; None when there is not enough of it."""
        victims: list[Place] = []
        for place in sorted(self._places[server.name], key=self._hurt):
            if need <= 0:
                break
            if self._may_go(place, starving=starving):
                victims.append(place)
                need -= place.memory_bytes
        return victims if need <= 0 else None

    def _may_go(self, place: Place, *, starving: bool) -> bool:
        if self._leaves(place):
            return True
        if place.phase is Phase.LOADING:
            return starving
        return (starving or place.in_flight == 0) and place.model not in self._waiting

    def _hurt(self, place: Place) -> tuple[bool, bool, int, float]:
        """Least: what is as good as gone; then what nobody uses; then to wait for calls or a load to end; last to turn calls away."""
        is_busy = place.in_flight > 0 or place.phase is Phase.LOADING
        turns_away = place.phase is Phase.READY and not self._leaves(place)
        return is_busy, turns_away, *_use(place)

    def unload_and_size(self) -> None:
        """Unload what is drained; stop what is empty, start what the floor asks for."""
        for server in self._servers:
            places = server.places.values()
            done = [
                place
                for place in places
                if place.phase is Phase.DRAINING and place.in_flight == 0 and place.is_drained
            ]
            if server.life in (Life.READY, Life.RETIRING):
                self.steps += [Unload(server.name, place.model) for place in done]
            if server.life is Life.RETIRING and all(place.phase is Phase.UNLOADING for place in places):
                self.steps.append(Stop(server.name))
        wanted = {step.server for step in self.steps if isinstance(step, Load)}
        opened = [server for server in self._servers if server.is_open]
        for server in list(opened):
            is_idle = server.life is Life.READY and not server.places and server.name not in wanted
            is_over = self._now - server.empty_since >= self._fleet.idle_seconds
            if is_idle and is_over and len(opened) > self._fleet.replicas.min:
                self.steps.append(Stop(server.name))
                opened.remove(server)
        while len(opened) < self._fleet.replicas.min and self._can_start:
            opened.append(self._start())


def _is_changing(places: Collection[Place]) -> bool:
    """Whether room is being made or taken. One exchange at a time: a model that is popular is called again before it is its turn to go."""
    drained = any(place.phase is Phase.DRAINING and not place.in_flight for place in places)
    return drained or any(place.phase in (Phase.LOADING, Phase.UNLOADING) for place in places)


def _use(place: Place) -> tuple[int, float]:
    return place.in_flight, place.last_use


def _idlest(pairs: list[tuple[Server, Place]]) -> list[tuple[Server, Place]]:
    return sorted(pairs, key=lambda pair: _use(pair[1]))
