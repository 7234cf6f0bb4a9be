"""Gives each call a place on a ready replica, and holds it while there is none.

Bounded: at most `most_waiting` calls are held, half of them for one model, each no longer than its own deadline and its model's
`start_deadline_seconds`; the others are refused with a Retry-After that says what starts have taken lately. A place is given and counted in
one step without an await, so none can be unloaded between.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gateway.errors import Code, GatewayError
from gateway.scaling.balancer import least_loaded
from gateway.scaling.registry import Demand, Observer, Registry, Resident, Waiter
from gateway.scaling.residency import Life, Phase
from gateway.triton.repository import versions
from tenants.model import Model

log = logging.getLogger(__name__)

# What a call has shown of its place: that it works; that it failed, which a client's own data can bring about; that its process is dead,
# or the connection; nothing, as the client left and the model may work on for it; or nothing at all (the request was wrong).
Evidence = Literal["well", "failed", "dead", "left", "none"]

_NUDGE_SECONDS = 0.02


@dataclass(slots=True)
class Throttler:
    """`clock` gives monotonic seconds, `models` the models that tenants have."""

    registry: Registry
    clock: Callable[[], float]
    models: Callable[[], Mapping[str, Model]]
    observer: Observer
    most_waiting: int = 1_000
    held: int = 0
    _uses: int = 0
    _is_nudged: bool = False

    async def acquire(self, model: str) -> Resident:
        """A place for a call of this model, to be released. The caller's deadline cancels the wait.

        Raises MODEL_NOT_FOUND, MODEL_UNAVAILABLE, UPSTREAM_UNTRUSTED, OVERLOADED.
        """
        demand = self.registry.demands.get(model)
        if demand is None or not demand.rotation:
            return await self._wait(model)
        rotation = demand.rotation
        return self._take(demand, rotation[0] if len(rotation) == 1 else least_loaded(rotation))

    def has(self, place: Resident) -> bool:
        """Whether the place still serves calls that belong to it and no other, if only while it drains."""
        server = place.server
        is_there = place.phase in (Phase.READY, Phase.DRAINING) and server.life is not Life.STOPPING
        return is_there and server.places.get(place.model) is place

    def rejoin(self, place: Resident) -> bool:
        """One more call for this place and no other, to be released. Whether it is still there."""
        if not self.has(place):
            return False
        self._take(place.demand, place)
        return True

    def _take(self, demand: Demand, place: Resident) -> Resident:
        self._uses += 1
        if place.is_elsewhere and place.last_use == place.used_at_check:
            self.registry.wake.set()  # nothing else would have it looked at while it is used
        place.last_use = demand.last_use = self._uses
        place.in_flight += 1
        demand.in_flight += 1
        return place

    def release(self, place: Resident, evidence: Evidence) -> None:
        """The call is over. A failure has the place looked at; only what no client can bring about counts against it."""
        place.in_flight -= 1
        place.demand.in_flight -= 1
        if evidence == "well":
            place.well += 1
            place.server.well += 1
            place.failures, place.was_left = 0, False
        elif evidence == "left":
            place.was_left = True
        elif evidence != "none":
            place.failures += evidence == "dead"
            self.suspect(place)
        if not place.in_flight:
            if place.phase is not Phase.READY:
                self.registry.wake.set()
            elif self.held:  # somebody may wait for just this room
                self._nudge()

    def _nudge(self) -> None:
        """Wake the autoscaler soon: not for each of many calls a second."""
        if not self._is_nudged:
            self._is_nudged = True
            asyncio.get_running_loop().call_later(_NUDGE_SECONDS, self._nudged)

    def _nudged(self) -> None:
        self._is_nudged = False
        self.registry.wake.set()

    def suspect(self, place: Resident) -> None:
        """Have the place looked at soon."""
        place.is_suspect = True
        self._nudge()

    def lost(self, place: Resident, why: object) -> None:
        """The place cannot have seen the call: it gets no more of them until it has been looked at."""
        if place in place.demand.rotation:
            log.warning("replica %s takes no calls of %s: %s", place.replica.id, place.model, why)
            self.observer.happened("breaker_opened", place.model)
            self.withdraw(place)
        self.suspect(place)

    def offers(self, model: str, version: str) -> bool:
        """Whether a call could be served: by a replica that has the model, or by one that can be started. Starts nothing.

        Raises MODEL_UNAVAILABLE, UPSTREAM_UNTRUSTED, OVERLOADED for one that would be refused now.
        """
        demand = self.registry.demands.get(model)
        row = self.models().get(model)
        if row is not None and row.is_elsewhere:  # of which there are no versions
            if demand is None or not demand.rotation:
                self._refuse_hopeless(row, self.clock())
            return not version
        if demand is not None and demand.rotation:
            found = demand.rotation[0].versions
        elif row is not None:
            self._refuse_hopeless(row, self.clock())
            found = versions(Path(row.repository), model)
        else:
            return False
        return version in found if version else bool(found)

    async def _wait(self, model: str) -> Resident:
        row = self.models().get(model)
        if row is None:
            raise GatewayError(Code.MODEL_NOT_FOUND)
        started = self.clock()
        self._refuse_hopeless(row, started)
        demand = self.registry.demand(model)
        waiter = Waiter(asyncio.get_running_loop().create_future(), started)
        demand.waiting.append(waiter)
        self.held += 1
        self.registry.wake.set()
        try:
            async with asyncio.timeout(row.scaling.start_deadline_seconds):
                place = await waiter.place
        except BaseException as fault:
            if waiter.place.done() and not waiter.place.cancelled() and waiter.place.exception() is None:
                self.release(
                    waiter.place.result(), "none"
                )  # it came in the moment in which the caller gave up
            if isinstance(fault, TimeoutError):
                raise self._unavailable(row, "no place was ready in time") from fault
            raise
        finally:
            self.held -= 1
            if waiter in demand.waiting:
                demand.waiting.remove(waiter)
        self.observer.phase("queue", self.clock() - started)
        return place

    def _refuse_hopeless(self, row: Model, now: float) -> None:
        """Fails at once what would fail after a wait: crash loops are not waited for."""
        is_crowd = len(self.registry.demand(row.name).waiting) >= max(1, self.most_waiting // 2)
        if is_crowd or self.held >= self.most_waiting:
            raise GatewayError(Code.OVERLOADED, retry_after_seconds=math.ceil(self.registry.eta_seconds(row)))
        loads = self.registry.demand(row.name).loads
        if loads.state(now) == "open":
            raise self._unavailable(row, loads.why, loads.wait_seconds(now))
        starts = self.registry.fleet(row.fleet).starts
        is_up = any(server.is_open for server in self.registry.of_fleet(row.fleet))
        if starts.state(now) == "open" and not is_up:
            raise self._unavailable(row, starts.why, starts.wait_seconds(now))

    def _unavailable(self, row: Model, why: str, wait_seconds: float = 0.0) -> GatewayError:
        seconds = math.ceil(wait_seconds + self.registry.eta_seconds(row))
        first = why.partition("\n")[0]  # the rest was logged when it happened
        is_untrusted = self.registry.demand(row.name).is_untrusted
        code = Code.UPSTREAM_UNTRUSTED if is_untrusted else Code.MODEL_UNAVAILABLE
        return GatewayError(code, private=f"{row.name}: {first}", retry_after_seconds=seconds)

    # What the autoscaler does

    def admit(self, place: Resident) -> None:
        """The place takes calls, those that wait first."""
        demand = place.demand
        if place not in demand.rotation:
            demand.rotation.append(place)
        while demand.waiting:
            waiter = demand.waiting.popleft()
            if not waiter.place.done():
                waiter.place.set_result(self._take(demand, place))

    def withdraw(self, place: Resident) -> None:
        """The place gets no more calls."""
        if place in place.demand.rotation:
            place.demand.rotation.remove(place)

    def refuse(self, row: Model, why: str, now: float) -> None:
        """Who waits for this model need not wait on."""
        demand = self.registry.demand(row.name)
        starts = self.registry.fleet(row.fleet).starts
        wait_seconds = max(demand.loads.wait_seconds(now), starts.wait_seconds(now))
        while demand.waiting:
            waiter = demand.waiting.popleft()
            if not waiter.place.done():
                waiter.place.set_exception(self._unavailable(row, why, wait_seconds))
