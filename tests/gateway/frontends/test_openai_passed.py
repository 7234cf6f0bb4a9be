"""A server that speaks OpenAI's API itself, behind the real request path: who may use it, what it sees, and how an answer of its ends."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import pytest

from gateway.frontends.http import HttpDoor, Readiness, other_paths
from gateway.frontends.http_body import JsonMemory
from gateway.frontends.http_protocol import HttpLimits
from gateway.frontends.oip_rest import OipRest
from gateway.frontends.openai import OpenAiRest
from gateway.frontends.openai_models import Offers
from tenants.acts import Act
from tenants.model import Model, Scaling
from tenants.openai import PassThrough
from tenants.plans import Limits, Rate
from tests.gateway.frontends.test_openai import error, refused, request, stream
from tests.gateway.frontends.worlds import Door, door
from tests.gateway.house import NOW_US, House, house
from tests.worlds.openai import MODEL, Mood, OpenAiWorld

CHAT = {"model": "far", "messages": [{"role": "user", "content": "how do you do"}]}
STREAM = CHAT | {"stream": True}
ROOMY = Limits(body_bytes=100_000, requests_per_second=Rate(rate=1000, burst=1000), concurrent_requests=5)
PATHS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": {"model": "far", "prompt": "hi"},
    "/v1/embeddings": {"model": "far", "input": "hi"},
}


@asynccontextmanager
async def opened(
    mood: Mood = "answers", limits: Limits = ROOMY, seconds: float = 30.0, model: str = MODEL
) -> AsyncIterator[tuple[OpenAiWorld, House, Door]]:
    """Acme has `far`, which the server calls by another name; `theirs` is another tenant's."""
    async with OpenAiWorld(mood=mood) as server, house(limits=limits) as here:
        section, scaling = PassThrough(server.address, model), Scaling(start_deadline_seconds=seconds)
        for name, tenants in (("far", ("acme",)), ("theirs", ("other",))):
            row = Model("", name, "", tenants, "", scaling=scaling, openai=section)
            await here.directory.values.put(row, act=Act("test", NOW_US))
        await here.feed.look()
        here.pipeline.throttler.registry.wake.set()
        memory, numbers = JsonMemory(10**6, 10**6), count(1)
        oip = OipRest(here.pipeline, memory, 60.0, shows_config=True)
        openai = OpenAiRest(here.pipeline, memory, 60.0, Offers(here.pipeline.known.models))
        others = other_paths(oip, lambda: Readiness(ready=True, state="ok"))
        app = HttpDoor(oip, others, lambda: f"{next(numbers):032x}", openai)
        async with door(app, HttpLimits()) as world:  # nobody is late here
            yield server, here, world
        assert (memory.taken_bytes, server.misuses, here.scaler.started) == (0, [], [])


def chat(here: House, **more: Any) -> bytes:
    return request(here, "/v1/chat/completions", CHAT | more)


async def outcome(here: House) -> Any:
    """The entry of the only call."""
    await here.settled_outcomes(1)
    (record,) = here.records("outcome")
    return record.entry


# Who may, and what the server sees


@pytest.mark.parametrize("path", PATHS)
async def test_a_call_is_priced_by_what_the_server_counted_and_named_with_its_address(path: str) -> None:
    async with opened() as (server, here, world):
        answer = await world.ask(request(here, path, PATHS[path]))
        told = json.loads(answer.body)
        assert (answer.status, told["model"]) == (200, "far")
        assert "ratelimit" in answer.headers
        entry = await outcome(here)
        assert (entry.tokens, entry.requests, entry.replica) == (
            told["usage"]["total_tokens"],
            1,
            server.address,
        )
        assert entry.request == answer.headers["x-request-id"]
        if path != "/v1/embeddings":
            assert told["id"].endswith(entry.request)
        assert here.outcomes() == ["done"]


