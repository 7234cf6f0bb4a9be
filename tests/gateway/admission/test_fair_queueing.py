"""The laws of start-time fair queueing: how far two tenants that wait can come apart, how long one waits, what is remembered."""

from collections import deque
from dataclasses import dataclass, field
from itertools import combinations
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from gateway.admission.fair_queueing import FairQueue, Ticket

WEIGHTS = {"a": 1.0, "b": 1.0, "c": 3.0, "d": 0.25}
costs = st.floats(0.001, 10.0)
pushes = st.tuples(st.sampled_from(sorted(WEIGHTS)), costs, costs)
acts = st.lists(pushes | st.just("next") | st.just("end") | st.just("leave"), max_size=120)


def ticket(tenant: str, seconds: float, weight: float = 1.0) -> Ticket:
    return Ticket(tenant, weight, 1.0, "interactive", 1e9, seconds=seconds)


@dataclass
class Run:
    """A queue that is played on, and what each tenant had of it; `cost` says what a call really costs."""

    queue: FairQueue = field(default_factory=FairQueue)
    cost: dict[Ticket, float] = field(default_factory=dict)
    running: deque[Ticket] = field(default_factory=deque)
    had: dict[str, float] = field(default_factory=lambda: dict.fromkeys(WEIGHTS, 0.0))

    def waiting(self) -> dict[str, list[Ticket]]:
        return {name: list(flow.waiting) for name, flow in self.queue.flows.items() if flow.waiting}

    def play(self, act: "tuple[str, float, float] | str", *, exact: bool) -> Ticket | None:
        """One act; the ticket that it dispatched."""
        match act:
            case (str(tenant), float(estimate), float(actual)):
                new = ticket(tenant, estimate, WEIGHTS[tenant])
                self.cost[new] = estimate if exact else actual
                self.queue.push(new)
            case "next" if self.queue.waiting:
                gone = self.queue.pop()
                self.running.append(gone)
                self.had[gone.tenant] += self.cost[gone] / WEIGHTS[gone.tenant]
                return gone
            case "end" if self.running:
                ended = self.running.popleft()
                self.queue.end(ended, self.cost[ended])
            case "leave" if self.queue.waiting:
                self.queue.remove(next(iter(self.waiting().values()))[-1])
        return None


def law(lengths: dict[str, float], one: str, other: str) -> float:
    return lengths[one] / WEIGHTS[one] + lengths[other] / WEIGHTS[other]


@given(acts)
def test_of_two_that_wait_neither_gets_ahead_by_more_than_one_call_of_each(
    played: "list[tuple[str, float, float] | str]",
) -> None:
    lengths = {
        name: max([it[1] for it in played if isinstance(it, tuple) and it[0] == name], default=0.0)
        for name in WEIGHTS
    }
    for one, other in combinations(WEIGHTS, 2):
        run = Run()
        apart: list[float] = []
        for act in played:
            waited = run.waiting()
            if one not in waited or other not in waited:
                apart = [run.had[one] - run.had[other]]  # an interval in which both wait may begin here
            run.play(act, exact=True)
            if one in waited and other in waited:
                apart.append(run.had[one] - run.had[other])
                assert max(apart) - min(apart) <= law(lengths, one, other) + 1e-6


@given(st.lists(pushes, min_size=2, max_size=60), st.integers(1, 6), st.randoms(use_true_random=False))
def test_estimates_that_are_wrong_put_two_apart_by_no_more_than_the_calls_under_way(
    pushed: list[tuple[str, float, float]], at_once: int, random: Random
) -> None:
    """What they had is what it really cost, and in no interval is it apart by more than at_once + 1 of the largest call of each."""
    lengths = {name: max([max(it[1:]) for it in pushed if it[0] == name], default=0.0) for name in WEIGHTS}
    run = Run()
    for act in pushed:
        run.play(act, exact=False)
    apart: dict[tuple[str, str], list[float]] = {pair: [0.0] for pair in combinations(WEIGHTS, 2)}
    while run.queue.waiting:
        waited = run.waiting()
        if len(run.running) < at_once:
            run.play("next", exact=False)
        else:
            run.running.rotate(-random.randrange(at_once))
            run.play("end", exact=False)
        for (one, other), seen in apart.items():
            if one in waited and other in waited:
                seen.append(run.had[one] - run.had[other])
                assert max(seen) - min(seen) <= (at_once + 1) * law(lengths, one, other) + 1e-6


