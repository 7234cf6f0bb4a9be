"""The sentences of the module, one by one: a board, what is wanted, the steps. The laws are in test_residency_laws."""

import pytest

from gateway.scaling.residency import (
    STARVING_SECONDS,
    Drain,
    Life,
    Load,
    Phase,
    Server,
    Start,
    Step,
    Stop,
    Unload,
    Want,
)
from tenants.fleet import Fleet
from tests.gateway.scaling.support import NOW, Board, a_fleet, a_place, a_server

ONE = a_fleet(most=1)
NEW, HUNGRY, STARVED = NOW, NOW - STARVING_SECONDS / 2, NOW - STARVING_SECONDS - 0.1


def steps(fleet: Fleet, servers: list[Server], *wants: Want, may_start: bool = True) -> list[Step]:
    return Board(fleet, {}, servers).steps(*wants, may_start=may_start)


def waits(model: str = "a", memory: int = 4, replicas: int = 1, since: float = NEW) -> Want:
    return Want(model, memory, replicas, since)


def keeps(*models: str, memory: int = 4, replicas: int = 1) -> list[Want]:
    return [Want(model, memory, replicas) for model in models]


# Where a model that waits comes


def test_where_there_is_room_it_loads() -> None:
    board = [a_server("s", a_place("b", 6))]
    assert steps(ONE, board, waits(), *keeps("b")) == [Load("s", "a")]


def test_it_comes_where_the_least_room_is_left_over() -> None:
    board = [a_server("s"), a_server("t", a_place("b", 5)), a_server("u", a_place("c", 2))]
    assert steps(a_fleet(most=3), board, waits(), *keeps("b", "c")) == [Load("t", "a")]


def test_without_room_a_new_server_starts_and_nothing_is_evicted() -> None:
    board = [a_server("s", a_place("b", 8))]
    assert steps(a_fleet(most=2), board, waits(), *keeps("b")) == [Start()]


def test_it_waits_for_a_server_that_starts_and_has_room() -> None:
    board = [a_server("s", a_place("b", 8)), a_server("t", life=Life.STARTING)]
    assert steps(a_fleet(most=3), board, waits(), *keeps("b")) == []


def test_a_server_that_is_ready_comes_before_one_that_starts() -> None:
    board = [a_server("s", life=Life.STARTING), a_server("t")]
    assert steps(a_fleet(), board, waits()) == [Load("t", "a")]


def test_who_waits_shares_the_new_server() -> None:
    assert steps(a_fleet(most=3), [], waits("a"), waits("b")) == [Start()]
    assert steps(a_fleet(most=3), [], waits("a"), waits("b"), waits("c")) == [Start(), Start()]


def test_with_no_more_servers_to_be_had_it_gets_the_room_of_who_was_used_longest_ago() -> None:
    places = [a_place("b", 3, last_use=5), a_place("c", 3, last_use=2), a_place("d", 3, last_use=9)]
    board = [a_server("s", *places)]
    assert steps(ONE, board, waits(), *keeps("b", "c", "d")) == [Drain("s", "c")]
    assert steps(ONE, board, waits(memory=7), *keeps("b", "c", "d")) == [Drain("s", "c"), Drain("s", "b")]


def test_it_evicts_on_the_server_where_the_last_use_is_longest_ago() -> None:
    board = [a_server("s", a_place("b", 8, last_use=5)), a_server("t", a_place("c", 8, last_use=4))]
    assert steps(a_fleet(), board, waits(), *keeps("b", "c")) == [Drain("t", "c")]


def test_when_no_server_may_start_it_evicts() -> None:
    board = [a_server("s", a_place("b", 8))]
    assert steps(a_fleet(), board, waits(), *keeps("b"), may_start=False) == [Drain("s", "b")]


@pytest.mark.parametrize(("since", "then"), [(HUNGRY, []), (STARVED, [Drain("s", "b")])])
def test_only_who_starves_gets_the_room_of_busy_ones(since: float, then: list[Step]) -> None:
    board = [a_server("s", a_place("b", 5, in_flight=1, last_use=9), a_place("c", 5, in_flight=2))]
    assert steps(ONE, board, waits(since=since), *keeps("b", "c")) == then


