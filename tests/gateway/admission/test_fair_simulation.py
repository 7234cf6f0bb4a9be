"""Fair order in virtual time: members, a leader that hands out slots each half second, a replica with 50 ms of service.

The seed is in the name of the test; CHAOS=full runs ten times as many. First come, first served fails each of them.
"""

import os
from collections.abc import Callable, Sequence

import pytest

from gateway.admission.costs import Costs
from gateway.admission.fair_order import FairOrder, Refused
from tests.gateway.admission.fair_world import SERVICE, FirstCome, World

SEEDS = range(10 if os.environ.get("CHAOS") == "full" else 1)
WINDOW = 5.0
ALONE = 60.0

pytestmark = pytest.mark.chaos


def fair() -> FairOrder:
    return FairOrder(costs=Costs(SERVICE))


def ignorant() -> FairOrder:
    """It takes every call for one of two seconds until it has seen some."""
    return FairOrder(costs=Costs(2.0))


def late(seed: int, order: Callable[[], FairOrder | FirstCome], members: int, loud_at: Sequence[int]) -> str:
    """What is wrong with how a quiet tenant fares beside one that sends fifty times what it may."""
    places = tuple(range(members))
    instances = 1 if members == 1 else 8
    seen = []
    for is_beside in (False, True):
        world = World(seed=seed, instances=instances, members=members, order=order)
        world.open_loop("quiet", 2.0, members=places, spread=0.5)
        if is_beside:
            world.open_loop("loud", 50 * 2.0 * instances, members=tuple(loud_at))
        world.run(ALONE)
        seen.append(world.seen["quiet"])
    alone, beside = seen
    bar = 1.2 * alone.percentile(0.99, since=2.0) + SERVICE
    if beside.refusals:
        return f"{len(beside.refusals)} refused"
    if not beside.latencies or beside.percentile(0.99, since=2.0) > bar:
        return "slow"
    return ""


LOUD = {"one": (1, (0,)), "four": (4, (0, 1, 2, 3)), "four, loud at one": (4, (0,))}


@pytest.mark.parametrize("where", LOUD)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_quiet_tenant_stays_fast_beside_a_loud_one(seed: int, where: str) -> None:
    assert late(seed, fair, *LOUD[where]) == ""


@pytest.mark.parametrize("where", LOUD)
def test_first_come_first_served_makes_the_quiet_one_wait(where: str) -> None:
    assert late(0, FirstCome, *LOUD[where]) != ""


def unfairness(
    seed: int,
    order: Callable[[], FairOrder | FirstCome],
    members: int,
    *,
    weight: float = 1.0,
    seconds: tuple[float, float] = (SERVICE, SERVICE),
    places: Callable[[int], tuple[tuple[int, ...], tuple[int, ...]]] | None = None,
    since: float = 2.0,
    instances: int | None = None,
) -> float:
    """By how much the compute of two who always wait, by their weights, is apart in the worst of some windows of five seconds."""
    all_places = tuple(range(members))
    at = places(members) if places else (all_places, all_places)
    world = World(seed=seed, instances=instances or (4 if members == 1 else 8), members=members, order=order)
    world.closed_loop("heavy", 400, seconds=seconds[0], weight=weight, members=at[0])
    world.closed_loop("light", 400, seconds=seconds[1], members=at[1])
    world.run(since + 3 * WINDOW)
    worst = 0.0
    for step in range(9):
        had = world.compute(since + step * 1.25, since + step * 1.25 + WINDOW)
        heavy, light = had["heavy"] / weight, had["light"]
        worst = max(worst, abs(heavy - light) / max(heavy, light))
    return worst