async def test_the_server_sees_what_was_judged_and_nothing_else_of_the_client() -> None:
    body = (
        b'{"model":"theirs","user":"u","model":"far","messages":[{"role":"user","content":"a"}],"n":1,"n":2}'
    )
    spoofed = b"Host: a\r\nx-forwarded-for: 1.2.3.4\r\nCookie: a=b\r\nOpenAI-Organization: o\r\nAccept: x/y\r\nx-gateway-control: y"
    async with opened() as (server, here, world):
        sent = request(here, "/v1/chat/completions", body).replace(b"Host: a", spoofed)
        assert (await world.ask(sent)).status == 200
        (asked,) = server.asked
        assert asked.body == b'{"model":"llama-3","messages":[{"role":"user","content":"a"}],"n":2}'
        assert {*asked.headers} == {"host", "content-type", "content-length"}


async def test_keys_tenants_and_limits_are_what_they_are_for_any_model() -> None:
    limits = Limits(body_bytes=1000, requests_per_second=Rate(rate=0.5, burst=1))
    async with opened(limits=limits) as (server, here, world):
        wrong = request(here, "/v1/chat/completions", CHAT, key="gw_live_x")
        assert await refused(world, wrong) == (401, "unauthenticated")
        assert await refused(world, chat(here, user="x" * 1000)) == (413, "body_too_large")
        assert await refused(world, chat(here, model="theirs")) == (404, "model_not_found")
        assert await refused(world, chat(here)) == (429, "rate_limited")
        assert server.asked == []
        async with asyncio.timeout(5):
            while "model_not_found" not in here.denials():
                await asyncio.sleep(0.001)
        assert here.outcomes() == []


async def test_what_no_such_server_gets_is_refused_before_it_is_asked() -> None:
    async with opened() as (server, here, world):
        answer = await world.ask(chat(here, audio={"voice": "x"}))
        assert (answer.status, error(answer)["param"]) == (400, "audio")
        assert server.asked == []


async def test_the_model_is_listed_and_the_same_name_there_is_the_default() -> None:
    async with opened(model="") as (server, here, world):
        listed = json.loads((await world.ask(request(here, "/v1/models"))).body)
        assert [it["id"] for it in listed["data"]] == ["far"]
        assert (await world.ask(request(here, "/v1/models/far"))).status == 200
        await world.ask(chat(here))
        assert server.asked[0].json["model"] == "far"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("", None),
        ("/ready", None),
        ("/stats", None),
        ("/config", None),
        ("/versions/1", None),
        ("/versions/1/ready", None),
        ("/infer", {"inputs": []}),
        ("/generate", {"text_input": "x"}),
        ("/generate_stream", {"text_input": "x"}),
    ],
)
async def test_over_tritons_protocol_there_is_no_such_model_and_nothing_is_asked(
    path: str, body: Any
) -> None:
    async with opened() as (server, here, world):
        answer = await world.ask(request(here, f"/v2/models/far{path}", body))
        assert (answer.status, answer.error) == (404, "this model is offered through OpenAI's API only")
        foreign = await world.ask(request(here, f"/v2/models/theirs{path}", body))
        assert (foreign.status, foreign.error) == (404, "there is no such model")
        assert (server.asked, server.looks) == ([], 0)
        await here.settled()
        assert here.denials() == ["model_not_found"] * 2


# How an answer ends


async def test_a_stream_comes_event_by_event_and_ends_with_done() -> None:
    async with opened() as (server, here, world):
        sent = chat(here, stream=True, stream_options={"include_usage": True})
        events, last = await stream(await world.connect(), sent)
        assert last == b"[DONE]"
        *told, counted = events
        assert "".join(it["choices"][0]["delta"].get("content", "") for it in told) == "how do you do "
        assert (counted["choices"], counted["usage"]["total_tokens"]) == ([], 8)
        assert {it["model"] for it in events} == {"far"}
        assert {it["id"] for it in events} == {f"chatcmpl-{(await outcome(here)).request}"}
        assert server.asked[0].json["stream_options"] == {"include_usage": True}


async def test_a_stream_is_counted_also_for_who_does_not_want_to_know() -> None:
    async with opened() as (_, here, world):
        events, last = await stream(await world.connect(), chat(here, stream=True))
        assert last == b"[DONE]"
        assert not any("usage" in it for it in events)
        assert (await outcome(here)).tokens == 8


