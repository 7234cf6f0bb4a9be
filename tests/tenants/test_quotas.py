"""The laws of a limit, exact to the nanosecond."""

from fractions import Fraction
from itertools import combinations_with_replacement

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenants.plans import Rate
from tenants.quotas import Admission, admit, interval_nanoseconds

NS = 10**9
rates = st.builds(Rate, st.floats(0.01, 1_000_000), st.integers(1, 30))
starts = st.integers(0, 10**15)
gaps = st.lists(st.integers(0, 3 * NS) | st.integers(0, 5000) | st.just(0), max_size=40)


def admitted_at(limit: Rate, start: int, gaps: list[int]) -> list[int]:
    """The instants, in nanoseconds, of those that were admitted."""
    tat, now, instants = 0.0, start, []
    for gap in gaps:
        now += gap
        admission = admit(limit, tat, now / NS)
        tat = admission.tat
        if admission.admitted:
            instants.append(now)
    return instants


def used(limit: Rate, start: int, gaps: list[int]) -> tuple[float, int]:
    """The state of a limit that was asked a few times, and the instant of the last question."""
    tat, now = 0.0, start
    for gap in gaps:
        now += gap
        tat = admit(limit, tat, now / NS).tat
    return tat, now


def burst_at(limit: Rate, tat: float, now: int) -> int:
    """How many are admitted at one instant."""
    count = 0
    while (admission := admit(limit, tat, now / NS)).admitted:
        tat, count = admission.tat, count + 1
    return count


@given(rates, starts, gaps)
def test_any_window_admits_at_most_the_burst_and_the_rate_times_its_length(
    limit: Rate, start: int, gaps: list[int]
) -> None:
    instants = admitted_at(limit, start, gaps)
    for first, last in combinations_with_replacement(range(len(instants)), 2):
        window_seconds = Fraction(instants[last] - instants[first], NS)
        assert last - first + 1 <= limit.burst + Fraction(limit.rate) * window_seconds


@given(rates, starts)
def test_a_fresh_limit_admits_its_whole_burst(limit: Rate, start: int) -> None:
    assert burst_at(limit, 0.0, start) == limit.burst


@given(rates, starts, gaps)
def test_remaining_is_how_many_more_are_admitted_now(limit: Rate, start: int, gaps: list[int]) -> None:
    tat, now = used(limit, start, gaps)
    admission = admit(limit, tat, now / NS)
    assert burst_at(limit, admission.tat, now) == admission.remaining


@given(rates, starts, gaps)
def test_retry_after_is_the_shortest_wait(limit: Rate, start: int, gaps: list[int]) -> None:
    tat, now = used(limit, start, gaps)
    refusal = admit(limit, tat, now / NS)
    while refusal.admitted:
        tat = refusal.tat
        refusal = admit(limit, tat, now / NS)
    due = now + round(refusal.retry_after_seconds * NS)
    assert refusal.tat == tat
    assert not admit(limit, tat, (due - 1) / NS).admitted
    assert admit(limit, tat, due / NS).admitted


@given(rates, starts, gaps)
def test_reset_is_when_the_whole_burst_is_there_again(limit: Rate, start: int, gaps: list[int]) -> None:
    tat, now = used(limit, start, gaps)
    admission = admit(limit, tat, now / NS)
    whole = now + round(admission.reset_seconds * NS)
    assert burst_at(limit, admission.tat, whole) == limit.burst
    assert burst_at(limit, admission.tat, whole - 1) == limit.burst - 1


@given(st.floats(0.0001, 1_000_000))
def test_the_long_run_is_within_a_thousandth_of_the_rate(rate: float) -> None:
    assert 1 <= interval_nanoseconds(rate) * Fraction(rate) / NS <= Fraction(1001, 1000)


def test_who_asks_as_fast_as_the_rate_is_never_refused() -> None:
    assert len(admitted_at(Rate(50.0, 1), 10**15, [NS // 50] * 500)) == 500


@pytest.mark.parametrize(
    ("tat", "now", "expected"),
    [
        (0.0, 10.0, Admission(10.5, 2, 0.0, 0.5)),
        (10.5, 10.0, Admission(11.0, 1, 0.0, 1.0)),
        (11.0, 10.0, Admission(11.5, 0, 0.0, 1.5)),
        (11.5, 10.0, Admission(11.5, 0, 0.5, 1.5)),
        (11.5, 10.25, Admission(11.5, 0, 0.25, 1.25)),
        (11.5, 10.5, Admission(12.0, 0, 0.0, 1.5)),
        (11.5, 99.0, Admission(99.5, 2, 0.0, 0.5)),
    ],
)
def test_two_a_second_three_at_once(tat: float, now: float, expected: Admission) -> None:
    assert admit(Rate(2.0, 3), tat, now) == expected
