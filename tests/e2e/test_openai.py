"""OpenAI's own client works unchanged: only the address and the key differ. The model behind it is a real Triton's."""

import http.client
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from gateway.audit.record import Entry
from gateway.audit.segment import scan
from gateway.state import clock
from tenants.plans import Limits
from tests.e2e.fleets import Fleet, configure, serving_fleet
from tests.e2e.world import Demo, command, new_tenant, rated, stored_segments, tritons, until

pytestmark = pytest.mark.triton

FLEET = Fleet(
    ["parrot", "vectors", "echo_bytes", "times01"],
    openai={
        "parrot": {"backend": "generate", "max_tokens": 10_000},
        "vectors": {"backend": "infer"},
        # Not decoupled, without a tokenizer or a template, and it takes no max_tokens.
        "echo_bytes": {"backend": "generate", "input": "in", "output": "out", "parameters": []},
    },
)
SAY: list[ChatCompletionMessageParam] = [{"role": "user", "content": "how do you do"}]
SAID = "<s> user: how do you do </s>"
LEAVE_SECONDS = 1.0


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    with serving_fleet(tmp_path_factory.mktemp("openai") / "state", FLEET) as made:
        yield made


def connected(demo: Demo, key: str = "", retries: int = 0) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=f"http://{demo.address}/v1", api_key=key or demo.key, max_retries=retries, timeout=60
    )


@pytest.fixture
def client(demo: Demo) -> Iterator[openai.OpenAI]:
    with connected(demo) as made:
        yield made


def outcome(demo: Demo, request: str) -> tuple[Entry, str]:
    """Entry and status of the call with this id; they are soon on the disk."""

    def found() -> list[Entry]:
        commits = [
            it for name, data in stored_segments(demo.state).items() for it in scan(name, data).commits
        ]
        records = [record for commit in commits for record in commit.records]
        return [entry for entry, _ in records if (entry.kind, entry.request) == ("outcome", request)]

    (one,) = until(found, 5, "there is no outcome")
    shown = json.loads(command("audit", "show", request, "--state", demo.state, "--json").stdout)
    (body,) = [it["body"] for it in shown if it["entry"]["kind"] == "outcome"]
    return one, body["status"]


# What works


