import asyncio

import msgspec
import pytest

from gateway.audit.ledger import Knobs, SinkFailed
from gateway.audit.ports import SegmentFailed
from gateway.audit.record import OutcomeBody, SegmentBody
from gateway.audit.segment import first_chain, frame, scan
from gateway.audit.verify import verify
from tests.gateway.audit.support import (
    DONE,
    NOW_US,
    bad_openings,
    entries,
    intend,
    new_id,
    opened,
    opening_of,
    records,
    running,
    spin,
    told,
)
from tests.worlds.segments import Fault, SegmentWorld


@pytest.fixture
def world() -> SegmentWorld:
    return SegmentWorld()


async def crashed(world: SegmentWorld, torn_bytes: int = 0) -> str:
    """A process that served one call, owed another, and died while it wrote a third; the id of its segment."""
    async with running(world, Knobs(stall_seconds=0.02, ride_seconds=0, retry_seconds=0)) as ledger:
        done, owed = intend(ledger, "done"), intend(ledger, "owed")
        await owed.durable()
        ledger.settle(done, DONE, now_us=NOW_US)
        await intend(ledger, "more").durable()
        world.faults.append(Fault.SLOW)
        intend(ledger, "torn")
        await world.has_held.wait()
        segment = max(world.disk)
        world.crash(torn_bytes)
    world.restart()
    return segment


@pytest.mark.parametrize("torn_bytes", [0, 1, 30, 200])
async def test_a_start_cuts_the_torn_tail_and_settles_what_the_dead_owed(
    world: SegmentWorld, torn_bytes: int
) -> None:
    dead = await crashed(world, torn_bytes)
    whole = scan(dead, bytes(world.disk[dead])).end_bytes
    async with opened(world):
        pass
    assert len(world.disk[dead]) == whole
    unknown = {
        record.entry.request: msgspec.json.decode(record.body or b"", type=OutcomeBody)
        for record in records(world)
        if record.entry.kind == "outcome" and not record.entry.is_priced
    }
    assert unknown == dict.fromkeys(("owed", "more"), OutcomeBody(status="unknown", segment=dead))
    report = verify(world.everything())
    assert (report.fault, report.open) == (None, 0)


@pytest.mark.parametrize("torn_bytes", [0, 30, 200])
async def test_what_a_start_cuts_is_said_in_the_log_for_ever(world: SegmentWorld, torn_bytes: int) -> None:
    await crashed(world, torn_bytes)
    async with opened(world):
        pass
    openings = [msgspec.json.decode(body, type=SegmentBody) for body in told(world, "segment")]
    (previous,) = openings[-1].previous
    # Zeros at the end of what was written cannot be told from the prepared ones.
    assert torn_bytes - 8 < previous.torn_bytes <= torn_bytes


async def test_a_start_touches_no_segment_of_a_living_process(world: SegmentWorld) -> None:
    async with running(world) as living:
        intent = intend(living, "r1")
        await intent.durable()
        mine = max(world.disk)
        before = bytes(world.disk[mine])
        async with opened(world):
            pass
        assert world.disk[mine] == before
        assert entries(world, "outcome") == []
        living.settle(intent, DONE, now_us=NOW_US)
    report = verify(world.everything())
    assert (report.fault, report.open) == (None, 0)


async def test_a_damaged_segment_is_left_as_it_is_and_reported(world: SegmentWorld) -> None:
    dead = await crashed(world)
    world.disk[dead][300] ^= 1
    before = bytes(world.disk[dead])
    async with opened(world) as ledger:
        assert ledger.damaged == (dead,)
        assert ledger.is_open
    assert world.disk[dead] == before
    fault = verify(world.everything()).fault
    assert fault is not None
    assert fault.segment == dead


@bad_openings
async def test_a_start_survives_an_opening_that_cannot_be_read(world: SegmentWorld, body: bytes) -> None:
    dead = new_id()
    world.disk[dead] = bytearray(frame(0, [opening_of(body)], first_chain(dead)).data)
    async with opened(world) as ledger:
        assert ledger.is_open
    fault = verify(world.everything()).fault
    assert fault is not None
    assert (fault.segment, fault.record_id) == (dead, "o1")


