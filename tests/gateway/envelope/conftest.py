"""A world with one tenant, `acme`."""

from collections.abc import AsyncIterator

import pytest

from gateway.loops import jobs
from tests.gateway.envelope.world import World, made


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with jobs() as spawn:
        yield await made(spawn)
