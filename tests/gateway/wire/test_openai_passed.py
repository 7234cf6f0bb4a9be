"""What goes on to a server that speaks OpenAI's API itself, and what becomes of its answer."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Code, GatewayError
from gateway.wire.openai import DROPPED, REFUSED, ChatRequest, CompletionRequest, EmbeddingsRequest, Kind
from gateway.wire.openai_passed import PassedChat, PassedCompletion, judge_passed, passed_body
from gateway.wire.openai_relayed import Relayed, RelayedStream
from gateway.wire.openai_replies import Answering
from gateway.wire.openai_to_oip import Failed, Unreadable
from gateway.wire.sse import Events, event
from tests.conftest import ROOT
from tests.gateway.wire.test_openai import CHAT, COMPLETION, EMBEDDINGS, known, values

USUAL: dict[Kind, dict[str, Any]] = {
    ChatRequest: CHAT,
    CompletionRequest: COMPLETION,
    EmbeddingsRequest: EMBEDDINGS,
}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "x": [1, {"y": 2.5}]}}}
CALLED = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}, "strict": True}}


def passed(kind: Kind = ChatRequest, /, **more: Any) -> dict[str, Any]:
    """What the server gets."""
    sent = passed_body(judge_passed(json.dumps(USUAL[kind] | more).encode(), kind), "llama-3")
    found: dict[str, Any] = json.loads(sent)
    return found


def param(kind: Kind = ChatRequest, /, **more: Any) -> str:
    """Of the refusal that there must be."""
    with pytest.raises(GatewayError) as caught:
        passed(kind, **more)
    assert caught.value.code is Code.BAD_REQUEST
    return caught.value.param


@pytest.mark.parametrize(
    "more",
    [
        {
            "tools": [TOOL],
            "tool_choice": {"type": "function", "function": {"name": "f"}},
            "parallel_tool_calls": False,
        },
        {"tools": [TOOL], "tool_choice": "required"},
        {"response_format": SCHEMA},
        {
            "n": 3,
            "logprobs": True,
            "top_logprobs": 2,
            "logit_bias": {"7": -100.0},
            "seed": -1,
            "stop": ["a", "b"],
        },
        {"temperature": 0.5, "top_p": 0.1, "max_completion_tokens": 5, "presence_penalty": -2.0},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "what is this?"}, IMAGE]}]},
        {
            "messages": [
                {"role": "developer", "content": "x", "name": "me"},
                {"role": "assistant", "content": None, "tool_calls": [CALLED]},
                {"role": "assistant", "tool_calls": [CALLED]},
                {"role": "tool", "content": "7", "tool_call_id": "call_1"},
            ]
        },
        {"functions": [TOOL["function"]], "function_call": {"name": "f"}},
    ],
)
def test_what_the_server_may_know_goes_on_as_it_was_said(more: dict[str, Any]) -> None:
    assert passed(**more) == CHAT | {"model": "llama-3"} | more


def test_completions_and_embeddings_go_on_as_well() -> None:
    more = {"prompt": ["a", "b"], "best_of": 2, "echo": True, "suffix": "x", "logprobs": 3}
    assert passed(CompletionRequest, **more) == {"model": "llama-3"} | more
    wanted = {"input": ["a", "b"], "dimensions": 3, "encoding_format": "base64"}
    assert passed(EmbeddingsRequest, **wanted) == {"model": "llama-3"} | wanted


@pytest.mark.parametrize("kind", [ChatRequest, CompletionRequest])
def test_a_stream_is_always_to_tell_its_usage(kind: Kind) -> None:
    for asked in ({}, {"stream_options": {"include_usage": False}}):
        assert passed(kind, stream=True, **asked)["stream_options"] == {"include_usage": True}
    assert "stream_options" not in passed(kind, stream=False)


@pytest.mark.parametrize("name", sorted(DROPPED - {"parallel_tool_calls"}))
def test_hints_and_names_for_what_nobody_keeps_go_no_further(name: str) -> None:
    assert passed(**{name: "x"}) == CHAT | {"model": "llama-3"}


@pytest.mark.parametrize(
    ("more", "at"),
    [
        ({"colour": "red"}, "colour"),
        ({"audio": {"voice": "x"}}, "audio"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"n": 0}, "n"),
        ({"n": 129}, "n"),
        ({"tools": [{"type": "custom", "function": {"name": "f"}}]}, "tools"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"tool_choice": "all"}, "tool_choice"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "root", "content": "x"}]}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "file", "file": {}}]}]}, "messages"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
    ],
)
def test_what_no_such_server_gets_is_refused_by_its_name(more: dict[str, Any], at: str) -> None:
    assert param(**more) == at


@pytest.mark.parametrize(
    "url", ["http://169.254.169.254/latest", "file:///etc/passwd", "x data:image/png;base64,AA", ""]
)
def test_nothing_is_fetched_for_a_client(url: str) -> None:
    part = {"type": "image_url", "image_url": {"url": url}}
    assert param(messages=[{"role": "user", "content": [part]}]) == "messages"


def test_of_equal_keys_the_last_counts_and_is_all_that_goes_on() -> None:
    body = b'{"model":"a","model":"m","messages":[{"role":"system","role":"user","content":"x","content":"y"}],"n":1,"\\u006e":2}'
    sent = passed_body(judge_passed(body, ChatRequest), "b")
    assert sent == b'{"model":"b","messages":[{"role":"user","content":"y"}],"n":2}'


def test_an_object_of_the_client_s_own_goes_on_as_it_came() -> None:
    own = b'{"a":[1.50,{"b":1,"b":2}]}'
    body = (
        b'{"model":"a","messages":[{"role":"user","content":"x"}],"logit_bias":{"7":-1e2},'
        b'"tools":[{"type":"function","function":{"name":"f","parameters":%b}}]}' % own
    )
    assert passed_body(judge_passed(body, ChatRequest), "a") == body


@pytest.mark.parametrize(
    "more",
    [
        {"logit_bias": [1]},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": "x"}}},
    ],
)
def test_what_must_be_an_object_is_one(more: dict[str, Any]) -> None:
    (at,) = more
    assert param(**more) == at


def test_a_schema_is_no_deeper_than_a_reader_may_be_trusted_with() -> None:
    schema: dict[str, Any] = {}
    for _ in range(120):
        schema = {"a": schema}
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
    with pytest.raises(GatewayError, match="nested"):
        passed(tools=[tool])


@given(st.sampled_from([*USUAL]), st.dictionaries(known, values, max_size=4))
def test_any_body_goes_on_as_one_that_reads_the_same_or_not_at_all(kind: Kind, more: dict[str, Any]) -> None:
    with suppress(GatewayError):
        sent = passed(kind, **more)
        again = passed_body(judge_passed(json.dumps(sent).encode(), kind), "llama-3")
        assert json.loads(again) == sent


def test_what_goes_on_that_no_model_of_tritons_takes_is_documented() -> None:
    text = (ROOT / "gateway" / "README.md").read_text()
    listed = text.split("<!-- openai passed -->")[1].split("<!-- /openai passed -->", maxsplit=1)[0]
    fields = {*PassedChat.__struct_fields__, *PassedCompletion.__struct_fields__}
    assert listed.split() == [f"`{name}`" for name in sorted(fields & (REFUSED.keys() | DROPPED))]


# Answers

OURS = Answering("chat", "r1", 1_700_000_000, "story")
USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7, "completion_tokens_details": {"x": 1}}


def whole(answer: Any, kind: Kind = ChatRequest) -> tuple[Any, int]:
    """What is told, and what is counted."""
    reading = Relayed(judge_passed(json.dumps(USUAL[kind]).encode(), kind), OURS)
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    for at in range(0, len(body), 10):
        assert reading.take(body[at : at + 10]) == b""
    return json.loads(reading.end(b"")), reading.tokens


def streamed(*, usage: bool = False) -> RelayedStream:
    asked = CHAT | {"stream": True, "stream_options": {"include_usage": usage}}
    return RelayedStream(judge_passed(json.dumps(asked).encode(), ChatRequest), OURS)


def chunk(text: str, **more: Any) -> bytes:
    told = {"id": "theirs", "model": "llama-3", "choices": [{"index": 0, "delta": {"content": text}}]}
    return event(json.dumps(told | more).encode())


def test_an_answer_is_theirs_but_for_our_names() -> None:
    theirs = {
        "id": "x",
        "model": "llama-3",
        "choices": [{"index": 0, "message": {"content": "hi", "n": [1.5]}}],
        "usage": USAGE,
    }
    told, tokens = whole(theirs)
    assert told == theirs | {"id": "chatcmpl-r1", "model": "story"}
    assert tokens == 7


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": -1}, {"prompt_tokens": "3"}, 7])
def test_where_the_server_has_not_counted_usage_is_a_guess_and_not_in_the_log(usage: Any) -> None:
    told, tokens = whole(
        {"choices": [{"message": {"content": "eight ch"}}, {"text": "four"}], "usage": usage}
    )
    assert told["usage"] == {"prompt_tokens": 1, "completion_tokens": 3, "total_tokens": 4, "estimated": True}
    assert tokens == 0


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b"{}",
        b'{"choices":7}',
        b'{"error":"x"}',
        b'{"choices":[\xff]}',
        b'{"data":[1,]}',
        b"[" * 9999,
    ],
)
def test_what_is_no_answer_is_never_told_as_one(body: bytes) -> None:
    with pytest.raises(Unreadable):
        whole(body)


def test_an_answer_has_its_bound() -> None:
    reading = Relayed(judge_passed(json.dumps(CHAT).encode(), ChatRequest), OURS)
    for _ in range(32):
        reading.take(bytes(1024**2))
    with pytest.raises(Unreadable):
        reading.take(b" ")


def test_each_event_goes_on_when_it_is_there_and_usage_only_to_who_asked() -> None:
    for asks in (False, True):
        reading = streamed(usage=asks)
        first = reading.take(chunk("a"))
        assert json.loads(first.removeprefix(b"data: ")) == {
            "id": "chatcmpl-r1",
            "model": "story",
            "choices": [{"index": 0, "delta": {"content": "a"}}],
        }
        assert reading.take(chunk("b", usage=None))
        assert reading.take(chunk("", choices=[], usage=USAGE)) == b""
        assert (reading.tokens, reading.is_over) == (7, False)
        assert reading.take(b"data: [DONE]\n\n" + chunk("late")) == b""
        assert reading.is_over
        *told, done = Events().feed(reading.end(b""))
        assert done == b"[DONE]"
        assert [json.loads(it)["usage"] for it in told] == [USAGE] * asks


def test_a_stream_whose_server_does_not_count_tells_a_guess() -> None:
    reading = streamed(usage=True)
    reading.take(chunk("eight ch") + b"data: [DONE]\n\n")
    told, _ = Events().feed(reading.end(b""))
    assert json.loads(told)["usage"]["estimated"] is True
    assert (json.loads(told)["usage"]["completion_tokens"], reading.tokens) == (2, 0)


@pytest.mark.parametrize(
    ("sent", "fault"),
    [
        (b'data: {"error":{"message":"x"}}\n\n', Failed),
        (b'data: {"error":"x","choices":[]}\n\n', Failed),
        (b"data: {}\n\n", Unreadable),
        (b"data: 7\n\n", Unreadable),
        (b"data: {\n\n", Unreadable),
        (b'data: {"choices":[],"x":"\xff"}\n\n', Unreadable),
    ],
)
def test_an_event_that_is_none_ends_the_stream(sent: bytes, fault: type[Exception]) -> None:
    with pytest.raises(fault):
        streamed().take(sent)


def test_a_stream_without_its_end_is_no_whole_answer() -> None:
    reading = streamed()
    reading.take(chunk("a"))
    with pytest.raises(Unreadable):
        reading.end(b"")


@pytest.mark.parametrize(
    ("status", "error", "told", "param", "code"),
    [
        (400, b'{"detail":"no"}', "no", "", Code.BAD_REQUEST),
        (422, b'{"detail":[{"loc":["body","n"],"msg":"no"}]}', "no", "", Code.BAD_REQUEST),
        (400, b'{"error":{"message":"no","param":"n"}}', "no", "n", Code.BAD_REQUEST),
        (400, b'{"error":"no"}', "no", "", Code.BAD_REQUEST),
        (400, b'{"object":"error","message":"no"}', "no", "", Code.BAD_REQUEST),
        (429, b'{"detail":"later"}', "later", "", Code.TOO_MANY_AT_ONCE),
        (
            503,
            b'{"detail":"at /srv/x and 10.0.0.1:80"}',
            "at (internal) and (internal)",
            "",
            Code.MODEL_FAILED,
        ),
        *(
            (
                500,
                body,
                "the model server answered with an error that is not in the protocol",
                "",
                Code.MODEL_FAILED,
            )
            for body in (
                b"Internal Server Error",
                b"",
                b"7",
                b"[]",
                b'{"detail":[]}',
                b'{"error":{"message":7}}',
            )
        ),
    ],
)
def test_an_error_of_the_servers_is_told_in_its_words_without_its_insides(
    status: int, error: bytes, told: str, param: str, code: Code
) -> None:
    found = streamed().failure(status, b"application/json", error)
    assert (found.status, found.sentence, found.param, found.code, found.private) == (
        status,
        told,
        param,
        code,
        "",
    )


@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_the_server_has_against_us_is_no_fault_of_the_clients(status: int) -> None:
    found = streamed().failure(status, b"", b'{"detail":"Unknown model: llama-3"}')
    assert (found.status, found.code, found.sentence) == (500, Code.MODEL_FAILED, "")
    assert "Unknown model" in found.private


def test_what_the_server_says_is_one_short_line_in_the_log_and_short_to_the_client() -> None:
    long = json.dumps({"error": {"message": "x\n" * 50_000, "param": "/srv/models/a" + "y" * 5_000}}).encode()
    ours, theirs = streamed().failure(401, b"", long), streamed().failure(400, b"", long)
    assert "\n" not in ours.private
    assert (len(ours.private) < 1_200, len(theirs.sentence) <= 1_000, len(theirs.param) <= 256) == (True,) * 3
    assert "/srv" not in theirs.param
