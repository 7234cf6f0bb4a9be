import asyncio
import gc
import logging
from contextlib import suppress

import msgspec
import pytest

from gateway.audit.batch import Item
from gateway.audit.ledger import Knobs, Outcome, SinkFailed
from gateway.audit.record import DenialsBody, OutcomeBody, SegmentBody
from gateway.audit.verify import verify
from tests.gateway.audit.support import (
    DONE,
    NOW_US,
    denial,
    entries,
    intend,
    opened,
    records,
    running,
    spin,
    told,
    until,
    until_open,
)
from tests.worlds.segments import Fault, SegmentWorld

LOST = [Fault.LOST_BEFORE, Fault.LOST_AFTER, Fault.TORN]


@pytest.fixture
def world() -> SegmentWorld:
    return SegmentWorld(torn_bytes=100)


async def test_an_intent_is_durable_only_when_the_segment_says_so(world: SegmentWorld) -> None:
    async with running(world) as ledger:
        world.faults.append(Fault.SLOW)
        intent = intend(ledger, "r1")
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(intent.durable())
            await world.has_held.wait()
            await spin()
            assert not waiting.done()
            assert entries(world, "intent") == []
            world.release()
        assert [entry.request for entry in entries(world, "intent")] == ["r1"]
        assert not intent.is_lost


async def test_what_one_tick_brings_is_one_append_and_so_is_what_gathers_in_flight(
    world: SegmentWorld,
) -> None:
    async with running(world) as ledger:
        ledger.settle(earlier := intend(ledger, "earlier"), DONE, now_us=NOW_US)
        await earlier.durable()  # the committer runs, and no call is open
        await until(lambda: len(entries(world, "outcome")) == 1)
        before = world.appends
        world.faults.append(Fault.SLOW)
        first = [intend(ledger, f"a{number}") for number in range(50)]
        await world.has_held.wait()
        second = [intend(ledger, f"b{number}") for number in range(50)]
        ledger.settle(first[0], DONE, now_us=NOW_US)
        await spin()
        assert world.appends - before == 1
        assert world.held[0][1].count(b'"kind":"intent"') == len(first)
        world.release()
        for intent in first + second:
            await intent.durable()
        assert world.appends - before == 2


async def test_an_outcome_rides_with_the_next_intent(world: SegmentWorld) -> None:
    async with running(world, Knobs(ride_seconds=30)) as ledger:
        intent = intend(ledger, "r1")
        await intent.durable()
        before = world.appends
        ledger.settle(intent, DONE, now_us=NOW_US)
        await spin()
        assert world.appends == before
        await intend(ledger, "r2").durable()
        assert world.appends == before + 1
        assert [entry.request for entry in entries(world, "outcome")] == ["r1"]


async def test_outcomes_alone_start_one_commit_by_themselves(world: SegmentWorld) -> None:
    async with running(world) as ledger:
        intents = [intend(ledger, f"r{number}") for number in range(9)]
        for intent in intents:
            await intent.durable()
        before = world.appends
        for intent in intents:
            ledger.settle(intent, DONE, now_us=NOW_US)
        await until(lambda: world.appends > before)
        await spin()
        assert world.appends == before + 1
        assert len(entries(world, "outcome")) == 9


async def test_an_intent_has_one_outcome_however_often_it_is_settled(world: SegmentWorld) -> None:
    async with running(world) as ledger:
        intent = intend(ledger, "r1")
        ledger.settle(intent, DONE, now_us=NOW_US)
        ledger.settle(intent, Outcome(status="failed"), now_us=NOW_US)
        await intent.durable()
        ledger.settle(intent, Outcome(status="failed"), now_us=NOW_US)
    assert [msgspec.json.decode(body)["status"] for body in told(world, "outcome")] == ["done"]


async def test_an_outcome_that_json_cannot_hold_becomes_unknown_and_settles(world: SegmentWorld) -> None:
    async with running(world) as ledger:
        intent = intend(ledger, "r1")
        ledger.settle(intent, Outcome(status="failed", reason="\ud800"), now_us=NOW_US)
        assert ledger.counters.malformed == 1
    (body,) = told(world, "outcome")
    assert msgspec.json.decode(body, type=OutcomeBody) == OutcomeBody(status="unknown", reason="malformed")


async def test_a_cancelled_wait_changes_nothing_for_the_others(world: SegmentWorld) -> None:
    async with running(world) as ledger:
        world.faults.append(Fault.SLOW)
        intent = intend(ledger, "r1")
        async with asyncio.TaskGroup() as group:
            leaving = group.create_task(intent.durable())
            staying = group.create_task(intent.durable())
            await world.has_held.wait()
            leaving.cancel()
            await spin()
            world.release()
        assert staying.exception() is None
        assert entries(world, "intent")[0].request == "r1"