async def test_each_segment_of_the_dead_is_taken_over_once(world: SegmentWorld) -> None:
    dead = await crashed(world)
    for _ in range(3):
        async with opened(world):
            pass
    named = [
        previous.segment
        for body in told(world, "segment")
        for previous in msgspec.json.decode(body, type=SegmentBody).previous
    ]
    assert named == sorted(world.disk)[:-1]
    assert named[0] == dead
    assert len(entries(world, "outcome")) == 3


async def test_what_a_segment_owes_from_an_earlier_one_is_settled_too(world: SegmentWorld) -> None:
    world.segment_bytes = 2048
    async with running(world) as ledger:
        await intend(ledger, "long").durable()
        for number in range(20):
            intent = intend(ledger, f"r{number}")
            await intent.durable()
            ledger.settle(intent, DONE, now_us=NOW_US)
        assert len(world.disk) > 3
        last = max(world.disk)
        world.crash()
    world.restart()
    async with opened(world):
        pass
    unknown = [msgspec.json.decode(body, type=OutcomeBody) for body in told(world, "outcome")]
    assert OutcomeBody(status="unknown", segment=last) in unknown
    assert "long" in {entry.request for entry in entries(world, "outcome")}
    report = verify(world.everything())
    assert (report.fault, report.open) == (None, 0)


async def test_an_opening_of_any_size_is_read_for_what_it_names(world: SegmentWorld) -> None:
    world.segment_bytes = 400_000
    async with running(world) as ledger:
        for number in range(1100):
            intend(ledger, f"r{number}")
        await intend(ledger, "last of the first segment").durable()
        await intend(ledger, "x" * 10_000).durable()
        assert len(world.disk) == 2
        assert len(next(told(world, "segment"))) < 65_536 < len(list(told(world, "segment"))[1])
        world.crash()
    world.restart()
    async with opened(world):
        pass
    report = verify(world.everything())
    assert (report.fault, report.intents, report.open) == (None, 1102, 0)


async def test_a_start_that_fails_changes_nothing_that_the_next_one_needs(world: SegmentWorld) -> None:
    await crashed(world)
    for fault in (Fault.FULL, Fault.LOST_BEFORE, Fault.LOST_AFTER, Fault.TORN):
        world.torn_bytes = 90
        world.faults.append(fault)
        with pytest.raises(SinkFailed):
            async with opened(world):
                raise AssertionError("it must not open")
        assert world.locked == set()
    async with opened(world):
        pass
    report = verify(world.everything())
    assert (report.fault, report.open) == (None, 0)


async def test_a_start_waits_longer_for_its_first_segment_than_for_a_commit(world: SegmentWorld) -> None:
    world.faults.append(Fault.LATE)

    async def start() -> None:
        async with opened(world, Knobs(stall_seconds=0, create_seconds=30)) as ledger:
            assert ledger.is_open
            assert ledger.counters.failures == 0

    async with asyncio.TaskGroup() as group:
        starting = group.create_task(start())
        await world.has_held.wait()
        await spin()
        assert not starting.done()
        world.release()
    assert verify(world.everything()).fault is None


async def test_a_start_without_its_first_segment_says_where_it_waited_and_keeps_nothing(
    world: SegmentWorld,
) -> None:
    world.faults.append(Fault.LATE)
    with pytest.raises(SinkFailed, match="first segment in memory: no answer"):
        async with opened(world, Knobs(create_seconds=0.01)):
            raise AssertionError("it must not open")
    world.release()
    await spin()
    assert world.locked == set()
    world.faults.append(Fault.FULL)
    with pytest.raises(SinkFailed, match="first segment in memory: no space left"):
        async with opened(world):
            raise AssertionError("it must not open")
    async with opened(world):
        pass
    assert verify(world.everything()).fault is None


async def test_the_log_of_a_process_that_left_in_order_needs_no_repair(world: SegmentWorld) -> None:
    async with opened(world) as ledger:
        ledger.settle(intend(ledger, "r1"), DONE, now_us=NOW_US)
    before = world.everything()
    async with opened(world):
        pass
    assert before.items() <= world.everything().items()
    assert len(entries(world, "outcome")) == 1


async def test_a_living_process_does_not_let_its_segment_be_cut(world: SegmentWorld) -> None:
    async with opened(world):
        with pytest.raises(SegmentFailed):
            await world.cut(max(world.disk), b"")