def test_the_models_that_are_offered_are_listed(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["echo_bytes", "parrot", "vectors"]
    assert client.models.retrieve("parrot").owned_by == "gateway"


def test_a_chat_goes_through_the_models_own_template_and_is_counted_by_its_own_tokenizer(
    demo: Demo, client: openai.OpenAI
) -> None:
    answer = client.chat.completions.create(model="parrot", messages=SAY)
    (choice,) = answer.choices
    assert (choice.message.role, choice.message.content, choice.finish_reason) == ("assistant", SAID, "stop")
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (
        7,
        7,
        14,
    )
    entry, status = outcome(demo, answer.id.removeprefix("chatcmpl-"))
    assert (entry.tokens, entry.requests, status) == (14, 1, "done")


def test_a_chat_streams_and_tells_its_usage_to_whoever_asks(client: openai.OpenAI) -> None:
    with client.chat.completions.create(
        model="parrot", messages=SAY, stream=True, stream_options={"include_usage": True}
    ) as stream:
        chunks = list(stream)
    *told, last = chunks
    assert "".join(chunk.choices[0].delta.content or "" for chunk in told) == SAID
    assert told[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in told][-2:] == [None, "stop"]
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.total_tokens == 14


def test_a_completion_keeps_to_max_tokens_and_stop(client: openai.OpenAI) -> None:
    short = client.completions.create(model="parrot", prompt="one two three", max_tokens=2)
    assert (short.choices[0].text, short.choices[0].finish_reason) == ("one two ", "length")
    cut = client.completions.create(model="parrot", prompt="one two three", stop=[" three", "xyz"])
    assert (cut.choices[0].text, cut.choices[0].finish_reason) == ("one two", "stop")
    streamed = client.completions.create(model="parrot", prompt="one two three", stop="o th", stream=True)
    assert "".join(chunk.choices[0].text for chunk in streamed) == "one tw"


def test_a_model_that_is_not_decoupled_is_asked_in_the_same_way_and_its_usage_is_marked_a_guess(
    client: openai.OpenAI,
) -> None:
    text = 'one, two, drei ü 🙂 \0 "quoted" {{ 7 * 7 }}'
    answer = client.completions.create(model="echo_bytes", prompt=text, temperature=0.5, max_tokens=9)
    assert answer.choices[0].text == text
    assert answer.usage is not None
    assert answer.usage.model_extra == {"estimated": True}


def test_embeddings_come_for_one_text_and_for_many_in_either_form(client: openai.OpenAI) -> None:
    one = client.embeddings.create(model="vectors", input="abc")  # base64, as the client asks by itself
    assert one.data[0].embedding == [3.0, 97.0, 99.0, 1.0]
    many = client.embeddings.create(
        model="vectors", input=["abc", "e"], encoding_format="float", dimensions=4
    )
    assert [row.embedding for row in many.data] == [[3.0, 97.0, 99.0, 1.0], [1.0, 101.0, 101.0, 1.0]]


async def test_the_asynchronous_client_works_as_well(demo: Demo) -> None:
    async with openai.AsyncOpenAI(
        base_url=f"http://{demo.address}/v1", api_key=demo.key, max_retries=0
    ) as client:
        answer = await client.chat.completions.create(model="parrot", messages=SAY)
        assert answer.choices[0].message.content == SAID
        stream = await client.chat.completions.create(model="parrot", messages=SAY, stream=True)
        assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == SAID
        assert (await client.embeddings.create(model="vectors", input=["abc"])).data[0].embedding[0] == 3.0


def test_the_first_text_is_here_before_the_model_makes_the_next(client: openai.OpenAI) -> None:
    begun = clock()
    with client.completions.create(model="parrot", prompt="one slow:700 " * 3, stream=True) as stream:
        next(iter(stream))
        assert clock() - begun < 1.3  # the second comes at 1.4 s


def test_a_demo_offers_the_language_models_of_its_repository_by_their_tensors(house: Demo) -> None:
    with connected(house) as client:
        offered = [model.id for model in client.models.list()]
        assert "parrot" in offered
        assert "echo_bytes" not in offered
        answer = client.completions.create(model="parrot", prompt="one two three", max_tokens=1)
    assert (answer.choices[0].text, answer.choices[0].finish_reason) == ("one ", "length")


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("{{ messages }}", "ok    model echo_bytes has a chat template"),
        ("", "ok    model echo_bytes has no chat template: completions alone are offered"),
        ("{% for %}", "FAIL  model echo_bytes has a chat template"),
    ],
)
def test_doctor_tells_of_a_template_that_cannot_be_used(state: Path, template: str, told: str) -> None:
    configure(
        state,
        Fleet(["echo_bytes"], openai={"echo_bytes": {"backend": "generate", "chat_template": template}}),
    )
    assert told in command("doctor", "--config", state / "gateway.yaml").stdout


# What is refused, in the client's own words


def test_a_wrong_key_a_foreign_model_and_a_limited_key_are_what_the_client_calls_them(demo: Demo) -> None:
    with connected(demo, "gw_live_x") as client, pytest.raises(openai.AuthenticationError):
        client.completions.create(model="parrot", prompt="x")
    with connected(demo) as client:
        for name in ("absent", "times01"):  # the second is there, and not offered
            with pytest.raises(openai.NotFoundError) as absent:
                client.completions.create(model=name, prompt="x")
            assert absent.value.code == "model_not_found"
    limited = new_tenant(demo.state, "limited", models=("vectors",)).secret.reveal()
    with connected(demo, limited) as client, pytest.raises(openai.PermissionDeniedError) as forbidden:
        client.chat.completions.create(model="parrot", messages=SAY)
    assert forbidden.value.type == "permission_error"


def test_a_limit_is_a_limit_and_the_client_comes_back_when_it_is_told(demo: Demo) -> None:
    slow = new_tenant(demo.state, "slow", rated(1, 1)).secret.reveal()
    with connected(demo, slow) as client:
        client.completions.create(model="parrot", prompt="x")
        with pytest.raises(openai.RateLimitError) as limited:
            client.completions.create(model="parrot", prompt="x")
        assert limited.value.response.headers["retry-after"] == "1"
        assert limited.value.type == "rate_limit_error"
    with connected(demo, slow, retries=2) as client:
        assert client.completions.create(model="parrot", prompt="x").choices[0].text == "x"