@pytest.mark.parametrize("fault", LOST)
async def test_a_failed_commit_loses_every_open_intent_and_keeps_outcomes_of_durable_ones(
    world: SegmentWorld, fault: Fault
) -> None:
    async with running(world, Knobs(ride_seconds=30, retry_seconds=0)) as ledger:
        served, open_ = intend(ledger, "served"), intend(ledger, "open")
        await served.durable()
        ledger.settle(served, DONE, now_us=NOW_US)
        world.faults.append(fault)
        waiting = intend(ledger, "waiting")
        with pytest.raises(SinkFailed):
            await waiting.durable()
        assert waiting.is_lost
        assert open_.is_lost
        assert not served.is_lost
        with pytest.raises(SinkFailed):
            await open_.durable()
        for lost in (open_, waiting):
            ledger.settle(lost, DONE, now_us=NOW_US)
        await until_open(ledger)
        await intend(ledger, "after").durable()
    poisoned, fresh = sorted(world.disk)
    report = verify(world.everything())
    assert report.fault is None
    assert report.open == 1  # "after", which the ledger never heard of again
    statuses = {
        record.entry.request: msgspec.json.decode(record.body or b"", type=OutcomeBody)
        for record in records(world)
        if record.entry.kind == "outcome"
    }
    assert statuses["served"].status == "done"
    assert statuses["open"] == statuses["waiting"] == OutcomeBody(status="unknown", segment=poisoned)
    assert [entry.kind for entry in entries(world, "segment", "probe")] == ["segment", "probe"] * 2
    assert world.misuses == []
    assert ledger.counters.failures == 1
    assert ledger.counters.unknown == 2
    assert fresh > poisoned


@pytest.mark.parametrize("fault", LOST)
async def test_while_the_door_is_closed_nothing_is_taken_in_until_a_fresh_segment_is_durable(
    world: SegmentWorld, fault: Fault
) -> None:
    async with running(world) as ledger:
        world.faults.extend([fault, fault, Fault.FULL, Fault.SLOW])
        with pytest.raises(SinkFailed):
            await intend(ledger, "r1").durable()
        await world.has_held.wait()
        assert not ledger.is_open
        with pytest.raises(SinkFailed):
            intend(ledger, "r2")
        assert ledger.counters.refused == 1
        world.release()
        await until_open(ledger)
        await intend(ledger, "r3").durable()
        assert ledger.counters.failures == 3
    assert verify(world.everything()).fault is None


async def test_a_commit_that_gives_no_answer_in_time_has_failed(world: SegmentWorld) -> None:
    async with running(world, Knobs(stall_seconds=0.05, retry_seconds=0, ride_seconds=0)) as ledger:
        world.faults.append(Fault.SLOW)
        intent = intend(ledger, "r1")
        with pytest.raises(SinkFailed):
            await intent.durable()
        await until_open(ledger)
        assert [done.cancelled() for _, _, done in world.held] == [True]  # so the segment knows
        world.release()  # the disk wakes up and writes what nobody waits for
        await intend(ledger, "r2").durable()
    assert verify(world.everything()).fault is None
    assert world.misuses == []


