"""Random lives of those who measure, over a Triton that computes: each nanosecond is shared out once, whatever crashes.

The seed is in the name of the test; SEEDS can be raised for a longer run.
"""

import asyncio
import random
from contextlib import suppress
from dataclasses import dataclass, field
from typing import cast

import pytest

from gateway.audit.record import Entry
from gateway.scaling.board import Lodging, ManagedServer
from gateway.scaling.scaler import Replica
from gateway.triton.client import Client, UpstreamFailed
from gateway.triton.statistics import Totals
from gateway.usage.apportion import IDLE, LOAD, UNATTRIBUTED
from gateway.usage.heard import Calls
from gateway.usage.measured import MOST_POINTS
from gateway.usage.measuring import GONE_US, LAG_US, LOOK_US, Measuring
from tenants.errors import Conflict, TableUnavailable
from tenants.ports import Item, Put
from tests.gateway.audit.support import spin
from tests.gateway.usage.support import stored
from tests.seeds import seeds
from tests.worlds.table import Fault, MemoryTable

SEEDS = seeds(30, 1000)
START_US = 1_800_000_000_000_000
MODELS = ("a", "b")


@dataclass(slots=True)
class _Row:
    id: str


@dataclass(slots=True)
class _There:
    """As much of a Lodging as measuring looks at."""

    model: str
    row: _Row
    server: ManagedServer
    replica: Replica


@dataclass
class World:
    """One Triton. `computed_ns` is all that it ever did; `totals` what it says of the models that it has."""

    rng: random.Random
    table: MemoryTable
    now_us: int = START_US
    computed_ns: int = 0
    totals: dict[str, Totals] = field(default_factory=dict)
    is_silent: bool = False
    requests: int = 0

    def __post_init__(self) -> None:
        self.replica = Replica("r1", "127.0.0.1", 1)
        self.server = ManagedServer(name="s", fleet="f", replica=self.replica)
        self.server.control = cast("Client", object())
        self.restart()

    def restart(self) -> None:
        """Another process measures; what the log says of the last minutes it reads again."""
        self.calls = Calls()
        self.measuring = Measuring(
            self.table, self.calls, lambda: [self.server], lambda: self.now_us, self._ask
        )

    async def _ask(self, _: Client, __: Replica, name: str) -> dict[str, Totals]:
        await asyncio.sleep(0)
        if self.is_silent:
            raise UpstreamFailed("silent")
        return {it: totals for it, totals in self.totals.items() if name in ("", it)}

    def place(self, name: str) -> Lodging:
        return cast("Lodging", _There(name, _Row(f"m_{name}"), self.server, self.replica))

    def compute(self, name: str) -> None:
        took_us = self.rng.randrange(1, 2_000_000)
        ns = self.rng.randrange(1, took_us * 1_000)
        if self.rng.random() < 0.8:
            self.heard(name, f"k_{self.rng.randrange(12)}", took_us=took_us, ns=ns)
        else:  # nobody's call, or its outcome is lost
            self.ran(name, took_us=took_us, ns=ns)

    def ran(self, name: str, *, took_us: int, ns: int) -> None:
        self.totals[name] += Totals(1, ns)
        self.computed_ns += ns
        self.now_us += took_us
        self.requests += 1

    def heard(self, name: str, key: str, *, took_us: int, ns: int) -> None:
        self.ran(name, took_us=took_us, ns=ns)
        self.calls.hear(
            Entry(
                v=1,
                kind="outcome",
                record=f"o{self.requests}",
                request=f"r{self.requests}",
                at_us=self.now_us,
                tenant=self.rng.choice(["t_a", "t_b"]),
                key=key,
                model=f"m_{name}",
                replica="r1",
                interval_us=(self.now_us - took_us, self.now_us),
                weight=1,
                body_sha256="",
            )
        )

    async def step(self) -> None:
        self.now_us += 1
        name = self.rng.choice(MODELS)
        match self.rng.choices(
            ["compute", "load", "unload", "look", "fault", "kill", "silent"], [8, 3, 2, 8, 2, 1, 1]
        )[0]:
            case "compute" if name in self.totals:
                self.compute(name)
            case "load" if name not in self.totals:
                self.totals[name] = Totals()
                self.server.places[name] = self.place(name)
                await self.measuring.loaded(self.place(name), 1.0, 0.5)
            case "unload" if name in self.totals:
                await self._unload(name)
            case "look":
                self.now_us += self.rng.choice([0, LOOK_US, LAG_US])
                await self._look()
            case "fault":
                self.table.write_faults.append(self.rng.choice(list(Fault)))
            case "kill":
                self.restart()
            case "silent":
                self.is_silent = not self.is_silent

    async def _unload(self, name: str) -> None:
        """Where nobody could note what it computed, that is gone: it is not tried here."""
        self.is_silent = False
        self.table.write_faults.clear()
        await self.measuring.leaving(self.server, name)
        while True:
            with suppress(Conflict):
                await self.measuring.note()
                break
        del self.totals[name], self.server.places[name]

    async def _look(self) -> None:
        looking = asyncio.ensure_future(self.measuring.look())
        if self.rng.random() < 0.3:
            await spin(self.rng.randrange(12))
            looking.cancel()
            self.restart()
        with suppress(TableUnavailable, Conflict, asyncio.CancelledError):
            await looking

    async def settle(self) -> None:
        self.is_silent = False
        self.table.write_faults.clear()
        for _ in range(MOST_POINTS + 5):
            self.now_us += LAG_US
            with suppress(Conflict):
                await self.measuring.look()


