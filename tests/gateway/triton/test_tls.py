"""HTTPS to a server, what is its own: nothing is sent to one that did not prove who it is, and no end of TLS's looks like a reply's."""

import asyncio
import os
import ssl
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from gateway.call import Outgoing
from gateway.triton.client import Answer, NotSent, Untrusted, UpstreamFailed
from tests.gateway.triton.transports import Secured
from tests.gateway.triton.worlds import (
    HEAD,
    REPLY,
    Reader,
    Script,
    Writer,
    answers,
    call,
    read_request,
    served,
    until,
)
from tests.worlds.bodies import whole
from tests.worlds.certificates import Authority

HELLO = Answer(200, b"application/json", b"hello")


@pytest.fixture
def world(tmp_path: Path) -> Secured:
    return Secured(tmp_path)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_a_server_that_proved_who_it_is_is_asked_and_its_connection_is_kept(
    world: Secured, host: str
) -> None:
    spoken = []

    async def script(reader: Reader, writer: Writer) -> None:
        spoken.append(writer.get_extra_info("ssl_object").selected_alpn_protocol())
        await answers()(reader, writer)

    async with served(script, world.server()) as server:
        client = world.client(server.port, host)
        for _ in range(5):
            assert await client.ask("GET", "/") == HELLO
        assert (server.accepted, spoken) == (1, ["http/1.1"])
        client.close()
        await server.quiet()


def _over(world: Secured) -> ssl.SSLContext:
    return world.server(world.authority.gives(begins=timedelta(days=-9), lasts=timedelta(days=-1)))


def _strange(world: Secured) -> ssl.SSLContext:
    return world.server(Authority("somebody else").gives())


@pytest.mark.parametrize(
    ("host", "shows", "why"),
    [
        ("localhost", _strange, "self-signed certificate|unable to get local issuer"),
        ("localhost", _over, "certificate has expired"),
        ("far.example", Secured.server, "Hostname mismatch"),
        ("127.0.0.2", Secured.server, "IP address mismatch"),
        ("localhost", lambda _: None, "WRONG_VERSION_NUMBER|HTTP_REQUEST"),
    ],
    ids=["a stranger's", "over", "another name", "another address", "in the clear"],
)
async def test_a_server_that_does_not_prove_who_it_is_gets_nothing(
    world: Secured, host: str, shows: Callable[[Secured], ssl.SSLContext | None], why: str
) -> None:
    came = bytearray()

    async def script(reader: Reader, writer: Writer) -> None:
        writer.write(REPLY)
        came.extend(await reader.read())

    async with served(script, shows(world)) as server:
        client = world.client(server.port, host)
        with pytest.raises(Untrusted, match=f"^{host}:{server.port} did not prove who it is: .*({why})"):
            await client.ask("POST", "/v1/completions", b"a prompt")
        await server.quiet()
    assert b"a prompt" not in came


async def test_the_common_name_proves_nothing(world: Secured) -> None:
    pair = world.authority.gives(
        "localhost", names=[x509.UniformResourceIdentifier("spiffe://far.example/it")]
    )
    async with served(answers(), world.server(pair)) as server:
        with pytest.raises(Untrusted, match="Hostname mismatch"):
            await world.client(server.port, "localhost").ask("GET", "/")


async def test_a_redirect_leads_to_no_other_server(world: Secured) -> None:
    async with served(answers(), world.server()) as target:
        there = f"Location: https://localhost:{target.port}/\r\n".encode()
        reply = (
            b"HTTP/1.1 307 Temporary Redirect\r\n"
            + there
            + b"Content-Type: text/html\r\nContent-Length: 0\r\n\r\n"
        )
        async with served(answers(reply), world.server()) as server:
            client = world.client(server.port, "localhost")
            assert await client.ask("POST", "/v1/completions", b"a prompt") == Answer(307, b"text/html", b"")
            client.close()
        assert target.accepted == 0


async def test_an_older_tls_is_refused_also_where_the_server_says_nothing_of_it(world: Secured) -> None:
    context = world.server()
    with pytest.deprecated_call():
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    async with served(answers(), context) as server:
        with pytest.raises(NotSent, match="closed within the TLS handshake"):
            await world.client(server.port).ask("GET", "/")
        assert server.accepted == 0  # it tells of nobody who has not shaken hands


