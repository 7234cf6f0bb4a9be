"""Members, a leader and a replica in virtual time, over the real order of calls or one that is first come, first served. Seeded."""

import heapq
import random
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import count

from gateway.admission.costs import Costs
from gateway.admission.fair_order import FairOrder, Refused
from gateway.admission.fair_queueing import Class, Ticket
from gateway.admission.slots import Demand, Grant, Report, Slots

SERVICE = 0.05
HAND_OUT = 0.5
HEARD = 0.02  # from the hand-out until the members know


@dataclass(slots=True)
class FirstCome:
    """The negative control: what came first goes first, whoever sent it."""

    slots: int = 1
    most_waiting: int = 1_000
    running: int = 0
    queue: deque[Ticket] = field(default_factory=deque)

    def offer(self, ticket: Ticket, now: float) -> Refused | None:
        if len(self.queue) >= self.most_waiting:
            return Refused("full", 1.0)
        if self.running < self.slots and not self.queue:
            self.running += 1
            ticket.state = "running"
        else:
            self.queue.append(ticket)
        return None

    def next(self, now: float) -> Ticket | None:
        if not self.queue or self.running >= self.slots:
            return None
        self.running += 1
        ticket = self.queue.popleft()
        ticket.state = "running"
        return ticket

    def end(self, ticket: Ticket, seconds: float, now: float) -> None:
        self.running -= 1

    def withdraw(self, ticket: Ticket) -> None:
        self.queue.remove(ticket)

    def grant(self, grant: Grant) -> None:
        self.slots = grant.slots

    def demands(self) -> Mapping[str, Demand]:
        calls: dict[str, int] = defaultdict(int)
        for ticket in self.queue:
            calls[ticket.tenant] += 1
        return {tenant: Demand(1.0, it) for tenant, it in calls.items()}


@dataclass(slots=True, eq=False)
class Call:
    tenant: str
    seconds: float
    member: int
    came_at: float
    then: Callable[[], None] | None = None
    ticket: Ticket | None = None


@dataclass(slots=True)
class Seen:
    """What the clients of one tenant saw."""

    latencies: list[tuple[float, float]] = field(default_factory=list)  # when it came, how long it took
    refusals: list[Refused] = field(default_factory=list)

    def percentile(self, part: float, since: float = 0.0) -> float:
        found = sorted(took for at, took in self.latencies if at >= since)
        return found[min(len(found) - 1, int(part * len(found)))]


