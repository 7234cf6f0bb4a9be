"""What HTTP over TLS promises: the same answers, bounded handshakes, and ends that say what they are."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.frontends.http_protocol import HttpLimits
from gateway.frontends.tls_protocol import tls_protocol
from gateway.tls.current import Clients, Files, Shown
from tests.gateway.frontends.worlds import GET, LIMITS, App, Door, Echo, Message, Receive, Send, door, post
from tests.gateway.tls.test_current import now_us
from tests.worlds.certificates import Authority


class World:
    def __init__(self, folder: Path, clients: Clients = "off") -> None:
        self.folder = folder
        self.authority = Authority()
        self.of_clients = folder / "clients.pem"
        self.of_clients.write_bytes(self.authority.pem)
        files = Files(*self.authority.gives().write(folder), None if clients == "off" else self.of_clients)
        self.shown = Shown.load(files, clients, now_us)
        self.trusted = self.authority.trusted()

    @asynccontextmanager
    async def door(
        self, app: App, limits: HttpLimits = LIMITS, most_handshakes: int = 10
    ) -> AsyncIterator[Door]:
        def around(within: type[asyncio.Protocol]) -> type[asyncio.Protocol]:
            return tls_protocol(within, lambda: self.shown.context, most_handshakes)

        async with door(app, limits, around=around) as world:
            yield world

    async def rotate(self) -> None:
        self.authority.gives().write(self.folder)
        await self.look_twice()

    async def look_twice(self) -> None:
        await self.shown.look()
        await self.shown.look()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_requests_are_served_on_a_kept_alive_connection_whatever_their_size(world: World) -> None:
    async with world.door(Echo()) as here:
        wire = await here.connect(world.trusted)
        assert (await wire.ask(GET)).status == 200
        body = bytes(range(256)) * 20_000
        reply = await wire.ask(post(body))
        assert (reply.status, reply.body) == (200, b"5120000")  # how much came, as Echo counts it
        tls = wire.writer.get_extra_info("ssl_object")
        assert tls.selected_alpn_protocol() is None
        assert tls.version() == "TLSv1.3"


async def test_the_application_is_told_that_it_is_https(world: World) -> None:
    seen = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        seen.append((scope["scheme"], scope["client"][0]))
        await Echo()(scope, receive, send)

    async with world.door(app) as here:
        await (await here.connect(world.trusted)).ask(GET)
    assert seen == [("https", "127.0.0.1")]


async def test_an_older_tls_is_refused(world: World) -> None:
    with pytest.deprecated_call():
        world.trusted.minimum_version = world.trusted.maximum_version = ssl.TLSVersion.TLSv1_1
    async with world.door(Echo()) as here:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await here.connect(world.trusted)


async def test_a_handshake_that_stands_still_is_ended_in_time_and_counts_as_a_connection(
    world: World,
) -> None:
    async with world.door(Echo()) as here:
        wire = await here.connect()
        await wire.send(b"\x16\x03\x01")
        await here.empty_but(1)
        assert await wire.rest() == b""
        await here.empty()


async def test_of_too_many_handshakes_the_oldest_gives_way_and_who_has_shaken_hands_is_served(
    world: World,
) -> None:
    limits = HttpLimits(head_seconds=30)
    async with world.door(Echo(), limits, most_handshakes=3) as here:
        served = await here.connect(world.trusted)
        half_open = [await here.connect() for _ in range(4)]
        assert (await (await here.connect(world.trusted)).ask(GET)).status == 200
        for wire in half_open[:2]:
            assert await wire.rest() == b""
        assert (await served.ask(GET)).status == 200


async def test_who_is_refused_and_stays_is_one_of_the_handshakes_and_the_oldest_gives_way(
    world: World,
) -> None:
    limits = HttpLimits(head_seconds=30, linger_seconds=30)
    async with world.door(Echo(), limits, most_handshakes=3) as here:
        half_open = await here.connect()
        for _ in range(5):
            assert (await here.ask(GET)).status == 400
        await here.empty_but(3)
        assert await half_open.rest() == b""
        assert (await (await here.connect(world.trusted)).ask(GET)).status == 200


async def test_a_stop_ends_handshakes_and_lets_requests_finish(world: World) -> None:
    async with world.door(Echo(), HttpLimits(head_seconds=30)) as here:
        half_open, served = await here.connect(), await here.connect(world.trusted)
        assert (await served.ask(GET)).status == 200
        here.shutdown()
        assert await half_open.rest() == b""
        assert (await served.ask(GET)).headers["connection"] == "close"


async def test_who_speaks_in_the_clear_is_told_and_it_is_recorded(world: World) -> None:
    async with world.door(Echo()) as here:
        wire = await here.connect()
        answer = await wire.ask(GET)
        assert (answer.status, answer.error) == (400, "this port speaks TLS: ask for https://")
        assert [address for _, address, _ in here.refused] == ["127.0.0.1"]


async def test_a_hello_at_a_port_in_the_clear_ends_at_once_and_says_why(world: World) -> None:
    async with door(Echo()) as here:
        with pytest.raises(ssl.SSLError):
            await here.connect(world.trusted)
        assert [error.sentence for _, _, error in here.refused] == [
            "this port speaks no TLS: ask for http://"
        ]


def _raw(world: World, port: int, request: bytes) -> tuple[bytes, bool]:
    """All that comes, and whether it ended with a farewell (close_notify)."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        world.trusted.wrap_socket(
            plain, server_hostname="localhost", suppress_ragged_eofs=False
        ) as connection,
    ):
        connection.sendall(request)
        came = b""
        try:
            while piece := connection.recv(65536):
                came += piece
        except (ssl.SSLEOFError, ConnectionError):
            return came, False
        return came, True


