"""Gives each call a place on a ready replica, in fair order (`admission/fair_order`), and holds it until there is one and it is its turn.

Bounded: at most `most_waiting` calls are held, half of them for one model, and of a tenant as many as there is room for more; each no
longer than its own deadline, and while there is no place no longer than its model's `start_deadline_seconds`. The others are refused with
a Retry-After that says when it would be their turn, or what starts have taken lately. A place is given and counted in one step without an
await, so none can be unloaded between; and only by what this process may still rely on (`draining.Member`): whoever was stopped for long,
or is cut off from the table, gives none.
"""
# long because a call's way through it is one story: it waits for a place, for its turn, is counted there, ends

import asyncio
import logging
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from gateway.admission.fair_queueing import Ticket
from gateway.admission.handing import Calls
from gateway.admission.slots import Grant
from gateway.errors import Code, GatewayError
from gateway.scaling.balancer import least_loaded
from gateway.scaling.draining import Member, Patience
from gateway.scaling.registry import UNBOUNDED, Demand, Observer, QueueEvent, Registry, Resident, Waiter
from gateway.scaling.residency import Phase
from gateway.triton.repository import versions
from tenants.model import Model

log = logging.getLogger(__name__)

# What a call has shown of its place: that it works; that it failed, which a client's own data can bring about; that its process is dead,
# or the connection; nothing, as the client left and the model may work on for it; or nothing at all (the request was wrong).
Evidence = Literal["well", "failed", "dead", "left", "none"]

_NUDGE_SECONDS = 0.02
_TIMERS_SECONDS = 0.001  # a timer may be early by less


