"""What happens to one server and to one model on it: start, load, check, unload, stop. Each of these runs as a job beside the autoscaler,
which decides that it should; when it is done it wakes the autoscaler to decide again.

Nothing here raises what a server or a model does wrong: it is logged, counted, held against the breaker that it belongs to, and cleared
away, so that the next plan starts from what is there.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from gateway.scaling.board import NOBODY_MEASURES, Board, Lodging, Measures, lodgings_on
from gateway.scaling.board import ManagedServer as Server
from gateway.scaling.health import CANARY_SECONDS, health, is_alive
from gateway.scaling.placements import Document
from gateway.scaling.registry import Observer
from gateway.scaling.residency import Life, Phase
from gateway.scaling.scaler import Replica, Scaler, StartFailed
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
    """`start_seconds` is how long an empty server may take until it answers. `spawn` runs a job now, `order` once what the board has of it
    is written; `refresh` has the members say what they know."""

    scaler: Scaler
    board: Board
    observer: Observer
    clock: Callable[[], float]
    models: Callable[[], Mapping[str, Model]]
    start_seconds: float
    progress: Callable[[str], None]
    spawn: Callable[[str, Coroutine[Any, Any, None]], None]
    order: Callable[[str, Callable[[], Coroutine[Any, Any, None]]], None]
    refresh: Callable[[], Awaitable[None]]
    measures: Measures = NOBODY_MEASURES

    # Servers

    async def start(self, server: Server) -> None:
        """The server is READY, or gone again."""
        try:
            server.replica = replica = await self.scaler.start(server.fleet)
        except StartFailed as fault:
            await self.crashed(server, str(fault))
            return
        self.progress(f"starting Triton {replica.id} of fleet {server.fleet}")
        await self._boot(server, replica)

    async def _boot(self, server: Server, replica: Replica) -> None:
        """Its process runs: until it answers."""
        server.control = client = Client(replica.host, replica.port)
        self.spawn(f"watch {replica.id}", self._watch(server, replica))
        while not await is_ready(client, replica.id, CANARY_SECONDS):
            if server.life is not Life.STARTING:
                return
            if self.clock() - server.started_at > self.start_seconds:
                await self.crashed(server, f"Triton did not answer within {self.start_seconds:.0f} s")
                return
            await asyncio.sleep(_POLL_SECONDS)
        if server.life is Life.STARTING:
            self._started(server)

    def adopt(self, server: Server, replica: Replica, written: Document | None) -> None:
        """It goes on as it is written of it: what it has on its way goes on, and what it has and nobody calls is unloaded."""
        address = written.replicas.get(replica.id) if written is not None else None
        if written is None or address is None:  # it was not known to answer
            self.spawn(f"start {server.name}", self._boot(server, replica))
            return
        server.control = Client(replica.host, replica.port)
        server.life = Life.RETIRING if address.retiring else Life.READY
        server.empty_since = self.clock()
        for model, it in written.places.get(replica.id, {}).items():
            place = self._placed(server, replica, model)
            place.phase, place.loaded, place.memory_bytes = Phase[it.phase], it.loaded, it.memory_bytes
            place.takes, place.looks, place.is_cut, place.is_broken = it.takes, it.looks, it.is_cut, it.is_cut
            place.is_drained = False
            match place.phase:
                case Phase.LOADING:
                    self.order(f"load {model} on {server.name}", partial(self.load, place))
                case Phase.UNLOADING:
                    self.order(f"unload {model} from {server.name}", partial(self.unload, place))
                case _:
                    self.spawn(f"meet {model} on {server.name}", self._meet(place))
        self.spawn(f"watch {replica.id}", self._watch(server, replica))
        self.spawn(f"strays on {replica.id}", self._strays(server, replica))

    def _placed(self, server: Server, replica: Replica, model: str) -> Lodging:
        """A place that somebody else ordered. Of a model that has no document any more nothing is wanted."""
        row = self.models().get(model) or Model("", model, "", "*", fleet=server.fleet)
        asked = self.board.asked(model)
        asked.called_at = self.clock()
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
        return place

    async def _meet(self, place: Lodging) -> None:
        """What is known of a place that takes calls: as after its load. One that does not answer is looked at, as ever."""
        try:
            place.versions = await control.versions(place.client, place.model)
            await self._try_out(place)
        except _FAULTS:
            place.is_suspect = True
        self.board.wake.set()

    async def _strays(self, server: Server, replica: Replica) -> None:
        """What Triton has and is not written is unloaded: nobody calls it."""
        if server.control is None:
            return
        try:
            found = await control.loaded(server.control, replica)
        except _FAULTS:
            return  # it is looked at, as ever
        for model in found:
            if model not in server.places:
                place = self._placed(server, replica, model)
                place.phase = Phase.UNLOADING
                self.order(f"unload {model} from {server.name}", partial(self.unload, place))

    def _started(self, server: Server) -> None:
        server.life, server.empty_since = Life.READY, self.clock()
        took = server.empty_since - server.started_at
        fleet = self.board.fleet(server.fleet)
        fleet.starts.succeeded()
        fleet.boot_seconds = took
        self.observer.phase("boot", took)
        self.progress(f"Triton of fleet {server.fleet} is ready after {took:.1f} s")
        self.board.wake.set()

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
        if not server.cut_a_load and not any(place.phase is Phase.LOADING for place in lodgings_on(server)):
            self.board.fleet(server.fleet).starts.failed(why, now)
        server.life = Life.STOPPING
        self._refuse_waiting(server.fleet, now)
        self.board.wake.set()  # who has calls there is told
        await self.stop(server)

    def _refuse_waiting(self, fleet: str, now: float) -> None:
        """When no other start is due soon, nobody is kept waiting for one."""
        if self.board.fleet(fleet).starts.state(now) != "open":
            return
        if not any(server.is_open for server in self.board.of_fleet(fleet)):
            self.board.fleet(fleet).refusals += 1

    async def stop(self, server: Server) -> None:
        """The server is gone, and forgotten. Calls that it still has fail at once."""
        server.life = Life.STOPPING
        for place in lodgings_on(server):
            place.client.abort()
        if server.replica is not None:
            await self.measures.leaving(server)
            await self.scaler.stop(server.replica, 0.0)
        if server.control is not None:
            server.control.abort()
        self.board.servers.pop(server.name, None)
        self.observer.happened("stop", server.fleet)
        self.board.wake.set()

    # Models on a server

    async def load(self, place: Lodging) -> None:
        """The place is READY and takes calls, or is gone again."""
        row, replica, asked, started = place.row, place.replica, place.asked, self.clock()
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
        asked.loads.succeeded()
        asked.load_seconds, asked.ready_at = now - started, now
        self.observer.phase("load", loaded - started)
        self.progress(f"{row.name} is ready after {now - started:.1f} s")
        await self.measures.loaded(place, now - started, now - loaded)
        if place.phase is Phase.LOADING:
            place.phase = Phase.READY
        self.board.wake.set()

    async def _try_out(self, place: Lodging) -> None:
        """The first inference. Of zeros it may fail, and there is no canary then, unless it worked before; the document's must work."""
        started = self.clock()
        async with asyncio.timeout(_CONTROL_SECONDS):
            config, deployment = await control.config(place.client, place.replica, place.model)
        place.config, place.deployment = config, deployment
        request = canary.request(place.row, config)
        if request is None:
            return
        must_work = place.row.canary is not None or place.asked.zeros_worked_in == place.row.repository
        seconds = place.row.scaling.start_deadline_seconds if must_work else CANARY_SECONDS
        found = await canary.answer(place.client, place.model, request, seconds)
        if found is Health.WELL:
            place.canary, place.asked.zeros_worked_in = request, place.row.repository
            self.observer.phase("first_inference", self.clock() - started)
        elif must_work or not await is_alive(place.server):
            place.server.cut_a_load |= found is Health.SILENT
            raise control.LoadFailed(f"its first inference did not work: {found.name.lower()}")

    def _failed(self, place: Lodging, why: str) -> None:
        """It is held against the model; who waits need not wait on while it backs off."""
        now, asked = self.clock(), place.asked
        log.warning("%s on replica %s, whose log may say more: %s", place.model, place.replica.id, why)
        asked.loads.failed(why, now)
        if asked.loads.state(now) == "open":
            asked.refusals += 1

    async def unload(self, place: Lodging) -> None:
        """The place is gone and its memory free. A server that cannot do that is retired.

        A model that broke under a call is UNLOADING for ever (measured on 2.51), and a load beside that repairs it: a dead process holds no
        memory, a stopped one does, so a server does this a few times only.
        """
        place.phase = Phase.UNLOADING
        place.client.close()
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
        self.board.wake.set()

    def _retire(self, server: Server, why: str) -> None:
        """It serves what it has until that has a place elsewhere."""
        if server.life is Life.READY:
            log.warning(
                "replica %s is to be replaced: %s", server.replica.id if server.replica else server.name, why
            )
            server.life = Life.RETIRING
        self.board.wake.set()

    async def inspect(self, server: Server, due: list[Lodging]) -> None:
        """Find out whether the server answers and these places of it work; what does not is replaced, or loaded again.

        A reply that a call got meanwhile outweighs a canary that got none or failed among others' data, not one that met a dead process.
        """
        calls, before = server.well, [(place.well, place.failures) for place in due]
        suspected = [place for place in due if place.is_suspect or not place.takes]
        for place in due:
            place.is_suspect, place.used_at_check = False, place.uses
        began = self.clock()
        alive, healths = await asyncio.gather(is_alive(server), asyncio.gather(*map(health, due)))
        if not alive or any(found is not Health.WELL for found in healths):
            await self.refresh()
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
                place.looks += place in suspected and place.takes
        self.board.wake.set()

    def _judge(self, place: Lodging, found: Health, *, met_dead: bool) -> None:
        if found is Health.WELL:
            place.silent_since, place.was_left, place.takes = None, False, True
        elif found is Health.SILENT and not met_dead and place.may_be_busy(self.clock()):
            # It hangs, or long calls keep it busy: no new ones until it answers.
            place.takes, place.is_suspect = False, True
        else:
            self._repair(place, found)

    def _repair(self, place: Lodging, found: Health) -> None:
        """The place gets no more calls and is unloaded; who waits has it loaded again. What it still holds would fail one by one, or never:
        who has calls there cuts them."""
        self.observer.happened("canary_failed", place.model)
        self._failed(place, f"does not work any more ({found.name.lower()})")
        place.takes, place.is_cut, place.is_broken, place.phase = False, True, True, Phase.UNLOADING
        self.order(f"unload {place.model} from {place.server.name}", lambda: self.unload(place))


async def _is_unloaded(client: Client, place: Lodging) -> bool:
    """Asks for it where that has not been done. A lost answer is no answer: ask again."""
    try:
        found = await control.state(client, place.replica, place.model)
        if found == "READY":
            await control.unload(client, place.replica, place.model)
    except (NotSent, UpstreamFailed):
        return False
    return found in ("UNAVAILABLE", "")
