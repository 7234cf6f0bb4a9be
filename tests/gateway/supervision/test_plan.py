"""What follows from the end of a child, and how soon."""

from typing import get_args

from gateway.supervision.plan import ENDED, STARTS, STEADY_SECONDS, Stage, failures_after, pause_seconds


def test_every_stage_says_what_follows_from_an_end() -> None:
    assert set(ENDED) == set(get_args(Stage))
    assert set(STARTS) < set(ENDED)


def test_only_a_first_start_that_fails_ends_it_all() -> None:
    assert [stage for stage, then in ENDED.items() if then == "end all"] == ["first"]


def test_who_ends_again_and_again_is_started_ever_later_and_at_least_twice_a_minute() -> None:
    assert [pause_seconds(failures) for failures in range(1, 10)] == [0, 1, 2, 4, 8, 16, 30, 30, 30]
    assert pause_seconds(10_000) == 30


def test_who_has_served_for_a_while_is_started_at_once() -> None:
    assert failures_after(7, STEADY_SECONDS) == 1
    assert failures_after(7, STEADY_SECONDS - 1) == 8
