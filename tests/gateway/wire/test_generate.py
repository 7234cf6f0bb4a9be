"""A generate request has one reading, and the errors in a stream keep the server's insides."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Code, GatewayError
from gateway.wire.generate import Events, error_event, judge_generate, public_event

LETTER = b'data: {"model_name":"letters","text_output":"a"}\n\n'
FAULT = b'data: {"error":"boom at /srv/models/x"}\n\n'
PUBLIC = b'data: {"error":"boom at (internal)"}\n\n'


def judged(body: bytes | dict[str, Any]) -> Any:
    return json.loads(judge_generate(body if isinstance(body, bytes) else json.dumps(body).encode()))


@pytest.mark.parametrize(
    "request_",
    [
        {"text_input": "hello", "max_tokens": 5, "stream": True, "temperature": 0.5},
        {"id": "7", "in": [1, 2.5, 3], "flags": [True, False], "texts": ["a", "é\n"]},
        {"text_input": "x", "parameters": {"top_k": 3, "bad_words": "a,b", "p": 0.1, "early": False}},
        {"text_input": "\u0000 🙂"},
        {"texts": ['{"a": 1}', "\\", '"{', '\\"']},
        {},
    ],
)
def test_inputs_and_parameters_pass_with_their_values(request_: dict[str, Any]) -> None:
    assert judged(request_) == request_


def test_of_two_equal_keys_one_is_left() -> None:
    text = b'{"text_input":"a","text_input":"b","parameters":{"k":1,"k":2},"parameters":{"k":3,"k":4}}'
    assert judge_generate(text) == b'{"text_input":"b","parameters":{"k":4}}'


@pytest.mark.parametrize("name", ["priority", "timeout", "headers", "triton_enable_empty_final_response"])
def test_what_would_jump_the_queue_is_taken_out_wherever_it_stands(name: str) -> None:
    assert judged({"t": "x", name: 1, "parameters": {name: 1, "k": 1}}) == {"t": "x", "parameters": {"k": 1}}


@pytest.mark.parametrize("name", ["shared_memory_region", "sequence_id", "sequence_start", "sequence_end"])
@pytest.mark.parametrize("nested", [True, False])
def test_what_is_not_offered_is_refused_wherever_it_stands(name: str, *, nested: bool) -> None:
    request_ = {name: 1}
    with pytest.raises(GatewayError) as refused:
        judged({"t": "x", "parameters": request_} if nested else {"t": "x"} | request_)
    assert refused.value.code is Code.BAD_REQUEST
    assert "is not offered here" in refused.value.sentence


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"\xef\xbb\xbf{}",
        b'{"t":"x"}\0',
        b'{"t":"x"}{}',
        b'{"t":NaN}',
        b'{"t":null}',
        b'{"t":{"a":1}}',
        b'{"t":["x",[{"a":1}]]}',
        b'{"t":18446744073709551616}',
        b'{"t":"\xff"}',
        b'{"t":["\xff"]}',
        b'{"t":"\\ud800"}',
        b'{"id":7}',
        b'{"id":["a"]}',
        b'{"parameters":5}',
        b'{"parameters":[1]}',
        b'{"parameters":{"a":[1]}}',
        b'{"parameters":{"a":{}}}',
        b'{"parameters":{"a":null}}',
        b'{"priority\\u0000x":1}',
        b'{"parameters":{"priority\\u0000":1}}',
        b'{"t":' + b"[" * 101 + b"]" * 101 + b"}",
        b'{"t":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        json.dumps({str(n): n for n in range(257)}).encode(),
        json.dumps({"parameters": {str(n): n for n in range(257)}}).encode(),
    ],
)
def test_what_triton_could_read_otherwise_or_not_at_all_is_refused(body: bytes) -> None:
    with pytest.raises(GatewayError) as refused:
        judge_generate(body)
    assert refused.value.code is Code.BAD_REQUEST
    assert len(refused.value.sentence) < 400


@given(st.binary() | st.text().map(str.encode))
def test_whatever_comes_is_refused_or_sent_as_one_object(body: bytes) -> None:
    refused: Code | None
    try:
        sent = judge_generate(body)
    except GatewayError as fault:
        refused = fault.code
    else:
        refused = None
        assert isinstance(json.loads(sent), dict)
        assert judge_generate(sent) == sent
    assert refused in (None, Code.BAD_REQUEST)


# Streams


def told(*pieces: bytes) -> tuple[bytes, Events]:
    events = Events()
    return b"".join(map(events.feed, pieces)), events


@given(
    parts=st.lists(st.sampled_from([LETTER, FAULT]), max_size=6),
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=30),
)
def test_events_pass_in_order_and_errors_lose_their_insides_however_they_are_cut(
    parts: list[bytes], sizes: list[int]
) -> None:
    stream, place = b"".join(parts), 0
    pieces: list[bytes] = []
    while place < len(stream):
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(stream[place : place + size])
        place += size
    said, events = told(*pieces)
    assert said == stream.replace(FAULT, PUBLIC)
    assert events.is_between


def test_an_event_goes_on_as_soon_as_it_is_whole() -> None:
    events = Events()
    assert events.feed(LETTER) == LETTER
    assert events.feed(LETTER[:-1]) == b""
    assert events.feed(LETTER[-1:] + LETTER[:5]) == LETTER
    assert events.is_between


def test_a_text_that_looks_like_an_error_is_none() -> None:
    said = b'data: {"text_output":' + msgspec.json.encode('data: {"error":"/srv/x"}') + b"}\n\n"
    assert told(said)[0] == said


@pytest.mark.parametrize("cut", [997, 4096, 50_000])
def test_a_large_event_passes_without_being_kept(cut: int) -> None:
    large = b'data: {"text_output":"' + b"x" * 600_000 + b'"}\n\n'
    stream = large + FAULT + LETTER
    events, said, kept = Events(), b"", 0
    for at in range(0, len(stream), cut):
        said += events.feed(stream[at : at + cut])
        kept = max(kept, len(events._held))
    assert said == large + PUBLIC + LETTER
    assert kept <= 256 * 1024
    assert events.is_between


def test_a_stream_that_stops_within_a_large_event_is_known_to() -> None:
    said, events = told(b'data: {"text_output":"' + b"x" * 600_000)
    assert said
    assert not events.is_between


def test_an_error_without_an_end_is_a_fault_of_the_model() -> None:
    with pytest.raises(GatewayError) as fault:
        told(b'data: {"error":"' + b"x" * 600_000)
    assert fault.value.code is Code.MODEL_FAILED


def test_an_error_before_the_first_event_is_told_as_an_event() -> None:
    assert public_event(400, FAULT) == (400, PUBLIC)
    status, event = public_event(500, b"<h1>")
    assert (status, event) == (
        500,
        error_event("the model server answered with an error that is not in the protocol"),
    )
