"""Replies and refusals as a client sees them, down to the bytes on its socket."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from gateway.call import Quota, Take
from gateway.errors import Code, GatewayError
from gateway.frontends.http import HttpDoor, Readiness, other_paths
from gateway.frontends.http_body import JsonMemory
from gateway.frontends.http_downstream import HttpDownstream
from gateway.frontends.oip_rest import OipRest
from tests.gateway.frontends.worlds import Answer, Door, Heard, door
from tests.gateway.house import House, house
from tests.worlds.triton import ANSWER, EVENT, TritonWorld, chunk

BODY = b'{"inputs":[]}'


# A reply of Triton's


@dataclass(frozen=True, slots=True)
class Said:
    """What Triton said."""

    status: int = 200
    content_type: bytes = b"application/json"
    head_length: bytes = b""
    body: tuple[bytes, ...] = (b"hello",)
    content_encoding: bytes = b""
    is_chunked: bool = False

    @property
    def length_bytes(self) -> int:
        return -1 if self.is_chunked else sum(map(len, self.body))

    async def pour(self, take: Take) -> None:
        for piece in self.body:
            take(piece)

    def pause(self) -> None:
        raise AssertionError("this client reads all that comes")

    def resume(self) -> None:
        raise AssertionError("it was not paused")


async def relayed(said: Said) -> Heard:
    heard = Heard()
    downstream = HttpDownstream(heard, "r1")
    await downstream.start(said, (Quota("concurrency", 5, 4),))
    await said.pour(downstream.take)
    await downstream.end()
    assert heard.headers[b"content-length"] == str(len(heard.body)).encode()
    assert heard.headers[b"x-request-id"] == b"r1"
    assert heard.headers[b"ratelimit"] == b'"concurrency";r=4'
    return heard


@pytest.mark.parametrize("body", [(b"hello",), (b"he", b"llo"), (b"",), ()])
async def test_a_reply_passes_as_it_came_with_its_length(body: tuple[bytes, ...]) -> None:
    heard = await relayed(Said(content_type=b"application/octet-stream", head_length=b"3", body=body))
    assert (heard.status, heard.body, heard.is_whole) == (200, b"".join(body), True)
    assert heard.headers[b"content-type"] == b"application/octet-stream"
    assert heard.headers[b"inference-header-content-length"] == b"3"


async def test_a_json_reply_has_no_head_length() -> None:
    assert b"inference-header-content-length" not in (await relayed(Said())).headers


async def test_a_reply_is_not_whole_before_its_last_byte() -> None:
    heard = Heard()
    downstream = HttpDownstream(heard, "r1")
    await downstream.start(Said(body=(b"he", b"llo")), ())
    downstream.take(b"hell")
    assert not heard.is_whole
    downstream.take(b"o")
    assert heard.is_whole


@pytest.mark.parametrize(
    ("said", "status", "sentence"),
    [
        (Said(500, b"application/json", b"", (b'{"error":"failed to parse"}',)), 400, "failed to parse"),
        (Said(500, b"text/plain", b"", (b'{"error":"boom ', b'at /srv/x"}')), 500, "boom at (internal)"),
        (Said(404, b"text/plain", b"", (b'{"error":"unknown"}',)), 404, "unknown"),
        (Said(400, b"application/json", b"9", (b'{"error":"shape"}',)), 400, "shape"),
        (
            Said(503, b"text/html", b"", (b"<h1>",)),
            503,
            "the model server answered with an error that is not in the protocol",
        ),
        (
            Said(500, b"text/plain", b"", ()),
            500,
            "the model server answered with an error that is not in the protocol",
        ),
    ],
)
async def test_an_error_of_tritons_is_told_in_the_protocol_and_without_its_insides(
    said: Said, status: int, sentence: str
) -> None:
    heard = await relayed(said)
    assert (heard.status, json.loads(heard.body)) == (status, {"error": sentence})
    assert heard.headers[b"content-type"] == b"application/json"
    assert b"inference-header-content-length" not in heard.headers


async def test_an_error_of_any_length_is_neither_kept_nor_told_whole() -> None:
    said = Said(400, b"text/plain", b"", (b'{"error":"', *[b"x" * 65536] * 100, b'"}'))
    assert len((await relayed(said)).body) < 1100
    downstream = HttpDownstream(Heard(), "r1")
    await downstream.start(said, ())
    for piece in said.body:
        downstream.take(piece)
        assert downstream._error is not None
        assert len(downstream._error) <= 65536


@pytest.mark.parametrize("code", Code)
async def test_every_refusal_is_rendered_as_the_table_says(code: Code) -> None:
    heard = Heard()
    error = GatewayError(code, private="secret", retry_after_seconds=1.2)
    await HttpDownstream(heard, "r1").refuse(error)
    assert (heard.status, json.loads(heard.body)) == (
        error.rendering.http,
        {"error": error.rendering.sentence},
    )
    assert heard.is_whole
    assert heard.headers[b"retry-after"] == b"2"
    assert (b"www-authenticate" in heard.headers) == (heard.status == 401)


# The whole door, on its socket


def ids() -> Callable[[], str]:
    numbers = count(1)
    return lambda: f"{next(numbers):032x}"


@asynccontextmanager
async def opened(triton: TritonWorld, others: ASGIApp | None = None) -> AsyncIterator[tuple[House, Door]]:
    async with triton, house(triton) as here:
        oip = OipRest(here.pipeline, JsonMemory(10**6, 10**6), 60.0)
        others = others or other_paths(oip, lambda: Readiness(ready=True, state="ok"))
        async with door(HttpDoor(oip, others, ids())) as world:
            yield here, world


def request(here: House, method: str, target: str, body: bytes | None = None, *more: str) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "Host: a", f"Authorization: Bearer {here.key.reveal()}", *more]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b"")


async def test_a_call_goes_through_and_its_connection_is_kept() -> None:
    async with opened(triton := TritonWorld()) as (here, world):
        wire = await world.connect()
        for _ in range(3):
            answer = await wire.ask(request(here, "POST", "/v2/models/digits/infer", BODY))
            assert (answer.status, answer.body) == (200, ANSWER)
        assert triton.asked == [BODY] * 3


async def test_a_reply_that_triton_cuts_is_cut_for_the_client_too() -> None:
    async with opened(TritonWorld(mood="closes within")) as (here, world):
        wire = await world.connect()
        await wire.send(request(here, "POST", "/v2/models/digits/infer", BODY))
        head, _, body = (await wire.rest()).partition(b"\r\n\r\n")
        assert b"content-length: %d" % len(ANSWER) in head
        assert len(body) < len(ANSWER)


async def test_a_client_that_leaves_ends_its_call_in_triton() -> None:
    async with opened(triton := TritonWorld(mood="holds")) as (here, world):
        wire = await world.connect()
        await wire.send(request(here, "POST", "/v2/models/digits/infer", BODY))
        await triton.arrived.wait()
        wire.writer.close()
        async with asyncio.timeout(5):
            await triton.departed.wait()
        await here.settled()
        assert here.outcomes() == ["cancelled"]


async def test_a_body_that_the_plan_does_not_allow_is_refused_while_it_is_sent() -> None:
    async with opened(triton := TritonWorld()) as (here, world):
        wire = await world.connect()
        await wire.send(request(here, "POST", "/v2/models/digits/infer", b"x" * 1001)[:-1000])
        assert (await wire.answer()).status == 413
        await wire.send(b"x" * 1000)
        chunked = request(here, "POST", "/v2/models/digits/infer", None, "Transfer-Encoding: chunked")
        assert (await wire.ask(chunked + b"400\r\n" + b"x" * 1024 + b"\r\n")).status == 413
        assert triton.asked == []


async def test_no_plan_allows_a_body_that_triton_cannot_count() -> None:
    async with opened(TritonWorld()) as (here, world):
        head = request(here, "POST", "/v2/models/digits/infer", None, "Content-Length: 2147483648")
        refusal = await world.ask(head)
        assert (refusal.status, refusal.error) == (413, "no body may be larger than 2 GiB")


async def test_a_chunked_body_arrives_with_a_length() -> None:
    async with opened(triton := TritonWorld()) as (here, world):
        head = request(here, "POST", "/v2/models/digits/infer", None, "Transfer-Encoding: chunked")
        chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in BODY)
        assert (await world.ask(head + chunks + b"0\r\nX: y\r\n\r\n")).status == 200
        assert triton.asked == [BODY]


async def test_a_stream_that_triton_cuts_ends_in_an_error_event_and_without_its_end() -> None:
    async with opened(TritonWorld(mood="closes within")) as (here, world):
        wire = await world.connect()
        await wire.send(request(here, "POST", "/v2/models/digits/generate_stream", b"{}"))
        _, _, body = (await wire.rest()).partition(b"\r\n\r\n")
    sentence = b"the model server failed while it had this request"
    assert body == chunk(EVENT) + chunk(b'data: {"error":"%b"}\n\n' % sentence)


async def test_a_stream_that_a_stop_ends_says_so() -> None:
    async with opened(triton := TritonWorld(mood="stops within")) as (here, world):
        wire = await world.connect()
        await wire.send(request(here, "POST", "/v2/models/digits/generate_stream", b"{}"))
        async with asyncio.timeout(5):
            await wire.reader.readuntil(EVENT)
        stop(world)
        rest = await wire.rest()
        async with asyncio.timeout(5):
            await triton.departed.wait()
    assert b"the gateway is stopping; try again" in rest
    assert not rest.endswith(chunk(b""))


async def test_who_leaves_a_stream_ends_it_in_triton() -> None:
    async with opened(triton := TritonWorld(mood="stops within")) as (here, world):
        wire = await world.connect()
        await wire.send(request(here, "POST", "/v2/models/digits/generate_stream", b"{}"))
        async with asyncio.timeout(5):
            await wire.reader.readuntil(EVENT)
            wire.writer.close()
            await triton.departed.wait()
        await here.settled()
        assert here.outcomes() == ["cancelled"]


async def test_a_stream_needs_a_protocol_that_can_tell_its_end() -> None:
    async with opened(TritonWorld()) as (here, world):
        asked = request(here, "POST", "/v2/models/digits/generate_stream", b"{}")
        refusal = await world.ask(asked.replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert (refusal.status, refusal.error) == (400, "a reply that comes bit by bit needs HTTP/1.1")


@pytest.mark.parametrize(
    ("method", "target", "status", "allow"),
    [
        ("GET", "/v2/models/digits/generate", 405, "POST"),
        ("GET", "/v2/models/digits/generate_stream", 405, "POST"),
        ("POST", "/v2/models/digits/stats", 405, "GET"),
        ("GET", "/v2/models/digits/stats", 200, None),
        ("GET", "/v2/models/digits/versions/1/stats", 200, None),
        ("GET", "/v2/models/digits/config", 404, None),
        ("GET", "/v2/models/digits/generatestream", 404, None),
        ("PUT", "/v2/models/digits/infer", 405, "POST"),
        ("POST", "/v2/models/digits/ready", 405, "GET"),
        ("DELETE", "/v2", 405, "GET, HEAD"),
        ("POST", "/healthz", 405, "GET, HEAD"),
        ("PROPFIND", "/v2", 405, "GET, HEAD"),
        ("PROPFIND", "/v2/models/digits", 405, "GET"),
        ("PROPFIND", "/nothing", 404, None),
        ("OPTIONS", "*", 404, None),
        ("GET", "/v2/%68ealth/live", 404, None),
        ("GET", "/v2/models/%64igits", 404, None),
        ("GET", "/v2/models/digits/../digits", 404, None),
        ("GET", "/v2?x=1", 200, None),
        ("GET", "http://other.example/v2", 200, None),
    ],
)
async def test_paths_are_matched_raw_and_methods_are_named(
    method: str, target: str, status: int, allow: str | None
) -> None:
    async with opened(TritonWorld()) as (here, world):
        answer = await world.ask(request(here, method, target))
        assert answer.status == status
        assert answer.headers.get("allow") == allow
        assert status == 200 or answer.error


async def test_a_mistake_of_ours_is_told_in_the_protocol_and_without_words_of_ours() -> None:
    async with TritonWorld() as triton, house(triton) as here:

        def broken() -> Readiness:
            raise RuntimeError("secret")

        oip = OipRest(here.pipeline, JsonMemory(10**6, 10**6), 60.0)
        async with door(HttpDoor(oip, other_paths(oip, broken), ids())) as world:
            answer = await world.ask(b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (answer.status, answer.error) == (500, "the gateway made a mistake; it is logged")


# The grace of a stop ends


def stop(world: Door) -> None:
    """What uvicorn does when the grace is over."""
    for task in world.server.server_state.tasks:
        task.cancel()


def expect_told_to_try_again(answer: Answer, caplog: pytest.LogCaptureFixture) -> None:
    assert (answer.status, answer.error) == (503, "the gateway is stopping; try again")
    assert answer.headers["retry-after"] == "1"
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_a_call_that_outlasts_the_grace_is_told_so_and_is_settled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with opened(triton := TritonWorld(mood="holds")) as (here, world):
        wire = await world.connect()
        await wire.send(request(here, "POST", "/v2/models/digits/infer", BODY))
        await triton.arrived.wait()
        stop(world)
        answer = await wire.answer()
        expect_told_to_try_again(answer, caplog)
        await here.settled()
        assert [record.entry.request for record in here.records("outcome")] == [
            answer.headers["x-request-id"]
        ]


async def test_whatever_outlasts_the_grace_is_told_so(caplog: pytest.LogCaptureFixture) -> None:
    asked = asyncio.Event()

    async def waits(_: Request) -> Response:
        asked.set()
        await asyncio.Event().wait()
        return Response()

    async with opened(TritonWorld(), Starlette(routes=[Route("/waits", waits)])) as (here, world):
        wire = await world.connect()
        await wire.send(request(here, "GET", "/waits"))
        await asked.wait()
        stop(world)
        expect_told_to_try_again(await wire.answer(), caplog)


async def test_a_reply_that_has_begun_when_the_grace_ends_is_cut_and_not_written_into(
    caplog: pytest.LogCaptureFixture,
) -> None:
    asked = asyncio.Event()

    async def begins() -> AsyncIterator[bytes]:
        yield b"first"
        asked.set()
        await asyncio.Event().wait()

    async def begin(_: Request) -> Response:
        return StreamingResponse(begins(), headers={"content-length": "1000"})

    async with opened(TritonWorld(), Starlette(routes=[Route("/begins", begin)])) as (here, world):
        wire = await world.connect()
        await wire.send(request(here, "GET", "/begins"))
        await asked.wait()
        stop(world)
        assert (await wire.rest()).endswith(b"\r\n\r\nfirst")
    assert [record for record in caplog.records if record.exc_info] == []
