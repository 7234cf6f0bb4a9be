"""OpenAI's API over the real request path: what is refused in which order, and how an answer ends whatever becomes of its reply."""

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from gateway.frontends.http import HttpDoor, Readiness, other_paths
from gateway.frontends.http_body import JsonMemory
from gateway.frontends.http_protocol import HttpLimits
from gateway.frontends.oip_rest import OipRest
from gateway.frontends.openai import OpenAiRest
from gateway.frontends.openai_models import Offers
from gateway.wire.sse import Events
from tenants.acts import Act
from tenants.model import Model
from tenants.openai import Generate, Infer
from tenants.plans import Limits, Rate
from tests.gateway.frontends.worlds import Answer, Door, Wire, door
from tests.gateway.house import LIMITS, NOW_US, ROOT, House, house
from tests.worlds.triton import Mood, TritonWorld

TEMPLATE = "{% for message in messages %}{{ message.content }}{% endfor %}"
CHAT = {"model": "digits", "messages": [{"role": "user", "content": "hi"}]}
COMPLETION = {"model": "digits", "prompt": "hi"}
PATHS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": COMPLETION,
    "/v1/embeddings": {"model": "digits", "input": "hi"},
}


@asynccontextmanager
async def opened(
    mood: Mood = "answers",
    limits: Limits = LIMITS,
    template: str = TEMPLATE,
    repository: Path = ROOT / "infra" / "models",
) -> AsyncIterator[tuple[TritonWorld, House, Door]]:
    """Acme has `digits`, which is offered, and `plain`, which is not; `private` is another tenant's, and offered to it."""
    async with TritonWorld(mood=mood) as triton, house(triton, limits=limits) as here:
        section = Generate(chat_template=template, max_tokens=100)
        for model in (
            Model("", "digits", str(repository), "*", openai=section),
            Model("", "plain", "/models", "*"),
            Model("", "vectors", "/models", "*", openai=Infer()),
            Model("", "private", "/models", ("other",), openai=section),
        ):
            await here.directory.values.put(model, act=Act("test", NOW_US))
        await here.feed.look()
        memory, numbers = JsonMemory(10**6, 10**6), count(1)
        oip = OipRest(here.pipeline, memory, 60.0)
        openai = OpenAiRest(here.pipeline, memory, 60.0, Offers(here.pipeline.known.models))
        others = other_paths(oip, lambda: Readiness(ready=True, state="ok"))
        app = HttpDoor(oip, others, lambda: f"{next(numbers):032x}", openai)
        async with door(app, HttpLimits()) as world:  # nobody is late here
            yield triton, here, world
        assert memory.taken_bytes == 0


