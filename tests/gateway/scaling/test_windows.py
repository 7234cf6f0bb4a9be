import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.scaling.windows import Window

_SAMPLES = st.lists(
    st.tuples(st.floats(0.001, 3.0), st.integers(0, 1_000)), min_size=1, max_size=60
)  # seconds since the one before, concurrency


def test_without_a_sample_nothing_was_asked() -> None:
    assert Window(60.0).average(6.0, now=10.0) == 0.0


def test_an_average_is_over_what_was_sampled_so_that_a_new_model_is_not_watered_down() -> None:
    window = Window(60.0)
    window.record(4, now=100.0)
    window.record(8, now=101.0)
    assert window.average(60.0, now=101.0) == 6.0


@pytest.mark.parametrize(("seconds", "average"), [(1.0, 9.0), (1.5, 6.0), (2.0, 6.0), (2.5, 5.0)])
def test_a_sample_counts_for_less_than_the_seconds_asked_for(seconds: float, average: float) -> None:
    window = Window(60.0)
    for at, concurrency in [(1.0, 3), (2.0, 3), (3.0, 9)]:
        window.record(concurrency, now=at)
    assert window.average(seconds, now=3.0) == average


def test_samples_are_forgotten_and_take_no_memory_after_their_time() -> None:
    window = Window(60.0)
    for tick in range(10_000):
        window.record(1, now=tick * 0.5)
    assert len(window._samples) == 120


@given(_SAMPLES, st.floats(0.1, 60.0))
def test_the_average_is_that_of_the_samples_that_are_young_enough(
    samples: list[tuple[float, int]], seconds: float
) -> None:
    window, seen, now = Window(60.0), [], 0.0
    for later, concurrency in samples:
        now += later
        window.record(concurrency, now)
        seen.append((now, concurrency))
        young = [value for at, value in seen if at > now - seconds]
        assert window.average(seconds, now) == pytest.approx(sum(young) / len(young))