async def test_a_whole_answer_ends_with_a_farewell_and_one_that_broke_off_without(world: World) -> None:
    async def cut(scope: Message, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})

    async with world.door(Echo()) as here:
        request = GET.replace(b"Host", b"Connection: close\r\nHost")
        came, is_clean = await asyncio.to_thread(_raw, world, here.port, request)
        assert came.startswith(b"HTTP/1.1 200")
        assert is_clean
    async with world.door(cut) as here:
        came, is_clean = await asyncio.to_thread(_raw, world, here.port, GET)
        assert not came.endswith(b"0\r\n\r\n")
        assert not is_clean


async def test_a_client_that_does_not_read_holds_the_application_up(world: World) -> None:
    wrote = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"67108864")]}
        )
        for number in range(64):
            await send({"type": "http.response.body", "body": bytes(2**20), "more_body": number < 63})
            wrote.append(number)

    async with world.door(app, HttpLimits()) as here:
        wire = await here.connect(world.trusted)
        await wire.send(GET)
        await wire.reader.readuntil(b"\r\n\r\n")
        for _ in range(100):
            await asyncio.sleep(0)
        assert len(wrote) < 63
        assert len(await wire.reader.readexactly(2**26)) == 2**26


async def test_a_refusal_is_read_by_a_client_that_still_sends(world: World) -> None:
    async with world.door(Echo()) as here:
        wire = await here.connect(world.trusted)
        await wire.send(b"GET / HTTP/1.1\r\nA: " + b"x" * 100_000)
        assert (await wire.answer()).status == 431


async def test_a_new_certificate_is_shown_at_once_and_connections_under_way_live_on(world: World) -> None:
    async with world.door(Echo()) as here:
        old = await here.connect(world.trusted)
        assert (await old.ask(GET)).status == 200
        before = old.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        await world.rotate()
        new = await here.connect(world.trusted)
        assert new.writer.get_extra_info("ssl_object").getpeercert(binary_form=True) != before
        assert (await new.ask(GET)).status == (await old.ask(GET)).status == 200


async def test_a_client_certificate_is_insisted_on_where_it_is_required(tmp_path: Path) -> None:
    world = World(tmp_path, "required")
    async with world.door(Echo()) as here:
        wire = await here.connect(world.trusted)  # of TLS 1.3 a client hears it behind its handshake
        with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
            await wire.ask(GET)
        stranger = Authority("a stranger").gives("batch").write(tmp_path, "stranger")
        strange = world.authority.trusted()
        strange.load_cert_chain(*stranger)
        wire = await here.connect(strange)
        with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
            await wire.ask(GET)
        world.trusted.load_cert_chain(*world.authority.gives("batch").write(tmp_path, "client"))
        assert (await (await here.connect(world.trusted)).ask(GET)).status == 200


async def test_an_authority_that_was_removed_opens_no_new_connection_and_resumes_no_old_session(
    tmp_path: Path,
) -> None:
    world = World(tmp_path, "required")
    world.trusted.load_cert_chain(*world.authority.gives("batch").write(tmp_path, "client"))
    async with world.door(Echo()) as here:
        old = await here.connect(world.trusted)
        assert (await old.ask(GET)).status == 200
        session = old.writer.get_extra_info("ssl_object").session
        assert session.has_ticket
        world.of_clients.write_bytes(Authority("another").pem)
        await world.look_twice()
        wire = await here.connect(world.trusted)
        with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
            await wire.ask(GET)
        assert await asyncio.to_thread(_resumed, world, here.port, session) == b""
        assert (await old.ask(GET)).status == 200  # it shook hands before


def _resumed(world: World, port: int, session: ssl.SSLSession) -> bytes:
    """What a client hears who comes back with the session of another connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        try:
            with world.trusted.wrap_socket(plain, server_hostname="127.0.0.1", session=session) as connection:
                connection.sendall(GET)
                return connection.recv(65536)
        except (ssl.SSLError, ConnectionError):
            return b""