async def test_the_first_event_is_not_kept_until_there_is_a_second() -> None:
    async with opened("holds") as (server, here, world):
        wire = await world.connect()
        await wire.send(chat(here, stream=True))
        async with asyncio.timeout(5):
            await wire.reader.readuntil(b'"content":"how "')
        wire.writer.close()  # and who leaves stops it
        async with asyncio.timeout(5):
            await server.departed.wait()
        await here.settled_outcomes(1)
        assert here.outcomes() == ["cancelled"]


@pytest.mark.parametrize(
    ("mood", "code"),
    [("breaks off", "upstream_failed"), ("forgets", "model_failed"), ("fails within", "model_failed")],
)
async def test_a_stream_that_does_not_end_as_it_should_ends_with_an_error_and_never_with_done(
    mood: Mood, code: str
) -> None:
    async with opened(mood) as (_, here, world):
        wire = await world.connect()
        await wire.send(chat(here, stream=True))
        rest = await wire.rest()
        assert f'"code":"{code}"'.encode() in rest
        assert b"[DONE]" not in rest
        assert b"/srv" not in rest
        assert not rest.endswith(b"0\r\n\r\n")
        await here.settled_outcomes(1)
        assert here.outcomes() == ["partial"]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("mood", "status", "code", "words"),
    [
        ("refuses", 400, "bad_request", "no such thing in (internal) at (internal)"),
        ("rejects", 422, "bad_request", "no such thing in (internal) at (internal)"),
        ("locks out", 500, "model_failed", "the model failed while it answered"),
        (
            "crashes",
            500,
            "model_failed",
            "the model server answered with an error that is not in the protocol",
        ),
        ("says nonsense", 500, "model_failed", "the model failed while it answered"),
    ],
)
async def test_an_error_before_the_first_byte_is_an_error_in_openais_shape(
    mood: Mood, status: int, code: str, words: str, *, streamed: bool
) -> None:
    async with opened(mood) as (_, here, world):
        answer = await world.ask(chat(here, stream=streamed))
        assert (answer.status, error(answer)["code"], error(answer)["message"]) == (status, code, words)
        assert error(answer)["param"] == ("tools" if mood == "rejects" else None)


async def test_an_answer_that_is_too_large_for_its_tenant_is_refused_and_gives_all_back() -> None:
    async with opened() as (_, here, world):
        for n, status in (
            (5, 200),
            (12, 429),
        ):  # of which the answer has 600 kB, and that twice is more than a tenant's part
            long = {"model": "far", "prompt": "word " * 10_000, "n": n}
            assert (await world.ask(request(here, "/v1/completions", long))).status == status


async def test_a_stream_needs_chunks() -> None:
    async with opened() as (server, here, world):
        sent = chat(here, stream=True).replace(b"HTTP/1.1", b"HTTP/1.0")
        assert (await world.ask(sent)).status == 400
        assert server.asked == []


# A server that is not there


async def test_a_server_that_is_down_is_a_503_with_when_to_come_back_and_serves_when_it_is_back() -> None:
    async with opened(seconds=0.2) as (server, here, world):
        assert (await world.ask(chat(here))).status == 200
        await server.down()
        answer = await world.ask(chat(here))
        assert (answer.status, error(answer)["code"]) == (503, "model_unavailable")
        assert int(answer.headers["retry-after"]) > 0
        assert (await world.ask(request(here, "/v2/models/far/ready"))).status == 404
        await server.up()
        async with asyncio.timeout(20):
            while (await world.ask(chat(here))).status != 200:
                pass
        await here.settled()
        assert here.outcomes()[0 :: len(here.outcomes()) - 1] == ["done", "done"]


async def test_who_calls_while_it_is_down_is_served_when_it_comes_back_in_time() -> None:
    async with opened() as (server, here, world):
        await server.down()
        wire = await world.connect()
        await wire.send(chat(here))
        async with asyncio.timeout(5):
            while not here.pipeline.throttler.held:
                await asyncio.sleep(0.001)
        await server.up()
        assert (await wire.answer()).status == 200


async def test_a_server_that_ends_under_a_call_is_a_502_and_the_call_is_not_sent_again() -> None:
    async with opened("holds") as (server, here, world):
        wire = await world.connect()
        await wire.send(chat(here, stream=True))
        await wire.reader.readuntil(b'"content":"how "')
        await server.down()
        assert b'"code":"upstream_failed"' in await wire.rest()
        assert len(server.asked) == 1
