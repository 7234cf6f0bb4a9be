"""Random lives of processes on a disk that loses what was not synced: whatever was told durable is in the log.

The seed is in the name of the test; SEEDS can be raised for a longer run.
"""

import asyncio
import errno
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from gateway.audit.ledger import Intent, Knobs, Ledger, Outcome, SinkFailed
from gateway.audit.ports import SegmentFailed
from gateway.audit.record import Entry, SegmentBody
from gateway.audit.segment import scan
from gateway.audit.verify import verify
from gateway.stores.files import FileSegments
from tests.gateway.audit.support import DONE, NOW_US, intend, opened, running, spin
from tests.seeds import seeds
from tests.worlds.disk import DiskWorld, MemoryDisk

SEEDS = seeds(20, 200)
STEPS = 60
FOLDER = Path("/state/audit")
KNOBS = Knobs(stall_seconds=0.05, create_seconds=5, retry_seconds=0, ride_seconds=0, waiting_bytes=20_000)
FAULTS = (errno.EIO, errno.ENOSPC, errno.EROFS)


@dataclass
class Promises:
    """What the ledger has said, over all lives."""

    durable: set[str] = field(default_factory=set)
    announced: int = 0


class WatchedDisk(MemoryDisk):
    """Knows which segment a write went to after one to it had failed."""

    def __init__(self, world: DiskWorld) -> None:
        super().__init__(world)
        self.failed: set[int] = set()
        self.misuses: list[int] = []

    def write_through(self, fd: int, data: memoryview, offset: int) -> int:
        if fd in self.failed:
            self.misuses.append(fd)
        try:
            return super().write_through(fd, data, offset)
        except OSError:
            if offset or any(data):  # zeros on zeros are only a try of what the filesystem can do
                self.failed.add(fd)
            raise


class Life:
    """One process, from its start to its end or that of its machine."""

    def __init__(self, rng: random.Random, world: DiskWorld, promises: Promises) -> None:
        self.rng = rng
        self.world = world
        self.promises = promises
        self.open: list[Intent] = []

    async def step(self, ledger: Ledger, group: asyncio.TaskGroup) -> None:
        match self.rng.choices(["intend", "settle", "wait", "fault", "hang", "heal"], [9, 7, 9, 1, 0.1, 2])[
            0
        ]:
            case "intend":
                self.promises.announced += 1
                with suppress(SinkFailed):
                    self.open.append(intend(ledger, f"r{self.promises.announced}"))
                    group.create_task(self.wait(self.open[-1]))
            case "settle" if self.open:
                ledger.settle(
                    self.rng.choice(self.open),
                    self.rng.choice([DONE, Outcome(status="failed")]),
                    now_us=NOW_US,
                )
            case "wait" if self.open:
                await asyncio.wait([asyncio.ensure_future(self.wait(self.open[-1]))], timeout=1)
            case "fault":
                self.world.judge = judging(self.rng)
            case "hang":
                self.world.hang("write_through")
            case "heal":
                self.world.hang()
                self.world.judge = lambda _: None
        await spin(self.rng.randrange(4))

    async def wait(self, intent: Intent) -> None:
        with suppress(SinkFailed):
            await intent.durable()
            self.promises.durable.add(intent.owed.request)


def judging(rng: random.Random) -> "Judge":
    return Judge(rng.choice(FAULTS), rng.choice([0.1, 0.5, 1]), rng.randrange(1 << 30))


class Judge:
    """Some calls that change something fail."""

    def __init__(self, code: int, share: float, seed: int) -> None:
        self.code = code
        self.share = share
        self.rng = random.Random(seed)

    def __call__(self, call: str) -> int | None:
        changes = call in (
            "create",
            "write",
            "write_through",
            "sync",
            "sync_data",
            "truncate",
            "rename",
            "unlink",
        )
        return self.code if changes and self.rng.random() < self.share else None


