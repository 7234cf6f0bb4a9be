"""What an application is shown of a request, and what becomes of its answer, without a socket."""

import asyncio
import gc
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import pytest
from uvicorn.protocols.http.flow_control import FlowControl

from gateway.call import Take
from gateway.frontends.http_exchange import EXTENSION, Application, Exchange, Headers, Message, Receive, Send

Acts = Callable[[Receive, Send], object]


@dataclass(slots=True)
class Transport:
    """Takes down what is written, a piece for each system call."""

    written: list[bytes] = field(default_factory=list)
    is_reading: bool = True

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def writelines(self, pieces: tuple[bytes, ...]) -> None:
        self.written.append(b"".join(pieces))

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True

    def is_closing(self) -> bool:
        return False


@dataclass(slots=True)
class Line:
    """An exchange with a transport of its own, and how it ended."""

    method: str = "POST"
    transport: Transport = field(default_factory=Transport)
    ends: list[str] = field(default_factory=list)
    exchange: Exchange = field(init=False)

    def __post_init__(self) -> None:
        transport = cast("asyncio.Transport", self.transport)
        self.exchange = Exchange(
            {"method": self.method},
            transport,
            FlowControl(transport),
            own_headers=[(b"date", b"today")],
            keep_alive=True,
            expects_continue=False,
            answered=lambda: self.ends.append("answered"),
            cut=lambda: self.ends.append("cut"),
        )

    async def run(self, app: Application) -> None:
        async with asyncio.timeout(5):
            await self.exchange.run(app)


def start(headers: Headers) -> Message:
    return {"type": "http.response.start", "status": 200, "headers": headers}


