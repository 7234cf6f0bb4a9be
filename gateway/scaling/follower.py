"""A member's part: what this process sends to is what the placements say, and who has charge hears what is asked here and how it goes.

A turn is a beat (the report), then a look (the placements); until their time is over calls are given places by that. It takes one when a
call cannot wait, when somebody tells it to look, and by itself: four times a second while something is awaited, else once or twice.
Without an answer it goes on by what it knows until its time is over, and then gives no place until it has one. Nobody else's calls are
held up by that.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from gateway.loops import Spawn, jobs
from gateway.scaling import facts, placements, reports
from gateway.scaling.breaker import Breaker
from gateway.scaling.draining import Drain, Spot
from gateway.scaling.elsewhere import Elsewhere
from gateway.scaling.facts import Facts
from gateway.scaling.placements import Document, Lodged, Pause
from gateway.scaling.registry import (
    UNBOUNDED,
    Demand,
    FleetState,
    KnownServer,
    Registry,
    Resident,
    residents_on,
)
from gateway.scaling.reports import RECENT_SECONDS, Evidence, Report, Use
from gateway.scaling.residency import Life, Phase
from gateway.scaling.scaler import Replica
from gateway.scaling.throttler import Throttler
from gateway.triton.client import Client
from gateway.triton.grpc_client import GrpcClient
from tenants.errors import Conflict, TableUnavailable, Unreadable
from tenants.model import Model
from tenants.ports import MOST_KEYS, Key, Put, Table

log = logging.getLogger(__name__)

AWAITED_SECONDS = 0.25
BUSY_SECONDS = 0.5
IDLE_SECONDS = 1.0
ANSWER_SECONDS = 5.0
_CHANGING = ("LOADING", "DRAINING", "UNLOADING")
_NO_ANSWER = (TableUnavailable, TimeoutError, Conflict, Unreadable)


@dataclass(slots=True)
class Follower:
    """`name` is this member's, `domain` the host that its Tritons run on, `clock` the throttler's. `tell` has the member of that name look
    now; it may be lost. `elsewhere` gives what keeps the places on servers that somebody else runs."""

    table: Table
    domain: str
    name: str
    registry: Registry
    throttler: Throttler
    clock: Callable[[], float]
    tell: Callable[[str], None]
    elsewhere: Callable[[Spawn], Elsewhere]
    document: Document | None = None
    _version: int = 0  # of the report's row
    _number: int = 0
    _began: float = -math.inf  # the newest beat that was written
    _acknowledged: frozenset[Drain] = frozenset()
    _answers: int = 0
    _is_answered: bool = True
    _facts: dict[Key, Facts] = field(default_factory=dict)

    async def run(self) -> None:
        """Until cancelled; then no connection is kept."""
        async with jobs() as spawn:
            elsewhere = self.elsewhere(spawn)
            try:
                while True:
                    self.registry.wake.clear()
                    elsewhere.tick(self.clock())
                    await self._try()
                    await self._sleep(elsewhere)
            finally:
                elsewhere.close()
                for server in list(self.registry.servers.values()):
                    self._forget(server)

    async def _try(self) -> None:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self.turn()
            is_answered = True
        except _NO_ANSWER as fault:
            is_answered = isinstance(fault, Conflict)  # of its own late write
            if self._is_answered and not is_answered:
                log.warning("the placements are not answered, calls go on by what is known: %r", fault)
        if is_answered and not self._is_answered:
            log.warning("the placements are answered again")
        self._is_answered = is_answered

    async def _sleep(self, elsewhere: Elsewhere) -> None:
        seconds = self._pause_seconds()
        if elsewhere.is_watching:
            seconds = min(seconds, BUSY_SECONDS)
        try:
            async with asyncio.timeout(seconds):
                await self.registry.wake.wait()
        except TimeoutError:
            return

    def _pause_seconds(self) -> float:
        found = self.document
        is_changing = found is None or any(
            it.phase in _CHANGING for models in found.places.values() for it in models.values()
        )
        if is_changing or self.throttler.held or not self._is_answered:
            return AWAITED_SECONDS
        return BUSY_SECONDS if self.throttler.member.held else IDLE_SECONDS

    async def turn(self) -> None:
        """Raises TableUnavailable, TimeoutError, Conflict, Unreadable: the next one goes on."""
        is_urgent = self.registry.is_urgent
        if is_urgent or self.clock() - self._began >= 0.9 * self._pause_seconds():
            await self._beat()
        await self._look()
        if self._has_news():
            await self._beat()
            is_urgent = True
        if is_urgent and self.document is not None:
            self.tell(self.document.charge)

    def _has_news(self) -> bool:
        asks = self.document.asks if self.document else 0
        return asks != self._answers or not self.throttler.member.acknowledged() <= self._acknowledged

    # The beat

    async def _beat(self) -> None:
        began, acknowledged = self.clock(), self.throttler.member.acknowledged()
        answers = self.document.asks if self.document else 0
        self.registry.is_urgent, was_urgent = False, self.registry.is_urgent
        self._number += 1
        value = reports.encoded(self._report(began, acknowledged, answers))
        at = reports.report_at(self.domain, self.name)
        try:
            await self.table.transact(Put(at, value, self._version))
        except BaseException as fault:
            self.registry.is_urgent |= was_urgent
            if isinstance(fault, Conflict):  # it came late, or it is gone
                row = await self.table.get(at)
                self._version = row.version if row else 0
                self.registry.wake.set()
            raise
        self._version += 1
        self._began, self._acknowledged, self._answers = began, acknowledged, answers

    def _report(self, now: float, acknowledged: frozenset[Drain], answers: int) -> Report:
        return Report(
            number=self._number,
            lasts_seconds=self.throttler.member.patience.silence_seconds,
            acknowledged=tuple((spot.replica, spot.model, number) for spot, number in sorted(acknowledged)),
            models={
                name: _use(demand)
                for name, demand in self.registry.demands.items()
                if demand.waiting or demand.in_flight or now - demand.last_use < RECENT_SECONDS
            },
            places={
                server.name: {place.model: _evidence(place) for place in residents_on(server)}
                for server in self.registry.servers.values()
            },
            answers=answers,
        )

    # The look

    async def _look(self) -> None:
        row = await self.table.get(placements.placements_at(self.domain))
        if row is None:
            return
        document = placements.read(row)
        if self.document is not None and document.version < self.document.version:
            return  # of another life of the table: nothing is known by it
        await self._learn(document)
        self.document = document
        self._follow(document)
        self.throttler.member.read(document.placements, began=self._began, now=self.clock())
        self._rotate(document)
        self._forget_demands()

    async def _learn(self, document: Document) -> None:
        """What is needed to call what is new."""
        wanted = {
            placements.facts_at(self.domain, replica, it.loaded)
            for replica, models in document.places.items()
            for it in models.values()
            if it.phase in ("READY", "DRAINING")
        }
        missing = sorted(wanted - self._facts.keys())
        for start in range(0, len(missing), MOST_KEYS):
            found = await self.table.get_many(missing[start : start + MOST_KEYS])
            self._facts.update({key: facts.read(row) for key, row in found.items()})
        self._facts = {key: it for key, it in self._facts.items() if key in wanted}

    def _follow(self, document: Document) -> None:
        """The servers and places are those of the placements."""
        self._follow_pauses(document)
        for name, server in list(self.registry.servers.items()):
            if name not in document.replicas:
                self._forget(server)
        for name, address in document.replicas.items():
            server = self.registry.servers.get(name) or self._met(name, address)
            server.life = Life.RETIRING if address.retiring else Life.READY
            lodged = document.places.get(name, {})
            for place in residents_on(server):
                it = lodged.get(place.model)
                if it is None or it.loaded != place.loaded or it.phase == "UNLOADING":
                    self._leave(place, is_cut=it is None or it.loaded != place.loaded or it.is_cut)
            for model, it in lodged.items():
                if it.phase in ("READY", "DRAINING") and model not in server.places:
                    self._enter(server, model, it)

    def _met(self, name: str, address: placements.Address) -> KnownServer:
        replica = Replica(name, address.host, address.port, address.control, address.grpc_port)
        control = Client(replica.host, replica.port)
        server = KnownServer(
            name=name, life=Life.READY, fleet=address.fleet, replica=replica, control=control
        )
        self.registry.servers[name] = server
        return server

    def _enter(self, server: KnownServer, model: str, it: Lodged) -> None:
        found = self._facts.get(placements.facts_at(self.domain, server.name, it.loaded))
        row = self.throttler.models().get(model)
        if found is None or row is None:
            return  # it is gone meanwhile; or nobody can call it
        replica = server.replica
        place = Resident(
            model=model,
            memory_bytes=it.memory_bytes,
            phase=Phase[it.phase],
            row=row,
            server=server,
            replica=replica,
            client=Client(replica.host, replica.port),
            grpc=GrpcClient(replica.host, replica.grpc_port, clock=self.clock),
            demand=self.registry.demand(model),
            spot=Spot(server.name, model),
            loaded=it.loaded,
            versions=found.versions,
            config=found.config,
            deployment=found.deployment,
            at_once=found.deployment.instances * found.deployment.batch or UNBOUNDED,
        )
        place.grpc.is_decoupled = found.config.is_decoupled
        server.places[model] = place

    def _leave(self, place: Resident, *, is_cut: bool) -> None:
        """It gets no more calls. What it still has goes on only where it may end well."""
        place.phase = Phase.UNLOADING
        self.throttler.withdraw(place)
        place.server.places.pop(place.model, None)
        if is_cut:
            place.abort()
        else:
            place.close()

    def _forget(self, server: KnownServer) -> None:
        server.life = Life.STOPPING
        for place in residents_on(server):
            self._leave(place, is_cut=True)
        if server.control is not None:
            server.control.abort()
        self.registry.servers.pop(server.name, None)

    def _rotate(self, document: Document) -> None:
        """Who is READY takes calls, but where it is silent, or was found out here and has not been looked at since."""
        for place, it in self._lodged(document):
            place.phase = Phase[it.phase]
            row = self.throttler.models().get(place.model)
            is_ours = row is None or not row.is_elsewhere
            if it.looks != place.looks:
                place.looks, place.is_lost = it.looks, False
            if place.phase is Phase.READY and it.takes and is_ours and not place.is_lost:
                self.throttler.admit(place)
            else:
                self.throttler.withdraw(place)

    def _lodged(self, document: Document) -> Iterator[tuple[Resident, Lodged]]:
        for server in self.registry.servers.values():
            lodged = document.places.get(server.name, {})
            for place in residents_on(server):
                yield place, lodged[place.model]

    def _follow_pauses(self, document: Document) -> None:
        """What failed is not waited for until it is tried again; who waits is told when it is said to be."""
        rows = [row for row in self.throttler.models().values() if not row.is_elsewhere]
        for name, seconds in document.models.seconds.items():
            self.registry.demand(name).load_seconds = seconds
        for name, seconds in document.fleets.seconds.items():
            self.registry.fleet(name).boot_seconds = seconds
        for name in {*self.registry.fleets, *document.fleets.pauses}:
            fleet, pause = self.registry.fleet(name), document.fleets.pauses.get(name)
            if _is_refused(fleet, fleet.starts, pause):
                self._refuse(pause, [row for row in rows if row.fleet == name])
        for row in rows:
            pause = document.models.pauses.get(row.name)
            if pause is None and row.name not in self.registry.demands:
                continue
            demand = self.registry.demand(row.name)
            if _is_refused(demand, demand.loads, pause):
                self._refuse(pause, [row])

    def _refuse(self, pause: Pause | None, rows: list[Model]) -> None:
        for row in rows:
            if pause is not None and row.name in self.registry.demands:
                self.throttler.refuse(row, pause.why, self.clock())

    def _forget_demands(self) -> None:
        rows = self.throttler.models()
        for name, demand in list(self.registry.demands.items()):
            if name not in rows and not (demand.rotation or demand.waiting or demand.in_flight):
                del self.registry.demands[name]


def _is_refused(state: Demand | FleetState, breaker: Breaker, pause: Pause | None) -> bool:
    """Whether those who wait are to be told, by a pause that is new here."""
    if pause is None:
        breaker.succeeded()
        return False
    breaker.told(pause.why, pause.until)
    is_new, state.refusals = pause.refusals != state.refusals, pause.refusals
    return is_new


def _use(demand: Demand) -> Use:
    is_placeless = bool(demand.waiting) and not demand.rotation
    since = next(iter(demand.waiting.values())).since if is_placeless else 0.0
    return Use(len(demand.waiting), since, demand.in_flight, max(0.0, demand.last_use))


def _evidence(place: Resident) -> Evidence:
    return Evidence(
        loaded=place.loaded,
        under_way=place.in_flight,
        used_at=place.last_use,
        uses=place.uses,
        well=place.well,
        left=place.left,
        suspicions=place.suspicions,
        failures=place.failures,
    )
