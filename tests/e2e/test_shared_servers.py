"""Two gateways of one state send to the servers of the one that has charge: neither takes a model from under the other's calls, and when
the one in charge is killed the other goes on with what runs.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.state import clock
from tests.e2e.fleets import Fleet, configure, count, killed, logged, serve
from tests.e2e.load import Record, Traffic, faults, loading, seeded, statuses, times
from tests.e2e.world import Answer, Demo, fp32, milliseconds, starts, tritons, until

pytestmark = [pytest.mark.triton, pytest.mark.chaos]

FOUR = fp32(1, 2, 3, 4)
ONE_FITS = Fleet(["times01", "slow"], models_each=1)
ALL_FIT = Fleet(["times01", "times02", "slow"])
SCALES_SECONDS = 10.0


@contextmanager
def two(state: Path, fleet: Fleet) -> Iterator[tuple[Demo, Demo]]:
    """The first has charge."""
    key = configure(state, fleet)
    with serve(state, key) as first, serve(state, key) as second:
        try:
            yield first, second
        finally:
            first.kill()
            first.process.wait()
            killed(second)


def test_a_model_that_one_evicts_is_not_unloaded_under_a_call_of_the_other(state: Path) -> None:
    with two(state, ONE_FITS) as (first, second):
        assert first.infer("slow", milliseconds(0)).status == 200
        assert second.infer("slow", milliseconds(0)).status == 200
        answers: list[tuple[Answer, float]] = []

        def call() -> None:
            answers.append((second.infer("slow", milliseconds(4000)), clock()))

        caller = threading.Thread(target=call)
        caller.start()
        assert first.infer("times01", FOUR).status == 200  # it waits for the room that the call holds
        caller.join()
        ((answer, ended),) = answers
        assert answer.status == 200
        assert second.infer("times01", FOUR).status == 200
        unloaded = [line.at for line in logged(state) if (line.what, line.model) == ("unloaded", "slow")]
        assert len(unloaded) == 1
        assert unloaded[0] > ended - 0.05
        assert (starts(state), len(tritons(state)), count(state, "loading")) == (1, 1, 2)


def test_who_has_charge_is_killed_and_the_other_serves_on_and_scales(
    state: Path, record_property: Record
) -> None:
    with two(state, ALL_FIT) as (first, second):
        assert first.infer("times01", FOUR).status == 200
        before = tritons(state)
        with loading(second, seeded(record_property), Traffic(times("times01"), clients=4)) as load:
            until(lambda: len(load.seen) > 20, 20)
            first.kill()
            killed_at = clock()
            answer = second.infer("times02", FOUR)
            took = clock() - killed_at
            scaled_at = killed_at + took
            until(lambda: load.answered("times01", scaled_at), 20)
        assert answer.status == 200
        assert (faults(load.seen), set(statuses(load.seen))) == ([], {200})
        assert (tritons(state), starts(state), count(state, "unloaded")) == (before, 1, 0)
        record_property(
            "kill -9 of who has charge, until a cold model was served", f"{took:.2f} s (bar 10 s)"
        )
        assert took < SCALES_SECONDS
