from hypothesis import given
from hypothesis import strategies as st

from gateway.scaling.balancer import least_loaded
from gateway.scaling.residency import Place


def _place(in_flight: int, last_use: int) -> Place:
    return Place(model="m", memory_bytes=1, in_flight=in_flight, last_use=last_use)


def test_a_call_goes_where_the_fewest_are_under_way() -> None:
    places = [_place(3, 1), _place(1, 9), _place(2, 2)]
    assert least_loaded(places) is places[1]


def test_idle_places_take_turns() -> None:
    places = [_place(0, 0) for _ in range(3)]
    taken = []
    for use in range(1, 7):
        place = least_loaded(places)
        place.last_use = use
        taken.append(places.index(place))
    assert taken == [0, 1, 2, 0, 1, 2]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=9))
def test_nobody_has_fewer_calls_and_of_equals_nobody_rested_longer(loads: list[tuple[int, int]]) -> None:
    chosen = least_loaded([_place(*load) for load in loads])
    assert (chosen.in_flight, chosen.last_use) == min(loads)


@given(st.integers(1, 8), st.integers(0, 60))
def test_calls_that_do_not_end_are_spread_evenly(count: int, calls: int) -> None:
    places = [_place(0, 0) for _ in range(count)]
    for use in range(calls):
        place = least_loaded(places)
        place.in_flight, place.last_use = place.in_flight + 1, use
    assert max(place.in_flight for place in places) - min(place.in_flight for place in places) <= 1
