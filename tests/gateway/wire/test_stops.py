"""A text ends before the first stop sequence that is complete, however it comes."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.stops import Stops

texts = st.text(alphabet="abc", max_size=24)


def told(stops: list[str], *pieces: str) -> str:
    cutter = Stops(stops)
    return "".join(map(cutter.push, pieces)) + cutter.end()


def ends_before(text: str, stops: list[str]) -> str:
    """What the text is up to the first stop sequence, by reading it character by character."""
    for end in range(len(text) + 1):
        found = [stop for stop in stops if text[:end].endswith(stop)]
        if found:
            return text[: end - max(map(len, found))]
    return text


@given(texts, st.lists(st.text(alphabet="abc", min_size=1, max_size=4), max_size=4), st.data())
def test_where_a_text_is_cut_changes_nothing(text: str, stops: list[str], data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    places = [0, *cuts, len(text)]
    pieces = [text[start:stop] for start, stop in itertools.pairwise(places)]
    assert told(stops, *pieces) == ends_before(text, stops)


def test_only_what_may_begin_a_stop_sequence_is_held_back() -> None:
    cutter = Stops(["END", "\n\n"])
    assert [cutter.push(piece) for piece in ("one E", "ND", " two")] == ["one ", "", ""]
    assert cutter.stopped
    cutter = Stops(["END"])
    assert [cutter.push(piece) for piece in ("one", " E", "N", "TER")] == ["one", " ", "", "ENTER"]
    assert not cutter.stopped
    assert Stops([]).push("anything") == "anything"


def test_what_was_held_back_is_told_when_no_more_comes() -> None:
    cutter = Stops(["END"])
    assert (cutter.push("the EN"), cutter.end(), cutter.stopped) == ("the ", "EN", False)