@dataclass(slots=True)
class Throttler:
    """`clock` gives seconds of a clock that goes on while the machine sleeps, `models` the models that tenants have, `member` says where
    this process may send."""

    registry: Registry
    clock: Callable[[], float]
    models: Callable[[], Mapping[str, Model]]
    observer: Observer
    most_waiting: int = 1_000
    members: int = 1  # among which slots are divided
    held: int = 0
    member: Member = field(default_factory=lambda: Member(Patience(60.0, 0.25)))
    _held_of: Counter[str] = field(default_factory=Counter)
    _is_nudged: bool = False

    async def acquire(self, model: str, ticket: Ticket | None = None, tenant: str = "") -> Resident:
        """A place for a call of this model, to be released with its ticket, which is a new one. The caller's deadline cancels the wait.

        Without a ticket the tenant's call asks nothing of the model, or not yet (`turn`): it waits for a place but for no turn.
        Raises MODEL_NOT_FOUND, MODEL_UNAVAILABLE, UPSTREAM_UNTRUSTED, OVERLOADED.
        """
        demand = self.registry.demands.get(model)
        if demand is None or not self._may_send(demand):
            return await self._wait_for_place(model, ticket, tenant)
        if ticket is not None:
            refused = demand.order.offer(ticket, self.clock())
            if refused is not None:
                raise self._overloaded(model, refused.why, refused.retry_after_seconds)
            if ticket.state == "waiting":
                return await self._wait(demand, ticket, model)
        return self._take(demand, ticket)

    async def turn(self, place: Resident, ticket: Ticket) -> None:
        """It is the call's turn at a place that it has already; to be released with this ticket. Raises OVERLOADED."""
        demand = place.demand
        if place not in demand.rotation:
            return  # it takes no others
        refused = demand.order.offer(ticket, self.clock())
        if refused is not None:
            raise self._overloaded(place.model, refused.why, refused.retry_after_seconds)
        if ticket.state == "waiting":
            await self._wait(demand, ticket, place.model, at=place)
        else:
            _seat(place, ticket)

    def has(self, place: Resident) -> bool:
        """Whether the place still serves calls that belong to it and no other, if only while it drains."""
        is_there = place.phase in (Phase.READY, Phase.DRAINING)
        is_known = is_there and place.server.places.get(place.model) is place
        return is_known and (place.spot is None or self.member.has(place.spot, place.loaded))

    def rejoin(self, place: Resident) -> bool:
        """One more call for this place and no other, which holds it already; to be released. Whether it is still there, for all that this
        process may rely on."""
        may = place.spot is None or self.member.may_go_on(place.spot, place.loaded, self.clock())
        if not (may and self.has(place)):
            return False
        self._take(place.demand, None, place)
        return True

    def hold(self, place: Resident) -> None:
        """Once more what was just acquired, to be released."""
        self._take(place.demand, None, place)

    def _may_send(self, demand: Demand) -> bool:
        """Whether a call may go where the rotation says; who is late for that has no place until the placements were read again. Right
        before the call is counted and sent."""
        rotation = demand.rotation
        if not rotation:
            return False
        spot = rotation[0].spot  # the others are READY as well: the rotation follows what was read, at once
        if spot is None or self.member.may_send(spot, self.clock()):
            return True
        for place in list(rotation):
            self.withdraw(place)
        return False

    def _take(self, demand: Demand, ticket: Ticket | None, place: Resident | None = None) -> Resident:
        if place is None:
            rotation = demand.rotation
            place = rotation[0] if len(rotation) == 1 else least_loaded(rotation)
        if ticket is not None:
            _seat(place, ticket)
        if place.spot is not None:
            self.member.take(place.spot)
        elif place.uses == place.used_at_check:
            self.registry.wake.set()  # nothing else would have it looked at while it is used
        place.last_use = demand.last_use = self.clock()
        place.uses += 1
        place.in_flight += 1
        demand.in_flight += 1
        return place

    def ended(self, place: Resident, ticket: Ticket | None) -> None:
        """The model is done with the call: its slot is the next one's. Its reply may still be on its way to the client."""
        if ticket is not None and ticket.state == "running":
            now, order = self.clock(), place.demand.order
            order.end(ticket, now - ticket.started_at, now)
            self._returned(place)

    def release(self, place: Resident, evidence: Evidence, ticket: Ticket | None = None) -> None:
        """The call is over. A failure has the place looked at; only what no client can bring about counts against it. Of one that has not
        ended nobody knows the cost, unless it shows nothing: it did not run.
        """
        place.in_flight -= 1
        place.demand.in_flight -= 1
        if place.spot is not None:
            self.member.leave(place.spot)
        if ticket is not None and ticket.state == "running":
            if evidence == "none":
                place.demand.order.decline(ticket)
            else:
                place.demand.order.withdraw(ticket)
            self._returned(place)
        if evidence == "well":
            place.well += 1
            place.failures = 0
        elif evidence == "left":
            place.left += 1
        elif evidence != "none":
            place.failures += evidence == "dead"
            self.suspect(place)
        if not place.in_flight:
            if place.phase is not Phase.READY:
                self.registry.hurry()
            elif self.held:  # somebody may wait for just this room
                self._nudge()

    def _returned(self, place: Resident) -> None:
        demand = place.demand
        place.slots_taken -= 1
        if demand.waiting:
            self._call_up(demand)
        elif place not in demand.rotation:
            self._count_slots(demand)

    def _call_up(self, demand: Demand) -> None:
        """Those whose turn it is, as many as there are slots for."""
        if demand.rotation and not self._may_send(demand):
            return
        self._count_slots(demand)
        order, now = demand.order, self.clock()
        while (ticket := order.next(now)) is not None:
            waiter = demand.waiting.pop(ticket)
            if waiter.place.done():  # it left a moment ago
                order.decline(ticket)
            elif waiter.is_past:
                order.decline(ticket)
                waiter.place.set_result(self._take(demand, None))
            elif waiter.at is not None:
                _seat(waiter.at, ticket)
                waiter.place.set_result(waiter.at)
            else:
                waiter.place.set_result(self._take(demand, ticket))

    def _count_slots(self, demand: Demand) -> None:
        """Of the places that take calls; and what is in use at others, so that theirs are not short of it."""
        taken = sum(place.slots_taken for place in demand.rotation)
        demand.order.slots = demand.order.running - taken + self._part(demand)

    def _part(self, demand: Demand) -> int:
        """This member's part of all slots."""
        total = sum(place.slots for place in demand.rotation)
        if self.members <= 1 or total >= UNBOUNDED:
            return total
        return -(-total // self.members) if demand.grant is None else min(total, demand.grant.slots)

    def _nudge(self) -> None:
        """Have who has charge told soon: not of each of many calls a second."""
        if not self._is_nudged:
            self._is_nudged = True
            asyncio.get_running_loop().call_later(_NUDGE_SECONDS, self._nudged)

    def _nudged(self) -> None:
        self._is_nudged = False
        self.registry.hurry()

    def suspect(self, place: Resident) -> None:
        """Have the place looked at soon."""
        place.is_suspect = True
        place.suspicions += 1
        self._nudge()

    def lost(self, place: Resident, why: object) -> None:
        """The place cannot have seen the call: it gets no more of them until it has been looked at."""
        if place in place.demand.rotation:
            log.warning("replica %s takes no calls of %s: %s", place.replica.id, place.model, why)
            self.observer.happened("breaker_opened", place.model)
            self.withdraw(place)
            place.is_lost = True
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

    async def _wait_for_place(self, model: str, ticket: Ticket | None, tenant: str) -> Resident:
        row = self.models().get(model)
        if row is None:
            raise GatewayError(Code.MODEL_NOT_FOUND)
        started = self.clock()
        self._refuse_hopeless(row, started)
        demand = self.registry.demand(model)
        demand.order.most_waiting = max(1, self.most_waiting // 2)
        is_past = ticket is None
        ticket = ticket or Ticket(tenant, 1.0)
        refused = demand.order.offer(ticket, started)
        if refused is not None:
            raise self._overloaded(model, refused.why, self.registry.eta_seconds(row))
        self.registry.hurry()
        try:
            place = await self._wait(demand, ticket, model, self.registry.eta_seconds(row), is_past=is_past)
        finally:
            if not demand.waiting:
                self.registry.hurry()  # room is not kept, nor made, for who does not wait any more
        self.observer.phase("queue", self.clock() - started)
        return place

    async def _wait(
        self,
        demand: Demand,
        ticket: Ticket,
        model: str,
        eta_seconds: float = 1.0,
        *,
        at: Resident | None = None,
        is_past: bool = False,
    ) -> Resident:
        """The place that it gets when it is its turn."""
        tenant = ticket.tenant
        if self._held_of[tenant] >= self.most_waiting - self.held:
            demand.order.withdraw(ticket)
            raise self._overloaded(model, "full", eta_seconds)
        waiter = Waiter(asyncio.get_running_loop().create_future(), self.clock(), at, is_past)
        demand.waiting[ticket] = waiter
        self.held += 1
        self._held_of[tenant] += 1
        if not demand.rotation:
            self._hold_to_deadline(demand, model)
        try:
            return await waiter.place
        except BaseException:
            is_given = waiter.place.done() and not waiter.place.cancelled() and not waiter.place.exception()
            if is_given and at is None:  # it came in the moment in which the caller gave up
                self.release(waiter.place.result(), "none", ticket)
            raise
        finally:
            self.held -= 1
            self._held_of[tenant] -= 1
            if not self._held_of[tenant]:
                del self._held_of[tenant]
            if ticket.state == "waiting":
                demand.order.withdraw(ticket)
            demand.waiting.pop(ticket, None)

    def _hold_to_deadline(self, demand: Demand, model: str) -> None:
        """Who waits for a place is refused when a start may take no longer. One timer for all of them."""
        row = self.models().get(model)
        if demand.is_timed or row is None:
            return
        demand.is_timed = True
        oldest = next(iter(demand.waiting.values()))
        seconds = max(oldest.since, demand.closed_at) + row.scaling.start_deadline_seconds - self.clock()
        asyncio.get_running_loop().call_later(max(0.0, seconds), self._overdue, demand, row)

    def _overdue(self, demand: Demand, row: Model) -> None:
        demand.is_timed = False
        bound = self.clock() - row.scaling.start_deadline_seconds + _TIMERS_SECONDS
        while demand.waiting and not demand.rotation:
            ticket, waiter = next(iter(demand.waiting.items()))
            if max(waiter.since, demand.closed_at) > bound:
                self._hold_to_deadline(demand, row.name)
                return
            self._turn_away(demand, ticket, self._unavailable(row, "no place was ready in time"))

    def _turn_away(self, demand: Demand, ticket: Ticket, error: GatewayError) -> None:
        waiter = demand.waiting.pop(ticket)
        demand.order.withdraw(ticket)
        if not waiter.place.done():
            waiter.place.set_exception(error)

    def _refuse_hopeless(self, row: Model, now: float) -> None:
        """Fails at once what would fail after a wait: crash loops are not waited for."""
        if self.held >= self.most_waiting:
            raise self._overloaded(row.name, "full", self.registry.eta_seconds(row))
        loads = self.registry.demand(row.name).loads
        if loads.state(now) == "open":
            raise self._unavailable(row, loads.why, loads.wait_seconds(now))
        starts = self.registry.fleet(row.fleet).starts
        is_up = any(server.is_open for server in self.registry.of_fleet(row.fleet))
        if starts.state(now) == "open" and not is_up:
            raise self._unavailable(row, starts.why, starts.wait_seconds(now))

    def _overloaded(self, model: str, why: QueueEvent, retry_after_seconds: float) -> GatewayError:
        self.observer.happened(why, model)
        private = f"{model}: " + ("too many wait" if why == "full" else "it would end after its deadline")
        seconds = max(1, math.ceil(retry_after_seconds))
        return GatewayError(Code.OVERLOADED, private=private, retry_after_seconds=seconds)

    def _unavailable(self, row: Model, why: str, wait_seconds: float = 0.0) -> GatewayError:
        seconds = math.ceil(wait_seconds + self.registry.eta_seconds(row))
        first = why.partition("\n")[0]  # the rest was logged when it happened
        is_untrusted = self.registry.demand(row.name).is_untrusted
        code = Code.UPSTREAM_UNTRUSTED if is_untrusted else Code.MODEL_UNAVAILABLE
        return GatewayError(code, private=f"{row.name}: {first}", retry_after_seconds=seconds)

    # What members and their leader do (`admission/handing`)

    def calls(self) -> Mapping[str, Calls]:
        """The models that have calls here, and a number of slots."""
        found: dict[str, Calls] = {}
        for model, demand in self.registry.demands.items():
            total = sum(place.slots for place in demand.rotation)
            if 0 < total < UNBOUNDED and (demand.order.running or demand.order.waiting):
                taken = sum(place.slots_taken for place in demand.rotation)
                found[model] = Calls(demand.order, total, self._part(demand), taken)
        return found

    def divided(self, members: int, grants: Mapping[str, Grant]) -> None:
        """So many members are here; these are granted, of all others each has an even part."""
        is_other, self.members = members != self.members, members
        for model, demand in self.registry.demands.items():
            grant = grants.get(model)
            if grant != demand.grant:
                demand.grant = grant
                demand.order.grant(grant or Grant())
            elif not is_other:
                continue
            self._call_up(demand)

    # What the follower does

    def admit(self, place: Resident) -> None:
        """The place takes calls, those that wait first."""
        place.is_lost = False
        demand = place.demand
        if place not in demand.rotation:
            demand.rotation.append(place)
        demand.order.most_waiting = max(1, self.most_waiting // 2)
        demand.order.is_open = True
        self._call_up(demand)

    def withdraw(self, place: Resident) -> None:
        """The place gets no more calls. Who waits waits for another one."""
        demand = place.demand
        if place not in demand.rotation:
            return
        demand.rotation.remove(place)
        self._count_slots(demand)
        for ticket, waiter in list(demand.waiting.items()):
            if waiter.at is place:  # whose turn it is for want of others
                del demand.waiting[ticket]
                demand.order.withdraw(ticket)
                if not waiter.place.done():
                    waiter.place.set_result(place)
        if not demand.rotation:
            demand.order.is_open, demand.closed_at = False, self.clock()
            if demand.waiting:
                self._hold_to_deadline(demand, place.model)
                self.registry.hurry()

    def refuse(self, row: Model, why: str, now: float) -> None:
        """Who waits for this model need not wait on."""
        demand = self.registry.demand(row.name)
        starts = self.registry.fleet(row.fleet).starts
        wait_seconds = max(demand.loads.wait_seconds(now), starts.wait_seconds(now))
        for ticket in list(demand.waiting):
            self._turn_away(demand, ticket, self._unavailable(row, why, wait_seconds))


def _seat(place: Resident, ticket: Ticket) -> None:
    """The slot that it has is one of that place's."""
    place.slots_taken += 1
    if place.slots_taken > place.at_once:
        ticket.rounds = place.slots_taken / place.at_once
