"""The virtual world does to processes what is done to real ones: stops, kills, lost answers; and a seed gives the same again."""

from asyncio import CancelledError
from collections.abc import Callable, Iterator
from random import Random

import pytest

from tenants.errors import TableUnavailable
from tenants.ports import Key, Put
from tests.worlds.virtual import MS, SECOND, Clocks, Loss, Process, VirtualTable, Weather, World, pause

AT = Key("things")
TABLE = VirtualTable()


@pytest.fixture
def world() -> Iterator[World]:
    found = World(Random(0))
    yield found
    found.end()


async def written(then: Callable[[str], None]) -> None:
    try:
        await TABLE.transact(Put(AT, b"it", 0))
    except (TableUnavailable, CancelledError) as fault:
        then(type(fault).__name__)
    else:
        then("answered")


def test_what_a_killed_process_has_sent_arrives_and_nothing_else_of_it_happens(world: World) -> None:
    process, told = Process(world, "it"), list[str]()
    process.start(written(told.append))
    world.at(1, process.kill)
    world.run(SECOND)
    assert world.table.rows[AT].value == b"it"
    assert told == []


def test_what_is_stopped_gets_its_answer_when_it_goes_on_and_the_later_end_of_two_stops_counts(
    world: World,
) -> None:
    process, told = Process(world, "it"), list[int]()
    process.start(written(lambda _: told.append(world.now)))
    world.at(1, lambda: process.stop(2 * SECOND))
    world.at(2, lambda: process.stop(SECOND))
    world.run(5 * SECOND)
    assert told == [2 * SECOND + 1]


def test_a_stop_behind_a_reading_lets_others_go_on_before_anything_is_done_with_it(world: World) -> None:
    process, other, did = Process(world, "it"), Process(world, "other"), list[str]()

    async def acts() -> None:
        at = process.clock()
        did.append(f"it, by {at}, at {world.now}")

    async def also() -> None:
        await pause(MS)
        did.append("other")

    process.stop_at_reading_us = SECOND
    process.start(acts())
    other.start(also())
    world.run(5 * SECOND)
    assert did == ["other", f"it, by 0, at {SECOND}"]


def test_who_is_killed_behind_a_reading_does_nothing_with_it(world: World) -> None:
    process, did = Process(world, "it"), list[int]()

    async def acts() -> None:
        did.append(process.clock())

    process.stop_at_reading_us = SECOND
    process.start(acts())
    world.at(MS, process.kill)
    world.run(5 * SECOND)
    assert did == []


@pytest.mark.parametrize("loss", Loss)
def test_a_lost_answer_is_a_fault_or_a_cancelled_call_whether_the_write_was_made_or_not(loss: Loss) -> None:
    faults = set[str]()
    for seed in range(40):
        world = World(Random(seed), weather=Weather(lost=1.0))
        Process(world, "it").start(written(faults.add))
        world.run(2 * SECOND)
        if loss.value in world.log[0]:
            world.run(100 * SECOND)
            assert (AT in world.table.rows) is (loss is not Loss.BEFORE)
        world.end()
    assert faults == {"TableUnavailable", "CancelledError"}


def test_a_write_of_a_table_that_is_gone_is_not_made(world: World) -> None:
    world.weather, told = Weather(gone=True), list[str]()
    Process(world, "it").start(written(told.append))
    world.run(100 * SECOND)
    assert AT not in world.table.rows
    assert told


def test_a_clock_that_runs_fast_is_over_sooner_and_can_be_told_back(world: World) -> None:
    process, told = Process(world, "it", Clocks(boot_us=7 * SECOND, fast=1000)), list[int]()

    async def acts() -> None:
        await pause(SECOND)
        told.append(world.now)

    process.start(acts())
    world.run(5 * SECOND)
    assert told == [999_000]
    assert abs(process.clocks.true(process.clock()) - 5 * SECOND) <= 2
