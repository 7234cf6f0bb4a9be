"""gRPC over TLS: the same door, a certificate that is replaced under way, and clients that must show one."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from gateway.frontends.grpc_server import listening
from gateway.scaling.scalers.process import free_port
from gateway.settings import Grpc, Http
from tests.gateway.frontends.grpc_worlds import door
from tests.gateway.frontends.test_tls import World
from tests.worlds.certificates import Authority

pytestmark = pytest.mark.usefixtures("grpc_loop")

LIVE = "/inference.GRPCInferenceService/ServerLive"


@asynccontextmanager
async def over_tls(world: World) -> AsyncIterator[str]:
    port = free_port(secrets.choice)
    async with (
        door() as here,
        listening(here.server.door, "127.0.0.1", port, Grpc(), Http(), tls=world.shown) as server,
    ):
        yield server.address


async def alive(address: str, given: grpc.ChannelCredentials) -> bytes:
    """On a connection of its own."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.secure_channel(address, given, options) as channel:
        call: Any = channel.unary_unary(LIVE)
        found: bytes = await call(b"", timeout=5)
        return found


async def test_calls_are_answered_over_tls_and_a_new_certificate_is_shown_to_new_connections(
    tmp_path: Path,
) -> None:
    world = World(tmp_path)
    trusted = grpc.ssl_channel_credentials(world.authority.pem)
    async with over_tls(world) as address, grpc.aio.secure_channel(address, trusted) as under_way:
        call: Any = under_way.unary_unary(LIVE)
        assert await call(b"") == b"\x08\x01"
        world.authority = Authority("another")
        await world.rotate()
        assert await call(b"") == b"\x08\x01"
        assert await alive(address, grpc.ssl_channel_credentials(world.authority.pem)) == b"\x08\x01"
        with pytest.raises(grpc.aio.AioRpcError, match="UNAVAILABLE"):
            await alive(address, trusted)
        assert await call(b"") == b"\x08\x01"


async def test_a_client_certificate_is_insisted_on_where_it_is_required(tmp_path: Path) -> None:
    world = World(tmp_path, "required")
    client = world.authority.gives("batch")
    async with over_tls(world) as address:
        with pytest.raises(grpc.aio.AioRpcError, match="UNAVAILABLE"):
            await alive(address, grpc.ssl_channel_credentials(world.authority.pem))
        given = grpc.ssl_channel_credentials(world.authority.pem, client.key, client.certificate)
        assert await asyncio.wait_for(alive(address, given), 10) == b"\x08\x01"


async def test_an_authority_that_was_removed_opens_no_new_connection(tmp_path: Path) -> None:
    world = World(tmp_path, "required")
    client = world.authority.gives("batch")
    given = grpc.ssl_channel_credentials(world.authority.pem, client.key, client.certificate)
    async with over_tls(world) as address:
        assert await alive(address, given) == b"\x08\x01"
        world.of_clients.write_bytes(Authority("another").pem)
        await world.look_twice()
        with pytest.raises(grpc.aio.AioRpcError, match="UNAVAILABLE"):
            await alive(address, given)
