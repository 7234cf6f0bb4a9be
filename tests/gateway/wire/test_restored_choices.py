"""Answers of a server that speaks OpenAI's API: each text is restored, in the way in which it stands there."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.privacy.mask import Screen
from gateway.wire.openai_passed import PassedChat, PassedMessage, ResponseFormat
from gateway.wire.openai_relayed import Relayed, RelayedStream
from gateway.wire.openai_replies import Answering
from gateway.wire.sse import Events
from tenants.privacy import Privacy
from tests.gateway.wire.test_restored import MAIL, QUOTED, TEXTS, screen

ANSWERING = Answering("chat", "r1", 1, "far")
CUTS = st.lists(st.integers(0, 60), max_size=8)


def asked(form: str = "text") -> PassedChat:
    message = PassedMessage(role="user", content="x")
    return PassedChat(model="m", messages=[message], response_format=ResponseFormat(type=form))  # type: ignore[arg-type] # one of three


def cut(text: str, cuts: list[int]) -> list[str]:
    places = sorted({min(it, len(text)) for it in cuts} | {0, len(text)})
    return [text[start:stop] for start, stop in pairwise(places)] or [""]


def streamed(
    choices: list[dict[str, Any]], of: Screen, form: str = "text", width: int = 33
) -> list[dict[str, Any]]:
    """All choices that are told, of a server that says one in each event."""
    reading = RelayedStream(asked(form), ANSWERING, of)
    head = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "own"}
    sent = b"".join(b"data: " + json.dumps({**head, "choices": [it]}).encode() + b"\n\n" for it in choices)
    sent += b"data: [DONE]\n\n"
    told = b"".join(reading.take(sent[at : at + width]) for at in range(0, len(sent), width)) + reading.end(
        b""
    )
    *events, done = Events().feed(told)
    assert done == b"[DONE]"
    found = [json.loads(it) for it in events]
    assert {(it["model"], it["id"]) for it in found} <= {("far", "chatcmpl-r1")}
    return [choice for it in found for choice in it["choices"]]


def content(told: list[dict[str, Any]], index: int = 0) -> str:
    return "".join(it["delta"].get("content") or "" for it in told if it["index"] == index)


def arguments(told: list[dict[str, Any]], index: int = 0) -> str:
    calls = [call for it in told for call in it["delta"].get("tool_calls", ())]
    return "".join(call["function"]["arguments"] for call in calls if call["index"] == index)


@given(first=TEXTS, second=TEXTS, cuts=CUTS, finished=st.booleans(), width=st.integers(1, 500))
def test_each_choices_text_is_restored_wherever_it_is_cut(
    first: str, second: str, cuts: list[int], width: int, *, finished: bool
) -> None:
    choices: list[dict[str, Any]] = [
        {"index": number, "delta": {"content": piece}, "finish_reason": None}
        for number, text in enumerate((first, second))
        for piece in cut(text, cuts)
    ]
    if finished:
        choices += [{"index": number, "delta": {}, "finish_reason": "stop"} for number in (0, 1)]
    told = streamed(choices, screen(), width=width)
    for number in (0, 1):
        said = "".join(it["delta"].get("content", "") for it in choices if it["index"] == number)
        assert content(told, number) == screen().restore(said)


@given(st.sampled_from(["[EMAIL_1]", "[EMAIL_2]", "[TEXT_1]", "[EMAIL_9]", "[EMAIL_"]), CUTS)
def test_arguments_of_a_tool_are_json_with_the_value_in_it_wherever_they_are_cut(
    placeholder: str, cuts: list[int]
) -> None:
    pieces = cut(json.dumps({"to": f"to {placeholder}", "n": [1]}), cuts)
    choices: list[dict[str, Any]] = [
        {"index": 0, "delta": {"tool_calls": [{"index": number, "function": {"arguments": it}}]}}
        for it in pieces
        for number in (0, 1)
    ]
    choices.append({"index": 0, "delta": {}, "finish_reason": "tool_calls"})
    told = streamed(choices, screen())
    for number in (0, 1):
        assert json.loads(arguments(told, number)) == {"to": f"to {screen().restore(placeholder)}", "n": [1]}


def test_what_was_held_back_is_told_with_what_ends_its_choice() -> None:
    told = streamed(
        [
            {"index": 0, "delta": {"content": "a ["}},
            {"index": 0, "delta": {"tool_calls": [{"index": 3, "function": {"arguments": "[EM"}}]}},
            {"index": 0, "delta": {}, "finish_reason": "stop"},
        ],
        screen(),
    )
    assert told[-1] == {
        "index": 0,
        "delta": {"content": "[", "tool_calls": [{"index": 3, "function": {"arguments": "[EM"}}]},
        "finish_reason": "stop",
    }


@pytest.mark.parametrize("form", ["json_object", "text"])
def test_a_content_that_was_asked_for_as_json_stays_json(form: str) -> None:
    text = json.dumps({"to": "[EMAIL_2]"})
    told = content(
        streamed([{"index": 0, "delta": {"content": it}} for it in cut(text, [9, 12])], screen(), form)
    )
    whole = whole_answer({"content": text}, form)["content"]
    assert told == whole
    if form == "text":
        assert told == text.replace("[EMAIL_2]", QUOTED)
    else:
        assert json.loads(told) == {"to": QUOTED}


def whole_answer(message: dict[str, Any], form: str = "text", **more: Any) -> dict[str, Any]:
    reading = Relayed(asked(form), ANSWERING, screen())
    reading.take(json.dumps({"choices": [{"index": 0, "message": message, **more}]}).encode())
    found: dict[str, Any] = json.loads(reading.end(b""))["choices"][0]["message"]
    return found


def test_a_whole_answer_is_restored_text_by_text() -> None:
    calls = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"to":"[EMAIL_2]"}'}}]
    told = whole_answer(
        {
            "role": "assistant",
            "content": [{"type": "text", "text": "[EMAIL_2] [EMAIL_1] [EMAIL_3] [EMAIL_"}],
            "tool_calls": calls,
            "function_call": {"name": "f", "arguments": '"[EMAIL_1]"'},
        }
    )
    assert told["content"][0]["text"] == f"{QUOTED} {MAIL} [EMAIL_3] [EMAIL_"
    assert json.loads(told["tool_calls"][0]["function"]["arguments"]) == {"to": QUOTED}
    assert told["function_call"]["arguments"] == f'"{MAIL}"'


@pytest.mark.parametrize(
    "choice",
    [
        5,
        {"index": "x", "delta": {"content": "[EM"}, "finish_reason": "stop"},
        {"delta": {"tool_calls": "x", "function_call": {"arguments": "["}}, "finish_reason": "stop"},
        {
            "delta": {
                "tool_calls": [5, {"function": 5}, {"index": None, "function": {"arguments": "["}}],
                "text": "[",
            }
        },
        {"text": "[", "finish_reason": "stop"},
        {"text": ["["], "delta": None},
    ],
)
def test_a_choice_of_another_form_ends_no_stream(choice: Any) -> None:
    reading = RelayedStream(asked(), ANSWERING, screen())
    assert reading.take(b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\ndata: [DONE]\n\n")
    assert reading.end(b"").endswith(b"data: [DONE]\n\n")


def test_a_stream_of_which_nothing_is_masked_is_told_as_ever() -> None:
    unmasked = Screen(Privacy("p", mask=("email",), reversible=True))
    sent = [{"index": 0, "delta": {"content": "[EMAIL_1] [E"}}]
    assert streamed(sent, unmasked) == sent
