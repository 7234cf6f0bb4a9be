"""A peopled world for every test."""

from collections.abc import AsyncIterator

import pytest

from tests.tenants.api.worlds import World, peopled


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with peopled() as made:
        yield made