class World:
    """`instances` of a model behind `members`; without a leader each has all slots, as when there is one."""

    def __init__(
        self,
        *,
        seed: int,
        instances: int = 1,
        members: int = 1,
        slots: int | None = None,
        batch: int = 1,
        order: Callable[[], FairOrder | FirstCome] = lambda: FairOrder(costs=Costs(SERVICE)),
        passes_on: bool = True,
    ) -> None:
        self.passes_on = passes_on
        self.random = random.Random(seed)
        self.now = 0.0
        self.total = slots or instances * batch
        self.batch = batch
        self.orders = [order() for _ in range(members)]
        self.seen: dict[str, Seen] = defaultdict(Seen)
        self.executed: list[tuple[float, float, list[str]]] = []  # from, to, whose
        self.busiest = 0
        self._idle = instances
        self._upstream: deque[Call] = deque()
        self._calls: dict[Ticket, Call] = {}
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._rounds = [(0, 0)] * members  # the round that each has heard of, and its slots
        self._gives = [False] * members
        self._leader = Slots()
        if members == 1:
            self.orders[0].slots = self.total
        else:
            self.at(0.0, self._hand_out)

    def at(self, moment: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._events, (moment, next(self._order), act))

    def run(self, until: float) -> None:
        while self._events and self._events[0][0] <= until:
            self.now, _, act = heapq.heappop(self._events)
            act()

    # Clients

    def open_loop(
        self,
        tenant: str,
        rate: float,
        *,
        seconds: float = SERVICE,
        weight: float = 1.0,
        members: tuple[int, ...] = (0,),
        service_class: Class = "interactive",
        deadline: float = 60.0,
        spread: float = 1.0,
    ) -> None:
        """Calls that come whether others were answered or not; `spread` 1 is a Poisson process, less is more even."""

        def come() -> None:
            member = self.random.choice(members)
            self.call(tenant, seconds, member, weight=weight, service_class=service_class, deadline=deadline)
            self.at(self.now + self._gap(rate, spread), come)

        self.at(self.now + self._gap(rate, spread), come)

    def closed_loop(
        self,
        tenant: str,
        clients: int,
        *,
        seconds: float = SERVICE,
        weight: float = 1.0,
        members: tuple[int, ...] = (0,),
        service_class: Class = "interactive",
    ) -> None:
        """Clients that call again as soon as they were answered: always so many calls."""

        def come(member: int) -> None:
            self.call(
                tenant,
                seconds,
                member,
                weight=weight,
                service_class=service_class,
                then=lambda: self.at(self.now + 0.001, partial(come, member)),
            )

        for client in range(clients):
            self.at(self.now, partial(come, members[client % len(members)]))

    def _gap(self, rate: float, spread: float) -> float:
        return (1 - spread + spread * self.random.expovariate(1.0)) / rate

    def call(
        self,
        tenant: str,
        seconds: float,
        member: int = 0,
        *,
        weight: float = 1.0,
        service_class: Class = "interactive",
        deadline: float = 60.0,
        then: Callable[[], None] | None = None,
    ) -> Ticket | Refused:
        order = self.orders[member]
        ticket = Ticket(tenant, weight, 1.0, service_class, self.now + deadline)
        refused = order.offer(ticket, self.now)
        if refused is not None:
            self.seen[tenant].refusals.append(refused)
            return refused
        call = Call(tenant, seconds, member, self.now, then, ticket)
        self._calls[ticket] = call
        if ticket.state == "running":
            self._send(call)
        return ticket

    # The replica

    def _send(self, call: Call) -> None:
        self._upstream.append(call)
        self.busiest = max(self.busiest, sum(order.running for order in self.orders))
        self._execute()

    def _execute(self) -> None:
        while self._idle and self._upstream:
            calls = [self._upstream.popleft() for _ in range(min(self.batch, len(self._upstream)))]
            seconds = max(call.seconds for call in calls)
            self._idle -= 1
            self.executed.append((self.now, self.now + seconds, [call.tenant for call in calls]))
            self.at(self.now + seconds, partial(self._executed, calls, seconds))

    def _executed(self, calls: list[Call], seconds: float) -> None:
        self._idle += 1
        for call in calls:
            assert call.ticket is not None
            del self._calls[call.ticket]
            self.orders[call.member].end(call.ticket, seconds / len(calls), self.now)
            self.seen[call.tenant].latencies.append((call.came_at, self.now - call.came_at))
            if call.then is not None:
                call.then()
        for member in {call.member for call in calls}:
            self._next(member)
            self._give_back(member)
        self._execute()

    def _next(self, member: int) -> None:
        while (ticket := self.orders[member].next(self.now)) is not None:
            self._send(self._calls[ticket])

    # The leader

    def _reports(self) -> dict[str, Report | None]:
        return {
            f"m{i}": Report(*self._rounds[i], order.running, order.demands())
            for i, order in enumerate(self.orders)
        }

    def _hand_out(self) -> None:
        grants = self._leader.hand_out(self.total, self._reports())
        self.at(self.now + HEARD, lambda: self._heard(grants))
        self.at(self.now + HAND_OUT, self._hand_out)

    def _heard(self, grants: Mapping[str, Grant]) -> None:
        for i, order in enumerate(self.orders):
            grant = grants[f"m{i}"]
            self._gives[i] = self._gives[i] or grant.slots < self._rounds[i][1]
            self._rounds[i] = (grant.round, grant.slots)
            order.grant(grant)
            self._next(i)
            self._give_back(i)

    def _give_back(self, member: int) -> None:
        """It has fewer slots than before, and no call above them any more: the leader is told at once."""
        order = self.orders[member]
        if self.passes_on and self._gives[member] and order.running <= order.slots:
            self._gives[member] = False
            self.at(self.now + HEARD, self._pass_on)

    def _pass_on(self) -> None:
        grants = self._leader.pass_on(self.total, self._reports())
        self.at(self.now + HEARD, lambda: self._heard(grants))

    # What came of it

    def compute(self, since: float, until: float) -> dict[str, float]:
        """Compute seconds of each tenant within these moments."""
        found: dict[str, float] = defaultdict(float)
        for began, ended, tenants in self.executed:
            within = min(ended, until) - max(began, since)
            if within > 0:
                for tenant in tenants:
                    found[tenant] += within / len(tenants)
        return found
