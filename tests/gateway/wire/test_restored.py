"""A restored reply: what its placeholders stand for is in it, however it came; all else is what the model said."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import GatewayError
from gateway.privacy.mask import BEGINNING, MOST_GROWN_CHARACTERS, PLACEHOLDER, NotRestored, Screen
from gateway.wire.restored import (
    EventTexts,
    JsonTexts,
    elements,
    restored_elements,
    restored_infer,
    restored_json,
    tensor_of,
)
from gateway.wire.sse import Events
from tenants.privacy import Privacy
from tests.work import SlicedBytes, calls, looks_far

MAIL = "ann@example.com"
QUOTED = '"b c"@example.com'
"""A value that JSON escapes."""
PIECES = st.sampled_from(
    [
        "[EMAIL_1]",
        "[EMAIL_2]",
        "[TEXT_1]",
        "[EMAIL_7]",
        "[EMAIL_",
        "[",
        "]",
        "1]",
        "[EM",
        "AIL_1]",
        '"',
        "\\",
        "é",
        "😀",
        "x ",
        "\n",
    ]
)
TEXTS = st.lists(PIECES, max_size=10).map("".join)
LONGEST = len("[NATIONAL_ID_1234567]")
"""A placeholder."""


def screen() -> Screen:
    """[TEXT_1] was the caller's own [EMAIL_1]."""
    made = Screen(Privacy("p", mask=("email",), reversible=True))
    assert made.text(f"{MAIL} {QUOTED} [EMAIL_1]") == "[EMAIL_1] [EMAIL_2] [TEXT_1]"
    return made


def cut(data: bytes, width: int) -> list[bytes]:
    return [data[at : at + width] for at in range(0, len(data), width)]


def events(*texts: str, **more: Any) -> bytes:
    return b"".join(
        b"data: "
        + json.dumps({"model_name": "m", "model_version": "1", "text_output": text, **more}).encode()
        + b"\n\n"
        for text in texts
    )


def said(stream: bytes) -> list[dict[str, Any]]:
    return [json.loads(data) for data in Events().feed(stream)]


def streamed(texts: EventTexts | JsonTexts, data: bytes, width: int) -> bytes:
    return b"".join([*map(texts.feed, cut(data, width)), texts.end()])


@given(TEXTS, st.integers(1, 40))
def test_json_that_is_cut_anywhere_is_what_it_is_as_a_whole(text: str, width: int) -> None:
    body = json.dumps({"model_name": "m", "out": [text, {"deep": text}]}).encode()
    whole = restored_json(body, screen())
    restored = screen().restore(text)
    assert json.loads(whole)["out"] == [restored, {"deep": restored}]
    assert streamed(JsonTexts(screen()), body, width) == whole


@given(st.lists(TEXTS, min_size=1, max_size=5), st.integers(1, 400))
def test_a_streams_texts_are_restored_wherever_events_and_pieces_are_cut(
    texts: list[str], width: int
) -> None:
    told = said(streamed(EventTexts(screen()), events(*texts), width))
    assert "".join(it["text_output"] for it in told) == screen().restore("".join(texts))
    assert len(told) - len(texts) in (0, 1)
    assert {it["model_name"] for it in told} == {"m"}


def test_what_may_begin_a_placeholder_waits_for_the_next_event_and_the_rest_does_not() -> None:
    texts = EventTexts(screen())
    assert [it["text_output"] for it in said(texts.feed(events("to [EMA")))] == ["to "]
    assert [it["text_output"] for it in said(texts.feed(events("IL_1] and [")))] == [f"{MAIL} and "]
    assert said(texts.end()) == [{"model_name": "m", "model_version": "1", "text_output": "["}]
    assert texts.end() == b""


def test_two_fields_of_a_stream_are_two_texts() -> None:
    sent = events("[EMAIL", other="[EM", n=1.50, list=["[EMAIL_1]", "[EM"]) + events("_1]", other="AIL_1]")
    first, second = said(streamed(EventTexts(screen()), sent, 7))
    assert (first["text_output"], first["other"], first["n"], first["list"]) == ("", "", 1.5, [MAIL, "[EM"])
    assert (second["text_output"], second["other"]) == (MAIL, MAIL)


def test_an_errors_words_stay_and_come_behind_what_was_held_back() -> None:
    error = b'{"error":"no [EMAIL_1]"}'
    sent = events("a [EM") + b"data: " + error + b"\n\n"
    told = said(streamed(EventTexts(screen()), sent, 11))
    assert [it.get("text_output") for it in told] == ["a ", "[EM", None]
    assert told[2] == json.loads(error)
    assert restored_json(error, screen()) == error
    for width in (1, 5, 100):
        assert streamed(JsonTexts(screen()), error, width) == error


def test_an_event_that_is_no_json_passes_and_one_without_an_end_ends_the_reply() -> None:
    texts = EventTexts(screen())
    assert texts.feed(b"data: [EMAIL_1\ndata: x\n\n") == b"data: [EMAIL_1\ndata: x\n\n"
    with pytest.raises(GatewayError, match="model"):
        texts.feed(b"data: " + b"x" * 2**20)