async def live(rng: random.Random, world: DiskWorld, promises: Promises, *, ends_in_a_cut: bool) -> None:
    disk = WatchedDisk(world)
    world.takes_past_cache = rng.random() < 0.5
    if ends_in_a_cut:
        world.cut_at = world.calls + rng.randrange(1, 150)
    life = Life(rng, world, promises)
    with suppress(SinkFailed, SegmentFailed):
        size = rng.choice([2_000, 8_000, 40_000])
        async with (
            FileSegments(FOLDER, size, disk=disk) as store,
            running(store, KNOBS) as ledger,
            asyncio.TaskGroup() as group,
        ):
            for _ in range(rng.randrange(STEPS)):
                await life.step(ledger, group)
            if ends_in_a_cut:
                world.cut()
            elif rng.random() < 0.5:
                disk.die()
            world.hang()
            world.judge = lambda _: None
    if ends_in_a_cut:
        world.cut()
    disk.die()
    assert disk.misuses == []


@asynccontextmanager
async def log_of(world: DiskWorld) -> AsyncIterator[dict[str, bytes]]:
    """What a process finds that starts now and repairs what is left."""
    disk = world.process()
    async with FileSegments(FOLDER, 2_000, disk=disk) as store:
        async with opened(store):
            pass
        yield {segment: await store.read(segment) for segment, _ in await store.stored()}
    disk.die()


async def simulate(seed: int, *, syncs_lie: bool = False) -> None:
    rng = random.Random(seed)
    world = DiskWorld(seed)
    world.syncs_lie = syncs_lie
    promises = Promises()
    for _ in range(4):
        await live(rng, world, promises, ends_in_a_cut=rng.random() < 0.6)
        async with log_of(world) as segments:
            check(segments, promises)
        world.cut()
        async with log_of(world) as segments:
            check(segments, promises)


def check(segments: dict[str, bytes], promises: Promises) -> None:
    report = verify(segments)
    assert report.fault is None
    assert report.open == 0
    log = effective(segments)
    intents = Counter(entry.request for entry in log if entry.kind == "intent")
    outcomes = Counter(entry.request for entry in log if entry.kind == "outcome")
    assert promises.durable <= intents.keys()
    assert promises.durable <= outcomes.keys()
    assert set(intents.values()) | set(outcomes.values()) <= {1}
    assert max(Counter(entry.record for entry in log).values()) == 1


def effective(segments: dict[str, bytes]) -> list[Entry]:
    """What happened, read without verify: each segment up to where a later one says that it ends."""
    ends: dict[str, int] = {}
    log: list[Entry] = []
    for name in sorted(segments, reverse=True):
        for record in (
            record
            for commit in scan(name, segments[name]).commits[: ends.get(name)]
            for record in commit.records
        ):
            log.append(record.entry)
            if record.entry.kind == "segment":
                ends |= {
                    it.segment: it.commits
                    for it in msgspec.json.decode(record.present, type=SegmentBody).previous
                }
    return log


@pytest.mark.chaos
@pytest.mark.parametrize("seed", SEEDS)
async def test_what_was_told_durable_survives_any_power_cut_and_any_failing_call(seed: int) -> None:
    await simulate(seed)


async def test_a_disk_whose_syncs_do_nothing_is_caught() -> None:
    caught = 0
    for seed in range(20):
        try:
            await simulate(seed, syncs_lie=True)
        except AssertionError:
            caught += 1
    assert caught > 10


async def test_nothing_is_told_durable_before_its_sync_came_back() -> None:
    world = DiskWorld()
    async with FileSegments(FOLDER, 2_000, disk=world.process()) as store, running(store) as ledger:
        world.hang("write_through")
        intent = intend(ledger, "r")
        waits = asyncio.ensure_future(intent.durable())
        assert await asyncio.to_thread(world.hung.wait, 5)
        await spin()
        assert not waits.done()
        world.hang()
        await waits
        world.cut()
    async with log_of(world) as segments:
        assert [entry.request for entry in effective(segments) if entry.kind == "intent"] == ["r"]
