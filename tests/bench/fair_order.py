"""What fair order costs a call in process, in microseconds of CPU, of offer, next and end together. No I/O is in it.

.venv/bin/python -m tests.bench.fair_order
"""

from collections import deque
from time import process_time

from gateway.admission.fair_order import FairOrder
from gateway.admission.fair_queueing import Ticket
from gateway.admission.slots import Demand, Report, Slots

TIMES = 100_000


def passing() -> float:
    """A slot is free and nobody waits: most calls."""
    order = FairOrder(slots=8)
    began = process_time()
    for now in range(TIMES):
        ticket = Ticket("acme", 1.0, 1.0, "interactive", 1e9)
        order.offer(ticket, now)
        order.end(ticket, 0.05, now + 0.05)
    return (process_time() - began) / TIMES * 1e6


def waiting(tenants: int, each: int = 10) -> float:
    """So many tenants always have calls that wait: each call waits, gets its slot, ends, and another comes."""
    order = FairOrder(slots=8, most_waiting=10**9)
    running: deque[Ticket] = deque()
    for call in range(tenants * each + 8):
        ticket = Ticket(f"t{call % tenants}", 1.0)
        order.offer(ticket, 0.0)
        if ticket.state == "running":
            running.append(ticket)
    began = process_time()
    for now in range(TIMES):
        ended = running.popleft()
        order.end(ended, 0.04 + now % 3 / 100, now)
        found_next = order.next(now)
        if found_next is not None:
            running.append(found_next)
        order.offer(Ticket(ended.tenant, 1.0), now)
    return (process_time() - began) / TIMES * 1e6


def refusing() -> float:
    """A tenant whose queue is full."""
    order = FairOrder(slots=1, most_of_tenant=100)
    began = process_time()
    for _ in range(TIMES):
        order.offer(Ticket("acme", 1.0), 0.0)
    return (process_time() - began) / TIMES * 1e6


def handing_out(members: int, tenants: int) -> float:
    """One round of the leader's for one model, in milliseconds."""
    demands = {f"t{tenant}": Demand(1.0, 5) for tenant in range(tenants)}
    leader, rounds = Slots(), 20
    grants = leader.hand_out(64, {f"m{member}": Report(0, 0, 0, demands) for member in range(members)})
    began = process_time()
    for _ in range(rounds):
        reports = {name: Report(it.round, it.slots, it.slots, demands) for name, it in grants.items()}
        grants = leader.hand_out(64, reports)
    return (process_time() - began) / rounds * 1e3


if __name__ == "__main__":
    print(f"passes at once: {min(passing() for _ in range(3)):.1f} µs")
    for tenants in (2, 100, 10_000):
        print(f"waits among {tenants} tenants: {min(waiting(tenants) for _ in range(3)):.1f} µs")
    print(f"refused: {min(refusing() for _ in range(3)):.1f} µs")
    for members, many in ((4, 10), (4, 1_000), (50, 100)):
        print(
            f"a round of slots, {members} members, {many} tenants at each: {handing_out(members, many):.1f} ms"
        )