@given(st.lists(st.one_of(TEXTS.map(str.encode), st.binary(max_size=9)), max_size=6), TEXTS)
def test_the_sizes_that_a_head_tells_are_those_of_the_restored_tensors(
    texts: list[bytes], named: str
) -> None:
    numbers, tensor = b"[EMAIL_1]aaa", tensor_of(texts)
    outputs = [
        {"name": "n", "datatype": "FP32", "shape": [3], "parameters": {"binary_data_size": len(numbers)}},
        {
            "name": "t",
            "datatype": "BYTES",
            "shape": [len(texts)],
            "parameters": {"x": 1, "binary_data_size": len(tensor)},
        },
        {"name": "j", "datatype": "BYTES", "shape": [1], "data": [named]},
        {"name": "f", "datatype": "FP64", "shape": [1], "data": [1.50]},
    ]
    head = json.dumps({"model_name": "m", "id": "[EMAIL_1]", "outputs": outputs}).encode()
    told, tensors = restored_infer(head, numbers + tensor, screen())
    found = json.loads(told)
    sizes = [it["parameters"]["binary_data_size"] for it in found["outputs"][:2]]
    assert sum(sizes) == len(tensors)
    assert (found["id"], found["outputs"][2]["data"]) == (MAIL, [screen().restore(named)])
    assert b"1.5" in told
    assert tensors[: sizes[0]] == numbers
    restored = [it.decode("latin-1") for it in elements(tensors[sizes[0] :])]
    assert restored == [screen().restore(it.decode("latin-1")) for it in texts]


@pytest.mark.parametrize(
    ("head", "tensors"),
    [
        (b"[", b""),
        (b'{"outputs":[{"datatype":"BYTES","parameters":{"binary_data_size":9}}]}', b"1234"),
        (b'{"outputs":[{"datatype":"BYTES","parameters":{"binary_data_size":-9}}]}', b""),
        (b'{"outputs":[{"datatype":"BYTES","parameters":{"binary_data_size":5}}]}', b"\x09\x00\x00\x00["),
        (b'{"outputs":[{"parameters":{"binary_data_size":5}}]}', b"\x01\x00\x00\x00["),
    ],
)
def test_a_reply_whose_sizes_are_not_true_is_not_told(head: bytes, tensors: bytes) -> None:
    with pytest.raises(NotRestored):
        restored_infer(head, tensors, screen())


HOSTILE = [b"[", b"[EMAIL_1", b"[EMAIL_", b"[A", b"[[EMAIL_9999999"]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_what_a_hostile_model_says_is_told_as_it_is(hostile: bytes) -> None:
    many = hostile * (2**21 // len(hostile))
    assert streamed(JsonTexts(screen()), b'{"a":"' + many + b'"}', 64 * 1024) == b'{"a":"' + many + b'"}'
    assert restored_elements(tensor_of([many]), screen()) == tensor_of([many])
    told = said(streamed(EventTexts(screen()), events(*[hostile.decode()] * 20_000), 64 * 1024))
    assert "".join(it["text_output"] for it in told) == hostile.decode() * 20_000


@pytest.mark.parametrize("hostile", [*HOSTILE, b"[EMAIL_1]", b"x"])
def test_work_grows_with_what_a_hostile_model_says_and_no_faster(hostile: bytes) -> None:
    def work(times: int) -> list[int]:
        """Of events, of JSON in small pieces, of elements; and what is cut out of a tensor."""
        many, tensor = hostile * times, SlicedBytes(tensor_of([b"[", *[hostile] * times]))
        return [
            calls(lambda: streamed(EventTexts(screen()), events(*[hostile.decode()] * times), 50)),
            calls(lambda: streamed(JsonTexts(screen()), b'{"a":"' + many + b'"}', 7)),
            calls(lambda: restored_elements(tensor, screen())),
            tensor.octets,
        ]

    for short, long in zip(work(500), work(4_000), strict=True):
        assert long <= 10 * short  # eight times as much; squared would be 64 times


@pytest.mark.parametrize("hostile", HOSTILE)
def test_what_is_looked_at_again_with_the_next_piece_is_never_longer_than_a_placeholder(
    hostile: bytes,
) -> None:
    texts, told = JsonTexts(screen()), 0
    for number, piece in enumerate(cut(hostile * 1_000, 5), 1):
        told += len(texts.feed(piece))
        assert 5 * number - told <= LONGEST + len(b'{"error":')
    assert not any(map(looks_far, (PLACEHOLDER, BEGINNING)))


def test_what_is_held_of_a_stream_is_bounded_however_many_fields_it_has() -> None:
    texts, told = EventTexts(screen()), 0
    for number in range(1_000):
        told += len(texts.feed(events("[EM", **{f"field{number}": "[EMAIL_"})))
    assert len(texts.end()) < 4_000
    assert told > 1_000 * 50


def test_a_model_that_repeats_a_placeholder_makes_a_reply_of_bounded_length() -> None:
    longest = Screen(Privacy("p", mask=("email",), reversible=True))
    longest.text("é" * 60 + "@example.com " + "a" * 60 + "@example.com")
    many = b'"' + b"[EMAIL_1]" * (MOST_GROWN_CHARACTERS // 400) + b'"'
    told = len(restored_json(many, longest)) - len(many)
    assert told > MOST_GROWN_CHARACTERS // 20
    more = many * (MOST_GROWN_CHARACTERS // told)
    with pytest.raises(NotRestored, match="longer"):
        restored_json(more, longest)
