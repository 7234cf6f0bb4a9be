"""OpenAI's own client through the gateway to a server that speaks its API: a small one of our own, which stands for Triton's front end."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam
from tritonclient import grpc
from tritonclient.utils import InferenceServerException

from gateway.state import clock
from tests.e2e.fleets import Fleet, configure, gateway_log, killed, serve
from tests.e2e.test_openai import connected, outcome
from tests.e2e.world import Demo, command, tritons
from tests.worlds.openai import MODEL, OpenAiWorld, in_a_thread

pytestmark = pytest.mark.triton

SAY: list[ChatCompletionMessageParam] = [{"role": "user", "content": "how do you do"}]
TOOLS: list[ChatCompletionToolParam] = [
    {"type": "function", "function": {"name": "look_up", "parameters": {}}}
]


@pytest.fixture(scope="module")
def loop_and_server() -> Iterator[tuple[asyncio.AbstractEventLoop, OpenAiWorld]]:
    server = OpenAiWorld()
    with in_a_thread(server) as loop:
        yield loop, server
    assert server.misuses == []


@pytest.fixture(scope="module")
def demo(
    tmp_path_factory: pytest.TempPathFactory, loop_and_server: tuple[asyncio.AbstractEventLoop, OpenAiWorld]
) -> Iterator[Demo]:
    """A gateway whose only model is elsewhere."""
    state = tmp_path_factory.mktemp("passed") / "state"
    key = configure(state, Fleet([]))
    address = loop_and_server[1].address
    document = {
        "kind": "Model",
        "name": "far",
        "tenants": "*",
        "scaling": {"start_deadline_seconds": 1},
        "openai": {"backend": "pass-through", "address": address, "model": MODEL},
    }
    (state / "documents" / "far.yaml").write_text(json.dumps(document))
    with serve(state, key, GATEWAY_GRPC_PORT="0") as made:
        try:
            yield made
        finally:
            assert tritons(state) == []
            killed(made)


@pytest.fixture
def client(demo: Demo) -> Iterator[openai.OpenAI]:
    with connected(demo) as made:
        yield made


def test_a_chat_is_answered_counted_and_found_in_the_audit_log_with_its_server(
    demo: Demo, client: openai.OpenAI, loop_and_server: tuple[asyncio.AbstractEventLoop, OpenAiWorld]
) -> None:
    assert [model.id for model in client.models.list()] == ["far"]
    answer = client.chat.completions.create(model="far", messages=SAY, n=2)
    assert [it.message.content for it in answer.choices] == ["how do you do"] * 2
    assert (answer.model, answer.usage and answer.usage.total_tokens) == ("far", 12)
    entry, status = outcome(demo, answer.id.removeprefix("chatcmpl-"))
    assert (entry.tokens, entry.requests, entry.replica, status) == (
        12,
        1,
        loop_and_server[1].address,
        "done",
    )


def test_a_stream_a_tool_and_embeddings_work_unchanged(client: openai.OpenAI) -> None:
    with client.chat.completions.create(
        model="far", messages=SAY, stream=True, stream_options={"include_usage": True}
    ) as stream:
        *told, last = stream
    assert "".join(it.choices[0].delta.content or "" for it in told) == "how do you do "
    assert last.usage is not None
    assert last.usage.total_tokens == 8
    (choice,) = client.chat.completions.create(model="far", messages=SAY, tools=TOOLS).choices
    (called,) = choice.message.tool_calls or []
    assert called.type == "function"
    assert called.function.name == "look_up"
    assert client.completions.create(model="far", prompt="a b").choices[0].text == "a b"
    rows = client.embeddings.create(model="far", input=["abc", "e"], encoding_format="float").data
    assert [row.embedding for row in rows] == [[3.0, 0.5], [1.0, 0.5]]


def test_what_no_such_server_gets_is_refused_in_the_clients_own_words(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="far", messages=SAY, extra_body={"colour": "red"})
    assert refused.value.param == "colour"


def test_over_tritons_own_protocol_there_is_no_such_model(demo: Demo) -> None:
    with grpc.InferenceServerClient(demo.grpc) as client:
        headers = {"authorization": f"Bearer {demo.key}"}
        for ask in (client.get_model_metadata, client.get_inference_statistics, client.is_model_ready):
            with pytest.raises(InferenceServerException, match="OpenAI's API only") as refused:
                ask("far", headers=headers)
            assert refused.value.status() == "StatusCode.NOT_FOUND"
    assert demo.infer("far", {"inputs": []}).status == 404


def test_a_server_that_was_down_serves_whoever_comes_back_as_told(
    demo: Demo, loop_and_server: tuple[asyncio.AbstractEventLoop, OpenAiWorld]
) -> None:
    loop, server = loop_and_server
    asyncio.run_coroutine_threadsafe(server.down(), loop).result(10)
    with connected(demo) as client, pytest.raises(openai.InternalServerError) as down:
        client.chat.completions.create(model="far", messages=SAY)
    assert (down.value.status_code, down.value.code) == (503, "model_unavailable")
    assert int(down.value.response.headers["retry-after"]) >= 1
    asyncio.run_coroutine_threadsafe(server.up(), loop).result(10)
    begun = clock()
    with connected(demo, retries=5) as client:
        assert client.chat.completions.create(model="far", messages=SAY).choices
    assert clock() - begun < 20
    assert f"{server.address} takes calls of far again" in gateway_log(demo.state)


def test_doctor_looks_for_no_files_of_a_model_that_is_elsewhere(demo: Demo) -> None:
    told = command("doctor", "--config", demo.state / "gateway.yaml").stdout
    assert "make sense" in told
    assert "config.pbtxt" not in told
    assert "ok    model far: " in told


def test_a_server_beyond_the_declared_networks_is_not_called_and_who_runs_the_gateway_is_told(
    tmp_path: Path,
) -> None:
    state = tmp_path / "state"
    key = configure(state, Fleet([]))
    document = {
        "kind": "Model",
        "name": "beyond",
        "tenants": "*",
        "scaling": {"start_deadline_seconds": 1},
        "openai": {"backend": "pass-through", "address": "192.0.2.7:9000"},
    }
    (state / "documents" / "beyond.yaml").write_text(json.dumps(document))
    settings = json.loads((state / "gateway.yaml").read_text())

    def finding() -> Any:
        (found,) = [
            it
            for it in json.loads(command("doctor", "--config", state / "gateway.yaml", "--json").stdout)
            if it["what"].startswith("model beyond: ")
        ]
        return found

    with serve(state, key) as demo:
        try:
            answer = demo.call("/v1/completions", {"model": "beyond", "prompt": "a", "max_tokens": 1})
            log = gateway_log(state)
        finally:
            killed(demo)
    assert (answer.status, answer.json["error"]["code"]) == (503, "model_unavailable")
    assert b"192.0.2.7" not in answer.body
    assert b"networks" not in answer.body
    assert "192.0.2.7: neither this host nor in a network of upstream.private_networks" in log
    assert not finding()["ok"]
    assert "upstream.private_networks" in finding()["advice"]
    settings["upstream"] = {"private_networks": "192.0.2.0/24"}
    (state / "gateway.yaml").write_text(json.dumps(settings))
    assert finding()["ok"]
