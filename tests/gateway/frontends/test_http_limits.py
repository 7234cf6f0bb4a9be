"""How large and how slow a client may be, and what is left of its request when it goes."""

import asyncio
from contextlib import suppress
from dataclasses import replace

import pytest

from gateway.call import Take
from gateway.errors import Code
from gateway.frontends.http_exchange import EXTENSION
from tests.gateway.frontends.worlds import (
    GET,
    LIMITS,
    PATIENCE_SECONDS,
    Door,
    Echo,
    Holding,
    Message,
    Receive,
    Send,
    door,
    post,
    refusing,
)


async def is_served(world: Door) -> None:
    assert (await world.ask(GET)).status == 200


# How large a head may be


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"x" * 4096 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: " + b"x" * 4096 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"x" * 4096 + b": 1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 700 + b"\r\n",
        b"GET / HTTP/1.1\r\n" + b"A:\r\n" * 1100 + b"\r\n",
        b"GET / HTTP/1.1\r\nA: " + b"x" * 5000,
        b"GET /" + b"x" * 5000,
        b"\r\n" * 2100,
        b"GET / HTTP/1.1\r\nA: " + b"x" * 100_000,
    ],
)
@pytest.mark.parametrize("size", [1000, 1 << 20])
async def test_a_head_that_is_too_large_is_refused_and_never_reaches_the_application(
    head: bytes, size: int
) -> None:
    app = Echo()
    async with door(app) as world:
        wire = await world.connect()
        await wire.send(*(head[place : place + size] for place in range(0, len(head), size)))
        refusal = await wire.answer()
        assert refusal.status == 431
        assert "head is too large" in refusal.error
        assert refusal.headers["connection"] == "close"
        assert await wire.rest() == b""
        assert app.scopes == []
        await is_served(world)


async def test_a_head_within_the_limit_is_served_each_time_anew() -> None:
    async with door(Echo()) as world:
        wire = await world.connect()
        for _ in range(3):
            assert (await wire.ask(b"GET / HTTP/1.1\r\nA: " + b"x" * 4000 + b"\r\n\r\n")).status == 200


# How long a head may take


@pytest.mark.parametrize("half", [b"G", b"GET / HTTP/1.1\r\nHos", b"GET / HTTP/1.1\r\nHost: a\r\n"])
@pytest.mark.parametrize("before", [b"", GET, post(b"abc")])
async def test_a_half_sent_head_is_refused_after_its_time(half: bytes, before: bytes) -> None:
    async with door(Echo()) as world:
        wire = await world.connect()
        await wire.send(before + half)
        if before:
            assert (await wire.answer()).status == 200
        refusal = await wire.answer()
        assert refusal.status == 408
        assert "slowly" in refusal.error
        assert await wire.rest() == b""


@pytest.mark.parametrize(
    ("after", "nothing"), [(b"", b""), (b"", b"\r\n"), (GET, b"\r\n"), (GET, b"\r\n\r\n")]
)
async def test_a_connection_on_which_nothing_is_asked_is_closed_without_a_word(
    after: bytes, nothing: bytes
) -> None:
    async with door(Echo()) as world:
        wire = await world.connect()
        if after:
            await wire.ask(after)
        if nothing:
            await wire.send(nothing)
        assert await wire.rest() == b""


async def test_a_next_head_is_not_late_while_an_earlier_request_is_answered() -> None:
    app = Holding()
    async with door(app) as world:
        wire = await world.connect()
        await wire.send(GET + b"GET /second HTT")
        await app.asked.wait()
        await world.patience_ends()
        await world.patience_ends()
        app.go.set()
        assert (await wire.answer()).body == b"held"
        assert (await wire.ask(b"P/1.1\r\n\r\n")).body == b"again"


# How slow a body may be