def body(data: bytes, *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


def answering(*messages: Message) -> Application:
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    return app


HEAD = b"HTTP/1.1 200 OK\r\ndate: today\r\n"
LENGTH = [(b"content-length", b"4")]


@pytest.mark.parametrize("size", [4, 1024 * 1024])
async def test_the_head_waits_for_the_body_and_both_leave_in_one_write(size: int) -> None:
    line = Line()

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await send(start([(b"content-length", b"%d" % (size + 1))]))
        assert not line.transport.written
        await send(body(bytes(size), more=True))
        await send(body(b"!"))

    await line.run(app)
    assert line.transport.written == [
        HEAD + b"content-length: %d\r\n\r\n" % (size + 1) + bytes(size),
        b"!",
    ]
    assert line.ends == ["answered"]


async def test_an_answer_without_a_length_is_chunked_and_its_end_is_told() -> None:
    line = Line()
    await line.run(answering(start([]), body(b"ab", more=True), body(b"")))
    assert line.transport.written == [
        HEAD + b"transfer-encoding: chunked\r\n\r\n2\r\nab\r\n",
        b"0\r\n\r\n",
    ]


async def test_a_head_request_is_told_the_length_and_sent_nothing_of_it() -> None:
    line = Line(method="HEAD")
    await line.run(answering(start(LENGTH), body(b"body")))
    assert line.transport.written == [HEAD + b"content-length: 4\r\n\r\n"]
    assert line.ends == ["answered"]


@pytest.mark.parametrize("value", [b"a\r\nset-cookie: b", b"a\nb", b"a\rb"])
async def test_a_line_break_in_a_header_is_a_fault_and_never_two_headers(value: bytes) -> None:
    line = Line()
    await line.run(answering(start([*LENGTH, (b"x", value)]), body(b"body")))
    (written,) = line.transport.written
    assert written.startswith(b"HTTP/1.1 500 ")
    assert b"a" + value[1:2] not in written


@pytest.mark.parametrize(
    "messages",
    [
        (start(LENGTH), body(b"bodies")),
        (start(LENGTH), body(b"bod")),
        (start(LENGTH), body(b"bod", more=True)),
        (start(LENGTH),),
        (start(LENGTH), start(LENGTH)),
    ],
    ids=["longer", "shorter", "cut", "empty", "twice"],
)
async def test_what_is_not_the_answer_that_was_promised_never_ends_as_if_it_were(
    messages: tuple[Message, ...],
) -> None:
    line = Line()
    await line.run(answering(*messages))
    assert line.ends == ["cut"]
    assert b"".join(line.transport.written) in (b"", HEAD + b"content-length: 4\r\n\r\nbod")


@pytest.mark.parametrize("fails", [True, False], ids=["fails", "says nothing"])
async def test_an_application_without_an_answer_is_a_500(fails: bool) -> None:  # noqa: FBT001
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        if fails:
            raise ValueError("a fault")

    line = Line()
    await line.run(app)
    assert line.transport.written[0].startswith(b"HTTP/1.1 500 ")
    assert line.ends == ["answered"]


async def test_pieces_are_passed_on_as_they_came_and_the_end_is_told_with_the_last() -> None:
    line = Line()
    pieces = [bytes([number]) * 8192 for number in range(3)]
    for piece in pieces:
        line.exchange.add_body(piece)
    line.exchange.end_body()
    found: list[Message] = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        found.extend([await receive() for _ in pieces])
        await send(start(LENGTH))
        await send(body(b"body"))
        found.append(await receive())

    await line.run(app)
    assert all(message["body"] is piece for message, piece in zip(found, pieces, strict=False))
    assert [message.get("more_body") for message in found] == [True, True, False, None]
    assert found[-1] == {"type": "http.disconnect"}


async def test_very_many_small_pieces_are_kept_as_a_few() -> None:
    line = Line()
    for _ in range(10_000):
        line.exchange.add_body(b"xy")
    line.exchange.end_body()
    sizes: list[int] = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        more = True
        while more:
            message = await receive()
            more = message["more_body"]
            sizes.append(len(message["body"]))

    await line.run(app)
    assert sum(sizes) == 20_000
    assert len(sizes) == 5


async def test_who_sends_far_ahead_is_not_read_until_the_application_takes_it() -> None:
    line = Line()
    size = 256 * 1024
    line.exchange.add_body(bytes(size))
    assert line.transport.is_reading
    line.exchange.add_body(b"!")
    assert not line.transport.is_reading
    reading: list[bool] = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        for _ in range(2):
            await receive()
            reading.append(line.transport.is_reading)

    await line.run(app)
    assert reading == [False, True]


async def test_a_client_that_leaves_wakes_whoever_waits_for_it() -> None:
    line = Line()
    found: list[Message] = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        asyncio.get_running_loop().call_soon(line.exchange.disconnect)
        found.append(await receive())
        await send(start(LENGTH))

    await line.run(app)
    assert found == [{"type": "http.disconnect"}]
    assert not line.transport.written


# What our own applications ask


def poured(into: list[bytes], take: Take | None = None) -> Application:
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await scope["extensions"][EXTENSION].pour(take or into.append)
        into.append(b"end")
        await send(start(LENGTH))
        await send(body(b"done"))

    return app


async def test_a_body_is_poured_in_order_with_what_came_before_and_each_piece_as_it_comes() -> None:
    line = Line()
    pieces: list[bytes] = []
    line.exchange.add_body(bytes(4096))
    line.exchange.add_body(b"2")
    running = asyncio.ensure_future(line.run(poured(pieces)))
    await asyncio.sleep(0)
    assert pieces == [bytes(4096), b"2"]
    line.exchange.add_body(b"3")
    assert pieces[2:] == [b"3"]  # no task was woken for it
    line.exchange.end_body()
    await running
    assert pieces[2:] == [b"3", b"end"]


async def test_who_wants_no_more_of_a_body_gets_no_more() -> None:
    line, wanted = Line(), 2
    pieces: list[bytes] = []

    def take(piece: bytes) -> bool:
        pieces.append(piece)
        return len(pieces) == wanted

    running = asyncio.ensure_future(line.run(poured(pieces, take)))
    await asyncio.sleep(0)
    for piece in (b"1", b"2", b"3"):
        line.exchange.add_body(piece)
    await running
    assert pieces == [b"1", b"2", b"end"]


@pytest.mark.parametrize("comes", ["nothing", "a piece"])
async def test_a_client_that_leaves_within_its_body_ends_the_pouring(comes: str) -> None:
    line = Line()
    pieces: list[bytes] = []
    running = asyncio.ensure_future(line.run(poured(pieces)))
    await asyncio.sleep(0)
    if comes == "a piece":
        line.exchange.add_body(b"1")
    line.exchange.disconnect()
    await running
    assert pieces == ([b"1"] if comes == "a piece" else []) + [b"end"]
    assert line.exchange.is_gone


async def test_a_fault_of_who_takes_a_body_is_told_as_it_is_and_not_as_the_clients() -> None:
    line = Line()
    found: list[Exception] = []

    def take(piece: bytes) -> None:
        raise LookupError("ours")

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        with pytest.raises(LookupError) as caught:
            await scope["extensions"][EXTENSION].pour(take)
        found.append(caught.value)
        await send(start(LENGTH))
        await send(body(b"done"))

    running = asyncio.ensure_future(line.run(app))
    await asyncio.sleep(0)
    line.exchange.add_body(b"1")
    await running
    assert len(found) == 1


async def test_a_body_that_cannot_be_taken_is_not_read_also_when_that_is_known_before() -> None:
    line = Line()
    pieces: list[bytes] = []
    line.exchange.pause()
    assert not line.transport.is_reading
    running = asyncio.ensure_future(line.run(poured(pieces)))
    await asyncio.sleep(0)
    assert not line.transport.is_reading
    line.exchange.resume()
    assert line.transport.is_reading
    line.exchange.add_body(b"1")
    line.exchange.end_body()
    await running
    assert pieces == [b"1", b"end"]


async def test_an_exchange_goes_with_its_last_user() -> None:
    """It is in the scope, which it has: in that circle every request would stay until the collector comes by."""
    line = Line()
    exchange = line.exchange
    del line.exchange
    gone = weakref.ref(exchange)
    gc.disable()
    try:
        await exchange.run(answering(start(LENGTH), body(b"done")))
        del exchange
        assert gone() is None
    finally:
        gc.enable()