def skewed(members: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """97 of 100 clients of the one at the first member, and all of the other's."""
    return (0,) * (101 - members) + tuple(range(1, members)), (0,)


def apart(members: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The one at half of the members, the other at the rest."""
    return tuple(range(members // 2)), tuple(range(members // 2, members))


@pytest.mark.parametrize("members", [1, 4])
@pytest.mark.parametrize("seconds", [(SERVICE, SERVICE), (0.1, 0.01)], ids=["alike", "10x"])
@pytest.mark.parametrize("seed", SEEDS)
def test_two_equals_that_wait_get_equal_compute(
    seed: int, seconds: tuple[float, float], members: int
) -> None:
    assert unfairness(seed, fair, members, seconds=seconds) <= 0.02


@pytest.mark.parametrize("members", [1, 4])
@pytest.mark.parametrize("seconds", [(SERVICE, SERVICE), (0.1, 0.01)], ids=["alike", "10x"])
@pytest.mark.parametrize("seed", SEEDS)
def test_weights_of_three_to_one_get_three_to_one(
    seed: int, seconds: tuple[float, float], members: int
) -> None:
    assert unfairness(seed, fair, members, weight=3.0, seconds=seconds) <= 0.05


@pytest.mark.parametrize("places", [skewed, apart])
@pytest.mark.parametrize(("weight", "most"), [(1.0, 0.02), (3.0, 0.05)])
@pytest.mark.parametrize("seed", SEEDS)
def test_it_does_not_matter_at_which_members_they_wait(
    seed: int, weight: float, most: float, places: Callable[[int], tuple[tuple[int, ...], tuple[int, ...]]]
) -> None:
    assert unfairness(seed, fair, 4, weight=weight, places=places) <= most


@pytest.mark.parametrize("members", [1, 4])
@pytest.mark.parametrize("seed", SEEDS)
def test_estimates_that_are_wrong_at_first_cost_nobody_anything(seed: int, members: int) -> None:
    """Counted from the first second on."""
    assert unfairness(seed, ignorant, members, seconds=(0.1, 0.01), since=1.0) <= 0.02


@pytest.mark.parametrize("members", [1, 4])
def test_first_come_first_served_is_fair_to_nobody(members: int) -> None:
    assert unfairness(0, FirstCome, members, seconds=(0.1, 0.01)) > 0.05
    assert unfairness(0, FirstCome, members, weight=3.0) > 0.05


@pytest.mark.parametrize("seed", SEEDS)
def test_slots_that_move_are_hardly_idle(seed: int) -> None:
    """Five slots for four members, all of them with calls that wait: none has a whole number of them, so one slot is always moving."""
    for passes_on, least in ((True, 0.97), (False, 0.85)):
        world = World(seed=seed, instances=5, members=4, order=fair, passes_on=passes_on)
        world.closed_loop("a", 400, members=(0, 1, 2, 3))
        world.run(22.0)
        assert sum(world.compute(2.0, 22.0).values()) / 20.0 / 5 >= least
        assert world.busiest <= 5


@pytest.mark.parametrize("seed", SEEDS)
def test_batches_are_shared_as_single_calls_are(seed: int) -> None:
    """Calls in one batch share its time; their costs are what they share it by."""
    world = World(seed=seed, instances=1, members=1, batch=8, order=fair)
    world.closed_loop("heavy", 100, weight=3.0)
    world.closed_loop("light", 100)
    world.run(12.0)
    had = world.compute(2.0, 12.0)
    assert had["heavy"] / had["light"] == pytest.approx(3.0, rel=0.05)


@pytest.mark.parametrize("seed", SEEDS)
def test_interactive_calls_go_before_batch_ones_which_do_not_starve(seed: int) -> None:
    world = World(seed=seed, instances=1, order=fair)
    world.closed_loop("night", 50, service_class="batch", weight=1000.0)
    world.run(2.0)
    assert world.compute(1.0, 2.0)["night"] == pytest.approx(1.0)  # nobody else wants it
    world.open_loop("person", 2.0, spread=0.5)
    world.run(32.0)
    assert world.seen["person"].percentile(0.99, since=2.0) <= 2 * SERVICE + 1e-6
    world.closed_loop("crowd", 50)
    world.run(52.0)
    had = world.compute(42.0, 52.0)
    assert had["night"] == pytest.approx(0.05 * 10, rel=0.11)  # its floor, to one call


@pytest.mark.parametrize("seed", SEEDS)
def test_who_obeys_a_retry_after_gets_in(seed: int) -> None:
    """Three hundred clients at once, room for a hundred, beside a tenant that always waits."""
    order = FairOrder(costs=Costs(SERVICE), most_waiting=400, most_of_tenant=100)
    world = World(seed=seed, instances=2, order=lambda: order)
    world.closed_loop("other", 50)
    tries: list[int] = []

    def ask(tried: int) -> None:
        found = world.call("crowd", SERVICE)
        if isinstance(found, Refused):
            world.at(world.now + found.retry_after_seconds, lambda: ask(tried + 1))
        else:
            tries.append(tried)

    for _ in range(300):
        world.at(1.0 + world.random.random() / 100, lambda: ask(1))
    world.run(60.0)
    assert len(tries) == len(world.seen["crowd"].latencies) == 300
    assert max(tries) == 2  # refused once at most


@pytest.mark.parametrize("seed", SEEDS)
def test_who_could_not_be_in_time_is_told_when_it_can(seed: int) -> None:
    """Clients that give up after two seconds: nobody waits for nothing, and who comes when it is told ends in time."""
    order = FairOrder(costs=Costs(SERVICE), most_waiting=1_000, most_of_tenant=1_000)
    world = World(seed=seed, instances=1, order=lambda: order)
    tries: list[int] = []

    def ask(tried: int) -> None:
        found = world.call("crowd", SERVICE, deadline=2.0)
        if isinstance(found, Refused):
            assert found.why == "late"
            world.at(world.now + found.retry_after_seconds, lambda: ask(tried + 1))
        else:
            tries.append(tried)

    for _ in range(150):
        world.at(1.0 + world.random.random() / 100, lambda: ask(1))
    world.run(60.0)
    took = [it for _, it in world.seen["crowd"].latencies]
    assert len(took) == 150
    assert max(took) <= 2.0 + 1e-6
    assert max(tries) <= 3
