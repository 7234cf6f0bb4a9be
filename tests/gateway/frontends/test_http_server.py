"""The listening socket, how many connections it takes, and how it ends."""

import asyncio
import os
import signal

import pytest

from gateway.frontends.http_server import bound_socket, connections_within, serve_http
from gateway.settings import Http
from tests.gateway.frontends.worlds import GET, Echo, Wire


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


async def test_a_signal_ends_serving_and_a_kept_alive_client_is_told_first() -> None:
    started: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    with bound_socket("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        serving = asyncio.ensure_future(
            serve_http(
                Echo(),
                listener,
                Http(drain_seconds=5),
                lambda: "0" * 32,
                lambda *_: None,
                started=started.set_result,
            )
        )
        assert await started == f"http://127.0.0.1:{port}"
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