def request(here: House, path: str, body: Any = None, *, method: str = "", key: str | None = None) -> bytes:
    sent = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [
        f"{method or ('GET' if body is None else 'POST')} {path} HTTP/1.1",
        "Host: a",
        *([f"Authorization: Bearer {here.key.reveal() if key is None else key}"] if key != "" else []),
        f"Content-Length: {len(sent)}",
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + sent


def error(answer: Answer) -> dict[str, Any]:
    """What a refusal says; fails when it has not OpenAI's shape."""
    told = json.loads(answer.body)
    assert list(told) == ["error"]
    assert list(told["error"]) == ["message", "type", "param", "code"]
    assert len(answer.headers["x-request-id"]) == 32
    found: dict[str, Any] = told["error"]
    return found


async def refused(world: Door, *sent: bytes) -> tuple[int, str]:
    answer = await world.ask(*sent)
    return answer.status, error(answer)["code"]


async def stream(wire: Wire, sent: bytes) -> tuple[list[Any], bytes]:
    """The events of an answer that may be cut, and its last bytes."""
    await wire.send(sent)
    head = await wire.reader.readuntil(b"\r\n\r\n")
    assert b"200" in head.split(b"\r\n")[0]
    assert b"content-type: text/event-stream; charset=utf-8" in head
    events, reader, body = Events(), [], b""
    async with asyncio.timeout(10):
        while size := int((await wire.reader.readline()).strip() or b"0", 16):
            reader += events.feed((await wire.reader.readexactly(size + 2))[:-2])
            body = reader[-1]
    return [json.loads(data) for data in reader if data != b"[DONE]"], body


# Who may ask for what


@pytest.mark.parametrize("path", PATHS)
async def test_nothing_is_read_for_somebody_whom_nobody_knows(path: str) -> None:
    async with opened() as (triton, here, world):
        wire = await world.connect()
        await wire.send(request(here, path, PATHS[path], key="gw_live_x")[:-5])  # the rest never comes
        answer = await wire.answer()
        assert (answer.status, error(answer)["type"]) == (401, "authentication_error")
        assert answer.headers["www-authenticate"] == "Bearer"
        assert triton.asked == []


async def test_a_foreign_an_absent_and_an_unoffered_model_are_one_refusal_with_one_denial_each() -> None:
    async with opened() as (triton, here, world):
        refusals = []
        for name in ("private", "absent", "plain", "../digits", ""):
            answer = await world.ask(request(here, "/v1/completions", COMPLETION | {"model": name}))
            refusals.append((answer.status, error(answer)))
        assert {status for status, _ in refusals} == {404}
        assert all(told == refusals[0][1] for _, told in refusals)
        assert refusals[0][1]["code"] == "model_not_found"
        await here.settled()
        assert here.denials() == ["model_not_found"] * 5
        assert (here.outcomes(), triton.asked) == ([], [])


async def test_what_depends_on_a_model_is_told_to_nobody_who_may_not_use_it() -> None:
    too_much = COMPLETION | {"max_tokens": 10**6}
    async with opened() as (_, here, world):
        assert await refused(world, request(here, "/v1/completions", too_much)) == (400, "bad_request")
        foreign = request(here, "/v1/completions", too_much | {"model": "private"})
        assert await refused(world, foreign) == (404, "model_not_found")


async def test_a_key_that_is_limited_to_other_models_is_forbidden() -> None:
    async with opened() as (_, here, world):
        minted = await here.directory.keys.create("acme", models=("plain",), act=Act("test", NOW_US))
        sent = request(here, "/v1/chat/completions", CHAT, key=minted.secret.reveal())
        assert await refused(world, sent) == (403, "forbidden")
        await here.settled()
        assert here.denials() == ["forbidden"]


async def test_a_limit_is_told_with_when_to_come_back_before_the_body_is_read() -> None:
    limits = Limits(body_bytes=1000, requests_per_second=Rate(rate=0.5, burst=1))
    async with opened(limits=limits) as (_, here, world):
        assert (await world.ask(request(here, "/v1/completions", COMPLETION))).status == 200
        wire = await world.connect()
        await wire.send(request(here, "/v1/completions", COMPLETION)[:-5])
        answer = await wire.answer()
        assert (answer.status, error(answer)["type"]) == (429, "rate_limit_error")
        assert answer.headers["retry-after"] == "2"


async def test_a_body_over_the_plan_is_refused() -> None:
    async with opened() as (_, here, world):
        sent = request(here, "/v1/completions", COMPLETION | {"prompt": "x" * 1000})
        assert await refused(world, sent) == (413, "body_too_large")


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/v1/chat/completions", 405, "POST"),
        ("POST", "/v1/models", 405, "GET"),
        ("DELETE", "/v1/models/digits", 405, "GET"),
        ("GET", "/v1/models/%64igits", 404, None),
        ("POST", "/v1/responses", 404, None),
        ("GET", "/v1/", 404, None),
    ],
)
async def test_other_paths_are_refused_in_openais_shape(
    method: str, path: str, status: int, allow: str | None
) -> None:
    async with opened() as (_, here, world):
        answer = await world.ask(request(here, path, method=method))
        assert (answer.status, answer.headers.get("allow")) == (status, allow)
        assert error(answer)
        assert (await world.ask(request(here, path, method=method, key=""))).status == 401


@pytest.mark.parametrize(
    ("path", "model", "param"),
    [
        ("/v1/embeddings", "digits", "model"),
        ("/v1/completions", "vectors", "model"),
        ("/v1/chat/completions", "vectors", "model"),
    ],
)
async def test_a_model_is_not_asked_for_what_it_does_not_give(path: str, model: str, param: str) -> None:
    async with opened() as (triton, here, world):
        answer = await world.ask(request(here, path, PATHS[path] | {"model": model}))
        assert (answer.status, error(answer)["param"], triton.asked) == (400, param, [])