async def test_a_body_that_is_too_slow_is_refused_and_the_application_is_cancelled() -> None:
    app = Holding()
    app.go.set()
    async with door(app) as world:
        wire = await world.connect()
        refusal = await wire.ask(b"POST / HTTP/1.1\r\nContent-Length: 100000\r\n\r\n" + b"x" * 10)
        assert refusal.status == 408
        assert "slowly" in refusal.error
        assert await wire.rest() == b""
        await app.ended.wait()
        assert app.reads == 0


@pytest.mark.parametrize("chunk", [b"5\r\nhel", b"5;" + b"x" * 10, b"5\r\nhello\r\n0\r\nTrailer: a"])
async def test_a_chunked_body_that_stops_is_refused_wherever_it_stops(chunk: bytes) -> None:
    async with door(Echo()) as world:
        refusal = await world.ask(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk)
        assert refusal.status == 408


async def test_a_body_that_keeps_its_pace_is_read_however_long_it_takes() -> None:
    async with door(Echo(), replace(LIMITS, body_bytes_per_second=10)) as world:
        wire = await world.connect()
        await wire.send(b"POST / HTTP/1.1\r\nContent-Length: 30\r\n\r\n")
        for _ in range(3):
            await wire.send(b"x" * 10)
            await world.patience_ends()
        assert (await wire.answer()).body == b"30"


async def test_a_slow_body_behind_an_answer_gets_no_second_answer() -> None:
    async with door(refusing) as world:
        wire = await world.connect()
        assert (
            await wire.ask(b"POST / HTTP/1.1\r\nContent-Length: 100000\r\n\r\n" + b"x" * 10)
        ).status == 413
        assert await wire.rest() == b""


async def test_a_slow_body_under_an_answer_cuts_it_and_writes_nothing_into_it() -> None:
    app = Holding(first=b"first")
    async with door(app) as world:
        wire = await world.connect()
        await wire.send(b"POST / HTTP/1.1\r\nContent-Length: 100000\r\n\r\n" + b"x" * 10)
        seen = await wire.rest()
        assert seen.endswith(b"\r\n\r\nfirst")
        assert seen.count(b"HTTP/1.1") == 1
        await app.ended.wait()


class Spring:
    """The source of an answer: an endless one, that can be held back."""

    def __init__(self) -> None:
        self.given = 0
        self.goes, self.paused = asyncio.Event(), asyncio.Event()
        self.goes.set()

    async def pour(self, take: Take) -> None:
        raise AssertionError("the application itself writes")

    def pause(self) -> None:
        self.goes.clear()
        self.paused.set()

    def resume(self) -> None:
        self.goes.set()


async def test_an_answer_comes_from_its_source_no_faster_than_the_client_reads() -> None:
    """What is given before the client reads is what the sockets hold, and then all of it comes."""
    size, pieces = 64 * 1024, 1024
    spring = Spring()

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        exchange = scope["extensions"][EXTENSION]
        exchange.follow(spring)
        exchange.begin(200, [(b"content-length", b"%d" % (size * pieces))])
        for left in reversed(range(pieces)):
            await spring.goes.wait()
            exchange.write(bytes(size), more_body=left > 0)
            spring.given += size

    async with door(app) as world:
        wire = await world.connect()
        await wire.send(GET)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await spring.paused.wait()
        assert spring.given < size * pieces / 2
        answer = await wire.answer()
        assert answer.body == bytes(size * pieces)
        assert (await wire.ask(GET)).status == 200  # nothing holds the connection back


async def test_a_client_that_we_keep_from_sending_is_not_slow() -> None:
    app = Holding()
    body = b"x" * (8 << 20)
    async with door(app) as world:
        wire = await world.connect()
        sending = asyncio.ensure_future(wire.send(post(body)))
        await app.asked.wait()
        for _ in range(3):
            await world.patience_ends()
        assert not sending.done()
        app.go.set()
        assert (await wire.answer()).body == b"held"
        assert app.reads == len(body)
        await sending


