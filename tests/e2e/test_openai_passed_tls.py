"""OpenAI's own client through the gateway to servers that are called over HTTPS: one that is known, and one that nobody vouches for."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from tests.e2e.fleets import Fleet, configure, gateway_log, killed, serve
from tests.e2e.test_openai import connected, outcome
from tests.e2e.world import Demo, command
from tests.worlds.certificates import Authority
from tests.worlds.openai import MODEL, OpenAiWorld, in_a_thread

pytestmark = pytest.mark.triton

SAY: list[ChatCompletionMessageParam] = [{"role": "user", "content": "how do you do"}]


@dataclass(slots=True)
class World:
    demo: Demo
    config: Path
    authorities: Path
    known: OpenAiWorld
    strange: OpenAiWorld
    stranger: Authority


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("passed-tls")
    state, authority, stranger = folder / "state", Authority(), Authority("a stranger")
    known = OpenAiWorld(certificate=authority.gives().write(folder, "known"))
    strange = OpenAiWorld(certificate=stranger.gives().write(folder, "strange"))
    with in_a_thread(known), in_a_thread(strange):
        key = configure(state, Fleet([]))
        for name, server in (("known", known), ("strange", strange)):
            document = {
                "kind": "Model",
                "name": name,
                "tenants": "*",
                "openai": {"backend": "pass-through", "address": server.address, "model": MODEL},
            }
            (state / "documents" / f"{name}.yaml").write_text(json.dumps(document))
        (authorities := state / "authorities.pem").write_bytes(authority.pem)
        config = state / "gateway.yaml"
        settings = json.loads(config.read_text())
        settings["upstream"] = {"private_networks": "127.0.0.0/8", "authorities": "authorities.pem"}
        config.write_text(json.dumps(settings))
        with serve(state, key) as demo:
            try:
                yield World(demo, config, authorities, known, strange, stranger)
            finally:
                killed(demo)
    assert (known.misuses, strange.misuses) == ([], [])


@pytest.fixture
def client(world: World) -> Iterator[openai.OpenAI]:
    with connected(world.demo) as made:
        yield made


def test_a_chat_is_answered_whole_and_streamed_and_found_with_its_server(
    world: World, client: openai.OpenAI
) -> None:
    answer = client.chat.completions.create(model="known", messages=SAY)
    assert answer.choices[0].message.content == "how do you do"
    entry, status = outcome(world.demo, answer.id.removeprefix("chatcmpl-"))
    assert (entry.replica, status) == (world.known.address, "done")
    with client.chat.completions.create(model="known", messages=SAY, stream=True) as stream:
        told = "".join(it.choices[0].delta.content or "" for it in stream)
    assert told == "how do you do "
    rows = client.embeddings.create(model="known", input=["abc"] * 300, encoding_format="float").data
    assert len(rows) == 300


def test_a_stream_that_was_cut_is_no_clean_end(world: World, client: openai.OpenAI) -> None:
    world.known.mood = "breaks off"
    try:
        with (
            pytest.raises((openai.APIError, openai.APIConnectionError)),
            client.chat.completions.create(model="known", messages=SAY, stream=True) as stream,
        ):
            list(stream)
    finally:
        world.known.mood = "answers"


def test_a_stranger_gets_nothing_the_client_hears_502_and_who_runs_the_gateway_why(
    world: World, client: openai.OpenAI
) -> None:
    for _ in range(2):
        with pytest.raises(openai.InternalServerError) as refused:
            client.chat.completions.create(model="strange", messages=SAY)
        assert (refused.value.status_code, refused.value.code) == (502, "upstream_untrusted")
        assert "127.0.0.1" not in refused.value.response.text
        assert "certificate" not in refused.value.response.text
    assert (world.strange.asked, world.strange.looks) == ([], 0)
    log = gateway_log(world.demo.state)
    assert f"127.0.0.1:{world.strange.port} did not prove who it is: " in log


def test_an_authority_that_is_added_is_trusted_without_a_restart(world: World) -> None:
    before = world.authorities.read_bytes()
    world.authorities.write_bytes(before + world.stranger.pem)
    with connected(world.demo, retries=8) as client:
        assert client.chat.completions.create(model="strange", messages=SAY).choices


def test_doctor_says_whether_they_may_be_called_and_whether_the_file_is_good(world: World) -> None:
    told = command("doctor", "--config", world.config).stdout
    assert f"ok    model known: {world.known.address} may be called\n" in told
    assert "ok    servers can be known by the authorities in " in told
