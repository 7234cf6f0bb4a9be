"""The listening socket, how many connections it takes, and how it ends."""

import asyncio
import os
import signal
import socket

import pytest

from gateway.frontends.http_server import Listener, connections_within, serve_http
from gateway.frontends.sockets import bound_socket
from gateway.settings import Http
from tests.gateway.frontends.worlds import GET, Echo, Message, Receive, Send, Wire


def test_an_address_that_is_taken_is_named() -> None:
    with bound_socket("127.0.0.1", 0) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}: .*; choose another port"):
            bound_socket("127.0.0.1", port)


@pytest.mark.parametrize("files", [2, 256, 1024, 65_536])
def test_files_suffice_for_every_connection_and_its_call_and_leave_some(files: int) -> None:
    connections = connections_within(files)
    assert 0 <= 2 * connections <= files - min(256, files // 2)
    assert connections >= files // 4


def listener(sock: socket.socket) -> Listener:
    return Listener(Echo(), sock, lambda *_: None)


async def test_a_signal_ends_serving_and_a_kept_alive_client_is_told_first() -> None:
    started: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
    with bound_socket("127.0.0.1", 0) as bound:
        port = bound.getsockname()[1]
        serving = asyncio.ensure_future(
            serve_http([listener(bound)], Http(drain_seconds=5), lambda: "0" * 32, started=started.set_result)
        )
        assert await started == [f"http://127.0.0.1:{port}"]
        wire = Wire(*await asyncio.open_connection("127.0.0.1", port))
        assert "connection" not in (await wire.ask(GET)).headers
        asked_at = asyncio.get_running_loop().time()
        os.kill(os.getpid(), signal.SIGTERM)
        refused = False
        while not refused:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
            except ConnectionError:
                refused = True
        assert (await wire.ask(GET)).headers["connection"] == "close"
        assert await wire.rest() == b""
        wire.writer.close()
        await serving
        assert asyncio.get_running_loop().time() - asked_at < 5


async def test_all_listeners_serve_and_one_signal_stops_them_while_requests_are_finished() -> None:
    started: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
    released = asyncio.Event()

    async def slow(scope: Message, receive: Receive, send: Send) -> None:
        await released.wait()
        await Echo()(scope, receive, send)

    with bound_socket("127.0.0.1", 0) as one, bound_socket("127.0.0.1", 0) as other:
        ports = [bound.getsockname()[1] for bound in (one, other)]
        listeners = [Listener(slow, one, lambda *_: None), listener(other)]
        serving = asyncio.ensure_future(
            serve_http(listeners, Http(drain_seconds=0), lambda: "0" * 32, started=started.set_result)
        )
        assert await started == [f"http://127.0.0.1:{port}" for port in ports]
        asking = Wire(*await asyncio.open_connection("127.0.0.1", ports[0]))
        await asking.send(GET)
        quick = Wire(*await asyncio.open_connection("127.0.0.1", ports[1]))
        assert (await quick.ask(GET)).status == 200
        os.kill(os.getpid(), signal.SIGTERM)
        assert await quick.rest() == b""
        assert not serving.done()
        released.set()
        assert (await asking.answer()).status == 200
        async with asyncio.timeout(5):
            await serving
        for wire in (asking, quick):
            wire.writer.close()


async def test_a_listener_that_fails_ends_the_others_and_is_named() -> None:
    with bound_socket("127.0.0.1", 0) as good, socket.socket(type=socket.SOCK_DGRAM) as bad:
        bad.bind(("127.0.0.1", 0))
        listeners = [listener(good), listener(bad)]
        serving = serve_http(listeners, Http(), lambda: "0" * 32, started=lambda _: None)
        with pytest.raises(ValueError, match=r"[Ss]tream [Ss]ocket"):
            await asyncio.wait_for(serving, 5)
