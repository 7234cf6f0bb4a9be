"""One exchange on one connection, byte by byte: a cut reply never looks whole, and only whole exchanges let a connection be reused."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.triton.connection import Connection, NotSent, UpstreamFailed
from tests.gateway.triton.worlds import HEAD, REPLY, MemoryTransport, connected, until
from tests.worlds.bodies import Pieces, whole

REQUEST = b"GET / HTTP/1.1\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"
READ_AHEAD = 256 * 1024


async def body_of(connection: Connection) -> bytes:
    async with asyncio.timeout(5):
        return await whole(await connection.reply())


async def asked() -> tuple[Connection, MemoryTransport]:
    """A connection on which a whole request was sent."""
    connection, transport = connected()
    await connection.send(REQUEST, None)
    return connection, transport


async def test_a_reply_in_one_piece_is_read_whole() -> None:
    connection, transport = await asked()
    assert transport.written == REQUEST
    connection.data_received(REPLY)
    reply = await connection.reply()
    assert (reply.status, reply.length_bytes, reply.content_type, reply.head_length) == (
        200,
        5,
        b"application/json",
        b"",
    )
    assert await body_of(connection) == b"hello"
    assert connection.finished


async def test_it_does_not_matter_where_a_reply_is_split() -> None:
    for place in range(1, len(REPLY)):
        connection, _ = await asked()
        connection.data_received(REPLY[:place])
        assert not connection.finished
        connection.data_received(REPLY[place:])
        assert await body_of(connection) == b"hello"
        assert connection.finished


both = pytest.mark.parametrize("said", [REPLY, CHUNKED], ids=["with its length", "chunked"])


@both
async def test_a_reply_that_comes_byte_by_byte_is_read_whole(said: bytes) -> None:
    connection, _ = await asked()
    reading = asyncio.ensure_future(body_of(connection))
    for place in range(len(said)):
        assert not connection.finished
        connection.data_received(said[place : place + 1])
        await asyncio.sleep(0)
    assert await reading == b"hello"
    assert connection.finished


async def test_a_chunked_reply_does_not_say_its_length() -> None:
    connection, _ = await asked()
    connection.data_received(CHUNKED)
    assert (await connection.reply()).length_bytes == -1


@both
async def test_wherever_a_reply_is_cut_it_fails(said: bytes) -> None:
    for place in range(len(said)):
        connection, _ = await asked()
        if place:
            connection.data_received(said[:place])
        connection.connection_lost(None)
        with pytest.raises(UpstreamFailed):
            await body_of(connection)
        assert not connection.finished


async def test_a_cut_is_seen_by_who_waits_for_more() -> None:
    for first in (b"", HEAD, HEAD + b"he"):
        connection, _ = await asked()
        reading = asyncio.ensure_future(body_of(connection))
        if first:
            connection.data_received(first)
        await asyncio.sleep(0)
        connection.connection_lost(ConnectionResetError())
        with pytest.raises(UpstreamFailed):
            await reading


@pytest.mark.parametrize(
    "reply",
    [
        b"\0\1\2\3\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 twenty OK\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + REPLY,
        b"HTTP/1.1 103 Early Hints\r\nContent-Length: 0\r\n\r\n" + REPLY,
        b"HTTP/1.1 200 OK\r\n" + b"A: %s\r\n" % (b"x" * 1000) * 70,
        b"HTTP/1.1 200 OK\r\nA: " + b"x" * 70_000,
    ],
)
@pytest.mark.parametrize("size", [1, 1000, 100_000])
async def test_what_is_not_one_reply_with_its_length_fails_and_closes(reply: bytes, size: int) -> None:
    connection, transport = await asked()
    for place in range(0, len(reply), size):
        if not transport.is_closed:
            connection.data_received(reply[place : place + size])
    with pytest.raises(UpstreamFailed):
        await body_of(connection)
    assert transport.is_closed
    assert not connection.finished


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6))
def test_no_bytes_of_a_server_break_the_gateway(pieces: list[bytes]) -> None:
    async def exchange() -> None:
        connection, transport = await asked()
        for piece in pieces:
            if not transport.is_closed:
                connection.data_received(piece)
        connection.connection_lost(None)
        with pytest.raises(UpstreamFailed):
            await body_of(connection)

    asyncio.run(exchange())


@pytest.mark.parametrize("more", [REPLY, b"x", b"\r\n" + REPLY])
@pytest.mark.parametrize("when", ["at once", "later", "after its release"])
async def test_bytes_behind_a_reply_do_not_change_it_and_end_the_connection(more: bytes, when: str) -> None:
    connection, transport = await asked()
    connection.data_received(REPLY + more if when == "at once" else REPLY)
    if when == "later":
        connection.data_received(more)
    reply = await connection.reply()
    assert (reply.status, await body_of(connection)) == (200, b"hello")
    if when == "after its release":
        connection.recycle()
        connection.data_received(more)
        assert not connection.usable
    assert not connection.finished
    assert transport.is_closed


@pytest.mark.parametrize(
    "head", [HEAD.replace(b"/1.1", b"/1.0"), HEAD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")]
)
async def test_a_connection_that_the_server_does_not_keep_is_not_reused(head: bytes) -> None:
    connection, _ = await asked()
    connection.data_received(head + b"hello")
    assert await body_of(connection) == b"hello"
    assert not connection.finished


async def test_a_recycled_connection_knows_nothing_of_its_last_exchange() -> None:
    connection, transport = await asked()
    connection.data_received(
        HEAD.replace(b"\r\n\r\n", b"\r\nInference-Header-Content-Length: 2\r\n\r\n") + b"hello"
    )
    assert (await connection.reply()).head_length == b"2"
    connection.recycle()
    await connection.send(REQUEST, None)
    assert not connection.finished
    connection.data_received(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
    reply = await connection.reply()
    assert (reply.status, reply.content_type, reply.head_length, reply.length_bytes) == (404, b"", b"", 0)
    assert await body_of(connection) == b""
    assert transport.written == REQUEST * 2


# Streaming the request


async def chunks(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def test_the_rest_of_a_body_follows_in_order() -> None:
    connection, transport = connected()
    await connection.send(b"head", Pieces(chunks(b"1", b"2", b"3")))
    assert transport.written == b"head123"


async def test_a_request_is_not_sent_on_a_closed_connection_and_says_so() -> None:
    connection, transport = connected()
    transport.abort()
    with pytest.raises(NotSent):
        await connection.send(REQUEST, None)
    assert transport.written == b""


async def test_what_fails_after_the_first_byte_is_never_not_sent() -> None:
    connection, transport = connected()

    async def rest() -> AsyncIterator[bytes]:
        yield b"1"
        transport.abort()
        yield b"2"

    await connection.send(b"head", Pieces(rest()))
    with pytest.raises(UpstreamFailed):
        await connection.reply()


async def test_an_early_reply_ends_the_sending_and_arrives_whole() -> None:
    connection, transport = connected()

    async def rest() -> AsyncIterator[bytes]:
        yield b"1"
        connection.data_received(HEAD + b"he")
        yield b"2"
        raise AssertionError("nobody reads any more of the request")

    await connection.send(b"head", Pieces(rest()))
    assert (await connection.reply()).status == 200
    connection.data_received(b"llo")
    assert await body_of(connection) == b"hello"
    assert transport.written == b"head1"
    assert not connection.finished


async def test_a_request_that_breaks_off_behind_a_whole_reply_does_not_free_the_connection() -> None:
    connection, _ = connected()

    async def rest() -> AsyncIterator[bytes]:
        yield b"1"
        connection.data_received(REPLY)
        raise EOFError("the client left")

    with pytest.raises(EOFError):
        await connection.send(b"head", Pieces(rest()))
    assert not connection.finished


async def test_more_of_a_request_is_asked_for_only_when_the_server_takes_it() -> None:
    connection, transport = connected()
    asked_for = []

    async def rest() -> AsyncIterator[bytes]:
        for number in range(4):
            asked_for.append(number)
            yield b"x"

    connection.pause_writing()
    sending = asyncio.ensure_future(connection.send(b"head", Pieces(rest())))
    await until(lambda: asked_for == [0])
    for _ in range(5):
        await asyncio.sleep(0)
    assert (asked_for, transport.written) == ([0], b"head")
    connection.resume_writing()
    await sending
    assert asked_for == [0, 1, 2, 3]


async def test_a_source_whose_last_piece_was_too_much_is_let_go_behind_it() -> None:
    """Of a client that is not read nobody would see that it leaves."""
    connection, _ = connected()

    async def rest() -> AsyncIterator[bytes]:
        yield b"1"
        connection.pause_writing()

    source = Pieces(rest())
    await connection.send(b"head", source)
    assert source.goes.is_set()


@pytest.mark.parametrize("end", ["reply", "close"])
async def test_a_server_that_takes_nothing_more_can_still_end_the_sending(end: str) -> None:
    connection, transport = connected()
    connection.pause_writing()
    sending = asyncio.ensure_future(connection.send(b"head", Pieces(chunks(b"1", b"2"))))
    await until(lambda: transport.written == b"head")
    if end == "reply":
        connection.data_received(REPLY)
    else:
        transport.abort()
    async with asyncio.timeout(5):
        await sending
    assert transport.written == b"head"
    assert not connection.finished


# Reading no faster than the caller


async def test_a_reply_is_read_ahead_only_so_far_and_then_as_it_is_taken() -> None:
    connection, transport = await asked()
    piece, pieces = b"x" * 65536, 64
    connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(piece) * pieces))
    reply, left, got = await connection.reply(), pieces, 0

    def come() -> int:
        """As much as the connection reads; how many pieces that is."""
        nonlocal left
        before = left
        while left and not transport.is_paused:
            connection.data_received(piece)
            left -= 1
        return before - left

    def take(taken: bytes) -> None:
        nonlocal got
        got += len(taken)
        reply.pause()

    ahead = come()
    assert READ_AHEAD < ahead * len(piece) <= READ_AHEAD + len(piece)
    pouring = asyncio.ensure_future(reply.pour(take))
    await until(lambda: got == ahead * len(piece))
    while left:
        assert transport.is_paused
        reply.resume()
        assert come() == 1
    await pouring
    assert got == pieces * len(piece)
    assert connection.finished


@pytest.mark.parametrize("came", ["before", "within"])
async def test_a_fault_of_who_takes_a_reply_is_told_as_it_is_and_ends_the_connection(came: str) -> None:
    connection, _ = await asked()

    def take(piece: bytes) -> None:
        raise LookupError("ours")

    connection.data_received(REPLY if came == "before" else HEAD)
    pouring = asyncio.ensure_future((await connection.reply()).pour(take))
    await asyncio.sleep(0)
    connection.data_received(b"" if came == "before" else b"he")
    with pytest.raises(LookupError):
        await pouring
    assert connection.finished == (came == "before")  # the whole reply was here


async def test_who_holds_a_reply_that_is_over_holds_nobody_elses() -> None:
    connection, transport = await asked()
    connection.data_received(REPLY)
    over = await connection.reply()
    await over.pour(lambda _: over.pause())
    connection.recycle()
    await connection.send(REQUEST, None)
    over.pause()
    assert not transport.is_paused


async def test_a_connection_that_was_paused_reads_again_after_its_release() -> None:
    connection, transport = await asked()
    connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 400000\r\n\r\n" + b"x" * 400_000)
    assert transport.is_paused
    assert connection.finished
    connection.recycle()
    assert not transport.is_paused
