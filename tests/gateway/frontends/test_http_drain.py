"""A client that keeps its connection is told before we close it, so that a rolling restart costs it nothing."""

import asyncio
from dataclasses import replace

import pytest

from tests.gateway.frontends.worlds import GET, LIMITS, Echo, Holding, door


async def test_a_kept_alive_client_is_answered_once_more_and_told_that_it_was_the_last_time() -> None:
    async with door(Echo()) as world:
        wire = await world.connect()
        assert "connection" not in (await wire.ask(GET)).headers
        world.shutdown()
        last = await wire.ask(GET)
        assert (last.status, last.headers["connection"]) == (200, "close")
        assert await wire.rest() == b""


@pytest.mark.parametrize("before", [b"", GET])
@pytest.mark.parametrize("half", [b"", b"GET / HT"])
async def test_who_does_not_ask_while_we_drain_is_closed(before: bytes, half: bytes) -> None:
    async with door(Echo(), replace(LIMITS, head_seconds=60)) as world:
        wire = await world.connect()
        if before:
            await wire.ask(before)
        protocol = await world.begun()
        if half:
            await wire.send(half)
            while not protocol._in_head:
                await asyncio.sleep(0)
        world.shutdown()
        assert (b"408" in await wire.rest()) == bool(half)


async def test_a_request_under_way_is_finished_while_we_drain_and_is_the_last() -> None:
    app = Holding()
    async with door(app) as world:
        wire = await world.connect()
        await wire.send(GET)
        await app.asked.wait()
        world.shutdown()
        app.go.set()
        last = await wire.answer()
        assert (last.body, last.headers["connection"]) == (b"held", "close")
        assert await wire.rest() == b""


async def test_a_client_whose_answer_had_begun_is_told_with_the_next_one() -> None:
    app = Holding(first=b"first")
    async with door(app) as world:
        wire = await world.connect()
        await wire.send(GET)
        await app.asked.wait()
        world.shutdown()
        app.go.set()
        begun = await wire.answer()
        assert len(begun.body) == 1000
        assert "connection" not in begun.headers
        assert (await wire.ask(GET)).headers["connection"] == "close"
        assert await wire.rest() == b""


async def test_a_client_whose_answer_had_begun_and_that_asks_no_more_is_closed() -> None:
    app = Holding(first=b"first")
    async with door(app) as world:
        wire = await world.connect()
        await wire.send(GET)
        await app.asked.wait()
        world.shutdown()
        app.go.set()
        await wire.answer()
        assert await wire.rest() == b""


async def test_pipelined_requests_are_all_answered_while_we_drain() -> None:
    app = Holding()
    async with door(app) as world:
        wire = await world.connect()
        await wire.send(GET * 3)
        await app.asked.wait()
        world.shutdown()
        app.go.set()
        answers = [await wire.answer() for _ in range(3)]
        assert [answer.body for answer in answers] == [b"held", b"again", b"again"]
        assert "connection" not in answers[0].headers
        assert answers[2].headers["connection"] == "close"
        assert await wire.rest() == b""


async def test_http_1_0_is_answered_and_closed() -> None:
    async with door(Echo()) as world:
        wire = await world.connect()
        assert (await wire.ask(b"GET / HTTP/1.0\r\n\r\n")).headers["connection"] == "close"
        assert await wire.rest() == b""
