"""The order of one model's calls in one process: what passes, what waits, what is refused, what is kept of whom."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from gateway.admission.costs import Costs
from gateway.admission.fair_order import FairOrder, Refused
from gateway.admission.fair_queueing import Class, Ticket
from gateway.admission.slots import Grant

FAR = 1e6


def offer(
    order: FairOrder,
    tenant: str,
    *,
    now: float = 0.0,
    deadline: float = FAR,
    weight: float = 1.0,
    service_class: Class = "interactive",
) -> Ticket | Refused:
    ticket = Ticket(tenant, weight, 1.0, service_class, deadline)
    return order.offer(ticket, now) or ticket


def accepted(
    order: FairOrder, tenant: str, *, deadline: float = FAR, service_class: Class = "interactive"
) -> Ticket:
    found = offer(order, tenant, deadline=deadline, service_class=service_class)
    assert isinstance(found, Ticket)
    return found


def measured(seconds: float = 1.0, slots: int = 1) -> FairOrder:
    """One that knows what calls take: as long as they compute."""
    order = FairOrder(slots=slots)
    order.end(accepted(order, "past"), seconds, now=seconds)
    return order


acts = st.lists(
    st.tuples(st.just("offer"), st.sampled_from("abcdef"), st.sampled_from(["interactive", "batch"]))
    | st.tuples(st.sampled_from(["end", "withdraw", "grant"]), st.integers(0, 5), st.floats(0, 3)),
    max_size=150,
)


@given(acts)
def test_never_more_run_than_there_are_slots_and_nothing_is_lost_or_left_behind(
    played: list[tuple[str, object, object]],
) -> None:
    order = FairOrder(slots=2, most_waiting=12, most_of_tenant=5)
    live: dict[Ticket, None] = {}
    refused = accepted_ = over = 0
    now = 0.0
    for act, what, how in played:
        now += 0.01
        before = (order.running, order.waiting)
        if act == "offer":
            found = offer(order, str(what), now=now, service_class=how)  # type: ignore[arg-type]
            if isinstance(found, Refused):
                refused += 1
                assert (order.running, order.waiting) == before
                assert found.retry_after_seconds > 0
            else:
                accepted_ += 1
                live[found] = None
        elif act == "grant":
            order.grant(Grant(int(str(what)), {"a": 0.25}))
        elif live:
            ticket = list(live)[int(str(what)) % len(live)]
            if act == "end" and ticket.state == "running":
                order.end(ticket, float(str(how)), now)
                order.end(ticket, float(str(how)), now)
                over += live.pop(ticket, 0) is None
            elif act == "withdraw":
                order.withdraw(ticket)
                order.withdraw(ticket)
                over += live.pop(ticket, 0) is None
        while (started := order.next(now)) is not None:
            assert started in live
        states = [ticket.state for ticket in live]
        assert (order.running, order.waiting) == (states.count("running"), states.count("waiting"))
        assert not order.waiting or order.running >= order.slots
    assert accepted_ == over + len(live)
    order.grant(Grant(1_000))
    while order.next(now) is not None:
        pass
    for ticket in live:
        order.end(ticket, 1.0, now)
    assert (order.running, order.waiting) == (0, 0)
    assert not order.demands()
    assert not order._interactive.flows
    assert not order._batch.flows


def test_a_call_passes_at_once_while_a_slot_is_free_and_waits_else() -> None:
    order = FairOrder(slots=2)
    first, second, third = (accepted(order, "a") for _ in range(3))
    assert (first.state, second.state, third.state) == ("running", "running", "waiting")
    assert order.next(0.0) is None
    order.end(first, 0.1, 0.1)
    assert order.next(0.1) is third
    assert third.state == "running"


def test_a_free_slot_is_for_who_waits_and_not_for_who_comes() -> None:
    order = FairOrder(slots=1)
    running, waiting = accepted(order, "a"), accepted(order, "b")
    order.end(running, 0.1, 0.1)
    assert accepted(order, "c").state == "waiting"
    assert order.next(0.1) is waiting


def test_one_who_takes_all_places_leaves_as_many_free() -> None:
    order = FairOrder(slots=1, most_waiting=100, most_of_tenant=1_000)
    accepted(order, "hog")
    taken = 0
    while isinstance(offer(order, "hog"), Ticket):
        taken += 1
    assert taken == 50
    while isinstance(offer(order, "other"), Ticket):
        taken += 1
    assert taken == 75
    assert isinstance(offer(order, "quiet"), Ticket)


def test_what_one_tenant_may_have_waiting_is_bounded() -> None:
    order = FairOrder(slots=1, most_of_tenant=3)
    found = [offer(order, "a") for _ in range(6)]
    assert [isinstance(it, Refused) for it in found] == [False] * 4 + [True] * 2
    assert isinstance(offer(order, "b"), Ticket)


def test_every_refused_call_is_told_a_time_of_its_own() -> None:
    order = measured()
    for _ in range(201):
        accepted(order, "a")
    times = [found.retry_after_seconds for _ in range(20) if isinstance(found := offer(order, "a"), Refused)]
    assert len(times) == 20
    assert all(abs(later - sooner - 1.0) < 1e-6 for sooner, later in pairwise(times))


def test_what_would_not_end_in_time_is_refused_at_once_and_told_when_it_would() -> None:
    order = measured(seconds=1.0)
    for _ in range(4):
        accepted(order, "a")
    found = offer(order, "a", deadline=4.5)  # three wait, one runs: it would end after five
    assert isinstance(found, Refused)
    assert found.why == "late"
    assert 0.5 <= found.retry_after_seconds <= 2.0
    assert isinstance(offer(order, "a", deadline=5.5), Ticket)
    assert isinstance(offer(order, "b", deadline=4.5), Ticket)  # which need not wait for the others of a


def test_a_tenant_is_not_kept_out_by_one_call_that_took_long() -> None:
    order = measured(seconds=1.0)
    for _ in range(20):
        order.end(accepted(order, "others"), 1.0, now=1.0)
    order.end(accepted(order, "a"), 1_000.0, now=1.0)
    for _ in range(40):
        order.end(accepted(order, "others"), 1.0, now=1.0)
    accepted(order, "others")
    assert order.costs.estimate("a", 1.0) == 1_000.0
    assert isinstance(offer(order, "a", deadline=60.0), Ticket)


def test_one_whose_deadline_has_passed_gets_no_slot_and_is_charged_nothing() -> None:
    order = FairOrder(slots=1)
    running = accepted(order, "a")
    late, _ = accepted(order, "b", deadline=1.0), accepted(order, "b")
    order.end(running, 0.1, 2.0)
    accepted(order, "c")
    assert order.next(2.0) is not late
    assert late.state == "over"
    assert order._interactive.flows["b"].start == 0.0
    order.withdraw(late)
    assert (order.running, order.waiting) == (1, 1)


def test_batch_waits_for_interactive_calls_and_goes_when_there_are_none() -> None:
    order = measured()
    running = accepted(order, "a")
    batch = accepted(order, "b", service_class="batch")
    person = accepted(order, "c")
    order.end(running, 1.0, 1.0)
    assert order.next(1.0) is person
    order.end(person, 1.0, 2.0)
    assert order.next(2.0) is batch


def test_a_member_without_slots_lets_one_call_of_a_tenant_pass_that_the_leader_could_not_know_of() -> None:
    order = FairOrder()
    order.demands()
    order.grant(Grant(0))
    first, second = accepted(order, "quiet"), accepted(order, "quiet")
    assert (first.state, second.state) == ("running", "waiting")
    order.end(first, 0.1, 0.1)
    assert order.next(0.1) is None
    order.demands()
    assert accepted(order, "quiet").state == "waiting"  # it waits for its turn, which the leader gives
    assert accepted(order, "another").state == "running"


def test_calls_above_a_smaller_grant_go_on_and_none_starts() -> None:
    order = FairOrder(slots=3)
    running = [accepted(order, "a") for _ in range(3)]
    waiting = accepted(order, "a")
    order.grant(Grant(1))
    assert order.running == 3
    for it in running[:2]:
        order.end(it, 0.1, 0.1)
        assert order.next(0.1) is None
    order.end(running[2], 0.1, 0.1)
    assert order.next(0.1) is waiting


def test_costs_are_learned_of_the_model_and_of_each_tenant() -> None:
    costs = Costs(most_tenants=2)
    for _ in range(100):
        costs.learn("heavy", 2.0, 2.0, 4.0)
        costs.learn("light", 1.0, 0.1, 0.2)
    assert abs(costs.estimate("heavy", 3.0) - 3.0) < 1e-6
    assert abs(costs.estimate("light", 1.0) - 0.1) < 1e-6
    assert 0.1 < costs.estimate("unknown", 1.0) < 1.0
    assert abs(costs.pace - 0.5) < 1e-6
    for tenant in ("x", "y"):
        costs.learn(tenant, 1.0, 5.0, 5.0)
    assert len(costs._tenants) == 2
    assert (
        costs.estimate("heavy", 1.0) == costs.seconds
    )  # the one who called longest ago is an average one again
