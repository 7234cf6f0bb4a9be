"""When a commit is due, and what is left when the committer itself fails. What a commit promises is in test_ledger."""

import asyncio

import pytest

from gateway.audit.ledger import Knobs, Ledger, SinkFailed
from tests.gateway.audit.support import entries, intend, opened, running, spin, until
from tests.worlds.segments import SegmentWorld


@pytest.fixture
def world() -> SegmentWorld:
    return SegmentWorld()


@pytest.mark.parametrize("number", [1, 2])
async def test_one_of_many_calls_is_committed_with_others_or_as_soon_as_somebody_waits_for_it(
    world: SegmentWorld, number: int
) -> None:
    async with running(world, Knobs(ride_seconds=30)) as ledger:
        for intent in [intend(ledger, f"long{number}") for number in range(8)]:
            await intent.durable()
        before = world.appends
        few = [intend(ledger, f"few{number}") for number in range(number)]
        await spin()
        assert world.appends == before
        await few[0].durable()
        assert world.appends == before + 1
        more = 2 + number  # a fair part of what is open then
        for another in range(more):
            intend(ledger, f"more{another}")
        await until(lambda: len(entries(world, "intent")) == 8 + number + more)
        assert world.appends == before + 2


async def test_one_of_many_calls_that_nobody_waits_for_is_committed_after_the_riding_time(
    world: SegmentWorld,
) -> None:
    async with running(world, Knobs(ride_seconds=0.001)) as ledger:
        for intent in [intend(ledger, f"long{number}") for number in range(8)]:
            await intent.durable()
        intend(ledger, "late")
        await until(lambda: len(entries(world, "intent")) == 9)


async def test_a_fault_that_nobody_foresaw_closes_the_door_and_ends_the_committer(
    world: SegmentWorld,
) -> None:
    async with opened(world) as ledger:
        async with asyncio.TaskGroup() as group:
            committer = group.create_task(ended_by(ledger, MemoryError))
            await until(lambda: ledger.is_open)
            world.breaks = MemoryError()
            intend(ledger, "r1")
            async with asyncio.timeout(5):
                await committer
        world.breaks = None
        assert not ledger.is_open
        with pytest.raises(SinkFailed):
            intend(ledger, "r2")
    assert [entry.request for entry in entries(world, "intent")] == ["r1"]  # what waited was not lost with it


async def ended_by(ledger: Ledger, fault: type[Exception]) -> None:
    with pytest.raises(fault):
        await ledger.run()
