"""Start-time fair queueing: which of those that wait goes next. Pure; every operation is O(log n) in the tenants that wait.

Goyal, Vin, Cheng, "Start-time Fair Queueing" (1996). Each tenant is a flow. The start tag of its next call is the finish tag of the one
before it, or virtual time if that is later; a finish tag is the start tag plus cost divided by weight. The least start tag goes next, and
virtual time is the start tag of what went last. So, of any two flows that both wait through an interval, what was dispatched of each, by
its weight, differs by at most the largest cost of the one by its weight plus that of the other. That counts calls as they are dispatched;
with D of them under way at once (Jin, Chase, Kaur 2004) what has ended differs by up to D + 1 times as much.

A flow keeps the tag of its next call only: one whose calls wait has no later tag than that, so nothing is stored with a call. When a cost
turns out to be another one, the tag of its flow moves by the difference; so an estimate may be wrong while a call runs and no longer.
"""

import heapq
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from math import inf
from typing import Literal

from msgspec import Struct

# Interactive calls go before batch ones.
Class = Literal["interactive", "batch"]
State = Literal["waiting", "running", "over"]

_FEW = 64


class Ticket(Struct, eq=False):
    """One call. `weight` is its tenant's, `size` what it asks for in the model's own unit, more than 0."""

    tenant: str
    weight: float
    size: float = 1.0
    service_class: Class = "interactive"
    deadline: float = inf
    """Seconds on the clock of whoever asks."""
    state: State = "waiting"
    seconds: float = 0.0
    """Of compute, as estimated when it came: what its flow was charged."""
    started_at: float = 0.0
    rounds: float = 1.0
    """How many batches its place had to run when it got there, its own the last of them."""
    flow: "Flow | None" = None
    """None for one that found a free slot."""


@dataclass(slots=True, eq=False)
class Flow:
    """One tenant's calls: those that wait, and how many run. `start` is the start tag of the next one."""

    weight: float
    start: float
    waiting: "OrderedDict[Ticket, None]" = field(default_factory=OrderedDict)
    waiting_seconds: float = 0.0
    running: int = 0
    key: float | None = None  # its place in the heap; an entry with another one is stale
    is_remembered: bool = False  # whether it is among those to forget


@dataclass(slots=True)
class FairQueue:
    """The flows of one class. One with nothing waiting and nothing running is forgotten once virtual time has passed its tag: for the
    next call that comes of it, that is the same."""

    virtual_time: float = 0.0
    waiting: int = 0
    waiting_seconds: float = 0.0
    weight: float = 0.0
    """Of all flows that wait."""
    flows: dict[str, Flow] = field(default_factory=dict)
    _heap: list[tuple[float, int, Flow]] = field(default_factory=list)
    _idle: list[tuple[float, int, str]] = field(default_factory=list)
    _order: "count[int]" = field(default_factory=count)  # of equal tags the one that came first

    def push(self, ticket: Ticket) -> None:
        """It waits behind the others of its tenant. Its weight is the flow's from now on."""
        flow = self.flows.get(ticket.tenant)
        if flow is None:
            flow = self.flows[ticket.tenant] = Flow(ticket.weight, self.virtual_time)
        self.weigh(ticket.tenant, ticket.weight)
        if not flow.waiting:
            flow.start = max(flow.start, self.virtual_time)
            self.weight += flow.weight
            self._enter(flow)
        ticket.flow = flow
        flow.waiting[ticket] = None
        flow.waiting_seconds += ticket.seconds
        self.waiting += 1
        self.waiting_seconds += ticket.seconds

    def pop(self, estimate: Callable[[str, float], float] | None = None) -> Ticket:
        """The next one, charged to its flow what is estimated now; it runs until `end`. IndexError when none waits."""
        while True:
            key, _, flow = heapq.heappop(self._heap)
            if key == flow.key:
                break
        ticket = next(iter(flow.waiting))
        self._take_out(flow, ticket)
        if estimate is not None:
            ticket.seconds = estimate(ticket.tenant, ticket.size)
        self.virtual_time = max(self.virtual_time, flow.start)
        flow.start += ticket.seconds / flow.weight
        flow.running += 1
        if flow.waiting:
            self._enter(flow)
        self._forget()
        return ticket

    def remove(self, ticket: Ticket) -> None:
        """One that waits no longer and was charged nothing."""
        flow = ticket.flow
        if flow is not None and ticket in flow.waiting:
            self._take_out(flow, ticket)
            self._rest(ticket.tenant, flow)

    def end(self, ticket: Ticket, seconds: float) -> None:
        """One that ran is over, and this is what it cost."""
        flow = ticket.flow
        if flow is None:
            return
        flow.running -= 1
        if self.flows.get(ticket.tenant) is flow:  # else all was forgiven meanwhile
            self._move(flow, (seconds - ticket.seconds) / flow.weight)
            self._rest(ticket.tenant, flow)

    def weigh(self, tenant: str, weight: float) -> None:
        """Its weight is another one from now on; what it is ahead of virtual time is paid off at the new one."""
        flow = self.flows.get(tenant)
        if flow is None or weight == flow.weight:
            return
        if flow.waiting:
            self.weight += weight - flow.weight
        ahead = max(0.0, flow.start - self.virtual_time) * flow.weight
        flow.weight = weight
        if ahead:
            self._move(flow, self.virtual_time + ahead / weight - flow.start)

    def forgive(self) -> None:
        """Nothing waits and a slot is free: nobody is denied anything, so nobody owes anybody."""
        if self.flows:
            self.flows.clear()
            self._heap.clear()
            self._idle.clear()
        self.virtual_time = self.waiting_seconds = self.weight = 0.0

    def _enter(self, flow: Flow) -> None:
        flow.key = flow.start
        heapq.heappush(self._heap, (flow.start, next(self._order), flow))
        if len(self._heap) > 2 * len(self.flows) + _FEW:
            self._heap = [entry for entry in self._heap if entry[0] == entry[2].key]
            heapq.heapify(self._heap)

    def _move(self, flow: Flow, by: float) -> None:
        flow.start += by
        if flow.waiting and flow.start != flow.key:
            self._enter(flow)

    def _take_out(self, flow: Flow, ticket: Ticket) -> None:
        del flow.waiting[ticket]
        flow.waiting_seconds -= ticket.seconds
        self.waiting -= 1
        self.waiting_seconds -= ticket.seconds
        if not flow.waiting:
            flow.key, flow.waiting_seconds = None, 0.0
            self.weight -= flow.weight
        if not self.waiting:
            self.waiting_seconds = self.weight = 0.0  # sums of floats do not return to zero by themselves

    def _rest(self, tenant: str, flow: Flow) -> None:
        """Forget it now, or have it forgotten."""
        if flow.waiting or flow.running or flow.is_remembered:
            return
        if flow.start <= self.virtual_time:
            del self.flows[tenant]
        else:
            flow.is_remembered = True
            heapq.heappush(self._idle, (flow.start, next(self._order), tenant))

    def _forget(self) -> None:
        while self._idle and self._idle[0][0] <= self.virtual_time:
            tenant = heapq.heappop(self._idle)[2]
            flow = self.flows[tenant]
            flow.is_remembered = False
            self._rest(tenant, flow)
