"""Server-sent events mean the same however they are cut on their way."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.sse import Events, TooLong, event


def read(*pieces: bytes, most_bytes: int = 1000) -> list[bytes]:
    events = Events(most_bytes)
    return [data for piece in pieces for data in events.feed(piece)]


@pytest.mark.parametrize(
    ("stream", "data"),
    [
        (b"data: a\n\n", [b"a"]),
        (b"data:a\n\ndata:  b\n\n", [b"a", b" b"]),
        (b"data: a\r\ndata: b\r\n\r\n", [b"a\nb"]),
        (b"data: a\r\rdata\n\n", [b"a", b""]),
        (b": comment\nevent: x\nid: 7\ndata: a\nretry: 1\n\n\n\n", [b"a"]),
        (b"data: a\n", []),
        (b"data: a", []),
        (b"event: x\n\n", []),
        (b"dat: a\n\n", []),
    ],
)
def test_only_whole_events_with_data_are_told(stream: bytes, data: list[bytes]) -> None:
    assert read(stream) == data


lines = st.lists(st.sampled_from([b"data: a", b"data:b", b"data", b": c", b"", b"x"]), max_size=12)
ends = st.sampled_from([b"\n", b"\r\n", b"\r"])


@given(lines, ends, st.lists(st.integers(0, 200), max_size=12))
def test_where_a_stream_is_cut_changes_nothing(lines: list[bytes], end: bytes, cuts: list[int]) -> None:
    stream = b"".join(line + end for line in lines)
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    pieces = [stream[start:stop] for start, stop in itertools.pairwise(places)]
    assert read(*pieces) == read(*(stream[at : at + 1] for at in range(len(stream)))) == read(stream)


@pytest.mark.parametrize("stream", [b"data: " + b"x" * 1000, b"data: 12345678\n" * 200, b"x" * 1001])
def test_an_event_that_does_not_end_is_given_up(stream: bytes) -> None:
    with pytest.raises(TooLong):
        read(*(stream[at : at + 7] for at in range(0, len(stream), 7)))


def test_many_events_are_no_long_one() -> None:
    assert len(read(b"data: " + b"x" * 900 + b"\n\n") + read(*[b"data: 1\n\n"] * 1000)) == 1001


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\r\n")))
def test_what_is_written_is_read_again(text: str) -> None:
    assert read(event(text.encode())) == [text.encode()]