@pytest.mark.parametrize(
    ("template", "param", "words"),
    [
        ("", "model", "no chat template"),
        ("{% for %}", "model", "template cannot be used"),
        ("{{ raise_exception('users only') }}", "messages", "users only"),
    ],
)
async def test_a_chat_that_the_models_template_does_not_take_is_refused_and_says_why(
    template: str, param: str, words: str
) -> None:
    async with opened(template=template) as (_, here, world):
        answer = await world.ask(request(here, "/v1/chat/completions", CHAT))
        assert (answer.status, error(answer)["param"]) == (400, param)
        assert words in error(answer)["message"]
        assert (await world.ask(request(here, "/v1/completions", COMPLETION))).status == 200


# Models


async def test_a_key_sees_the_models_that_it_can_use_here_and_no_others() -> None:
    async with opened() as (_, here, world):
        listed = json.loads((await world.ask(request(here, "/v1/models"))).body)
        assert [it["id"] for it in listed["data"]] == ["digits", "vectors"]
        assert listed["data"][0] == json.loads((await world.ask(request(here, "/v1/models/digits"))).body)
        minted = await here.directory.keys.create("acme", models=("vectors",), act=Act("test", NOW_US))
        key = minted.secret.reveal()
        listed = json.loads((await world.ask(request(here, "/v1/models", key=key))).body)
        assert [it["id"] for it in listed["data"]] == ["vectors"]
        assert await refused(world, request(here, "/v1/models/digits", key=key)) == (403, "forbidden")
        for name in ("plain", "private", "absent"):
            assert await refused(world, request(here, f"/v1/models/{name}")) == (404, "model_not_found")


# Answers


async def test_a_chat_is_one_prompt_to_the_model_and_its_answer_says_what_it_is() -> None:
    async with opened() as (triton, here, world):
        answer = await world.ask(
            request(here, "/v1/chat/completions", CHAT | {"user": "u", "temperature": 1})
        )
        told = json.loads(answer.body)
        assert told["id"] == f"chatcmpl-{answer.headers['x-request-id']}"
        assert told["created"] == NOW_US // 1_000_000
        assert told["choices"][0]["message"]["content"] == "aa"
        assert told["usage"]["estimated"] is True
        assert "ratelimit" in answer.headers
        assert [json.loads(body) for body in triton.asked] == [{"text_input": "hi", "max_tokens": 100}]
        await here.settled()
        assert here.outcomes() == ["done"]


async def test_a_stream_comes_with_the_reply_and_ends_with_done() -> None:
    async with opened() as (_, here, world):
        sent = request(here, "/v1/completions", COMPLETION | {"stream": True})
        events, last = await stream(await world.connect(), sent)
        assert [it["choices"][0]["text"] for it in events] == ["a", "a", ""]
        assert last == b"[DONE]"


async def test_a_stop_sequence_ends_the_stream_and_the_model() -> None:
    async with opened("stops within") as (triton, here, world):
        sent = request(here, "/v1/completions", COMPLETION | {"stream": True, "stop": "a"})
        events, last = await stream(await world.connect(), sent)
        assert [it["choices"][0]["finish_reason"] for it in events][-1] == "stop"
        assert last == b"[DONE]"
        async with asyncio.timeout(5):
            await triton.departed.wait()
        await here.settled()
        assert here.outcomes() == ["done"]


async def test_a_reply_that_breaks_off_ends_a_stream_with_an_error_and_never_with_done() -> None:
    async with opened("closes within") as (_, here, world):
        wire = await world.connect()
        await wire.send(request(here, "/v1/completions", COMPLETION | {"stream": True}))
        rest = await wire.rest()
        assert b"[DONE]" not in rest
        assert not rest.endswith(b"0\r\n\r\n")
        *_, last = Events().feed(rest.split(b"\r\n")[-2] + b"\n\n")
        assert json.loads(last)["error"]["code"] == "upstream_failed"
        await here.settled()
        assert here.outcomes() == ["partial"]


async def test_a_reply_that_breaks_off_is_no_whole_answer() -> None:
    async with opened("closes within") as (_, here, world):
        assert await refused(world, request(here, "/v1/completions", COMPLETION)) == (502, "upstream_failed")
        await here.settled()
        assert here.outcomes() == ["failed"]


