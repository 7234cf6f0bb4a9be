"""Servers and models come and go with demand: the part of who has charge of a host's Tritons. Each tick hears what the members say,
looks at all there is, has `residency.plan` say what to do next, writes that (`desk`), and starts it as jobs (`lifecycle`). It ticks when it
is told to, four times a second while something is awaited, twice while a server runs, and once else.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.loops import jobs
from gateway.scaling.board import NOBODY_MEASURES, Asked, Board, Lodging, ManagedServer, Measures, lodgings_on
from gateway.scaling.decider import Decider
from gateway.scaling.desk import Desk
from gateway.scaling.health import CANARY_SECONDS
from gateway.scaling.lifecycle import Lifecycle
from gateway.scaling.registry import Observer
from gateway.scaling.residency import Drain, Keep, Life, Load, Phase, Start, Step, Stop, Unload, Want, plan
from gateway.scaling.scaler import Replica, Scaler
from gateway.triton.client import Client
from tenants.errors import Conflict, TableUnavailable, Unreadable
from tenants.fleet import Fleet
from tenants.model import Model

log = logging.getLogger(__name__)

TICK_SECONDS = 0.5
AWAITED_SECONDS = 0.25
IDLE_SECONDS = 1.0
SUSPECT_SECONDS = 0.25
SETTLE_SECONDS = 2.0  # the calls that crowd where a model has just come are no measure of its load
ANSWER_SECONDS = 5.0
_NO_ANSWER = (TableUnavailable, TimeoutError, Conflict, Unreadable)


async def _at_once() -> None:
    """It has charge."""


@dataclass(slots=True)
class Autoscaler:
    """`clock` gives the seconds that the desk's do, `models` and `fleets` what the documents say, `new_name` a name for each server.

    Without an answer of the table nothing is planned: what runs goes on, and what was ordered is done.
    """

    scaler: Scaler
    board: Board
    desk: Desk
    observer: Observer
    clock: Callable[[], float]
    models: Callable[[], Mapping[str, Model]]
    fleets: Callable[[], Mapping[str, Fleet]]
    new_name: Callable[[], str]
    start_seconds: float = 30.0
    progress: Callable[[str], None] = lambda _: None
    taken: Callable[[], Awaitable[None]] = _at_once
    """Returns once this process has charge."""
    leaves: Callable[[], bool] = lambda: False
    """Asked at the end: whether the servers are left to another process."""
    measures: Measures = NOBODY_MEASURES
    _sampled_at: float = 0.0
    _is_answered: bool = True
    _orders: list[tuple[str, Callable[[], Coroutine[Any, Any, None]]]] = field(default_factory=list)

    async def run(self) -> None:
        """Until cancelled; then every server is stopped, or left to who goes on. First it waits until it has charge, and goes on with what
        runs and what is written."""
        try:
            async with jobs() as spawn:
                life = Lifecycle(
                    scaler=self.scaler,
                    board=self.board,
                    observer=self.observer,
                    clock=self.clock,
                    models=self.models,
                    start_seconds=self.start_seconds,
                    progress=self.progress,
                    spawn=spawn,
                    order=self._order,
                    refresh=self.desk.refresh,
                    measures=self.measures,
                )
                await self.taken()
                await self._adopt(life)
                while True:
                    self.board.wake.clear()
                    await self._turn(life)
                    await self._sleep()
        finally:
            leaves = self.leaves()
            end = self.scaler.leave if leaves else self._kill
            if not leaves:
                await asyncio.gather(*(self.measures.leaving(it) for it in self.board.servers.values()))
            await asyncio.gather(*(self._end(it, end) for it in self.board.servers.values()))

    async def _adopt(self, life: Lifecycle) -> None:
        """What runs and is written goes on; what is written and does not run is gone."""
        while True:
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    written = await self.desk.take()
                replicas = await self.scaler.adopt()
                break
            except (*_NO_ANSWER, OSError) as fault:
                log.warning("nobody has charge of the servers, as it is not known what runs: %r", fault)
                await asyncio.sleep(AWAITED_SECONDS)
        for replica in replicas:
            server = ManagedServer(
                name=self.new_name(), fleet=replica.fleet, started_at=self.clock(), replica=replica
            )
            self.board.servers[server.name] = server
            life.adopt(server, replica, written)

    async def _kill(self, replica: Replica) -> None:
        await self.scaler.stop(replica, 0.0)

    async def _end(self, server: ManagedServer, end: Callable[[Replica], Awaitable[None]]) -> None:
        """No connection is kept."""
        for place in lodgings_on(server):
            place.client.abort()
        if server.control is not None:
            server.control.abort()
        if server.replica is not None:
            await end(server.replica)

    async def _turn(self, life: Lifecycle) -> None:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self.desk.hear()
            self._tick(life, self.clock())
            async with asyncio.timeout(ANSWER_SECONDS):
                await self.desk.publish()
        except _NO_ANSWER as fault:
            if self._is_answered:
                log.warning("servers and models stay as they are, as the table gives no answer: %r", fault)
            self._is_answered = False
            return
        self._is_answered = True
        orders, self._orders = self._orders, []
        for name, job in orders:
            life.spawn(name, job())

    def _order(self, name: str, job: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """To be done once what the board has of it is written."""
        self._orders.append((name, job))
        self.board.wake.set()

    async def _sleep(self) -> None:
        """Until something changed, or it is time to hear the members."""
        try:
            async with asyncio.timeout(self._pause_seconds()):
                await self.board.wake.wait()
        except TimeoutError:
            return

    def _pause_seconds(self) -> float:
        is_awaited = any(asked.waiting for asked in self.board.models.values()) or any(
            place.phase is Phase.DRAINING or place.is_suspect for place in self.board.lodgings()
        )
        if is_awaited or not self._is_answered:
            return AWAITED_SECONDS
        return TICK_SECONDS if self.board.servers else IDLE_SECONDS

    def _tick(self, life: Lifecycle, now: float) -> None:
        self._sample(now)
        for server in self.board.servers.values():
            self._watch_over(life, server, now)
        for name in self.fleets().keys() | {server.fleet for server in self.board.servers.values()}:
            self._scale(life, name, now)

    # Demand

    def _sample(self, now: float) -> None:
        """Take in how much is asked of each model. Only on time, not with each change: changes crowd where calls wait."""
        if now - self._sampled_at < TICK_SECONDS:
            return
        self._sampled_at = now
        there = {place.model for place in self.board.lodgings()}
        for name, asked in list(self.board.models.items()):
            row = self.models().get(name)
            if not (name in there or asked.waiting or asked.in_flight):
                asked.wanted, asked.decider = 1, Decider()
                if row is None:
                    del self.board.models[name]
            elif row is not None and now - asked.ready_at >= SETTLE_SECONDS:
                concurrency = asked.in_flight + asked.waiting
                asked.wanted = asked.decider.decide(row.scaling, concurrency, self.board.taking(name), now)

    def _wants(self, fleet: str, now: float) -> list[Want]:
        """What is wanted of each model that was asked for."""
        rows = ((self.models().get(name), asked) for name, asked in self.board.models.items())
        return [
            _want(row, asked, now)
            for row, asked in rows
            if row is not None and row.fleet == fleet and not row.is_elsewhere
        ]

    # What is to be done

    def _scale(self, life: Lifecycle, name: str, now: float) -> None:
        document = self.fleets().get(name)
        fleet = document or Fleet(name)  # its document is gone: what runs is used up
        may_start = document is not None and self._may_start(name, now)
        servers, wants = self.board.of_fleet(name), self._wants(name, now)
        self._mark_outdated(servers)
        for step in plan(fleet, servers, wants, now, may_start=may_start):
            self._take(life, fleet, step, now)

    def _may_start(self, fleet: str, now: float) -> bool:
        state = self.board.fleet(fleet).starts.state(now)
        is_probed = any(server.life is Life.STARTING for server in self.board.of_fleet(fleet))
        return state == "closed" or (state == "half-open" and not is_probed)

    def _mark_outdated(self, servers: list[ManagedServer]) -> None:
        rows = self.models()
        for server in servers:
            for place in lodgings_on(server):
                row = rows.get(place.model)
                if row is not None and row is not place.row:
                    old = place.row
                    place.outdated = (row.repository, row.canary, row.fleet) != (
                        old.repository,
                        old.canary,
                        old.fleet,
                    )
                    place.memory_bytes = row.memory_bytes

    def _take(self, life: Lifecycle, fleet: Fleet, step: Step, now: float) -> None:
        """Change what is here, so that the next plan sees it, and start the rest."""
        match step:
            case Start():
                if self.board.fleet(fleet.name).starts.allows(now):
                    server = ManagedServer(name=self.new_name(), fleet=fleet.name, started_at=now)
                    self.board.servers[server.name] = server
                    life.spawn(f"start {server.name}", life.start(server))
                    self.observer.happened("start", fleet.name)
            case Stop(name):
                server = self.board.servers[name]
                server.life = Life.STOPPING
                life.spawn(f"stop {name}", life.stop(server))  # no call is on it
            case Load(name, model):
                self._load(life, self.board.servers[name], model, now)
            case Drain(name, model):
                place = self._place(name, model)
                place.phase, place.is_drained = Phase.DRAINING, False
                is_idle = now - place.asked.called_at >= place.row.scaling.idle_seconds
                self.observer.happened("idle_unload" if is_idle else "eviction", model)
            case Keep(name, model):
                self._place(name, model).phase = Phase.READY
            case Unload(name, model):
                place = self._place(name, model)
                place.phase = Phase.UNLOADING
                self._order(f"unload {model} from {name}", lambda: life.unload(place))

    def _place(self, server: str, model: str) -> Lodging:
        return next(place for place in lodgings_on(self.board.servers[server]) if place.model == model)

    def _load(self, life: Lifecycle, server: ManagedServer, model: str, now: float) -> None:
        row, asked = self.models()[model], self.board.asked(model)
        replica = server.replica
        if replica is None or _must_wait(server, asked) or not asked.loads.allows(now):
            return
        place = Lodging(
            model=model,
            memory_bytes=row.memory_bytes,
            row=row,
            server=server,
            replica=replica,
            client=Client(replica.host, replica.port),
            asked=asked,
        )
        server.places[model] = place
        self._order(f"load {model} on {server.name}", lambda: life.load(place))
        self.observer.happened("load", model)

    def _watch_over(self, life: Lifecycle, server: ManagedServer, now: float) -> None:
        """Have looked at what is suspect at once, and at the rest while it is used."""
        if server.life not in (Life.READY, Life.RETIRING):
            return
        is_time = now - server.checked_at >= CANARY_SECONDS
        ready = [
            place for place in lodgings_on(server) if place.phase is Phase.READY and not place.is_checked
        ]
        due = [place for place in ready if _is_suspect(place, now) or (is_time and _is_used(place))]
        if due or is_time:
            server.checked_at = now if is_time else server.checked_at
            for place in due:
                place.is_checked = True
            life.spawn(f"inspect {server.name}", life.inspect(server, due))


def _must_wait(server: ManagedServer, asked: Asked) -> bool:
    """Whose load has failed lately is loaded alone: if the server ends with it, nobody else is blamed."""
    loading = [place.asked for place in lodgings_on(server) if place.phase is Phase.LOADING]
    return bool(loading) and any(each.loads.failures for each in (asked, *loading))


def _is_suspect(place: Lodging, now: float) -> bool:
    """Who fails many times a second is looked at a few times."""
    return place.is_suspect and (not place.takes or now - place.judged_at >= SUSPECT_SECONDS)


def _is_used(place: Lodging) -> bool:
    return place.in_flight > 0 or place.uses != place.used_at_check


def _want(row: Model, asked: Asked, now: float) -> Want:
    """A model whose loads fail is not loaded for a while; one that nobody called for its idle time is not wanted."""
    is_waited_for = asked.waiting_since is not None and asked.loads.state(now) != "open"
    in_use = is_waited_for or asked.in_flight or now - asked.called_at < row.scaling.idle_seconds
    waiting_since = asked.waiting_since if is_waited_for else None
    return Want(row.name, row.memory_bytes, asked.wanted if in_use else 0, waiting_since)
