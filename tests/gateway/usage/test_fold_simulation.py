"""Random lives of gateways and of those who fold their log, ends included: each call is in the sums once, whatever crashes.

The seed is in the name of the test; SEEDS can be raised for a longer run.
"""

import asyncio
import random
from contextlib import suppress

import pytest

from gateway.audit.ledger import Intent, IntentBody, Knobs, Ledger, Outcome, SinkFailed
from gateway.audit.record import Entry
from gateway.audit.segment import scan
from gateway.usage.fold import Folder
from gateway.usage.reading import Reader
from tenants.errors import TableUnavailable
from tenants.ports import Item, Put
from tenants.usage import UNITS, Asked
from tests.gateway.audit.support import NOW_US, new_id, spin
from tests.gateway.audit.test_simulation import effective
from tests.gateway.usage.support import WorldLog, stored, total
from tests.seeds import seeds
from tests.worlds.segments import Fault as SegmentFault
from tests.worlds.segments import SegmentWorld
from tests.worlds.table import Fault, MemoryTable

SEEDS = seeds(25, 500)
STEPS = 100
HOUR_US = 3_600_000_000
KNOBS = Knobs(stall_seconds=0.005, retry_seconds=0, ride_seconds=0, waiting_bytes=20_000)


class Life:
    """A gateway and one or two that fold."""

    def __init__(self, rng: random.Random, world: SegmentWorld, table: MemoryTable, calls: list[str]) -> None:
        self.rng, self.world, self.table, self.calls = rng, world, table, calls
        self.now_us = NOW_US + len(calls) * HOUR_US // 20
        self.open: list[Intent] = []
        self.folders = [self._folder() for _ in range(rng.choice([1, 1, 2]))]

    def _folder(self) -> Folder:
        return Folder(lambda: WorldLog(self.world), self.table)

    async def run(self) -> None:
        ledger_of = Ledger.open(self.world, clock=lambda: self.now_us, new_id=new_id, knobs=KNOBS)
        with suppress(SinkFailed):
            async with ledger_of as ledger, asyncio.TaskGroup() as group:
                committer = group.create_task(ledger.run())
                for _ in range(self.rng.randrange(STEPS)):
                    await self._step(ledger)
                if self.rng.random() < 0.7:
                    self.world.crash(self.rng.randrange(10_000))
                self.world.faults.clear()
                self.world.release()
                committer.cancel()
        self.world.restart()

    async def _step(self, ledger: Ledger) -> None:
        self.now_us += self.rng.randrange(HOUR_US // 50)
        match self.rng.choices(["intend", "settle", "tick", "fault", "free", "fold"], [9, 8, 8, 1, 2, 6])[0]:
            case "intend":
                self.calls.append(f"r{len(self.calls)}")
                with suppress(SinkFailed):
                    self.open.append(self._intend(ledger, self.calls[-1]))
            case "settle" if self.open:
                intent = self.open.pop(self.rng.randrange(len(self.open)))
                ended = Outcome(
                    status=self.rng.choice(["done", "failed"]),
                    requests=1,
                    bytes=7,
                    tokens=self.rng.randrange(9),
                )
                ledger.settle(intent, ended, now_us=self.now_us)
            case "tick":
                await spin(self.rng.randrange(8))
            case "fault":
                self.world.torn_bytes = self.rng.randrange(10_000)
                self.world.faults.append(self.rng.choice(list(SegmentFault)))
            case "free":
                self.world.release()
            case "fold":
                await self._fold()

    def _intend(self, ledger: Ledger, request: str) -> Intent:
        body = IntentBody(tenant_name="", key_name="", address="", action="infer", protocol="oip")
        return ledger.intend(
            request=request,
            tenant=self.rng.choice(["t_a", "t_b"]),
            key=f"k_{self.rng.randrange(4)}",
            model=self.rng.choice(["m_a", "m_b", "m_c"]),
            model_version="1",
            now_us=self.now_us,
            body=body,
        )

    async def _fold(self) -> None:
        """One looks, or both do at once; a write may be lost before it was made, or after; whoever folds may die and another comes."""
        if self.rng.random() < 0.3:
            self.table.write_faults.append(self.rng.choice(list(Fault)))
        looks = [asyncio.ensure_future(it.look()) for it in self.folders]
        if self.rng.random() < 0.3:
            await spin(self.rng.randrange(6))
            number = self.rng.randrange(len(looks))
            looks[number].cancel()
            self.folders[number] = self._folder()
        for look in looks:
            with suppress(TableUnavailable, asyncio.CancelledError):
                await look


async def simulate(seed: int, table: MemoryTable | None = None) -> tuple[SegmentWorld, MemoryTable]:
    rng = random.Random(seed)
    world, table = SegmentWorld(segment_bytes=rng.choice([2_000, 8_000, 1 << 20])), table or MemoryTable()
    calls: list[str] = []
    for _ in range(4):
        await Life(rng, world, table, calls).run()
    async with Ledger.open(world, clock=lambda: NOW_US, new_id=new_id, knobs=KNOBS):
        pass  # what the last one left open is unknown now
    table.write_faults.clear()
    return world, table


def counted(world: SegmentWorld) -> list[Entry]:
    return [entry for entry in effective(world) if entry.kind == "outcome"]


async def expect_each_once(world: SegmentWorld, table: MemoryTable) -> None:
    """What is stored and what is read live, against the log as a whole."""
    log = counted(world)
    live = {
        unit: [
            (await Reader(lambda: WorldLog(world), table).used(Asked(tenant, unit))).sums
            for tenant in ("t_a", "t_b")
        ]
        for unit in UNITS
    }
    for unit in UNITS:
        sums = total({group: it for found in live[unit] for group, it in found.items()})
        assert (sums.calls, sums.requests, sums.tokens) == wanted(log), unit
        assert sums.unknown == sum(entry.status == "unknown" for entry in log)


def wanted(log: list[Entry]) -> tuple[int, int, int]:
    return len(log), sum(entry.requests for entry in log), sum(entry.tokens for entry in log)


@pytest.mark.chaos
@pytest.mark.parametrize("seed", SEEDS)
async def test_each_call_is_in_the_sums_once_whatever_crashes(seed: int) -> None:
    world, table = await simulate(seed)
    await expect_each_once(world, table)
    await Folder(lambda: WorldLog(world), table).look()
    await expect_each_once(world, table)
    newest = max(world.disk)
    waits = scan(newest, world.bytes_of(newest)).commits[-1]
    log, waiting = counted(world), sum(record.entry.kind == "outcome" for record in waits.records)
    for unit in UNITS:
        assert total(stored(table, unit)).calls == len(log) - waiting, "only the newest commit may wait"
    assert world.misuses == []


class Unguarded(MemoryTable):
    """The negative control: whoever folds writes whatever others wrote meanwhile."""

    __slots__ = ()

    async def transact(self, *items: Item) -> None:
        await MemoryTable.transact(
            self, *(Put(it.key, it.value, None) for it in items if isinstance(it, Put))
        )


async def test_folds_that_nothing_guards_are_caught() -> None:
    found = 0
    for seed in range(20):
        world, table = await simulate(seed, Unguarded())
        try:
            await expect_each_once(world, table)
        except AssertionError:
            found += 1
    assert found