async def simulate(seed: int, table: MemoryTable | None = None) -> World:
    rng = random.Random(seed)
    world = World(rng, table or MemoryTable())
    for _ in range(rng.randrange(150)):
        await world.step()
    await world.settle()
    return world


def shared_us(world: World) -> int:
    return sum(
        sums.compute_us
        for group, sums in stored(world.table, "month").items()
        if group.key not in (IDLE, LOAD)
    )


def expect_each_once(world: World) -> None:
    lives = 1 + world.requests  # at most so many places, each with less than a microsecond that waits
    assert world.computed_ns // 1_000 - lives <= shared_us(world) <= world.computed_ns // 1_000


@pytest.mark.chaos
@pytest.mark.parametrize("seed", SEEDS)
async def test_each_nanosecond_is_shared_out_once_whatever_crashes(seed: int) -> None:
    world = await simulate(seed)
    expect_each_once(world)
    hours = sum(
        sums.compute_us
        for group, sums in stored(world.table, "hour").items()
        if group.key not in (IDLE, LOAD)
    )
    assert hours == shared_us(world)


class Unguarded(MemoryTable):
    """The negative control: a step is written whatever was written meanwhile."""

    __slots__ = ()

    async def transact(self, *items: Item) -> None:
        if any(isinstance(it, Put) and it.key.partition == "usage-places" for it in items):
            items = tuple(it for it in items if it.key.partition != "usage-places") or items
        await MemoryTable.transact(self, *items)


async def test_an_interval_whose_place_does_not_move_with_it_is_caught() -> None:
    found = 0
    for seed in range(10):
        try:
            expect_each_once(await simulate(seed, Unguarded()))
        except (AssertionError, Conflict):
            found += 1
    assert found


async def test_what_a_crashed_server_swallowed_is_estimated_by_its_calls_and_is_nobodys() -> None:
    world = World(random.Random(1), MemoryTable())
    world.totals["a"] = Totals()
    world.server.places["a"] = world.place("a")
    for number in range(4):
        world.heard("a", f"k_{number}", took_us=1_000_000, ns=2_000_000)
    world.now_us += LOOK_US
    await world.measuring.look()
    for number in range(3):
        world.heard("a", f"k_{number}", took_us=1_000_000, ns=2_000_000)
    world.server.replica = None  # it is gone, and nobody looked before
    world.now_us += GONE_US
    await world.measuring.look()
    await world.measuring.look()
    lines = {group.key: sums for group, sums in stored(world.table, "month").items()}
    assert (lines[UNATTRIBUTED].calls, lines[UNATTRIBUTED].compute_us) == (3, 3 * 2_000)
    assert sum(sums.compute_us for key, sums in lines.items() if key.startswith("k_")) == 4 * 2_000
