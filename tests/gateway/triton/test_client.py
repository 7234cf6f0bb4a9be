"""The pool, over real sockets and both transports: connections are reused, closed when idle or broken, and never leaked."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from gateway.call import Outgoing
from gateway.triton.client import Answer, Client, NotSent, UpstreamFailed, request_head
from tests.gateway.triton.transports import Transport
from tests.gateway.triton.worlds import (
    HEAD,
    REPLY,
    Reader,
    Writer,
    answers,
    call,
    parts,
    read_request,
    until,
)
from tests.worlds.bodies import Pieces, whole

HELLO = Answer(200, b"application/json", b"hello")


@pytest.fixture(params=["in the clear", "TLS"])
def over(request: pytest.FixtureRequest, tmp_path: Path) -> Transport:
    return Transport.secured(tmp_path) if request.param == "TLS" else Transport()


async def test_a_call_arrives_whole_and_its_reply_comes_back(over: Transport) -> None:
    arrived = []

    async def script(reader: Reader, writer: Writer) -> None:
        arrived.append(await read_request(reader))
        writer.write(REPLY)

    async def rest() -> AsyncIterator[bytes]:
        yield b"cd"
        yield b"e"

    async with over.served(script) as server:
        client = over.client(server.port)
        body = Outgoing(head=b"{}", first=b"ab", rest=Pieces(rest()), tensor_bytes=5, binary=True)
        reply = await client.send(call(), body)
        assert await whole(reply) == b"hello"
        client.release(reply)
        client.close()
        await server.quiet()
    assert arrived == [request_head(call(), body) + b"{}abcde"]


# Reuse


async def test_a_connection_is_reused_after_a_whole_exchange(over: Transport) -> None:
    async with over.served(answers()) as server:
        client = over.client(server.port)
        for _ in range(5):
            assert await client.ask("GET", "/") == HELLO
        assert server.accepted == 1
        client.close()
        await server.quiet()


async def test_a_reply_that_was_not_read_to_its_end_costs_the_connection(over: Transport) -> None:
    async with over.served(parts(HEAD)) as server:
        client = over.client(server.port)
        client.release(await client.send(call(), Outgoing(head=b"{}")))
        await server.quiet()


async def test_calls_at_once_have_connections_of_their_own_and_share_them_later(over: Transport) -> None:
    async with over.served(answers()) as server:
        client = over.client(server.port)
        for _ in range(3):
            await asyncio.gather(*(client.ask("GET", "/") for _ in range(8)))
        assert server.accepted == 8
        client.close()
        await server.quiet()


async def test_a_connection_that_the_server_closed_while_idle_is_replaced_unseen(over: Transport) -> None:
    async with over.served(parts(REPLY, None)) as server:
        client = over.client(server.port)
        for number in range(1, 4):
            assert await client.ask("GET", "/") == HELLO
            await server.quiet()
            await until(lambda: not any(connection.usable for connection in client._idle))
            assert server.accepted == number


async def test_idle_connections_are_closed_after_their_time_the_first_and_the_last(over: Transport) -> None:
    async with over.served(answers()) as server:
        client = over.client(server.port, idle_seconds=0.05)
        await asyncio.gather(*(client.ask("GET", "/") for _ in range(3)))
        await client.ask("GET", "/")
        assert server.open == 3
        await server.quiet()
        assert await client.ask("GET", "/") == HELLO
        assert server.accepted == 4
        await server.quiet()


async def test_a_connection_in_use_is_not_idle(over: Transport) -> None:
    gate = asyncio.Event()
    async with over.served(parts(HEAD, gate, b"hello")) as server:
        client = over.client(server.port, idle_seconds=0.02)
        async with over.served(answers()) as other:
            beside = over.client(other.port, idle_seconds=0.04)
            reply = await client.send(call(), Outgoing(head=b"{}"))
            await beside.ask("GET", "/")
            await other.quiet()  # twice the idle time has passed
        gate.set()
        assert await whole(reply) == b"hello"
        client.release(reply)
        await server.quiet()


# Giving up


@pytest.mark.parametrize("sent", [b"", HEAD + b"he"], ids=["waiting for the head", "within the body"])
async def test_a_server_that_is_given_up_fails_those_who_wait_for_it_at_once_and_is_asked_no_more(
    over: Transport, sent: bytes
) -> None:
    async with over.served(parts(sent)) as server:
        client = over.client(server.port)
        waiting = [asyncio.ensure_future(client.ask("GET", "/")) for _ in range(3)]
        await until(lambda: server.accepted == 3)
        client.abort()
        async with asyncio.timeout(1):
            failed = await asyncio.gather(*waiting, return_exceptions=True)
            with pytest.raises(NotSent):
                await client.ask("GET", "/")
        assert [type(fault) for fault in failed] == [UpstreamFailed] * 3
        await until(lambda: server.open == 0)
    assert not client._busy


async def test_a_pool_that_is_closed_lets_what_is_under_way_end_and_keeps_nothing(over: Transport) -> None:
    gate = asyncio.Event()
    async with over.served(parts(HEAD, gate, b"hello")) as server:
        client = over.client(server.port)
        waiting = asyncio.ensure_future(client.ask("GET", "/"))
        await until(lambda: server.accepted == 1)
        client.close()
        gate.set()
        assert await waiting == HELLO
        await server.quiet()


async def test_of_a_vast_answer_only_the_beginning_is_kept_and_its_connection_is_not_lost(
    over: Transport,
) -> None:
    length = 5 * 1024**2
    vast = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (length, b"x" * length)
    async with over.served(answers(vast)) as server:
        client = over.client(server.port)
        for _ in range(2):
            assert len((await client.ask("GET", "/")).body) == 4 * 1024**2
        assert server.accepted == 1
        client.close()


# Failures


async def test_a_server_that_is_not_there_got_nothing() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(NotSent):
            await Client(*unused.getsockname()).ask("GET", "/")


async def test_a_server_that_does_not_accept_got_nothing() -> None:
    with ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)  # noqa: FBT003 - the standard library's signature
            waiting.connect_ex(full.getsockname())
        host, port = full.getsockname()
        with pytest.raises(NotSent):
            await Client(host, port, connect_seconds=0.05).ask("GET", "/")


@pytest.mark.parametrize("cut", range(0, len(REPLY), 7))
async def test_a_server_that_breaks_off_has_failed_and_its_connection_is_gone(
    over: Transport, cut: int
) -> None:
    async with over.served(parts(REPLY[:cut], None)) as server:
        client = over.client(server.port)
        for number in range(1, 3):
            with pytest.raises(UpstreamFailed):
                await client.ask("GET", "/")
            assert server.accepted == number
        await server.quiet()
        assert not client._idle


async def test_garbage_is_a_failure_and_the_connection_is_closed(over: Transport) -> None:
    async with over.served(parts(b"\x16\x03\x01 no HTTP")) as server:
        with pytest.raises(UpstreamFailed):
            await over.client(server.port).ask("GET", "/")
        await server.quiet()


async def test_an_early_reply_arrives_while_the_request_still_streams(over: Transport) -> None:
    async def vast() -> AsyncIterator[bytes]:
        for _ in range(2**14):
            yield b"x" * 65536

    async with over.served(parts(b"HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\n\r\n", b"hello")) as server:
        client = over.client(server.port)
        reply = await client.send(
            call(), Outgoing(head=b"{}", rest=Pieces(vast()), tensor_bytes=2**30, binary=True)
        )
        assert reply.status == 413
        assert await whole(reply) == b"hello"
        client.release(reply)
        await server.quiet()
        assert not client._idle


@pytest.mark.parametrize("sent", [b"", HEAD, HEAD + b"he"])
async def test_a_cancelled_call_closes_its_connection(over: Transport, sent: bytes) -> None:
    has_begun = asyncio.Event()

    async def exchange(client: Client) -> None:
        reply = await client.send(call(), Outgoing(head=b"{}"))
        try:
            has_begun.set()
            await whole(reply)
        finally:
            client.release(reply)

    async with over.served(parts(sent)) as server:
        client = over.client(server.port)
        calling = asyncio.ensure_future(exchange(client))
        await (has_begun.wait() if sent else until(lambda: server.accepted == 1))
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        await server.quiet()
        assert not client._idle


async def test_a_call_that_is_cancelled_while_it_connects_leaves_nothing_open(over: Transport) -> None:
    async with over.served(answers()) as server:
        client = over.client(server.port)
        for turns in range(16):
            calling = asyncio.ensure_future(client.ask("GET", "/"))
            for _ in range(turns):
                await asyncio.sleep(0)
            calling.cancel()
            await asyncio.wait([calling])
        client.close()
        await until(lambda: server.open == 0)
        assert not client._busy


async def test_a_body_that_breaks_off_closes_the_connection(over: Transport) -> None:
    async def rest() -> AsyncIterator[bytes]:
        yield b"x"
        raise EOFError("the client left")

    async with over.served(answers()) as server:
        client = over.client(server.port)
        with pytest.raises(EOFError):
            await client.send(call(), Outgoing(head=b"{}", rest=Pieces(rest()), tensor_bytes=9, binary=True))
        await server.quiet()
        assert not client._idle


async def test_a_closed_pool_keeps_nothing(over: Transport) -> None:
    gate = asyncio.Event()
    async with over.served(parts(HEAD, gate, b"hello")) as server:
        client = over.client(server.port)
        reply = await client.send(call(), Outgoing(head=b"{}"))
        client.close()
        gate.set()
        assert await whole(reply) == b"hello"
        client.release(reply)
        await server.quiet()


# Back-pressure over real sockets


async def test_a_slow_server_is_sent_no_more_than_it_takes(over: Transport) -> None:
    size, pieces = 256 * 1024, 128
    gate, taken = asyncio.Event(), []

    async def script(reader: Reader, writer: Writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await gate.wait()
        taken.append(len(await reader.readexactly(2 + size * pieces)))
        writer.write(REPLY)

    given = 0

    async def rest() -> AsyncIterator[bytes]:
        nonlocal given
        for _ in range(pieces):
            given += size
            yield b"x" * size

    async with over.served(script) as server:
        client = over.client(server.port)
        sending = asyncio.ensure_future(
            client.send(
                call(), Outgoing(head=b"{}", rest=Pieces(rest()), tensor_bytes=size * pieces, binary=True)
            )
        )
        await until(lambda: given > size)
        before = -1
        while before != given:  # until the sockets are full
            before = given
            for _ in range(1000):
                await asyncio.sleep(0)
        assert given < size * pieces / 2
        gate.set()
        client.release(await sending)
        assert taken == [2 + size * pieces]
        client.close()
        await server.quiet()


async def test_a_slow_caller_is_read_ahead_for_no_more_than_the_bound(over: Transport) -> None:
    size = 64 * 1024 * 1024

    async def script(reader: Reader, writer: Writer) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(size // 65536):
            writer.write(b"x" * 65536)
            await writer.drain()

    async with over.served(script) as server:
        client = over.client(server.port)
        reply = await client.send(call(), Outgoing(head=b"{}"))
        connection = reply.connection
        await until(lambda: not connection._reading)
        assert connection.buffered_bytes <= 768 * 1024
        assert len(await whole(reply)) == size
        client.release(reply)
        assert client._idle == [connection]
        client.close()
        await server.quiet()