async def test_an_alert_instead_of_a_handshake_is_told(world: Secured) -> None:
    async def script(reader: Reader, writer: Writer) -> None:
        writer.write(b"\x15\x03\x03\x00\x02\x02\x46")  # fatal, protocol_version (RFC 8446, 6.2)

    async with served(script) as server:
        with pytest.raises(Untrusted, match="PROTOCOL_VERSION"):
            await world.client(server.port).ask("GET", "/")
        await server.quiet()


async def test_a_server_that_takes_a_handshake_and_no_call_has_failed(world: Secured) -> None:
    context = world.server()
    context.verify_mode = ssl.CERT_REQUIRED  # of TLS 1.3 the client hears that only afterwards
    async with served(answers(), context) as server:
        with pytest.raises(UpstreamFailed, match="TLS failed"):
            await world.client(server.port).ask("GET", "/")


async def _stands_still(reader: Reader, writer: Writer) -> None:
    await reader.read()


async def _hangs_up(reader: Reader, writer: Writer) -> None:
    await reader.read(1)
    raise ConnectionError


@pytest.mark.parametrize("script", [_stands_still, _hangs_up])
async def test_a_server_without_a_handshake_in_time_got_nothing_and_is_not_called_a_stranger(
    world: Secured, script: Script
) -> None:
    async with served(script) as server:
        client = world.client(server.port, connect_seconds=0.2)
        with pytest.raises(NotSent) as caught:
            await client.ask("GET", "/")
        assert not isinstance(caught.value, Untrusted)
        await server.quiet()


# Ends


async def _farewell(writer: Writer) -> None:
    writer.close()


async def _abruptly(writer: Writer) -> None:
    await writer.drain()
    writer.transport.abort()


async def _with_noise(writer: Writer) -> None:
    await writer.drain()
    os.write(writer.get_extra_info("socket").fileno(), b"\x17\x03\x03\x00\x10" + bytes(16))


End = Callable[[Writer], Awaitable[None]]
ENDS = pytest.mark.parametrize("ends", [_farewell, _abruptly, _with_noise])


@ENDS
@pytest.mark.parametrize("cut", [0, 9, len(HEAD), len(HEAD) + 2])
async def test_a_reply_that_breaks_off_has_failed_however_it_does(
    world: Secured, ends: End, cut: int
) -> None:
    async def script(reader: Reader, writer: Writer) -> None:
        await read_request(reader)
        writer.write(REPLY[:cut])
        await ends(writer)

    async with served(script, world.server()) as server:
        client = world.client(server.port)
        for number in range(1, 3):
            with pytest.raises(UpstreamFailed):
                await client.ask("GET", "/")
            assert server.accepted == number
        assert not client._idle
        await server.quiet()


@ENDS
async def test_a_stream_that_ends_without_its_last_chunk_has_failed_however_it_does(
    world: Secured, ends: End
) -> None:
    async def script(reader: Reader, writer: Writer) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        await ends(writer)

    async with served(script, world.server()) as server:
        client = world.client(server.port)
        reply = await client.send(call(), Outgoing(head=b"{}"))
        came = bytearray()
        with pytest.raises(UpstreamFailed):
            await reply.pour(came.extend)
        client.release(reply)
        assert came == b"hello"
        await server.quiet()


@ENDS
async def test_a_whole_reply_in_front_of_the_end_arrives_whole_also_at_a_slow_caller(
    world: Secured, ends: End
) -> None:
    size = 3 * 1024 * 1024

    async def script(reader: Reader, writer: Writer) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(size // 65536):
            writer.write(b"x" * 65536)
            await writer.drain()
        await ends(writer)

    async with served(script, world.server()) as server:
        client = world.client(server.port)
        reply = await client.send(call(), Outgoing(head=b"{}"))
        await until(lambda: not reply.connection._reading)
        for _ in range(100):
            await asyncio.sleep(0)
        assert reply.connection.buffered_bytes <= 768 * 1024
        assert len(await whole(reply)) == size
        client.release(reply)
        assert not client._idle
        await server.quiet()


# Authorities


async def test_an_authority_that_is_trusted_no_more_is_not_by_the_next_call_either(world: Secured) -> None:
    async with served(answers(), world.server()) as server:
        client = world.client(server.port)
        assert await client.ask("GET", "/") == HELLO
        world.file.write_bytes(Authority("another").pem)
        for _ in range(2):
            await world.trusted.look()
        with pytest.raises(Untrusted):
            await client.ask("GET", "/")
        assert server.accepted == 1
        await server.quiet()