async def test_a_client_whose_earlier_request_keeps_it_from_sending_is_not_slow() -> None:
    app = Holding()
    async with door(app) as world:
        wire = await world.connect()
        await wire.send(GET + b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n")
        await app.asked.wait()
        for _ in range(3):
            await world.patience_ends()
        app.go.set()
        assert (await wire.answer()).body == b"held"
        assert (await wire.answer()).body == b"again"


async def test_a_client_that_waits_for_our_word_is_not_slow() -> None:
    app = Holding()
    async with door(app) as world:
        wire = await world.connect()
        await wire.send(b"POST / HTTP/1.1\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        await app.asked.wait()
        for _ in range(3):
            await world.patience_ends()
        app.go.set()
        assert (await wire.answer()).status == 100
        assert (await wire.ask(b"hello")).body == b"held"


# The client leaves


@pytest.mark.parametrize("first", [b"", b"first"])
async def test_a_client_that_leaves_cancels_its_request(first: bytes) -> None:
    app = Holding(first=first)
    async with door(app) as world:
        wire = await world.connect()
        await wire.send(GET)
        await app.asked.wait()
        wire.writer.close()
        async with asyncio.timeout(5):
            await app.ended.wait()
        assert not app.go.is_set()


async def test_a_client_that_does_not_read_does_not_keep_its_connection_after_a_cut() -> None:
    async def cut(_: Message, __: Receive, send: Send) -> None:
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"100000000")]}
        )
        with suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                while True:
                    await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})

    async with door(cut) as world:
        wire = await world.connect()
        await wire.send(GET)
        await world.begun()
        await world.empty()


# How many connections


async def test_a_connection_too_many_is_told_and_the_others_go_on() -> None:
    async with door(Echo(), replace(LIMITS, connections=2, head_seconds=60)) as world:
        kept, idle = await world.connect(), await world.connect()
        assert (await kept.ask(GET)).status == 200
        surplus = await world.connect()
        refusal = await surplus.ask(GET)
        assert (refusal.status, refusal.error) == (503, "the gateway is full; try again soon")
        assert (refusal.headers["retry-after"], refusal.headers["connection"]) == ("1", "close")
        assert await surplus.rest() == b""
        assert (await kept.ask(GET)).status == 200
        surplus.writer.close()
        idle.writer.close()
        await world.empty_but(1)
        await is_served(world)


async def test_idle_connections_are_refused_without_end_and_starve_nobody_who_is_in() -> None:
    app = Echo()
    async with door(app, replace(LIMITS, connections=1, lingering=2, linger_seconds=60)) as world:
        kept = await world.connect()
        assert (await kept.ask(GET)).status == 200
        for number in range(20):
            await (await world.connect()).reader.read()
            await world.empty_but(1 + min(number + 1, 2))
        assert (await kept.ask(GET)).status == 200
        assert len(app.scopes) == 2


# What is said of it


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nA: " + b"x" * 5000, 431),
        (b"GET / HT", 408),
        (b"POST / HTTP/1.1\r\nContent-Length: 100000\r\n\r\nx", 408),
    ],
)
async def test_each_refusal_is_reported_once_with_its_id_and_where_it_came_from(
    request_: bytes, status: int
) -> None:
    async with door(Echo()) as world:
        told = await world.ask(request_)
        ((request_id, address, error),) = world.refused
    assert (told.status, error.rendering.http) == (status, status)
    assert (request_id, address) == (told.headers["x-request-id"], "127.0.0.1")


async def test_a_connection_too_many_is_reported() -> None:
    async with door(Echo(), replace(LIMITS, connections=0)) as world:
        assert (await (await world.connect()).answer()).status == 503
        assert [error.code for _, _, error in world.refused] == [Code.OVERLOADED]


async def test_an_idle_connection_is_closed_after_its_time_which_each_answer_begins_anew() -> None:
    loop = asyncio.get_running_loop()
    async with door(Echo(), keep_alive_seconds=0.1) as world:
        wire = await world.connect()
        first_at = loop.time()
        while loop.time() < first_at + 0.15:
            await wire.ask(GET)
        answered_at = loop.time()
        assert await wire.rest() == b""
        assert loop.time() - answered_at >= 0.09
