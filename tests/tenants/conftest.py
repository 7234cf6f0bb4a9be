"""A directory over a table in memory, and what it wrote."""

from random import Random

import msgspec
import pytest

from tenants.acts import Act
from tenants.directory import Directory
from tenants.events import Action, Event
from tenants.fleet import Fleet
from tenants.model import Model
from tenants.plans import Limits, Plan, Rate
from tenants.ports import Key, Row
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
    await directory.values.put(TEAM, act=Act(BY, NOW))
    await directory.tenants.create("acme", "team", act=Act(BY, NOW))
    await directory.values.put(Fleet("local"), act=Act(BY, NOW))
    await directory.values.put(Model("", "digits", "infra/models", ("acme",)), act=Act(BY, NOW))
    await directory.values.put(Model("", "secret", "infra/models", ()), act=Act(BY, NOW))
    return directory


@pytest.fixture
async def two(acme: Directory) -> Directory:
    """As `acme`, and with a second tenant beta."""
    await acme.tenants.create("beta", "team", Act(BY, NOW))
    return acme


def damage(world: MemoryTable, key: Key, value: bytes = b"{") -> None:
    world.rows[key] = Row(key, value, world.rows[key].version)


def events(world: MemoryTable) -> list[Event]:
    """What happened, in order; that documents were applied is told by what that changed."""
    found = [
        row.value
        for row in world.rows.values()
        if row.key.partition == "events" or row.key.sort.startswith("event/")
    ]
    told = [msgspec.json.decode(value, type=Event) for value in found]
    return sorted((it for it in told if it.action != Action.DOCUMENTS_APPLIED), key=lambda it: it.sequence)


def actions(world: MemoryTable) -> list[str]:
    return sorted(event.action for event in events(world))