@given(acts)
def test_who_comes_back_waits_for_one_call_of_each_other_at_most(
    played: "list[tuple[str, float, float] | str]",
) -> None:
    run = Run()
    for act in played:
        run.play(act, exact=True)
    new = ticket("new", 1.0)
    run.queue.push(new)
    before: list[str] = []
    while (gone := run.queue.pop()) is not new:
        before.append(gone.tenant)
    assert len(before) == len(set(before))


@given(acts)
def test_who_has_nothing_here_is_forgotten_once_virtual_time_has_passed(
    played: "list[tuple[str, float, float] | str]",
) -> None:
    run = Run()
    for act in played:
        run.play(act, exact=False)
        kept = [flow for flow in run.queue.flows.values() if not flow.waiting and not flow.running]
        assert all(flow.start > run.queue.virtual_time or flow.is_remembered for flow in kept)
    while run.queue.waiting:
        run.play("next", exact=False)
    while run.running:
        run.play("end", exact=False)
    for _ in range(1 + sum(it[0] in WEIGHTS for it in played)):  # enough for virtual time to pass every tag
        run.queue.push(ticket("late", 1_000.0))
        run.queue.push(ticket("late", 1_000.0))
        for _ in range(2):
            run.queue.end(run.queue.pop(), 1_000.0)
    assert set(run.queue.flows) <= {"late"}


def test_what_waits_is_counted_whatever_leaves() -> None:
    queue = FairQueue()
    tickets = [ticket("a", 0.1), ticket("a", 0.2), ticket("b", 0.3)]
    for it in tickets:
        queue.push(it)
    assert (queue.waiting, round(queue.waiting_seconds, 9), queue.weight) == (3, 0.6, 2.0)
    queue.remove(tickets[0])
    queue.remove(tickets[0])
    queue.remove(tickets[1])
    assert (queue.waiting, round(queue.waiting_seconds, 9), queue.weight) == (1, 0.3, 1.0)
    assert queue.pop() is tickets[2]
    assert (queue.waiting, queue.waiting_seconds, queue.weight) == (0, 0.0, 0.0)


def test_what_left_before_its_turn_is_not_charged() -> None:
    queue = FairQueue()
    queue.push(gone := ticket("a", 100.0))
    queue.remove(gone)
    queue.push(ticket("b", 0.1))
    queue.push(ticket("b", 0.1))
    queue.push(ticket("a", 0.1))
    assert [queue.pop().tenant for _ in range(3)] == ["b", "a", "b"]


def test_the_heap_stays_small_when_tags_are_corrected_all_the_time() -> None:
    queue = FairQueue()
    for _ in range(2_000):
        queue.push(ticket("a", 1.0))
        queue.push(ticket("b", 1.0))
    for _ in range(1_000):
        queue.end(queue.pop(), 1e-6)
    assert len(queue._heap) < 100


def test_a_weight_that_changes_is_paid_at_the_new_one_from_now_on() -> None:
    queue = FairQueue()
    for _ in range(40):
        queue.push(ticket("a", 1.0))
        queue.push(ticket("b", 1.0))
    queue.weigh("a", 3.0)
    gone = [queue.pop().tenant for _ in range(40)]
    assert abs(gone.count("a") - 30) <= 1
    queue.weigh("b", 3.0)
    gone = [queue.pop().tenant for _ in range(16)]
    assert abs(gone.count("a") - 8) <= 2
