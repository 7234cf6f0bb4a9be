"""Bodies of OpenAI's API: read in one way, or refused with the key that is at fault."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Code, GatewayError
from gateway.wire import openai
from gateway.wire.openai import DROPPED, REFUSED, ChatRequest, CompletionRequest, EmbeddingsRequest, judge
from gateway.wire.openai_replies import error_of
from tests.conftest import ROOT

SAY = {"role": "user", "content": "hi"}
CHAT = {"model": "m", "messages": [SAY]}
COMPLETION = {"model": "m", "prompt": "hi"}
EMBEDDINGS = {"model": "m", "input": "hi"}
USUAL: dict[type[Any], dict[str, Any]] = {
    ChatRequest: CHAT,
    CompletionRequest: COMPLETION,
    EmbeddingsRequest: EMBEDDINGS,
}
kinds = pytest.mark.parametrize("kind", USUAL)


def judged(kind: type[Any], **more: Any) -> Any:
    return judge(json.dumps(USUAL[kind] | more).encode(), kind)


def param(kind: type[Any], **more: Any) -> str:
    """Of the refusal that there must be."""
    with pytest.raises(GatewayError) as caught:
        judged(kind, **more)
    assert caught.value.code is Code.BAD_REQUEST
    return caught.value.param


@kinds
def test_the_smallest_request_is_taken(kind: type[Any]) -> None:
    assert judged(kind).model == "m"


def test_a_text_and_a_list_of_one_are_the_same() -> None:
    parts = [{"type": "text", "text": "h"}, {"type": "text", "text": "i"}]
    assert judged(ChatRequest, messages=[SAY | {"content": parts}]).messages[0].text == "hi"
    assert judged(CompletionRequest, prompt=["hi"]).text == "hi"
    assert judged(EmbeddingsRequest, input=["hi"]).texts == judged(EmbeddingsRequest).texts == ["hi"]
    assert judged(CompletionRequest, stop="x").stops == judged(CompletionRequest, stop=["x"]).stops == ("x",)


def test_the_newer_name_of_max_tokens_goes_before_the_older() -> None:
    assert judged(ChatRequest, max_tokens=1).most_tokens == 1
    assert judged(ChatRequest, max_tokens=1, max_completion_tokens=2).most_tokens == 2


def test_an_answer_can_come_back_as_a_message() -> None:
    answer = {"role": "assistant", "content": "yes", "refusal": None, "tool_calls": None, "audio": None}
    assert judged(ChatRequest, messages=[SAY, answer, SAY]).messages[1].text == "yes"


@kinds
@pytest.mark.parametrize("name", sorted(DROPPED))
def test_a_hint_that_nobody_takes_is_no_fault(kind: type[Any], name: str) -> None:
    assert judged(kind, **{name: "x"}) == judged(kind)


@kinds
@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_cannot_be_done_is_refused_by_its_name_unless_it_asks_for_nothing(
    kind: type[Any], name: str
) -> None:
    assert param(kind, **{name: 7}) == name
    for neutral in REFUSED[name]:
        assert judged(kind, **{name: json.loads(neutral)}) == judged(kind)


@pytest.mark.parametrize(
    ("kind", "more", "name"),
    [
        (ChatRequest, {"messages": []}, "messages"),
        (ChatRequest, {"messages": [SAY] * 2049}, "messages"),
        (ChatRequest, {"messages": [SAY | {"role": "tool"}]}, "messages"),
        (ChatRequest, {"messages": [SAY | {"content": None}]}, "messages"),
        (ChatRequest, {"messages": [SAY | {"tool_calls": [{}]}]}, "messages"),
        (ChatRequest, {"messages": [SAY | {"content": [{"type": "image_url"}]}]}, "messages"),
        (ChatRequest, {"max_completion_tokens": 0}, "max_completion_tokens"),
        (ChatRequest, {"tools": [{"type": "function"}]}, "tools"),
        (ChatRequest, {"response_format": {"type": "json_object"}}, "response_format"),
        (ChatRequest, {"logprobs": True}, "logprobs"),
        (CompletionRequest, {"logprobs": 0}, "logprobs"),
        (ChatRequest, {"n": 2}, "n"),
        (ChatRequest, {"prompt": "x"}, "prompt"),
        (CompletionRequest, {"prompt": ["a", "b"]}, "prompt"),
        (CompletionRequest, {"prompt": [1, 2]}, "prompt"),
        (CompletionRequest, {"temperature": 2.5}, "temperature"),
        (CompletionRequest, {"temperature": "1"}, "temperature"),
        (CompletionRequest, {"top_p": -0.1}, "top_p"),
        (CompletionRequest, {"presence_penalty": 3}, "presence_penalty"),
        (CompletionRequest, {"seed": 2**63}, "seed"),
        (CompletionRequest, {"max_tokens": 0}, "max_tokens"),
        (CompletionRequest, {"max_tokens": 1.5}, "max_tokens"),
        (CompletionRequest, {"stop": [*"abcde"]}, "stop"),
        (CompletionRequest, {"stop": ""}, "stop"),
        (CompletionRequest, {"stop": ["x" * 1025]}, "stop"),
        (CompletionRequest, {"stream_options": {"include_usage": True}}, "stream_options"),
        (CompletionRequest, {"stream": 1}, "stream"),
        (CompletionRequest, {"model": "m" * 257}, "model"),
        (CompletionRequest, {"colour": "red"}, "colour"),
        (EmbeddingsRequest, {"input": ""}, "input"),
        (EmbeddingsRequest, {"input": []}, "input"),
        (EmbeddingsRequest, {"input": [[1, 2]]}, "input"),
        (EmbeddingsRequest, {"input": ["x"] * 2049}, "input"),
        (EmbeddingsRequest, {"encoding_format": "int8"}, "encoding_format"),
        (EmbeddingsRequest, {"stream": True}, "stream"),
    ],
)
def test_what_is_out_of_its_bounds_is_refused_by_its_name(
    kind: type[Any], more: dict[str, Any], name: str
) -> None:
    assert param(kind, **more) == name


@kinds
def test_a_key_that_is_missing_is_named(kind: type[Any]) -> None:
    for name in USUAL[kind]:
        body = {key: value for key, value in USUAL[kind].items() if key != name}
        with pytest.raises(GatewayError) as caught:
            judge(json.dumps(body).encode(), kind)
        assert caught.value.param == name


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b'{"model":"m"',
        b'\xef\xbb\xbf{"model":"m","prompt":"x"}',
        b'{"model":"m","prompt":"\xff"}',
        b'{"model":"m","prompt":"\\ud800"}',
        b'{"model":"m","prompt":"x","user":"\xff"}',
        b'{"model":"m","prompt":"x","user":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"model":"m","prompt":NaN}',
    ],
)
def test_what_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(GatewayError):
        judge(body, CompletionRequest)


def test_what_asks_for_nothing_may_be_written_with_spaces() -> None:
    body = b'{"model": "m", "prompt": "x", "response_format" : { "type" :\n"text" }, "tools": [ ]}'
    assert judge(body, CompletionRequest).model == "m"


def test_of_two_equal_keys_the_last_is_judged_and_it_alone() -> None:
    body = b'{"model":"a","n":2,"model":"m","\\u006e":1,"prompt":"x"}'
    assert judge(body, CompletionRequest).model == "m"
    with pytest.raises(GatewayError):
        judge(b'{"model":"m","n":1,"\\u006e":2,"prompt":"x"}', CompletionRequest)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
known = st.sampled_from(sorted({*REFUSED, *DROPPED, *ChatRequest.__struct_fields__, "prompt", "input"}))


@given(st.sampled_from([*USUAL]), st.dictionaries(known, values, max_size=4), st.binary(max_size=8))
def test_any_body_is_a_request_that_can_be_written_again_or_a_refusal_in_openais_shape(
    kind: type[Any], more: dict[str, Any], noise: bytes
) -> None:
    body = json.dumps(USUAL[kind] | more).encode()
    for sent in (body, noise, body[: len(body) // 2] + noise, body + noise):
        try:
            request = judge(sent, kind)
        except GatewayError as error:
            told = json.loads(error_of(error))
            assert list(told) == ["error"]
            assert list(told["error"]) == ["message", "type", "param", "code"]
            assert told["error"]["type"] == "invalid_request_error"
        else:
            assert msgspec.json.decode(msgspec.json.encode(request), type=kind) == request


def test_what_is_dropped_and_refused_is_documented() -> None:
    text = (ROOT / "gateway" / "README.md").read_text()
    for mark, names in (("openai dropped", openai.DROPPED), ("openai refused", openai.REFUSED)):
        listed = text.split(f"<!-- {mark} -->")[1].split(f"<!-- /{mark} -->", maxsplit=1)[0]
        assert listed.split() == [f"`{name}`" for name in sorted(names)]