def test_who_starves_takes_idle_ones_first() -> None:
    board = [a_server("s", a_place("b", 5, in_flight=1)), a_server("t", a_place("c", 8, last_use=9))]
    assert steps(a_fleet(), board, waits(memory=6, since=STARVED), *keeps("b", "c")) == [Drain("t", "c")]


def test_the_oldest_call_comes_first() -> None:
    board = [a_server("s", a_place("b", 8))]
    wants = [waits("a", 8, since=NEW), waits("z", 8, since=HUNGRY)]
    assert steps(ONE, [a_server("s")], *wants) == [Load("s", "z")]
    assert steps(ONE, board, *wants, *keeps("b")) == [Drain("s", "b")]


def test_one_that_is_larger_than_a_server_gets_nothing_and_costs_nobody_anything() -> None:
    board = [a_server("s", a_place("b", 8))]
    assert steps(a_fleet(), board, waits(memory=11, since=STARVED), *keeps("b")) == []


# What is taken stays taken


@pytest.mark.parametrize("phase", [Phase.DRAINING, Phase.UNLOADING])
def test_memory_is_taken_until_the_place_is_gone(phase: Phase) -> None:
    board = [a_server("s", a_place("b", 8, phase, in_flight=phase is Phase.DRAINING))]
    assert steps(ONE, board, waits(), *keeps("b")) == []
    board[0].places.clear()
    assert steps(ONE, board, waits(), *keeps("b")) == [Load("s", "a")]


def test_room_that_comes_free_is_kept_for_who_it_was_made_for() -> None:
    board = [a_server("s", a_place("b", 5, Phase.UNLOADING), a_place("c", 1))]
    later = waits("z", 4, since=NEW)
    assert steps(ONE, board, waits("a", 9, since=HUNGRY), later, *keeps("c", memory=1)) == []


@pytest.mark.parametrize(("since", "then"), [(HUNGRY, [Load("s", "z")]), (STARVED, [])])
def test_who_starves_is_next_where_another_one_still_loads(since: float, then: list[Step]) -> None:
    """Or small models that come one after the other would keep a large one out for ever."""
    board = [a_server("s", a_place("b", 4, Phase.LOADING), a_place("c", 4))]
    wants = [waits("a", 10, since=since), waits("z", 2, since=NEW), waits("b", since=HUNGRY)]
    assert steps(ONE, board, *wants, *keeps("c")) == then


def test_what_still_loads_is_not_waited_for_where_another_one_is_idle() -> None:
    board = [a_server("s", a_place("b", 8, Phase.LOADING)), a_server("t", a_place("c", 8))]
    assert steps(a_fleet(), board, waits(since=STARVED), *keeps("b", "c")) == [Drain("t", "c")]


def test_a_place_that_drains_a_long_call_is_not_waited_for_where_another_one_is_idle() -> None:
    board = [a_server("s", a_place("b", 8, Phase.DRAINING, in_flight=1)), a_server("t", a_place("c", 8))]
    assert steps(a_fleet(), board, waits(), *keeps("b", "c")) == [Drain("t", "c")]


def test_who_starves_waits_for_what_this_very_plan_loads_where_that_hurts_least() -> None:
    """As the next plan would see it: else it would wait elsewhere then, and the room kept for it there would be free again."""
    busy = a_place("e", 9, in_flight=1)
    board = [a_server("s", busy), a_server("t")]
    wants = [waits("a", 8, since=STARVED - 1), waits("b", 4, since=STARVED), waits("c", 1, since=STARVED)]
    # b waits for the room of a, which has no call yet, so that the room beside e is left for c.
    assert steps(a_fleet(most=2), board, *wants, *keeps("e")) == [Load("t", "a"), Load("s", "c")]