async def test_a_fault_is_logged_with_its_cause(
    world: SegmentWorld, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(world) as ledger:
        world.faults.append(Fault.LOST_BEFORE)
        with caplog.at_level(logging.ERROR), pytest.raises(SinkFailed):
            await intend(ledger, "r1").durable()
    assert "lost before" in caplog.text


async def test_a_full_segment_is_followed_by_one_that_names_it_and_what_it_owes(world: SegmentWorld) -> None:
    world.segment_bytes = 4096
    async with running(world) as ledger:
        long = intend(ledger, "long")
        for number in range(30):
            intent = intend(ledger, f"r{number}")
            await intent.durable()
            ledger.settle(intent, DONE, now_us=NOW_US)
        assert len(world.locked) == 1
        assert not long.is_lost
        openings = [msgspec.json.decode(body, type=SegmentBody) for body in told(world, "segment")]
        ledger.settle(long, DONE, now_us=NOW_US)
    assert len(world.disk) > 3
    assert all(len(data) <= 4096 for data in world.disk.values())
    assert [[p.segment for p in first.previous] for first in openings[1:]] == [
        [name] for name in sorted(world.disk)[: len(openings) - 1]
    ]
    assert all([owed.request for owed in first.owed] == ["long"] for first in openings[1:])
    assert len(entries(world, "probe")) == 1
    report = verify(world.everything())
    assert (report.fault, report.intents, report.open) == (None, 31, 0)


async def test_no_room_for_the_next_segment_closes_the_door(world: SegmentWorld) -> None:
    world.segment_bytes = 1024
    async with running(world) as ledger:
        durable = intend(ledger, "r1")
        await durable.durable()
        world.faults.append(Fault.FULL)
        waiting = [intend(ledger, f"w{number}") for number in range(9)]
        with pytest.raises(SinkFailed):
            await waiting[0].durable()
        assert durable.is_lost
        await until_open(ledger)
    assert verify(world.everything()).fault is None


async def test_a_segment_that_comes_late_closes_the_door_and_opens_it_again(world: SegmentWorld) -> None:
    world.segment_bytes = 1024
    async with running(world, Knobs(stall_seconds=0.05, retry_seconds=0, ride_seconds=0)) as ledger:
        await intend(ledger, "r1").durable()
        world.faults.append(Fault.LATE)
        waiting = [intend(ledger, f"w{number}") for number in range(9)]
        async with asyncio.timeout(20):  # a call waits for it no longer than for a commit
            with pytest.raises(SinkFailed):
                await waiting[0].durable()
        await until(lambda: ledger.counters.failures > 1)
        world.release()
        await until_open(ledger)
        assert len(world.disk) == 2  # it waited for that one and asked for no other
    assert verify(world.everything()).fault is None


async def test_a_segment_that_comes_after_the_end_is_given_up(world: SegmentWorld) -> None:
    world.segment_bytes = 1024
    async with opened(world, Knobs(stall_seconds=0.01)) as ledger:
        for number in range(9):
            intend(ledger, f"r{number}")
        world.faults.append(Fault.LATE)
    world.release()
    await spin()
    assert world.locked == set()
    async with opened(world):
        pass
    assert verify(world.everything()).fault is None


async def test_more_than_the_waiting_bytes_is_refused_rather_than_kept(world: SegmentWorld) -> None:
    async with opened(world, Knobs(waiting_bytes=10_000)) as ledger:
        taken = 0
        with suppress(SinkFailed):
            for taken in range(1000):
                intend(ledger, f"r{taken}")
        assert 10 < taken < 40
        ledger.deny(denial(tenant="t_a"), now_us=NOW_US)
    assert len(entries(world, "intent")) == taken
    assert len(entries(world, "denial")) == 0
    assert len(entries(world, "denials")) == 1


async def test_leaving_makes_all_that_waits_durable(world: SegmentWorld) -> None:
    async with opened(world) as ledger:
        ledger.settle(intend(ledger, "r1"), DONE, now_us=NOW_US)
        ledger.deny(denial(), now_us=NOW_US)
    assert [entry.kind for entry in entries(world, "intent", "outcome", "denials")] == [
        "intent",
        "outcome",
        "denials",
    ]
    assert world.locked == set()
    with pytest.raises(SinkFailed):
        intend(ledger, "r2")


async def test_a_committer_cancelled_in_flight_loses_nothing(world: SegmentWorld) -> None:
    async with opened(world) as ledger:
        async with asyncio.TaskGroup() as group:
            committer = group.create_task(ledger.run())
            world.faults.append(Fault.SLOW)
            intent = intend(ledger, "r1")
            await world.has_held.wait()
            committer.cancel()
        ledger.settle(intent, DONE, now_us=NOW_US)
        world.release()
    await intent.durable()
    assert [entry.request for entry in entries(world, "intent", "outcome")] == ["r1", "r1"]
    assert ledger.counters.failures == 0
    assert len(world.disk) == 1


@pytest.mark.parametrize("fault", LOST)
async def test_a_fault_while_leaving_goes_to_a_fresh_segment(world: SegmentWorld, fault: Fault) -> None:
    async with opened(world) as ledger:
        intent = intend(ledger, "r1")
        world.faults.append(fault)
    assert intent.is_lost
    assert len(world.disk) == 2
    assert world.locked == set()
    assert verify(world.everything()).fault is None


async def test_a_principal_is_denied_ten_times_a_second_singly_and_then_by_count(world: SegmentWorld) -> None:
    async with running(world) as ledger:
        for _ in range(25):
            ledger.deny(denial(tenant="t_a"), now_us=NOW_US)
        ledger.deny(denial(tenant="t_b"), now_us=NOW_US)
        ledger.tick(now_us=NOW_US + 999_999)
        assert entries(world, "denials") == []
        ledger.tick(now_us=NOW_US + 1_000_000)
    assert len(entries(world, "denial")) == 11
    (counted,) = [record for record in records(world) if record.entry.kind == "denials"]
    assert (counted.entry.tenant, counted.entry.key) == ("t_a", "k_a")
    assert msgspec.json.decode(counted.body or b"", type=DenialsBody).reasons == {"rate": 15}
    assert ledger.counters.denials == 26


async def test_counts_are_recorded_by_themselves_once_their_window_is_over(world: SegmentWorld) -> None:
    async with running(world, Knobs(count_seconds=0, ride_seconds=0)) as ledger:
        ledger.deny(denial(), now_us=NOW_US - 60_000_000)
        await until(lambda: bool(entries(world, "denials")))


async def test_what_is_durable_and_settled_is_not_kept_in_memory(world: SegmentWorld) -> None:
    async with running(world) as ledger:
        gc.collect()
        gc.disable()
        try:
            for number in range(100):
                intent = intend(ledger, f"request {number}")
                await intent.durable()
                ledger.settle(intent, DONE, now_us=NOW_US)
            kept = sum(isinstance(thing, Item) for thing in gc.get_objects())
        finally:
            gc.enable()
    assert kept < 10
