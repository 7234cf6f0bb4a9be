"""Servers and models come and go with demand. Each tick looks at all there is, has `residency.plan` say what to do next, and starts that
as jobs (`lifecycle`); places on servers that somebody else runs are only kept (`elsewhere`). It ticks when something changed, and every
half second while a server runs; with none and no call it sleeps.
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import NoReturn

from gateway.loops import jobs
from gateway.scaling.decider import Decider
from gateway.scaling.elsewhere import Elsewhere
from gateway.scaling.health import CANARY_SECONDS
from gateway.scaling.lifecycle import Lifecycle
from gateway.scaling.registry import (
    NOBODY_MEASURES,
    Demand,
    ManagedServer,
    Measures,
    Observer,
    Registry,
    Resident,
    residents_on,
)
from gateway.scaling.residency import Drain, Keep, Life, Load, Phase, Start, Step, Stop, Unload, Want, plan
from gateway.scaling.scaler import Replica, Scaler
from gateway.scaling.throttler import Throttler
from gateway.triton.client import Client
from gateway.triton.grpc_client import GrpcClient
from gateway.triton.reach import LOOPBACK, Reach
from tenants.fleet import Fleet
from tenants.model import Model

TICK_SECONDS = 0.5
SUSPECT_SECONDS = 0.25
SETTLE_SECONDS = 2.0  # the calls that crowd where a model has just come are no measure of its load


@dataclass(slots=True)
class Autoscaler:
    """`clock` gives monotonic seconds, `models` and `fleets` what the documents say, `new_name` a name for each server."""

    scaler: Scaler
    registry: Registry
    throttler: Throttler
    observer: Observer
    clock: Callable[[], float]
    models: Callable[[], Mapping[str, Model]]
    fleets: Callable[[], Mapping[str, Fleet]]
    new_name: Callable[[], str]
    start_seconds: float = 30.0
    progress: Callable[[str], None] = lambda _: None
    reach: Reach = LOOPBACK
    trust: Callable[[], ssl.SSLContext] = ssl.create_default_context
    """Where servers that somebody else runs are called, and by whose word over TLS."""
    leaves: Callable[[], bool] = lambda: False
    """Asked at the end: whether the servers are left to another process."""
    measures: Measures = NOBODY_MEASURES
    _sampled_at: float = 0.0

    async def run(self) -> None:
        """Until cancelled; then every server is stopped, or left to who goes on."""
        try:
            async with jobs() as spawn:
                life = Lifecycle(
                    scaler=self.scaler,
                    registry=self.registry,
                    throttler=self.throttler,
                    observer=self.observer,
                    clock=self.clock,
                    models=self.models,
                    start_seconds=self.start_seconds,
                    progress=self.progress,
                    spawn=spawn,
                    measures=self.measures,
                )
                places = Elsewhere(
                    self.registry, self.throttler, self.clock, self.models, spawn, self.reach, self.trust
                )
                with closing(places) as elsewhere:
                    await self._loop(life, elsewhere)
        finally:
            leaves = self.leaves()
            end = self.scaler.leave if leaves else self._kill
            if not leaves:
                await asyncio.gather(*(self.measures.leaving(it) for it in self.registry.servers.values()))
            await asyncio.gather(*(self._end(it, end) for it in self.registry.servers.values()))

    async def _loop(self, life: Lifecycle, elsewhere: Elsewhere) -> NoReturn:
        while True:
            self.registry.wake.clear()
            elsewhere.tick(self.clock())  # first: what it takes over is not planned with any more
            self._tick(life, self.clock())
            await self._sleep(watches=elsewhere.is_watching)

    async def _kill(self, replica: Replica) -> None:
        await self.scaler.stop(replica, 0.0)

    async def _end(self, server: ManagedServer, end: Callable[[Replica], Awaitable[None]]) -> None:
        """Whoever had a call has its answer by now: no connection is kept."""
        for place in residents_on(server):
            place.abort()
        if server.control is not None:
            server.control.abort()
        if server.replica is not None:
            await end(server.replica)

    async def _sleep(self, *, watches: bool) -> None:
        """Until something changed, or a tick is over while there is something to watch."""
        seconds = TICK_SECONDS if self.registry.servers or self.throttler.held or watches else None
        try:
            async with asyncio.timeout(seconds):
                await self.registry.wake.wait()
        except TimeoutError:
            return

    def _tick(self, life: Lifecycle, now: float) -> None:
        self._sample(now)
        for server in self.registry.servers.values():
            self._watch_over(life, server, now)
        for name in self.fleets().keys() | {server.fleet for server in self.registry.servers.values()}:
            self._scale(life, name, now)

    # Demand

    def _sample(self, now: float) -> None:
        """Take in how much is asked of each model. Only on time, not with each change: changes crowd where calls wait."""
        for demand in self.registry.demands.values():
            if demand.last_use != demand.seen_use or demand.in_flight or demand.waiting:
                demand.seen_use, demand.called_at = demand.last_use, now
        if now - self._sampled_at < TICK_SECONDS:
            return
        self._sampled_at = now
        there = {place.model for place in self.registry.residents()}
        for name, demand in list(self.registry.demands.items()):
            row = self.models().get(name)
            if not (name in there or demand.waiting or demand.in_flight):
                demand.wanted, demand.decider = 1, Decider()
                if row is None:
                    del self.registry.demands[name]
            elif row is not None and now - demand.ready_at >= SETTLE_SECONDS:
                concurrency = demand.in_flight + len(demand.waiting)
                demand.wanted = demand.decider.decide(row.scaling, concurrency, len(demand.rotation), now)

    def _wants(self, fleet: str, now: float) -> list[Want]:
        """What is wanted of each model that was asked for."""
        rows = ((self.models().get(name), demand) for name, demand in self.registry.demands.items())
        return [_want(row, demand, now) for row, demand in rows if row is not None and row.fleet == fleet]

    # What is to be done

    def _scale(self, life: Lifecycle, name: str, now: float) -> None:
        document = self.fleets().get(name)
        fleet = document or Fleet(name)  # its document is gone: what runs is used up
        may_start = document is not None and self._may_start(name, now)
        servers, wants = self.registry.of_fleet(name), self._wants(name, now)
        self._mark_outdated(servers)
        for step in plan(fleet, servers, wants, now, may_start=may_start):
            self._take(life, fleet, step, now)

    def _may_start(self, fleet: str, now: float) -> bool:
        state = self.registry.fleet(fleet).starts.state(now)
        is_probed = any(server.life is Life.STARTING for server in self.registry.of_fleet(fleet))
        return state == "closed" or (state == "half-open" and not is_probed)

    def _mark_outdated(self, servers: list[ManagedServer]) -> None:
        rows = self.models()
        for server in servers:
            for place in residents_on(server):
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
                if self.registry.fleet(fleet.name).starts.allows(now):
                    server = ManagedServer(name=self.new_name(), fleet=fleet.name, started_at=now)
                    self.registry.servers[server.name] = server
                    life.spawn(f"start {server.name}", life.start(server))
                    self.observer.happened("start", fleet.name)
            case Stop(name):
                server = self.registry.servers[name]
                server.life = Life.STOPPING
                life.spawn(f"stop {name}", life.stop(server))  # no call is on it
            case Load(name, model):
                self._load(life, self.registry.servers[name], model, now)
            case Drain(name, model):
                place = self._place(name, model)
                place.phase = Phase.DRAINING
                self.throttler.withdraw(place)
                is_idle = now - place.demand.called_at >= place.row.scaling.idle_seconds
                self.observer.happened("idle_unload" if is_idle else "eviction", model)
                self.registry.wake.set()
            case Keep(name, model):
                place = self._place(name, model)
                place.phase = Phase.READY
                self.throttler.admit(place)
            case Unload(name, model):
                place = self._place(name, model)
                place.phase = Phase.UNLOADING
                life.spawn(f"unload {model} from {name}", life.unload(place))

    def _place(self, server: str, model: str) -> Resident:
        return next(place for place in residents_on(self.registry.servers[server]) if place.model == model)

    def _load(self, life: Lifecycle, server: ManagedServer, model: str, now: float) -> None:
        row, demand = self.models()[model], self.registry.demand(model)
        replica = server.replica
        if replica is None or _must_wait(server, demand) or not demand.loads.allows(now):
            return
        place = Resident(
            model=model,
            memory_bytes=row.memory_bytes,
            row=row,
            server=server,
            replica=replica,
            client=Client(replica.host, replica.port),
            grpc=GrpcClient(replica.host, replica.grpc_port, clock=self.clock),
            demand=demand,
        )
        server.places[model] = place
        life.spawn(f"load {model} on {server.name}", life.load(place))
        self.observer.happened("load", model)

    def _watch_over(self, life: Lifecycle, server: ManagedServer, now: float) -> None:
        """Have looked at what is suspect at once, and at the rest while it is used."""
        if server.life not in (Life.READY, Life.RETIRING):
            return
        is_time = now - server.checked_at >= CANARY_SECONDS
        ready = [
            place for place in residents_on(server) if place.phase is Phase.READY and not place.is_checked
        ]
        due = [place for place in ready if _is_suspect(place, now) or (is_time and _is_used(place))]
        if due or is_time:
            server.checked_at = now if is_time else server.checked_at
            for place in due:
                place.is_checked = True
            life.spawn(f"inspect {server.name}", life.inspect(server, due))


def _must_wait(server: ManagedServer, demand: Demand) -> bool:
    """Whose load has failed lately is loaded alone: if the server ends with it, nobody else is blamed."""
    loading = [place.demand for place in residents_on(server) if place.phase is Phase.LOADING]
    return bool(loading) and any(each.loads.failures for each in (demand, *loading))


def _is_suspect(place: Resident, now: float) -> bool:
    """Who fails many times a second is looked at a few times."""
    return place.is_suspect and (
        place not in place.demand.rotation or now - place.judged_at >= SUSPECT_SECONDS
    )


def _is_used(place: Resident) -> bool:
    return place.in_flight > 0 or place.last_use != place.used_at_check


def _want(row: Model, demand: Demand, now: float) -> Want:
    """A model whose loads fail is not loaded for a while; one that nobody called for its idle time is not wanted."""
    is_waited_for = (
        bool(demand.waiting) and not demand.rotation and demand.loads.state(now) != "open"
    )  # for a place, and not for a turn
    in_use = is_waited_for or demand.in_flight or now - demand.called_at < row.scaling.idle_seconds
    waiting_since = next(iter(demand.waiting.values())).since if is_waited_for else None
    return Want(row.name, row.memory_bytes, demand.wanted if in_use else 0, waiting_since)
