"""A directory over a table in memory, and what it wrote."""

from random import Random

import msgspec
import pytest

from tenants.directory import Directory
from tenants.events import Event
from tenants.fleet import Fleet
from tenants.model import Model
from tenants.plans import Limits, Plan, Rate
from tests.worlds.table import MemoryTable

NOW = 1_700_000_000_000_000
TEAM = Plan("team", 2, Limits(1000, Rate(50.0, 100), 20))
BY = "cli:root"


@pytest.fixture
def world() -> MemoryTable:
    return MemoryTable()


@pytest.fixture
def directory(world: MemoryTable) -> Directory:
    return Directory(world, Random(7).randbytes)


@pytest.fixture
async def acme(directory: Directory) -> Directory:
    """A directory with a plan, a tenant on it, and its model."""
    await directory.put_plan(TEAM, actor=BY, now_us=NOW)
    await directory.create_tenant("acme", "team", actor=BY, now_us=NOW)
    await directory.put_fleet(Fleet("local"), actor=BY, now_us=NOW)
    await directory.put_model(Model("", "digits", "infra/models", ("acme",)), actor=BY, now_us=NOW)
    await directory.put_model(Model("", "secret", "infra/models", ()), actor=BY, now_us=NOW)
    return directory


def events(world: MemoryTable) -> list[Event]:
    outbox = sorted(
        (row for row in world.rows.values() if row.key.partition == "outbox"), key=lambda row: row.key
    )
    return [msgspec.json.decode(row.value, type=Event) for row in outbox]


def actions(world: MemoryTable) -> list[str]:
    return sorted(event.action for event in events(world))
