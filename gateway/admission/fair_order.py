"""In what order the calls of one model get its slots, in one process. Pure: time is an argument, nobody waits in here.

A call passes at once while a slot is free and none waits; else it waits in its tenant's flow (`fair_queueing`), or is refused at once.
Fails closed: what is refused was never queued, and nothing runs without a slot.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from msgspec import Struct

from gateway.admission.costs import Costs
from gateway.admission.fair_queueing import FairQueue, Ticket
from gateway.admission.slots import Demand, Grant

# Of compute, to batch calls that wait while interactive ones do.
BATCH_FLOOR = 0.05


class Refused(Struct, frozen=True):
    """`full`: its tenant has as many waiting as it may now. `late`: it would not end before its deadline."""

    why: Literal["full", "late"]
    retry_after_seconds: float
    """Then there is room for one more; every refused call is told a time of its own."""


class _Tenant(Struct, eq=False):
    """One with calls here, in either class."""

    weight: float
    running: int = 0
    waiting: int = 0
    retry_at: float = 0.0


@dataclass(slots=True)
class FairOrder:
    """`slots` may be under way at once; `most_waiting` may wait, of one tenant `most_of_tenant` and never more than places are left.

    Whoever owns it asks `next` until it gives None: after `end`, after `withdraw` of a call that ran, and after `grant`.
    """

    slots: int = 1
    is_open: bool = True
    """False while no place takes calls: all wait, and nobody knows how long."""
    most_waiting: int = 1_000
    most_of_tenant: int = 200
    costs: Costs = field(default_factory=Costs)
    running: int = 0
    waiting: int = 0
    _interactive: FairQueue = field(default_factory=FairQueue)
    _batch: FairQueue = field(default_factory=FairQueue)
    _owed: float = 0.0  # seconds of compute, to batch calls
    _tenants: dict[str, _Tenant] = field(default_factory=dict)
    _fractions: Mapping[str, float] = field(default_factory=dict)
    _told: frozenset[str] = frozenset()  # the tenants of whom the leader knows that they wait here

    def offer(self, ticket: Ticket, now: float) -> Refused | None:
        """A new ticket: `running` it has its slot; `waiting` it gets it from `next`; or it is refused, and no more asked about.

        A member without a slot lets one call pass, of a tenant that the leader could not know of: it need not wait for the next round.
        """
        tenant, weight = ticket.tenant, ticket.weight
        known = self._tenants.get(tenant)
        is_free = self.running < self.slots and not self.waiting
        if self.is_open and (is_free or self._is_first(tenant)):
            if known is None:
                known = self._tenants[tenant] = _Tenant(weight)
            self._start(ticket, known, now)
            return None
        ticket.weight = self._weight(tenant, weight)
        ticket.seconds = self.costs.estimate(tenant, ticket.size)
        refused = self._refusal(ticket, known, now)
        if refused is not None:
            ticket.state = "over"
            return refused
        if known is None:
            known = self._tenants[tenant] = _Tenant(weight)
        known.weight = weight
        known.waiting += 1
        self.waiting += 1
        self._queue(ticket).push(ticket)
        return None

    def next(self, now: float) -> Ticket | None:
        """The next call, now `running`; None without a free slot or without one that waits. One whose deadline has passed is let go."""
        while self.is_open and self.waiting and self.running < self.slots:
            queue = self._choose()
            is_contested = self._interactive.waiting and self._batch.waiting
            ticket = queue.pop(self.costs.estimate)
            if is_contested:
                self._owed += ticket.seconds * (BATCH_FLOOR - (queue is self._batch))
            elif queue is self._batch:
                self._owed = 0.0  # it had what nobody else wanted
            self.waiting -= 1
            known = self._tenants[ticket.tenant]
            known.waiting -= 1
            if ticket.deadline > now:
                return self._start(ticket, known, now)
            ticket.state = "over"
            queue.end(ticket, 0.0)
            self._leave(ticket.tenant, known)
        return None

    def end(self, ticket: Ticket, seconds: float, now: float) -> None:
        """A call that ran is over and took so much compute. A second time is a no-op."""
        if ticket.state != "running":
            return
        self._stop(ticket)
        self.costs.learn(ticket.tenant, ticket.size, seconds, now - ticket.started_at, ticket.rounds)
        self._queue(ticket).end(ticket, seconds)

    def decline(self, ticket: Ticket) -> None:
        """A call that has its slot does not use it: it costs nothing, and nothing is learned of it."""
        if ticket.state == "running":
            self._stop(ticket)
            self._queue(ticket).end(ticket, 0.0)

    def withdraw(self, ticket: Ticket) -> None:
        """Its client has left. One that waits leaves no trace; of one that runs nobody knows the cost, so the estimate stands."""
        if ticket.state == "running":
            self._stop(ticket)
            self._queue(ticket).end(ticket, ticket.seconds)
        elif ticket.state == "waiting":
            ticket.state = "over"
            self.waiting -= 1
            known = self._tenants[ticket.tenant]
            known.waiting -= 1
            self._queue(ticket).remove(ticket)
            self._leave(ticket.tenant, known)

    def grant(self, grant: Grant) -> None:
        """What the leader gave. Calls above it go on; none starts until they are fewer."""
        self.slots = grant.slots
        self._fractions = grant.fractions
        for tenant, it in self._tenants.items():
            for queue in (self._interactive, self._batch):
                queue.weigh(tenant, self._weight(tenant, it.weight))

    def demands(self) -> Mapping[str, Demand]:
        """What the leader is to know: who has calls here."""
        self._told = frozenset(tenant for tenant, it in self._tenants.items() if it.waiting)
        return {tenant: Demand(it.weight, it.running + it.waiting) for tenant, it in self._tenants.items()}

    def wait_seconds(self, ticket: Ticket) -> float:
        """How long this call would wait for its slot, did it come now: by what the flows owe, the estimates, and the pace of late."""
        queue = self._queue(ticket)
        flow = queue.flows.get(ticket.tenant)
        ahead, weights = 0.0, queue.weight
        if flow is None or not flow.waiting:
            weights += ticket.weight
        if flow is not None:
            ahead = max(0.0, flow.start - queue.virtual_time) + flow.waiting_seconds / flow.weight
        work = min(queue.waiting_seconds, ahead * weights)
        if queue is self._batch:
            work = min(work + self._interactive.waiting_seconds, (work + ticket.seconds) / BATCH_FLOOR)
        return (work + self.costs.call_seconds) / self._pace  # and until the first slot is free

    def _is_first(self, tenant: str) -> bool:
        return not self.slots and not self.running and tenant not in self._told

    @property
    def _pace(self) -> float:
        """Compute seconds a second. Without a slot as with one: how long it will be without, nobody knows here."""
        return max(1, self.slots) * self.costs.pace

    def _refusal(self, ticket: Ticket, known: _Tenant | None, now: float) -> Refused | None:
        # What one tenant may have waiting shrinks with the places that are left (Choudhury, Hahne 1998): n who take all they
        # can leave a part in n + 1 free, so that one who has nothing waiting finds room.
        waiting = 0 if known is None else known.waiting
        if waiting >= min(self.most_of_tenant, self.most_waiting - self.waiting):
            return Refused("full", self._retry_after(ticket, known, 0.0, now))
        if not self.is_open:
            return None  # nobody knows how long it will be
        # By the model's mean where that is less: a tenant is not kept out by one call that took long.
        own = min(ticket.seconds, ticket.size * self.costs.seconds)
        late = self.wait_seconds(ticket) + own - (ticket.deadline - now)
        if late > 0:
            return Refused("late", self._retry_after(ticket, known, late, now))
        return None

    def _retry_after(self, ticket: Ticket, known: _Tenant | None, late: float, now: float) -> float:
        """Who is refused is told one moment after another, as places come free, for twice as long as its tenant's calls wait now."""
        queue = self._queue(ticket)
        weights = max(queue.weight, ticket.weight)
        each = ticket.seconds * weights / ticket.weight / self._pace
        if known is None:
            return late + each
        flow = queue.flows.get(ticket.tenant)
        own = flow.waiting_seconds * weights / ticket.weight if flow is not None else queue.waiting_seconds
        furthest = now + late + 2 * own / self._pace + each
        known.retry_at = min(max(now + late, known.retry_at) + each, furthest)
        return known.retry_at - now

    def _choose(self) -> FairQueue:
        """Interactive before batch, but for the floor of batch."""
        if not self._batch.waiting:
            self._owed = 0.0
            return self._interactive
        is_due = self._owed > 0 and self._owed >= self.costs.call_seconds
        return self._batch if is_due or not self._interactive.waiting else self._interactive

    def _start(self, ticket: Ticket, known: _Tenant, now: float) -> Ticket:
        ticket.state, ticket.started_at = "running", now
        known.running += 1
        self.running += 1
        return ticket

    def _stop(self, ticket: Ticket) -> None:
        ticket.state = "over"
        self.running -= 1
        known = self._tenants[ticket.tenant]
        known.running -= 1
        self._leave(ticket.tenant, known)

    def _leave(self, tenant: str, known: _Tenant) -> None:
        if not known.running and not known.waiting:
            del self._tenants[tenant]
        if not self.waiting and self.running < self.slots:
            self._interactive.forgive()
            self._batch.forgive()

    def _weight(self, tenant: str, weight: float) -> float:
        return weight * self._fractions.get(tenant, 1.0) if self._fractions else weight

    def _queue(self, ticket: Ticket) -> FairQueue:
        return self._batch if ticket.service_class == "batch" else self._interactive
