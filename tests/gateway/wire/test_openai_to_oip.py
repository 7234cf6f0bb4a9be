"""What Triton is asked for an OpenAI request, and what its reply becomes."""

import base64
import json
import struct
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import GatewayError
from gateway.privacy.mask import Screen
from gateway.wire.openai import ChatRequest, CompletionRequest, EmbeddingsRequest, Message, StreamOptions
from gateway.wire.openai_readings import Embedded, Streamed, Whole, most_allowed
from gateway.wire.openai_replies import Answering
from gateway.wire.openai_to_oip import Failed, Rows, Unreadable, generate_body, infer_body
from gateway.wire.sse import Events, TooLong
from tenants.openai import Generate, Infer
from tenants.privacy import Privacy

CHAT = Answering("chat", "r1", 1_700_000_000, "story")
COMPLETION = Answering("completion", "r1", 1_700_000_000, "story")
SAY = Message(role="user", content="hi")


def completion(**more: Any) -> CompletionRequest:
    return CompletionRequest(model="story", prompt="a b", **more)


def words(text: str) -> int:
    return len(text.split())


def said(*texts: str, output: str = "text_output") -> bytes:
    """What Triton sends when a model says these one after another."""
    return b"".join(
        b'data: {"model_name":"story","model_version":"1","%b":%b}\n\n'
        % (output.encode(), json.dumps(it).encode())
        for it in texts
    )


def whole(stream: bytes, request: CompletionRequest | None = None, section: Generate | None = None) -> Any:
    reading = Whole(section or Generate(), request or completion(), COMPLETION, 2, None)
    assert reading.take(stream) == b""
    return json.loads(reading.end(b""))


def chunks(sent: bytes) -> list[Any]:
    """Of a stream that ends as it should."""
    *events, done = Events().feed(sent)
    assert done == b"[DONE]"
    return [json.loads(it) for it in events]


# Requests


def test_the_model_gets_the_prompt_and_what_it_takes_of_the_request_and_nothing_else() -> None:
    request = completion(max_tokens=5, temperature=0.5, top_p=0.1, seed=7, stop="x", stream=True)
    assert json.loads(generate_body(Generate(), request, "a b")) == {"text_input": "a b", "max_tokens": 5}
    section = Generate(input="prompt", parameters=("temperature", "seed", "stream", "presence_penalty"))
    assert json.loads(generate_body(section, request, "a b")) == {
        "prompt": "a b",
        "temperature": 0.5,
        "seed": 7,
        "stream": True,
    }


def test_a_request_that_says_no_max_tokens_gets_the_models_own_and_none_gets_more() -> None:
    section = Generate(max_tokens=9)
    assert json.loads(generate_body(section, completion(), "x"))["max_tokens"] == 9
    assert most_allowed(section, completion(max_tokens=9)) is None
    refusals = [
        most_allowed(section, completion(max_tokens=10)),
        most_allowed(section, ChatRequest(model="m", messages=[SAY], max_completion_tokens=10)),
    ]
    assert [refusal and refusal.param for refusal in refusals] == ["max_tokens", "max_completion_tokens"]


@pytest.mark.parametrize("shape", [[2], [2, 1]])
def test_texts_become_one_tensor_and_its_rows_are_asked_for_in_binary(shape: list[int]) -> None:
    section = Infer("text", "vector", batched=len(shape) > 1)
    assert json.loads(infer_body(section, ["a", "ü"])) == {
        "inputs": [{"name": "text", "datatype": "BYTES", "shape": shape, "data": ["a", "ü"]}],
        "outputs": [{"name": "vector", "parameters": {"binary_data": True}}],
    }


# Texts


