"""Random lives of a process, ends included: whatever the disk does, the log tells the truth.

The seed is in the name of the test; SEEDS can be raised for a longer run.
"""

import asyncio
import random
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field

import msgspec
import pytest

from gateway.audit.ledger import Intent, Knobs, Ledger, Outcome, SinkFailed
from gateway.audit.record import Entry, SegmentBody
from gateway.audit.segment import scan
from gateway.audit.verify import verify
from tests.gateway.audit.support import DONE, NOW_US, denial, intend, opened, running, spin
from tests.seeds import seeds
from tests.worlds.segments import Fault, SegmentWorld

SEEDS = seeds(20, 200)
STEPS = 120


@dataclass
class Promises:
    """What the ledger has said, over all lives."""

    durable: set[str] = field(default_factory=set)
    announced: int = 0


class Life:
    def __init__(self, rng: random.Random, world: SegmentWorld, ledger: Ledger, promises: Promises) -> None:
        self.rng = rng
        self.world = world
        self.ledger = ledger
        self.promises = promises
        self.open: list[Intent] = []

    async def step(self, group: asyncio.TaskGroup) -> None:
        match self.rng.choices(
            ["intend", "settle", "deny", "tick", "fault", "leave", "free"], [9, 7, 2, 8, 1, 1, 2]
        )[0]:
            case "intend":
                self.promises.announced += 1
                with suppress(SinkFailed):
                    self.open.append(intend(self.ledger, f"r{self.promises.announced}"))
                    group.create_task(self.wait(self.open[-1]))
            case "settle" if self.open:
                intent = self.rng.choice(self.open)
                self.ledger.settle(intent, self.rng.choice([DONE, Outcome(status="failed")]), now_us=NOW_US)
            case "deny":
                self.ledger.deny(denial(tenant=self.rng.choice([None, "t_a"])), now_us=NOW_US)
            case "tick":
                await spin(self.rng.randrange(8))
            case "fault":
                self.world.torn_bytes = self.rng.randrange(10_000)
                self.world.faults.append(self.rng.choice(list(Fault)))
            case "leave" if self.open:
                group.create_task(self.wait(self.rng.choice(self.open))).cancel()
            case "free":
                self.world.release()

    async def wait(self, intent: Intent) -> None:
        with suppress(SinkFailed):
            await intent.durable()
            self.promises.durable.add(intent.owed.request)


async def live(rng: random.Random, world: SegmentWorld, promises: Promises) -> None:
    """One process from its start to a crash or an orderly end."""
    knobs = Knobs(stall_seconds=0.005, retry_seconds=0, ride_seconds=0, waiting_bytes=20_000)
    with suppress(SinkFailed):
        async with running(world, knobs) as ledger, asyncio.TaskGroup() as group:
            life = Life(rng, world, ledger, promises)
            for _ in range(rng.randrange(STEPS)):
                await life.step(group)
            if rng.random() < 0.7:
                world.crash(rng.randrange(10_000))
            world.faults.clear()
            world.release()
    assert world.misuses == []
    world.restart()


@pytest.mark.chaos
@pytest.mark.parametrize("seed", SEEDS)
async def test_what_was_durable_is_in_the_log_with_one_outcome_after_any_crash(seed: int) -> None:
    rng = random.Random(seed)
    world = SegmentWorld(segment_bytes=rng.choice([2_000, 8_000, 1 << 20]))
    promises = Promises()
    for _ in range(4):
        await live(rng, world, promises)
        async with opened(world):
            pass
        report = verify(world.everything())
        assert report.fault is None
        assert report.open == 0
        log = effective(world)
        assert promises.durable <= {entry.request for entry in log if entry.kind == "intent"}
        outcomes = Counter(entry.request for entry in log if entry.kind == "outcome")
        assert promises.durable <= outcomes.keys()
        assert set(outcomes.values()) <= {1}


def effective(world: SegmentWorld) -> list[Entry]:
    """What happened, read without verify: each segment up to where a later one says that it ends."""
    ends: dict[str, int] = {}
    log: list[Entry] = []
    for name in sorted(world.disk, reverse=True):
        commits = scan(name, world.bytes_of(name)).commits[: ends.get(name)]
        for record in (record for commit in commits for record in commit.records):
            log.append(record.entry)
            if record.entry.kind == "segment":
                names = msgspec.json.decode(record.body or b"", type=SegmentBody).previous
                ends |= {previous.segment: previous.commits for previous in names}
    return log
