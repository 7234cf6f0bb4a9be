"""A refusal is the answer to the request at fault and to no other, and only clean requests reach the application."""

import asyncio
from dataclasses import replace

import pytest

from tests.gateway.frontends.worlds import (
    GET,
    LIMITS,
    PATIENCE_SECONDS,
    Door,
    Echo,
    Holding,
    Wire,
    door,
    refusing,
)

BROKEN_CHUNK = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n"


async def is_served(world: Door) -> None:
    assert (await world.ask(GET)).status == 200


# Order


async def test_pipelined_requests_are_answered_in_order() -> None:
    app = Echo()
    requests = [b"POST /%d HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (n, n) + b"x" * n for n in range(20)]
    for size in (1 << 20, 700, 37):
        stream = b"".join(requests)
        async with door(app) as world:
            wire = await world.connect()
            await wire.send(*(stream[place : place + size] for place in range(0, len(stream), size)))
            answers = [await wire.answer() for _ in requests]
        assert [answer.headers["path"] for answer in answers] == [f"/{n}" for n in range(20)]
        assert [answer.body for answer in answers] == [b"%d" % n for n in range(20)]


@pytest.mark.parametrize("first", [b"", b"first"])
@pytest.mark.parametrize(
    "fault",
    [b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nA: " + b"x" * 9000, GET + b"nonsense\r\n\r\n", BROKEN_CHUNK],
)
async def test_a_fault_behind_a_request_under_way_is_never_its_answer(first: bytes, fault: bytes) -> None:
    app = Holding(first=first)
    async with door(app) as world:
        wire = await world.connect()
        await wire.send(GET)
        await app.asked.wait()
        await wire.send(fault)
        seen = await wire.rest()
        assert b"HTTP/1.1 4" not in seen
        assert seen.endswith(first)
        await app.ended.wait()


async def test_a_fault_behind_an_answered_request_has_an_answer_of_its_own() -> None:
    async with door(Echo()) as world:
        wire = await world.connect()
        assert (await wire.ask(GET)).status == 200
        refusal = await wire.ask(b"nonsense\r\n\r\n")
        assert refusal.status == 400
        assert refusal.error
        assert await wire.rest() == b""


# What is not one clean HTTP/1.1 request


@pytest.mark.parametrize(
    "request_",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.1\r\nA : b\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: b\0\r\n\r\n",
        b"GET / HTTP/1.1\nA: b\n\n",
        b"GET /\xff HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nContent-Length: 5, 5\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nContent-Length: 0x5\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"POST / HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\nabc",
        b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET a:80 HTTP/1.1\r\n\r\n",
        b"GET http://a HTTP/1.1\r\n\r\n",
        b"GET http:///a HTTP/1.1\r\n\r\n",
        b"GET http://a:99999/ HTTP/1.1\r\n\r\n",
        b"GET nothing HTTP/1.1\r\n\r\n",
        b"GET  HTTP/1.1\r\n\r\n",
        b"GET \r\n\r\n",
    ],
)
async def test_what_is_not_one_clean_request_is_refused_and_never_reaches_the_application(
    request_: bytes,
) -> None:
    app = Echo()
    async with door(app) as world:
        wire = await world.connect()
        refusal = await wire.ask(request_)
        assert refusal.status == 400
        assert refusal.error
        assert "callback" not in refusal.error  # which is no word of HTTP's
        assert refusal.headers["connection"] == "close"
        assert await wire.rest() == b""
        assert app.scopes == []
        await is_served(world)


@pytest.mark.parametrize("chunks", [b"x\r\n", b"-1\r\n", b"5\r\nhelloo\r\n", b"ffffffffffffffffff\r\n"])
async def test_a_broken_chunk_is_refused_and_cancels_the_request(chunks: bytes) -> None:
    app = Holding()
    app.go.set()
    async with door(app, replace(LIMITS, linger_seconds=60)) as world:
        wire = await world.connect()
        await wire.send(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        await app.asked.wait()
        refusal = await wire.ask(chunks)
        assert refusal.status == 400
        assert refusal.error
        assert await wire.rest() == b""
        async with asyncio.timeout(5):
            await app.ended.wait()


@pytest.mark.parametrize(
    ("target", "raw_path"),
    [
        (b"http://a/v2?x=1", b"/v2"),
        (b"http://other.example/v2/models/digits", b"/v2/models/digits"),
        (b"/v2/%6dodels?x", b"/v2/%6dodels"),
        (b"//v2", b"//v2"),
        (b"*", b"*"),
        (b"/../x", b"/../x"),
    ],
)
async def test_the_raw_path_is_what_the_client_wrote(target: bytes, raw_path: bytes) -> None:
    app = Echo()
    async with door(app) as world:
        assert (await world.ask(b"OPTIONS " + target + b" HTTP/1.1\r\n\r\n")).status == 200
    assert app.scopes[0]["raw_path"] == raw_path


async def test_trailers_do_not_become_headers() -> None:
    app = Echo()
    async with door(app) as world:
        chunked = (
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"5\r\nhello\r\n0\r\nAuthorization: Bearer x\r\nHost: b\r\n\r\n"
        )
        wire = await world.connect()
        assert (await wire.ask(chunked)).body == b"5"
        assert (await wire.ask(GET)).body == b"0"
    assert app.scopes[0]["headers"] == [(b"host", b"a"), (b"transfer-encoding", b"chunked")]
    assert app.scopes[1]["headers"] == [(b"host", b"a")]


@pytest.mark.parametrize("trailers", [b"A: b\r\n" * 1000, b"A: " + b"x" * 1_000_000, b"A" * 1_000_000])
async def test_trailers_have_the_limit_of_a_head(trailers: bytes) -> None:
    async with door(Echo()) as world:
        wire = await world.connect()
        refusal = await wire.ask(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", trailers)
        assert refusal.status == 431
        assert await wire.rest() == b""


async def test_a_chunk_extension_without_an_end_is_refused() -> None:
    async with door(Echo()) as world:
        refusal = await world.ask(
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;", b"x" * 1_000_000
        )
        assert refusal.status == 431


# Expect: 100-continue


async def test_who_asks_before_sending_is_told_to_go_on_once_the_body_is_wanted() -> None:
    async with door(Echo()) as world:
        wire = await world.connect()
        assert (
            await wire.ask(b"POST / HTTP/1.1\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        ).status == 100
        assert (await wire.ask(b"hello")).body == b"5"


async def test_who_asks_before_sending_and_is_refused_is_not_told_to_go_on() -> None:
    async with door(refusing) as world:
        wire = await world.connect()
        assert (
            await wire.ask(b"POST / HTTP/1.1\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        ).status == 413


# Early answers


async def test_an_early_answer_reaches_a_client_that_still_uploads_and_its_connection_is_kept() -> None:
    async with door(refusing) as world:
        wire = await world.connect()
        for _ in range(3):
            assert (
                await wire.ask(b"POST / HTTP/1.1\r\nContent-Length: 60000\r\n\r\n", b"x" * 10)
            ).status == 413
            await wire.send(b"x" * 59_990)


async def test_an_upload_that_goes_on_and_on_behind_its_answer_ends_with_the_connection() -> None:
    async with door(refusing) as world:
        wire = await world.connect()
        head = b"POST / HTTP/1.1\r\nContent-Length: 1000000000\r\n\r\n"
        await wire.send(head)
        uploading = asyncio.ensure_future(upload_for_ever(wire))
        assert (await wire.answer()).status == 413
        assert await wire.rest() == b""
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(uploading, PATIENCE_SECONDS)


async def upload_for_ever(wire: Wire) -> None:
    while True:
        await wire.send(b"x" * 65536)


async def test_a_refused_client_that_still_uploads_sees_why() -> None:
    async with door(Echo(), replace(LIMITS, linger_seconds=60)) as world:
        wire = await world.connect()
        head = b"POST / HTTP/1.1\r\nA: " + b"x" * 5000 + b"\r\nContent-Length: 1000000000\r\n\r\n"
        uploading = asyncio.ensure_future(wire.send(head, *[b"x" * 65536] * 1000))
        assert (await wire.answer()).status == 431
        await uploading
        assert await wire.rest() == b""