def test_a_whole_answer_has_all_that_was_said_and_says_that_its_usage_is_a_guess() -> None:
    assert whole(said("Once ", "upon ", "")) == {
        "id": "cmpl-r1",
        "object": "text_completion",
        "created": 1_700_000_000,
        "model": "story",
        "choices": [{"index": 0, "text": "Once upon ", "logprobs": None, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5, "estimated": True},
    }


def test_with_the_models_tokenizer_usage_is_counted() -> None:
    reading = Whole(Generate(), completion(), CHAT, 2, words)
    reading.take(said("Once upon ", "a time"))
    answer = json.loads(reading.end(b""))
    assert answer["usage"] == {"prompt_tokens": 2, "completion_tokens": 4, "total_tokens": 6}
    assert answer["choices"][0]["message"] == {
        "role": "assistant",
        "content": "Once upon a time",
        "refusal": None,
    }
    assert reading.tokens == 6


def test_a_stream_says_who_speaks_then_what_then_why_it_ends_then_what_was_used() -> None:
    request = completion(stream=True, stream_options=StreamOptions(include_usage=True))
    reading = Streamed(Generate(), request, CHAT, 2, words)
    first = reading.take(said("Once "))
    second = reading.take(said("upon"))
    assert first
    assert second
    got = chunks(first + second + reading.end(b""))
    assert {(it["id"], it["object"], it["created"], it["model"]) for it in got} == {
        ("chatcmpl-r1", "chat.completion.chunk", 1_700_000_000, "story")
    }
    assert [it["choices"][0]["delta"] for it in got[:-1]] == [
        {"role": "assistant", "content": "Once "},
        {"content": "upon"},
        {},
    ]
    assert [it["choices"][0]["finish_reason"] for it in got[:-1]] == [None, None, "stop"]
    assert (got[-1]["choices"], got[-1]["usage"]["total_tokens"]) == ([], 4)


def test_a_stream_that_nobody_asked_the_usage_of_does_not_tell_it() -> None:
    reading = Streamed(Generate(), completion(stream=True), COMPLETION, 2, words)
    assert all("usage" not in it for it in chunks(reading.take(said("a")) + reading.end(b"")))


def test_a_model_that_says_nothing_is_answered_all_the_same() -> None:
    assert whole(b"")["choices"][0]["text"] == ""
    reading = Streamed(Generate(), completion(stream=True), CHAT, 2, None)
    got = chunks(reading.take(b"") + reading.end(b""))
    assert [it["choices"][0]["delta"] for it in got] == [{"role": "assistant", "content": ""}, {}]


@pytest.mark.parametrize(
    ("request_", "section", "text", "finish"),
    [
        (completion(stop="c "), Generate(), "a b ", "stop"),
        (completion(stop=["d", "b c"]), Generate(), "a ", "stop"),
        (completion(stop="z"), Generate(), "a b c d", "stop"),
        (completion(max_tokens=4), Generate(), "a b c d", "length"),
        (completion(max_tokens=2), Generate(parameters=()), "a b ", "length"),
        (completion(max_tokens=2, stop="b c"), Generate(parameters=()), "a b ", "length"),
    ],
)
def test_an_answer_ends_where_it_was_asked_to_and_says_why(
    request_: CompletionRequest, section: Generate, text: str, finish: str
) -> None:
    (choice,) = whole(said("a ", "b ", "c ", "d"), request_, section)["choices"]
    assert (choice["text"], choice["finish_reason"]) == (text, finish)


def test_a_model_is_not_listened_to_when_its_answer_is_over() -> None:
    reading = Streamed(Generate(), completion(stream=True, stop="END"), COMPLETION, 1, None)
    assert reading.take(said("a", "b E"))
    assert not reading.is_over
    reading.take(said("ND c"))
    assert reading.is_over
    late = said("d") + b'data: {"error":"too late to matter"}\n\n'
    texts = [it["choices"][0]["text"] for it in chunks(reading.take(late) + reading.end(b""))]
    assert "".join(texts) == ""


@given(
    st.lists(st.text(max_size=6), max_size=6), st.integers(1, 40), st.sampled_from([(), ("a",), ("ab", "b")])
)
def test_a_stream_and_a_whole_answer_tell_the_same_however_the_reply_is_cut(
    texts: list[str], step: int, stops: Sequence[str]
) -> None:
    stream = said(*texts)
    pieces = [stream[at : at + step] for at in range(0, len(stream), step)]
    request = completion(stop=list(stops))
    streamed = Streamed(Generate(), request, COMPLETION, 1, None)
    got = chunks(b"".join(map(streamed.take, pieces)) + streamed.end(b""))
    (choice,) = whole(stream, request)["choices"]
    assert "".join(it["choices"][0]["text"] for it in got) == choice["text"]
    assert got[-1]["choices"][0]["finish_reason"] == choice["finish_reason"]


@pytest.mark.parametrize(
    ("stream", "fault"),
    [
        (b'data: {"error":"boom"}\n\n', Failed),
        (b"data: {}\n\n", Unreadable),
        (b"data: 7\n\n", Unreadable),
        (b"data: {\n\n", Unreadable),
        (b'data: {"text_output":7}\n\n', Unreadable),
        (said("x", output="other"), Unreadable),
        (said("x" * 600_000, "x" * 600_000) * 4, Unreadable),
        (b"data: " + b"x" * 1_100_000, TooLong),
    ],
)
def test_a_reply_that_fails_or_is_not_as_promised_is_never_an_answer(
    stream: bytes, fault: type[Exception]
) -> None:
    with pytest.raises(fault):
        Whole(Generate(), completion(), COMPLETION, 1, None).take(stream)


def test_half_a_character_of_a_model_is_no_fault() -> None:
    assert whole(b'data: {"text_output":"a\xf0\x9f"}\n\n')["choices"][0]["text"].startswith("a")
    assert whole(b'data: {"text_output":["a","b"]}\n\n')["choices"][0]["text"] == "ab"


# Embeddings

ROWS = [[0.5, -1.25, 3e-9], [0.0, 1.0, 2.0]]


def infer_reply(rows: list[list[float]] = ROWS, **more: Any) -> tuple[bytes, bytes]:
    """Head's length and body."""
    data = b"".join(struct.pack(f"<{len(row)}f", *row) for row in rows)
    output = {"name": "embedding", "datatype": "FP32", "shape": [len(rows), len(rows[0])]} | more
    head = json.dumps({"model_name": "e", "outputs": [output]}).encode()
    return str(len(head)).encode(), head + data


def embedded(request: EmbeddingsRequest, **more: Any) -> Any:
    reading = Embedded(Infer(), request, 2, counted=False)
    length, body = infer_reply(**more)
    for at in range(0, len(body), 7):
        reading.take(body[at : at + 7])
    return json.loads(reading.end(length))


def test_embeddings_come_in_the_order_of_the_texts_and_both_forms_are_the_same_numbers() -> None:
    answer = embedded(EmbeddingsRequest(model="e", input=["a", "b"]))
    assert (answer["object"], answer["model"]) == ("list", "e")
    assert answer["usage"] == {"prompt_tokens": 2, "total_tokens": 2, "estimated": True}
    assert [(it["object"], it["index"]) for it in answer["data"]] == [("embedding", 0), ("embedding", 1)]
    assert answer["data"][0]["embedding"] == pytest.approx(ROWS[0], rel=1e-6)
    short = embedded(EmbeddingsRequest(model="e", input=["a", "b"], encoding_format="base64"))
    for plain, packed in zip(answer["data"], short["data"], strict=True):
        data = base64.b64decode(packed["embedding"])
        assert list(struct.unpack("<3f", data)) == plain["embedding"]


def test_dimensions_are_what_the_model_has_or_a_refusal() -> None:
    assert embedded(EmbeddingsRequest(model="e", input=["a", "b"], dimensions=3))["data"]
    with pytest.raises(GatewayError) as caught:
        embedded(EmbeddingsRequest(model="e", input=["a", "b"], dimensions=4))
    assert caught.value.param == "dimensions"


@pytest.mark.parametrize(
    "more",
    [
        {"rows": [[1.0]]},
        {"rows": [[1.0]] * 3},
        {"datatype": "FP64"},
        {"name": "other"},
        {"shape": [2]},
        {"shape": [3, 2]},
        {"shape": []},
        {"rows": [[], []]},
    ],
)
def test_rows_that_are_not_one_for_each_text_are_no_embeddings(more: dict[str, Any]) -> None:
    with pytest.raises(Unreadable):
        embedded(EmbeddingsRequest(model="e", input=["a", "b"]), **more)


@pytest.mark.parametrize(("head_length", "body"), [(b"", b"{}"), (b"2", b"{}"), (b"9", b"\xff"), (b"", b"")])
def test_a_reply_without_a_binary_output_is_no_embedding(head_length: bytes, body: bytes) -> None:
    with pytest.raises(Unreadable):
        Rows(Infer(), 1, head_length, body)


# What was masked


@given(
    st.integers(1, 12), st.sampled_from([(), ("com",), ("@",), ("]",), (" ann@example.com bye",), ("_1",)])
)
def test_an_answer_tells_what_was_masked_and_ends_where_it_would_have_however_the_reply_is_cut(
    size: int, stops: Sequence[str]
) -> None:
    screen = Screen(Privacy("discreet", mask=("email",), reversible=True))
    text = "to ann@example.com bye [EMAIL_1] [EMAIL"
    masked = screen.text(text)
    assert "example" not in masked
    pieces = [masked[at : at + size] for at in range(0, len(masked), size)]
    request = completion(stop=[screen.text(it) for it in stops] or None, stream=True)
    one, other = (
        Whole(Generate(), request, COMPLETION, 1, None, screen=screen),
        Streamed(Generate(), request, COMPLETION, 1, None, screen=screen),
    )
    one.take(said(*pieces))
    (choice,) = json.loads(one.end(b""))["choices"]
    events = chunks(other.take(said(*pieces)) + other.end(b""))
    told = "".join(it["choices"][0]["text"] for it in events if it["choices"])
    assert choice["text"] == told == min((text.split(it, maxsplit=1)[0] for it in stops), default=text)