def test_one_eviction_is_enough_while_it_is_under_way() -> None:
    board = [a_server("s", a_place("b", 8, Phase.UNLOADING, last_use=9)), a_server("t", a_place("c", 8))]
    assert steps(a_fleet(), board, waits(since=STARVED), *keeps("b", "c")) == []
    board = [
        a_server("s", a_place("b", 8, Phase.DRAINING, in_flight=3)),
        a_server("t", a_place("c", 8, in_flight=1)),
    ]
    assert steps(a_fleet(), board, waits(since=STARVED), *keeps("b", "c")) == []


# Who evicts, and whom


def test_a_model_that_waits_is_not_evicted_for_another() -> None:
    board = [a_server("s", a_place("b", 8))]
    assert steps(ONE, board, waits(since=STARVED), waits("b", 8, since=NEW)) == []


def test_one_that_wants_more_replicas_takes_free_room_or_a_new_server() -> None:
    board = [a_server("s", a_place("a", 4)), a_server("t")]
    assert steps(a_fleet(), board, *keeps("a", replicas=2)) == [Load("t", "a")]
    assert steps(a_fleet(), board[:1], *keeps("a", replicas=2)) == [Start()]


def test_one_that_wants_more_replicas_evicts_nobody() -> None:
    board = [a_server("s", a_place("a", 4)), a_server("t", a_place("b", 8))]
    assert steps(a_fleet(), board, *keeps("a", replicas=2), *keeps("b")) == []


@pytest.mark.parametrize("phase", [Phase.LOADING, None])
def test_one_that_waits_evicts_for_its_first_place_only(phase: Phase | None) -> None:
    board = [a_server("s", a_place("b", 8)), a_server("t", a_place("c", 8))]
    if phase:
        board.append(a_server("u", a_place("a", 4, phase), a_place("d", 6)))
    then = [] if phase else [Drain("s", "b")]
    assert steps(a_fleet(), board, waits(replicas=3), *keeps("b", "c", "d")) == then


def test_replicas_of_a_model_are_on_different_servers() -> None:
    assert steps(a_fleet(), [a_server("s")], waits(replicas=2)) == [Load("s", "a"), Start()]
    assert steps(a_fleet(), [], waits(replicas=2)) == [Start(), Start()]
    board = [a_server("s"), a_server("t")]
    assert steps(a_fleet(), board, waits(replicas=2)) == [Load("s", "a"), Load("t", "a")]


def test_one_that_is_not_waited_for_is_not_loaded() -> None:
    assert steps(a_fleet(), [a_server("s")], *keeps("a")) == []


# What goes


def test_what_is_too_much_drains_the_idlest_first() -> None:
    board = [a_server("s", a_place("a", 4, in_flight=1)), a_server("t", a_place("a", 4, last_use=7))]
    assert steps(a_fleet(), board, *keeps("a", replicas=1)) == [Drain("t", "a")]


def test_a_model_keeps_what_it_wants_when_another_one_takes_a_place_of_it() -> None:
    """It has one too many, and that is the one that is taken."""
    board = [
        a_server("s", a_place("a", 4, last_use=9)),
        a_server("t", a_place("a", 4, last_use=1), a_place("b", 6, Phase.LOADING)),
    ]
    wants = [waits("z", 10, since=HUNGRY), waits("b", 6), *keeps("a")]
    assert steps(a_fleet(), board, *wants) == [Drain("s", "a")]


@pytest.mark.parametrize("wants", [[Want("a", 4, 0)], []])
def test_what_is_not_wanted_drains(wants: list[Want]) -> None:
    board = [a_server("s", a_place("a", 4, in_flight=3))]
    assert steps(ONE, board, *wants) == [Drain("s", "a")]


def test_it_is_unloaded_once_its_calls_are_done() -> None:
    place = a_place("a", 4, Phase.DRAINING, in_flight=1)
    board = [a_server("s", place)]
    assert steps(ONE, board) == []
    place.in_flight = 0
    assert steps(ONE, board) == [Unload("s", "a")]
    place.phase = Phase.UNLOADING
    assert steps(ONE, board) == []