@pytest.mark.parametrize("streamed", [{}, {"stream": True}], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("mood", "status", "kind"),
    [
        ("raises", 500, "api_error"),
        ("cannot read", 400, "invalid_request_error"),
        ("closes before", 502, "api_error"),
        ("finds nothing", 404, "invalid_request_error"),
    ],
)
async def test_an_error_before_the_first_text_is_an_error_with_its_status(
    mood: Mood, status: int, kind: str, streamed: dict[str, bool]
) -> None:
    async with opened(mood) as (_, here, world):
        answer = await world.ask(request(here, "/v1/completions", COMPLETION | streamed))
        assert (answer.status, error(answer)["type"]) == (status, kind)


async def test_a_reply_of_another_kind_than_the_document_promises_is_no_answer() -> None:
    """Of a model of embeddings: the world answers with JSON, and no rows."""
    async with opened() as (triton, here, world):
        triton.models = ("vectors",)
        sent = request(here, "/v1/embeddings", PATHS["/v1/embeddings"] | {"model": "vectors"})
        assert await refused(world, sent) == (500, "model_failed")
        await here.settled()
        assert here.outcomes() == ["failed"]


async def test_a_client_that_leaves_a_stream_frees_its_place_and_stops_the_model() -> None:
    limits = Limits(body_bytes=1000, concurrent_requests=1)
    async with opened("stops within", limits=limits) as (triton, here, world):
        wire = await world.connect()
        await wire.send(request(here, "/v1/completions", COMPLETION | {"stream": True}))
        await wire.reader.readuntil(b'"text":"a"')
        wire.writer.close()
        async with asyncio.timeout(1):
            await triton.departed.wait()
        triton.mood = "answers"
        assert (await world.ask(request(here, "/v1/completions", COMPLETION))).status == 200
        await here.settled()
        assert here.outcomes() == ["cancelled", "done"]


async def test_a_stream_needs_chunks_and_a_whole_answer_does_not() -> None:
    async with opened() as (_, here, world):
        for body, status in ((COMPLETION, 200), (COMPLETION | {"stream": True}, 400)):
            sent = request(here, "/v1/completions", body).replace(b"HTTP/1.1", b"HTTP/1.0")
            assert (await world.ask(sent)).status == status


def stop(world: Door) -> None:
    """What uvicorn does when the grace of a stop is over."""
    for task in world.server.server_state.tasks:
        task.cancel()


async def test_a_call_that_outlasts_the_grace_is_told_so_in_openais_shape() -> None:
    async with opened("holds") as (triton, here, world):
        wire = await world.connect()
        await wire.send(request(here, "/v1/completions", COMPLETION))
        await triton.arrived.wait()
        stop(world)
        answer = await wire.answer()
        assert (answer.status, error(answer)["code"], answer.headers["retry-after"]) == (503, "stopping", "1")


async def test_a_stream_that_outlasts_the_grace_ends_with_an_error_and_never_with_done() -> None:
    async with opened("stops within") as (_, here, world):
        wire = await world.connect()
        await wire.send(request(here, "/v1/completions", COMPLETION | {"stream": True}))
        await wire.reader.readuntil(b'"text":"a"')
        stop(world)
        rest = await wire.rest()
        assert b'"code":"stopping"' in rest
        assert b"[DONE]" not in rest


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_a_compressed_body_is_read_as_what_is_in_it(coding: str) -> None:
    def packed(data: bytes) -> bytes:
        return gzip.compress(data) if coding == "gzip" else zlib.compress(data)

    async with opened() as (_, here, world):
        bodies = (json.dumps(COMPLETION).encode(), 200), (b" " * 10**6, 413)
        for body, status in bodies:
            sent = request(here, "/v1/completions", packed(body))
            coded = sent.replace(b"Host: a", b"Host: a\r\nContent-Encoding: " + coding.encode())
            assert (await world.ask(coded)).status == status


async def test_two_credentials_are_refused_in_openais_shape() -> None:
    async with opened() as (_, here, world):
        for path, body in (("/v1/completions", COMPLETION), ("/v1/models", None)):
            sent = request(here, path, body).replace(b"Host: a", b"Host: a\r\nx-api-key: gw_live_other")
            assert await refused(world, sent) == (400, "two_credentials")
