"""Shares of compute: the whole and nothing but the whole, by weight and time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.usage import measured
from gateway.usage.apportion import IDLE, UNATTRIBUTED, Interval, Ran, Who, idle_us, shares
from gateway.usage.measured import Place, Point, Record, Share
from tenants.errors import Unreadable
from tenants.ports import Key, Row

A, B = Who("t_a", "k_a"), Who("t_b", "k_b")
WITHIN = Interval(1_000, 2_000)

whos = st.sampled_from([A, B, Who("t_a", "k_other"), Who("", "canary")])
runs = st.lists(
    st.builds(
        lambda who, start, took, weight: Ran(who, start, start + took, weight),
        whos,
        st.integers(0, 3_000),
        st.integers(0, 2_000),
        st.integers(1, 50),
    ),
    max_size=20,
)


@given(st.integers(0, 10**12), runs)
def test_all_of_it_is_shared_out_whoever_was_there(total_us: int, them: list[Ran]) -> None:
    assert sum(shares(total_us, WITHIN, them).values()) == total_us


@given(st.integers(0, 10**9), runs)
def test_a_share_is_in_proportion_to_weight_and_time_to_the_microsecond(
    total_us: int, them: list[Ran]
) -> None:
    parts: dict[Who, int] = {}
    for run in them:
        parts[run.who] = parts.get(run.who, 0) + WITHIN.overlap(run) * run.weight
    whole = sum(parts.values())
    for who, part in shares(total_us, WITHIN, them).items():
        if whole:
            assert abs(part - total_us * parts[who] / whole) < 1


@given(runs)
def test_idle_is_what_nobody_was_there(them: list[Ran]) -> None:
    busy = {
        us for run in them for us in range(max(run.start_us, WITHIN.start_us), min(run.end_us, WITHIN.end_us))
    }
    assert idle_us(WITHIN, them) == 1_000 - len(busy)


def test_what_no_call_explains_is_nobodys() -> None:
    before, behind = Ran(A, 0, 1_000), Ran(B, 2_000, 3_000)
    assert shares(70, WITHIN, [before, behind]) == {Who("", UNATTRIBUTED): 70}
    assert shares(0, WITHIN, []) == {}
    assert shares(70, WITHIN, [Ran(A, 0, 1_001), Ran(B, 1_500, 1_504)]) == {A: 14, B: 56}


def test_a_cut_moves_the_place_by_exactly_what_its_record_says() -> None:
    place = measured.noted(Place("m_a", Point(1_000, 500)), Point(2_000, 7_999))
    assert measured.noted(place, Point(3_000, 7_999)) == place, "nothing new, nothing to share"
    it = measured.cut(place, "r1", [Ran(A, 1_500, 2_500)])
    assert it.record == Record("r1", "m_a", (1_000, 2_000), 7, (Share("t_a", "k_a", 7), Share("", IDLE, 500)))
    assert it.place == Place("m_a", Point(2_000, 7_500), calls=1), "what is less than a microsecond waits"


def test_too_many_points_are_drawn_together_and_none_is_lost() -> None:
    place = Place("m_a", Point(0, 0))
    for at in range(1, 100):
        place = measured.noted(place, Point(at, at * 1_000))
    assert len(place.points) == measured.MOST_POINTS
    assert place.total_ns == 99_000


GOLDEN_PLACE = b'{"v":1,"model":"m_a","shared":[1,2],"points":[[3,4]],"ended":true,"calls":5}'
GOLDEN_RECORD = b'{"v":1,"replica":"r1","model":"m_a","interval_us":[1,2],"compute_us":3,"shares":[["t_a","k_a",3,0]],"applied":1}'


def test_places_and_records_keep_their_bytes_and_later_ones_are_refused() -> None:
    at = Key("p", "s")
    place = Place("m_a", Point(1, 2), (Point(3, 4),), ended=True, calls=5)
    assert measured.read_place(Row(at, GOLDEN_PLACE, 1)) == place
    assert measured.written(place) == GOLDEN_PLACE
    record = Record("r1", "m_a", (1, 2), 3, (Share("t_a", "k_a", 3),), 1)
    assert measured.read_record(Row(at, GOLDEN_RECORD, 1)) == record
    assert measured.written(record) == GOLDEN_RECORD
    for bad in (GOLDEN_PLACE.replace(b'"v":1', b'"v":2'), GOLDEN_PLACE.replace(b'"v"', b'"new":1,"v"')):
        with pytest.raises(Unreadable):
            measured.read_place(Row(at, bad, 1))
