"""What the parts of the draining protocol promise one by one. That they hold together: test_draining_model.py."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.scaling.draining import (
    Beat,
    Drain,
    Fence,
    Member,
    Move,
    Order,
    Patience,
    Placements,
    Said,
    Spot,
    Watch,
    due,
    moved,
    placed,
)
from gateway.scaling.residency import Phase
from tests.gateway.scaling.draining_world import SPOTS

SPOT, OTHER = SPOTS
PATIENCE = Patience(silence_seconds=10.0, margin_seconds=1.0)
WAYS: dict[Phase, tuple[Phase, ...]] = {
    Phase.LOADING: (),
    Phase.READY: (Phase.READY,),
    Phase.DRAINING: (Phase.READY, Phase.DRAINING),
    Phase.UNLOADING: (Phase.UNLOADING,),
}


def in_phase(phase: Phase) -> Placements:
    row = placed(Placements(), SPOT, 3, 10)
    assert row is not None
    for each in WAYS[phase]:
        row = moved(row, SPOT, each)
    return row


def drain_of(row: Placements) -> Drain:
    return Drain(SPOT, row.places[SPOT].version)


@pytest.mark.parametrize(
    ("phase", "leads_to"),
    [
        (Phase.LOADING, {Phase.READY, Phase.UNLOADING}),
        (Phase.READY, {Phase.DRAINING}),
        (Phase.DRAINING, {Phase.READY, Phase.UNLOADING}),
        (Phase.UNLOADING, {None}),
    ],
)
def test_there_is_no_way_back_from_unloading_and_none_to_it_but_from_a_drain_or_a_load(
    phase: Phase, leads_to: set[Phase | None]
) -> None:
    row = in_phase(phase)
    for to in [*Phase, None]:
        if to in leads_to:
            assert moved(row, SPOT, to).version == row.version + 1
        else:
            with pytest.raises(ValueError, match="does not become"):
                moved(row, SPOT, to)


@pytest.mark.parametrize("phase", Phase)
def test_a_place_takes_its_memory_until_it_is_gone(phase: Phase) -> None:
    row = in_phase(phase)
    assert placed(row, OTHER, 8, 10) is None
    assert placed(row, SPOT, 3, 10) is None
    assert placed(row, Spot("another", OTHER.model), 8, 10) is not None
    assert placed(row, OTHER, 7, 10) is not None


@given(
    silence=st.floats(1.0, 1e4),
    margin=st.floats(0.0, 0.5),
    began=st.floats(0.0, 1e6),
    speed=st.floats(1 - 4e-4, 1 + 4e-4),
)
def test_a_member_sends_no_more_before_anybody_finds_it_silent(
    silence: float, margin: float, began: float, speed: float
) -> None:
    """However soon its beat was heard, by a clock of another speed: it is the member's own deadline that comes first."""
    patience = Patience(silence, margin)
    heard_for = (patience.deadline(began) - began) * speed
    assert not patience.is_over(0.0, heard_for)


def test_silence_is_counted_from_an_answer_to_a_question() -> None:
    watch, beats = Watch(PATIENCE), {"m": Beat(1)}
    drain = drain_of(in_phase(Phase.DRAINING))
    watch.hear(beats, version=drain.generation, asked_at=0.0, now=5.0)
    watch.hear(beats, version=drain.generation, asked_at=16.0, now=30.0)
    assert not watch.is_drained(drain)
    watch.hear(beats, version=drain.generation, asked_at=16.02, now=30.0)
    assert watch.is_drained(drain)


def test_a_certified_death_is_enough_and_a_drain_without_members_is_over() -> None:
    drain = drain_of(in_phase(Phase.DRAINING))
    watch = Watch(PATIENCE)
    assert not watch.is_drained(drain), "nobody was asked"
    watch.hear({"m": Beat(1, is_dead=True)}, version=drain.generation, asked_at=0.0, now=0.0)
    assert watch.is_drained(drain)
    watch.hear({}, version=drain.generation, asked_at=0.0, now=0.0)
    assert watch.is_drained(drain)


def test_an_answer_that_was_overtaken_shows_a_member_nothing_newer() -> None:
    ready = in_phase(Phase.READY)
    draining = moved(ready, SPOT, Phase.DRAINING)
    member = Member(PATIENCE)
    member.read(draining, began=0.0, now=0.0)
    member.read(ready, began=0.0, now=0.0)
    assert not member.may_send(SPOT, 1.0)
    member.read(moved(draining, SPOT, Phase.READY), began=0.0, now=0.0)
    assert member.may_send(SPOT, 8.9)
    assert not member.may_send(SPOT, 9.0), "the deadline is over"


def test_a_sequence_of_another_load_is_lost() -> None:
    row = in_phase(Phase.READY)
    member = Member(PATIENCE)
    member.read(row, began=0.0, now=0.0)
    member.take(SPOT)
    loaded = row.places[SPOT].loaded
    assert member.may_go_on(SPOT, loaded, 1.0)
    for to in (Phase.DRAINING, Phase.UNLOADING, None):
        row = moved(row, SPOT, to)
    again = placed(row, SPOT, 3, 10)
    assert again is not None
    member.read(moved(again, SPOT, Phase.READY), began=1.0, now=1.0)
    assert member.may_send(SPOT, 1.0)
    assert not member.may_go_on(SPOT, loaded, 1.0)


def test_what_triton_has_and_nobody_placed_is_unloaded_and_what_changes_is_waited_for() -> None:
    watch = Watch(PATIENCE)
    assert due(SPOT, None, Said.READY, watch) is Order.UNLOAD
    assert due(SPOT, None, Said.AWAY, watch) is None
    for phase in (Phase.LOADING, Phase.UNLOADING):
        assert due(SPOT, in_phase(phase).places[SPOT], Said.CHANGING, watch) is None
    assert due(SPOT, in_phase(Phase.UNLOADING).places[SPOT], Said.AWAY, watch) == Move(None)


def test_after_a_question_nothing_older_passes() -> None:
    fence = Fence()
    assert fence.passes(3)
    assert fence.passes(3), "told again"
    assert not fence.passes(2)
    assert fence.passes(4)
