"""What happens to one server and to one model on it: start, load, check, unload, stop. Each of these runs as a job beside the autoscaler,
which decides that it should; when it is done it wakes the autoscaler to decide again.

Nothing here raises what a server or a model does wrong: it is logged, counted, held against the breaker that it belongs to, and cleared
away, so that the next plan starts from what is there.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.scaling.health import CANARY_SECONDS, health, is_alive
from gateway.scaling.registry import (
    NOBODY_MEASURES,
    UNBOUNDED,
    Measures,
    Observer,
    Registry,
    Resident,
    residents_on,
)
from gateway.scaling.registry import ManagedServer as Server
from gateway.scaling.residency import Life, Phase
from gateway.scaling.scaler import Replica, Scaler, StartFailed
from gateway.scaling.throttler import Throttler
from gateway.triton import canary, control
from gateway.triton.canary import Health
from gateway.triton.client import Client, NotSent, UpstreamFailed
from gateway.triton.probe import is_ready
from tenants.model import Model

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.01
_CONTROL_SECONDS = 5.0  # an answer to a question about a model
_PATIENCE = 4  # start deadlines of a model that a load may take: it goes on for those who call later
_UNLOAD_SECONDS = 10.0  # from the last call's end until Triton says UNAVAILABLE; one that takes longer hangs
_REPAIR_SECONDS = 1.5  # the same of one that is broken: a healthy unload takes 1.0 to 1.3 s
_MOST_REPAIRS = 3
_FAULTS = (NotSent, UpstreamFailed, control.LoadFailed, StartFailed, TimeoutError)


@dataclass(slots=True)
class Lifecycle:
    """`start_seconds` is how long an empty server may take until it answers."""

    scaler: Scaler
    registry: Registry
    throttler: Throttler
    observer: Observer
    clock: Callable[[], float]
    models: Callable[[], Mapping[str, Model]]
    start_seconds: float
    progress: Callable[[str], None]
    spawn: Callable[[str, Coroutine[Any, Any, None]], None]
    measures: Measures = NOBODY_MEASURES

    # Servers

    async def start(self, server: Server) -> None:
        """The server is READY, or gone again."""
        try:
            server.replica = replica = await self.scaler.start(server.fleet)
        except StartFailed as fault:
            await self.crashed(server, str(fault))
            return
        server.control = client = Client(replica.host, replica.port)
        self.spawn(f"watch {replica.id}", self._watch(server, replica))
        self.progress(f"starting Triton {replica.id} of fleet {server.fleet}")
        while not await is_ready(client, replica.id, CANARY_SECONDS):
            if server.life is not Life.STARTING:
                return
            if self.clock() - server.started_at > self.start_seconds:
                await self.crashed(server, f"Triton did not answer within {self.start_seconds:.0f} s")
                return
            await asyncio.sleep(_POLL_SECONDS)
        if server.life is Life.STARTING:
            self._started(server)

    def _started(self, server: Server) -> None:
        server.life, server.empty_since = Life.READY, self.clock()
        took = server.empty_since - server.started_at
        fleet = self.registry.fleet(server.fleet)
        fleet.starts.succeeded()
        fleet.boot_seconds = took
        self.observer.phase("boot", took)
        self.progress(f"Triton of fleet {server.fleet} is ready after {took:.1f} s")
        self.registry.wake.set()

    async def _watch(self, server: Server, replica: Replica) -> None:
        why = await self.scaler.gone(replica)
        await self.crashed(server, why)

    async def crashed(self, server: Server, why: str) -> None:
        """The server ended, or has to, and is cleared away. A model that was being loaded has to answer for it, else its fleet."""
        if server.life is Life.STOPPING:
            return
        log.warning("a server of fleet %s is lost: %s", server.fleet, why)
        self.observer.happened("start_failed" if server.life is Life.STARTING else "crash", server.fleet)
        now = self.clock()
        if not server.cut_a_load and not any(place.phase is Phase.LOADING for place in residents_on(server)):
            self.registry.fleet(server.fleet).starts.failed(why, now)
        server.life = Life.STOPPING
        self._refuse_waiting(server.fleet, why, now)
        await self.stop(server)

    def _refuse_waiting(self, fleet: str, why: str, now: float) -> None:
        """When no other start is due soon, nobody is kept waiting for one."""
        if self.registry.fleet(fleet).starts.state(now) != "open":
            return
        if any(server.is_open for server in self.registry.of_fleet(fleet)):
            return
        for row in self.models().values():
            if row.fleet == fleet and row.name in self.registry.demands:
                self.throttler.refuse(row, why, now)

    async def stop(self, server: Server) -> None:
        """The server is gone, and forgotten. Calls that it still has fail at once."""
        server.life = Life.STOPPING
        for place in residents_on(server):
            self.throttler.withdraw(place)
            place.abort()
        if server.replica is not None:
            await self.measures.leaving(server)
            await self.scaler.stop(server.replica, 0.0)
        if server.control is not None:
            server.control.abort()
        self.registry.servers.pop(server.name, None)
        self.observer.happened("stop", server.fleet)
        self.registry.wake.set()

    # Models on a server

    async def load(self, place: Resident) -> None:
        """The place is READY and takes calls, or is gone again."""
        row, replica, demand, started = place.row, place.replica, place.demand, self.clock()
        try:
            await self.scaler.provide(replica, row)
            await control.load(
                place.client, replica, row.name, _PATIENCE * row.scaling.start_deadline_seconds
            )
            loaded = self.clock()
            place.versions = await control.versions(place.client, row.name)
            await self._try_out(place)
        except _FAULTS as fault:
            self.observer.happened("load_failed", row.name)
            place.server.cut_a_load |= isinstance(fault, NotSent | UpstreamFailed)
            self._failed(place, f"could not be loaded: {str(fault) or repr(fault)}")
            place.is_broken = bool(place.versions)  # it failed at its first inference
            await self.unload(place)
            return
        now = self.clock()
        demand.loads.succeeded()
        demand.load_seconds, demand.ready_at = now - started, now
        self.observer.phase("load", loaded - started)
        self.progress(f"{row.name} is ready after {now - started:.1f} s")
        await self.measures.loaded(place, now - started, now - loaded)
        if place.phase is Phase.LOADING:
            place.phase = Phase.READY
            self.throttler.admit(place)
        self.registry.wake.set()

    async def _try_out(self, place: Resident) -> None:
        """The first inference. Of zeros it may fail, and there is no canary then, unless it worked before; the document's must work."""
        started = self.clock()
        async with asyncio.timeout(_CONTROL_SECONDS):
            config, deployment = await control.config(place.client, place.replica, place.model)
        place.config, place.deployment = config, deployment
        place.at_once = deployment.instances * deployment.batch or UNBOUNDED
        place.grpc.is_decoupled = config.is_decoupled
        request = canary.request(place.row, config)
        if request is None:
            return
        must_work = place.row.canary is not None or place.demand.zeros_worked_in == place.row.repository
        seconds = place.row.scaling.start_deadline_seconds if must_work else CANARY_SECONDS
        found = await canary.answer(place.client, place.model, request, seconds)
        if found is Health.WELL:
            place.canary, place.demand.zeros_worked_in = request, place.row.repository
            self.observer.phase("first_inference", self.clock() - started)
        elif must_work or not await is_alive(place.server):
            place.server.cut_a_load |= found is Health.SILENT
            raise control.LoadFailed(f"its first inference did not work: {found.name.lower()}")

    def _failed(self, place: Resident, why: str) -> None:
        """It is held against the model; who waits need not wait on while it backs off."""
        now, loads = self.clock(), place.demand.loads
        log.warning("%s on replica %s, whose log may say more: %s", place.model, place.replica.id, why)
        loads.failed(why, now)
        if loads.state(now) == "open":
            self.throttler.refuse(place.row, why, now)

    async def unload(self, place: Resident) -> None:
        """The place is gone and its memory free. A server that cannot do that is retired.

        A model that broke under a call is UNLOADING for ever (measured on 2.51), and a load beside that repairs it: a dead process holds no
        memory, a stopped one does, so a server does this a few times only.
        """
        place.phase = Phase.UNLOADING
        place.close()
        server, client = place.server, place.server.control
        if client is None:
            return
        await self.measures.leaving(server, place.model)
        await self.scaler.tidy(place.replica)
        try:
            async with asyncio.timeout(_REPAIR_SECONDS if place.is_broken else _UNLOAD_SECONDS):
                while server.life is not Life.STOPPING and not await _is_unloaded(client, place):  # noqa: ASYNC110 - Triton does not tell
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            server.repairs += 1
            if not place.is_broken or server.repairs > _MOST_REPAIRS:
                self._retire(server, f"it cannot unload {place.model}")
                return
        server.places.pop(place.model, None)
        server.empty_since = self.clock()
        self.registry.wake.set()

    def _retire(self, server: Server, why: str) -> None:
        """It serves what it has until that has a place elsewhere."""
        if server.life is Life.READY:
            log.warning(
                "replica %s is to be replaced: %s", server.replica.id if server.replica else server.name, why
            )
            server.life = Life.RETIRING
        self.registry.wake.set()

    async def inspect(self, server: Server, due: list[Resident]) -> None:
        """Find out whether the server answers and these places of it work; what does not is replaced, or loaded again.

        A reply that a call got meanwhile outweighs a canary that got none or failed among others' data, not one that met a dead process.
        """
        calls, before = server.well, [(place.well, place.failures) for place in due]
        for place in due:
            place.is_suspect, place.used_at_check = False, place.last_use
        began = self.clock()
        alive, healths = await asyncio.gather(is_alive(server), asyncio.gather(*map(health, due)))
        for place in due:
            place.is_checked = False
            if place.canary is not None:
                self.measures.tried(place, self.clock() - began)
        if server.life is Life.STOPPING:
            return
        if not alive and server.well == calls:
            await self.crashed(server, "it does not answer")
            return
        for place, (well, failures), found in zip(due, before, healths, strict=True):
            place.judged_at = self.clock()
            if place.phase is Phase.READY:
                serves = place.well > well and found is not Health.DEAD
                self._judge(place, Health.WELL if serves else found, met_dead=place.failures > failures)

    def _judge(self, place: Resident, found: Health, *, met_dead: bool) -> None:
        if found is Health.WELL:
            place.silent_since, place.was_left = None, False
            self.throttler.admit(place)
        elif found is Health.SILENT and not met_dead and place.may_be_busy(self.clock()):
            # It hangs, or long calls keep it busy: no new ones until it answers.
            self.throttler.withdraw(place)
            place.is_suspect = True
        else:
            self._repair(place, found)

    def _repair(self, place: Resident, found: Health) -> None:
        """The place gets no more calls and is unloaded; who waits has it loaded again."""
        self.observer.happened("canary_failed", place.model)
        self.throttler.withdraw(place)
        self._failed(place, f"does not work any more ({found.name.lower()})")
        place.abort()  # what it still holds would fail one by one, or never
        place.phase, place.is_broken = Phase.UNLOADING, True
        self.spawn(f"unload {place.model} from {place.server.name}", self.unload(place))


async def _is_unloaded(client: Client, place: Resident) -> bool:
    """Asks for it where that has not been done. A lost answer is no answer: ask again."""
    try:
        found = await control.state(client, place.replica, place.model)
        if found == "READY":
            await control.unload(client, place.replica, place.model)
    except (NotSent, UpstreamFailed):
        return False
    return found in ("UNAVAILABLE", "")
