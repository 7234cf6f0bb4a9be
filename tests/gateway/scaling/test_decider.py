"""Load over virtual time, a tick every half second, and servers that take two seconds to come."""

import math
from collections import deque
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.scaling.decider import PANIC_SECONDS, SCALE_DOWN_DELAY_SECONDS, STABLE_SECONDS, Decider
from tenants.model import Scaling

TICK_SECONDS = 0.5
BOOT_TICKS = 4
TARGET = 8.0


def run(load: Callable[[float], float], seconds: float, *, most: int = 100) -> dict[float, int]:
    """What was decided when; replicas follow what is decided, up after a boot, down at once."""
    decider, ready, decided = Decider(), 0, dict[float, int]()
    scaling = Scaling(max_replicas=most, target_concurrency=TARGET)
    coming = deque([0] * BOOT_TICKS)
    for tick in range(int(seconds / TICK_SECONDS)):
        now = tick * TICK_SECONDS
        decided[now] = decider.decide(scaling, load(now), ready, now)
        coming.append(decided[now])
        ready = min(decided[now], max(ready, coming.popleft()))
    return decided


def step(at: float, before: float, after: float) -> Callable[[float], float]:
    return lambda now: before if now < at else after


@given(st.integers(0, 2_000), st.integers(1, 40), st.integers(1, 100))
def test_a_constant_concurrency_gives_its_share_of_the_target_rounded_up(
    concurrency: int, target: int, most: int
) -> None:
    decider, scaling = Decider(), Scaling(max_replicas=most, target_concurrency=target)
    expected = max(1, min(most, math.ceil(concurrency / target)))
    for tick in range(200):
        assert decider.decide(scaling, concurrency, expected, tick * TICK_SECONDS) == expected


@pytest.mark.parametrize("after", [64, 200, 800])
def test_a_step_is_followed_within_the_panic_window(after: float) -> None:
    decided = run(step(100.0, 8, after), 200.0)
    assert decided[99.5] == 1
    assert decided[100.0 + PANIC_SECONDS] == math.ceil(after / TARGET)


def test_a_small_step_is_followed_within_the_panic_window_too() -> None:
    decided = run(step(100.0, 32, 40), 120.0)
    assert decided[99.5] == 4
    assert decided[100.0 + PANIC_SECONDS] == 5


def test_a_first_burst_is_followed_at_once() -> None:
    assert run(lambda _: 200, 1.0)[0.0] == 25


def test_in_a_panic_it_never_shrinks_though_the_spike_was_shorter_than_a_boot() -> None:
    decided = run(lambda now: 400 if 100.0 <= now < 101.0 else 8, 300.0)
    peak = max(decided.values())
    over = max(now for now in decided if decided[now] > decided.get(now - TICK_SECONDS, 0))
    assert peak >= 6
    assert {decided[now] for now in decided if over <= now < over + STABLE_SECONDS} == {peak}
    assert decided[299.5] == 1


def test_in_a_panic_it_never_shrinks_though_there_was_no_room_for_what_it_wanted() -> None:
    decider, scaling = Decider(), Scaling(max_replicas=9, target_concurrency=TARGET)
    decided = [decider.decide(scaling, 72 if now < 8 else 0, 4, float(now)) for now in range(60)]
    assert decided == [9] * 60


def test_after_a_panic_it_shrinks_once_the_delay_is_over() -> None:
    decided = run(lambda now: 400 if 100.0 <= now < 101.0 else 8, 300.0)
    grew = max(now for now in decided if decided[now] > decided.get(now - TICK_SECONDS, 0))
    shrank = min(now for now in decided if decided[now] < decided.get(now - TICK_SECONDS, 0))
    # It grew until the last moment of panic, or a boot later saw that enough was there.
    late = (BOOT_TICKS + 1) * TICK_SECONDS + PANIC_SECONDS
    assert 0 <= shrank - grew - STABLE_SECONDS - SCALE_DOWN_DELAY_SECONDS <= late


def test_what_was_wanted_within_the_delay_is_kept() -> None:
    """Without a panic: the load halves, the stable average follows in a minute, what is decided half a minute later."""
    decided = run(step(100.0, 80, 40), 300.0, most=10)
    first_less = next(now for now in decided if now > 100.0 and decided[now] < 10)
    falls = next(
        now
        for now in decided
        if now > 100.0 and math.ceil((80 - 40 * min(60, now - 99.5) / 60) / TARGET) < 10
    )
    assert first_less == pytest.approx(falls + SCALE_DOWN_DELAY_SECONDS, abs=2 * TICK_SECONDS)
    assert decided[299.5] == 5


def test_a_pause_that_is_shorter_than_the_delay_takes_nothing_from_the_next_wave() -> None:
    decided = run(lambda now: 0 if 200.0 <= now < 200.0 + SCALE_DOWN_DELAY_SECONDS else 40, 300.0)
    assert {decided[now] for now in decided if 200.0 <= now <= 200.0 + SCALE_DOWN_DELAY_SECONDS} == {5}


def test_a_ceiling_that_came_down_holds_at_once() -> None:
    decider = Decider()
    assert decider.decide(Scaling(max_replicas=9), 72, 0, 0.0) == 9
    assert decider.decide(Scaling(max_replicas=2), 72, 9, 0.5) == 2


@given(
    st.lists(
        st.tuples(st.integers(0, 3_000), st.integers(0, 12), st.integers(1, 10)), min_size=1, max_size=200
    )
)
def test_it_is_never_less_than_one_nor_more_than_the_ceiling(ticks: list[tuple[int, int, int]]) -> None:
    decider = Decider()
    for tick, (concurrency, ready, most) in enumerate(ticks):
        scaling = Scaling(max_replicas=most, target_concurrency=TARGET)
        assert 1 <= decider.decide(scaling, concurrency, ready, tick * 2.0) <= most


@given(st.lists(st.integers(0, 300), min_size=40, max_size=200), st.integers(1, 12))
def test_it_never_shrinks_below_what_the_load_of_the_last_seconds_asks_for(
    load: list[int], most: int
) -> None:
    decider, scaling = Decider(), Scaling(max_replicas=most, target_concurrency=TARGET)
    ready = 0
    for tick, concurrency in enumerate(load):
        ready = decider.decide(scaling, concurrency, ready, float(tick))
        if min(recent := load[max(0, tick - int(STABLE_SECONDS) + 1) : tick + 1]) > 0:
            assert ready >= min(most, math.ceil(min(recent) / TARGET))
