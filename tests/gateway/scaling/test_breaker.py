"""Transcripts: what happens, and what the breaker says then. The laws are over arbitrary ones."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.scaling.breaker import Breaker

WHY = "exit 1: out of memory"
FORGET = Breaker().forget_seconds
_FAILURES = st.lists(
    st.floats(0.0, 200.0), min_size=1, max_size=30
)  # seconds since the pause before was over


def tripped(breaker: Breaker, times: int, now: float = 0.0) -> float:
    """The breaker failed so many times, each as soon as it let anything through; when the last pause is over."""
    for _ in range(times):
        breaker.failed(WHY, now)
        now += breaker.wait_seconds(now)
    return now


def test_a_new_one_lets_all_through() -> None:
    breaker = Breaker()
    assert breaker.state(0.0) == "closed"
    assert all(breaker.allows(0.0) for _ in range(9))
    assert breaker.wait_seconds(0.0) == 0.0


def test_a_failure_opens_it_until_its_pause_is_over() -> None:
    breaker = Breaker(first_seconds=2.0)
    breaker.failed(WHY, 10.0)
    assert [breaker.state(at) for at in (10.0, 11.9, 12.0)] == ["open", "open", "half-open"]
    assert [breaker.wait_seconds(at) for at in (10.0, 11.5, 12.0, 13.0)] == [2.0, 0.5, 0.0, 0.0]
    assert not breaker.allows(11.9)
    assert breaker.why == WHY


def test_a_half_open_one_lets_one_probe_through_until_it_is_told_how_that_went() -> None:
    breaker = Breaker()
    over = tripped(breaker, 1)
    assert [breaker.allows(over + later) for later in (0.0, 0.0, 5.0, 500.0)] == [True, False, False, False]
    breaker.failed(WHY, over + 501.0)
    assert not breaker.allows(over + 501.0)
    assert breaker.allows(over + 502.0)
    breaker.succeeded()
    assert all(breaker.allows(over + 502.0) for _ in range(9))


def test_asking_while_it_is_open_does_not_use_up_the_probe() -> None:
    breaker = Breaker()
    over = tripped(breaker, 1)
    assert not breaker.allows(over - 0.5)
    assert breaker.allows(over)


def test_the_threshold_is_how_many_failures_it_takes() -> None:
    breaker = Breaker(threshold=3)
    breaker.failed(WHY, 0.0)
    breaker.failed(WHY, 0.1)
    assert breaker.allows(0.1)
    breaker.failed(WHY, 0.2)
    assert not breaker.allows(0.2)
    assert breaker.wait_seconds(0.2) == pytest.approx(1.0)


def test_failures_below_the_threshold_are_forgotten_too() -> None:
    breaker = Breaker(threshold=2)
    breaker.failed(WHY, 0.0)
    breaker.failed(WHY, FORGET + 0.1)
    assert breaker.state(FORGET + 0.1) == "closed"
    breaker.failed(WHY, FORGET + 0.2)
    assert breaker.state(FORGET + 0.2) == "open"


def test_a_crash_loop_that_starts_well_each_time_backs_off() -> None:
    breaker, now, pauses = Breaker(), 0.0, []
    for _ in range(9):
        assert breaker.allows(now)
        breaker.succeeded()
        now += 1.0  # it runs for a second
        breaker.failed(WHY, now)
        pauses.append(breaker.wait_seconds(now))
        now += pauses[-1]
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]


@given(_FAILURES, st.floats(0.1, 10.0), st.floats(10.0, 100.0))
def test_the_pause_doubles_up_to_the_most_and_starts_anew_after_a_quiet_time(
    quiets: list[float], first: float, most: float
) -> None:
    breaker = Breaker(first_seconds=first, most_seconds=most)
    now, expected = 0.0, first / 2
    for quiet in quiets:
        now += quiet
        gone_by = now - breaker._until  # as the breaker itself rounds it
        assert breaker.allows(now)
        breaker.succeeded()
        breaker.failed(WHY, now)
        expected = first if gone_by > FORGET else min(most, expected * 2)
        assert breaker.wait_seconds(now) == pytest.approx(expected)
        now += breaker.wait_seconds(now)


def test_a_success_alone_forgets_nothing() -> None:
    breaker = Breaker()
    over = tripped(breaker, 3)
    breaker.succeeded()
    assert breaker.allows(over)
    breaker.failed(WHY, over + FORGET)
    assert breaker.wait_seconds(over + FORGET) == 8.0


def test_it_counts_on_for_ever() -> None:
    breaker = Breaker()
    assert tripped(breaker, 5_000) > 0
    assert breaker.failures == 5_000


@given(st.lists(st.sampled_from(["ask", "fail", "succeed", "wait"]), max_size=60))
def test_never_more_than_one_probe_is_under_way(events: list[str]) -> None:
    breaker, now, probes = Breaker(threshold=2), 0.0, 0
    for event in events:
        if event == "ask":
            was = breaker.state(now)
            allowed = breaker.allows(now)
            assert allowed == (was == "closed" or (was == "half-open" and probes == 0))
            probes += allowed and was == "half-open"
        elif event == "wait":
            now += 0.7
        else:
            breaker.failed(WHY, now) if event == "fail" else breaker.succeeded()
            probes = 0