def test_a_budget_refuses_by_the_models_own_count_and_by_the_name_that_the_client_knows(
    demo: Demo, client: openai.OpenAI
) -> None:
    used = client.completions.create(model="parrot", prompt="how do you do").usage
    assert used is not None
    limits = Limits(2**20, tokens_per_minute=used.prompt_tokens + 6)
    few = new_tenant(demo.state, "few-tokens", limits).secret.reveal()
    with connected(demo, few) as tight:
        tight.completions.create(model="parrot", prompt="how do you do", max_tokens=6)
        with pytest.raises(openai.RateLimitError) as limited:
            tight.completions.create(model="parrot", prompt="how do you do", max_tokens=7)
    assert "max_tokens" in limited.value.message
    once = new_tenant(demo.state, "once-a-day", Limits(2**20, requests_per_day=1)).secret.reveal()
    with connected(demo, once) as spent:
        spent.completions.create(model="parrot", prompt="x")
        with pytest.raises(openai.RateLimitError) as refused:
            spent.completions.create(model="parrot", prompt="x")
    assert (refused.value.code, refused.value.type) == ("budget_spent", "insufficient_quota")
    assert 1 <= int(refused.value.response.headers["retry-after"]) <= 86_400


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"temperature": 3}, "temperature"),
        ({"max_tokens": 10_001}, "max_tokens"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"extra_body": {"colour": "red"}}, "colour"),
    ],
)
def test_what_the_model_cannot_do_is_refused_by_its_name(
    client: openai.OpenAI, more: dict[str, object], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="parrot", messages=SAY, **more)  # type: ignore[call-overload]
    assert refused.value.param == param


def test_a_model_without_a_template_has_no_chat_and_says_so(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="no chat template"):
        client.chat.completions.create(model="echo_bytes", messages=SAY)


# What breaks off


def test_a_model_that_fails_within_its_answer_is_an_error_without_the_servers_insides(
    client: openai.OpenAI,
) -> None:
    with pytest.raises(openai.InternalServerError) as failed:
        client.completions.create(model="parrot", prompt="fail:2 two three")
    assert failed.value.body == {
        "message": "no more than that, says (internal) at (internal)",
        "type": "api_error",
        "param": None,
        "code": "model_failed",
    }


def test_a_stream_that_fails_ends_with_an_error_and_never_with_done(
    demo: Demo, client: openai.OpenAI
) -> None:
    stream = client.completions.create(model="parrot", prompt="fail:2 two three", stream=True)
    assert [next(stream).choices[0].text for _ in range(2)] == ["fail:2 ", "two "]
    with pytest.raises(openai.APIError, match="no more than that"):
        next(stream)
    connection = demo.connection()
    body = json.dumps({"model": "parrot", "prompt": "fail:1 two", "stream": True})
    connection.request("POST", "/v1/completions", body, {"Authorization": f"Bearer {demo.key}"})
    answer = connection.getresponse()
    with pytest.raises(http.client.IncompleteRead) as cut:
        answer.read()
    connection.close()
    first, last = cut.value.partial.strip().split(b"\n\n")
    assert json.loads(first.removeprefix(b"data: "))["choices"][0]["text"] == "fail:1 "
    assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == "model_failed"
    entry, status = outcome(demo, answer.headers["x-request-id"])
    assert (entry.requests, status) == (1, "partial")


def test_a_stream_whose_server_dies_ends_with_an_error_and_never_with_done(state: Path) -> None:
    fleet = Fleet(["parrot"], openai={"parrot": {"backend": "generate"}})
    with serving_fleet(state, fleet) as demo, connected(demo) as client:
        stream = client.completions.create(model="parrot", prompt="a slow:300 " * 20, stream=True)
        next(stream)
        (server,) = tritons(state)
        os.kill(server, signal.SIGKILL)
        with pytest.raises(openai.APIError, match="model server failed"):
            list(stream)


def test_a_client_that_leaves_stops_the_model_and_is_settled(
    demo: Demo, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    note = tmp_path / "left"
    with connected(demo) as client:
        stream = client.completions.create(
            model="parrot", prompt=f"left:{note} slow:100 " + "word " * 1000, stream=True
        )
        request = next(iter(stream)).id.removeprefix("cmpl-")
        stream.close()
        left = clock()
    until(note.exists, LEAVE_SECONDS, "the model works on for a client that has left")
    record_property("OpenAI stream: a model stops after its client left", f"{clock() - left:.2f} s")
    entry, status = outcome(demo, request)
    assert (entry.requests, status) == (1, "cancelled")
    assert entry.tokens > 1_000  # the prompt's, and what was said of it


def test_a_stop_sequence_stops_the_model(demo: Demo, client: openai.OpenAI, tmp_path: Path) -> None:
    note = tmp_path / "left"
    prompt = f"left:{note} slow:50 END " + "word " * 1000
    answer = client.completions.create(model="parrot", prompt=prompt, stop="END")
    assert answer.choices[0].finish_reason == "stop"
    until(note.exists, LEAVE_SECONDS, "the model works on behind its stop sequence")