# What is replaced


def test_an_outdated_place_serves_until_another_one_does() -> None:
    old, new = a_place("a", 4, outdated=True), a_place("a", 4, Phase.LOADING)
    board = [a_server("s", old), a_server("t")]
    assert steps(a_fleet(), board, *keeps("a")) == [Load("t", "a")]
    board[1].places["a"] = new
    assert steps(a_fleet(), board, *keeps("a")) == []
    new.phase = Phase.READY
    assert steps(a_fleet(), board, *keeps("a")) == [Drain("s", "a")]


def test_an_outdated_place_makes_room_where_there_is_none_for_another() -> None:
    board = [a_server("s", a_place("a", 6, outdated=True))]
    assert steps(ONE, board, *keeps("a", memory=6)) == [Drain("s", "a")]


def test_to_replace_a_place_nobody_is_evicted() -> None:
    board = [a_server("s", a_place("a", 6, outdated=True)), a_server("t", a_place("b", 8))]
    assert steps(a_fleet(), board, *keeps("a", "b")) == [Drain("s", "a")]


def test_a_retiring_server_gets_no_models_and_stops_once_it_has_none() -> None:
    server = a_server("s", a_place("a", 4), life=Life.RETIRING)
    fresh = a_server("t")
    assert steps(a_fleet(), [server, fresh], *keeps("a"), waits("b")) == [Load("t", "b"), Load("t", "a")]
    fresh.places["a"] = a_place("a", 4)
    assert steps(a_fleet(), [server, fresh], *keeps("a")) == [Drain("s", "a")]
    server.places["a"].phase = Phase.DRAINING
    assert steps(a_fleet(), [server, fresh], *keeps("a")) == [Unload("s", "a")]
    server.places["a"].phase = Phase.UNLOADING
    assert steps(a_fleet(), [server, fresh], *keeps("a")) == [Stop("s")]
    server.life = Life.STOPPING
    assert steps(a_fleet(), [server, fresh], *keeps("a")) == []


def test_a_retiring_server_makes_room_for_another_where_there_may_be_no_more() -> None:
    assert steps(ONE, [a_server("s", a_place("a", 4), life=Life.RETIRING)], *keeps("a")) == [Drain("s", "a")]


def test_a_place_on_a_server_that_stops_is_no_place() -> None:
    board = [a_server("s", a_place("a", 4), life=Life.STOPPING), a_server("t", a_place("b", 8))]
    assert steps(a_fleet(), board, waits(), *keeps("b")) == [Drain("t", "b")]


# How many servers


@pytest.mark.parametrize(("idle_seconds", "then"), [(59.9, []), (60.0, [Stop("s")])])
def test_an_empty_server_stops_after_its_idle_time(idle_seconds: float, then: list[Step]) -> None:
    assert steps(ONE, [a_server("s", empty_since=NOW - idle_seconds)]) == then


def test_an_empty_server_that_is_about_to_load_does_not_stop() -> None:
    assert steps(ONE, [a_server("s", empty_since=0.0)], waits()) == [Load("s", "a")]


def test_the_floor_is_started_and_kept_while_nobody_calls() -> None:
    fleet = a_fleet(least=2, most=3)
    assert steps(fleet, []) == [Start(), Start()]
    idle = [a_server(name, empty_since=0.0) for name in "stu"]
    assert steps(fleet, idle) == [Stop("s")]
    assert steps(fleet, idle[:2]) == []
    assert steps(fleet, [idle[0], a_server("t", life=Life.RETIRING)]) == [Stop("t"), Start()]


def test_there_are_never_more_than_the_ceiling_also_while_one_stops() -> None:
    board = [a_server("s", life=Life.STOPPING), a_server("t", a_place("b", 8, in_flight=1))]
    assert steps(a_fleet(most=2, least=2), board, waits(), *keeps("b")) == []


def test_nothing_starts_while_it_may_not() -> None:
    assert steps(a_fleet(least=1), [], waits(), may_start=False) == []
