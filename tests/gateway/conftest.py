"""What the suites of the data plane share."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from tests.worlds.triton_grpc import SERVICE, GrpcWorld


@pytest.fixture(scope="module")
async def grpc_loop() -> AsyncIterator[None]:
    """One loop for a module's tests. grpc.aio tells what becomes of a server or a call to the loop that it was of, also a while after its
    end: that loop must still be there. A last call comes behind all that is still to be told.
    """
    yield
    async with GrpcWorld() as world, grpc.aio.insecure_channel(f"127.0.0.1:{world.port}") as channel:
        last: Any = channel.unary_unary(f"{SERVICE}ModelInfer")
        await last(b"")
