"""What a process does to be a member, from its first look to its last word; what the rows then mean is in `test_membership.py`."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from gateway.cluster.certificates import Process
from gateway.cluster.life import Life, living, member_name
from gateway.cluster.member import MOST_MEMBERS, Member, Says, encoded, member_at, read
from gateway.cluster.membership import Crowded, Ended
from gateway.process import identity, stat_of
from tenants.errors import TableUnavailable
from tenants.ports import Put
from tests.worlds.table import MemoryTable, Pause


@dataclass
class World:
    table: MemoryTable = field(default_factory=MemoryTable)
    now: float = 1000.0

    def life(self, number: int = 1, process: Process | None = None) -> Life:
        me = process or Process("here", "kernel", 100 + number, 7)
        stat = b"101 (gateway) S" + b" 7" * 30  # each is there, and was started then
        return Life.of(self.table, f"m{number}", me, lambda: self.now, stat_of if process else lambda _: stat)

    def leads(self, life: Life) -> bool:
        return life.leadership.leads(self.now)


@contextmanager
def child() -> Iterator[tuple[Process, "subprocess.Popen[bytes]"]]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        try:
            yield identity(process.pid), process
        finally:
            process.kill()


async def test_who_starts_behind_a_killed_one_of_its_host_leads_at_once() -> None:
    world = World()
    with child() as (process, handle):
        killed = world.life(1, process)
        await killed.begin()
        assert world.leads(killed)
        handle.kill()
        handle.wait()
    world.now += 0.1
    anew = world.life(2, identity(os.getpid()))
    await anew.begin()
    assert anew.is_dead("m1")
    assert world.leads(anew)
    assert anew.leadership.term == killed.leadership.term + 1


async def test_who_runs_is_not_taken_for_dead_by_others_of_its_host() -> None:
    world = World()
    with child() as (process, _):
        await world.life(1, process).begin()
        other = world.life(2, identity(os.getpid()))
        await other.begin()
        await other.turn()
    assert other.membership.standing("m1") == "live"
    assert other.live() == 2


async def test_who_takes_no_calls_is_not_counted_among_those_that_share_limits() -> None:
    world = World()
    one, side = world.life(1), world.life(2)
    side.membership.say(Says(serves=False))
    for it in (one, side):
        await it.begin()
    for it in (one, side):
        await it.turn()
    assert (one.live(), side.live()) == (1, 1)


async def test_who_dies_beside_others_of_its_host_is_known_to_be_dead_by_their_next_look_but_one() -> None:
    world = World()
    with child() as (process, handle):
        await world.life(1, process).begin()
        other = world.life(2, identity(os.getpid()))
        await other.begin()
        handle.kill()
        handle.wait()
        for _ in range(2):
            await other.turn()
    assert other.is_dead("m1")
    assert other.live() == 1


async def test_who_was_seen_dead_is_dead_also_when_its_row_was_swept() -> None:
    world = World()
    async with living(world.life(1)):
        pass
    life = world.life(2)
    await life.begin()
    await life.turn()
    world.now += 61
    await life.turn()
    await life.sweep()
    await life.turn()
    assert life.membership.standing("m1") is None
    assert life.is_dead("m1")


async def test_who_is_named_and_has_no_row_is_dead_by_the_next_look_and_not_before() -> None:
    world = World()
    life = world.life(2)
    await life.begin()
    assert not life.is_dead("swept long ago")
    assert not life.is_dead("m3"), "which has just joined"
    await world.life(3).begin()
    assert not life.is_dead("swept long ago")
    world.now += 1
    await life.turn()
    assert life.is_dead("swept long ago")
    assert not life.is_dead("m3")


async def test_a_process_that_ends_says_so_and_another_leads_with_its_next_tick() -> None:
    world = World()
    first, second = world.life(1), world.life(2)
    async with living(first):
        await second.begin()
        assert (world.leads(first), world.leads(second)) == (True, False)
    assert read(world.table.rows[member_at("m1")]).is_dead("m1")
    await second.tick()
    assert world.leads(second)


async def test_without_a_table_nothing_starts() -> None:
    world = World()
    world.table.gone = True
    with pytest.raises(TableUnavailable):
        async with living(world.life()):
            pytest.fail("it began")


async def test_a_table_that_answers_nothing_lets_nothing_start_and_holds_nobody_up() -> None:
    world = World()
    world.table.pauses_before.extend(Pause() for _ in range(9))
    life = world.life()
    life.call_seconds = 0.001
    with pytest.raises(TableUnavailable):
        async with living(life):
            pytest.fail("it began")


async def test_one_more_than_there_may_be_does_not_start() -> None:
    world = World()
    for number in range(MOST_MEMBERS):
        row = encoded(Member(Process("there", "another", number, 7), 1, 60.0))
        await world.table.transact(Put(member_at(f"other{number}"), row, 0))
    with pytest.raises(Crowded, match="256 members"):
        async with living(world.life()):
            pytest.fail("it began")


async def test_an_outage_is_borne_until_nobody_may_act_and_what_was_before_it_comes_back() -> None:
    world = World()
    life = world.life()
    await life.begin()
    world.table.gone = True
    for _ in range(3):
        await life.turn()
        await life.stand()
        world.now += 1
    assert life.membership.is_here(world.now)
    assert world.leads(life)
    world.now += 60
    assert not life.membership.is_here(world.now)
    assert not world.leads(life)
    world.table.gone = False
    await life.turn()
    await life.stand()
    assert life.membership.is_here(world.now)
    assert world.leads(life)


async def test_a_process_whose_row_is_gone_is_taken_down() -> None:
    world = World()

    async def run() -> None:
        async with living(world.life()):
            world.table.rows.clear()
            await asyncio.Event().wait()

    with pytest.raises(Ended, match="start it anew"):
        await run()


def test_a_members_name_is_of_its_host_and_process_and_of_no_other_life() -> None:
    assert member_name("pod-7.example", 12, "0123456789abcdef") == "pod-7.example-12-0123456789ab"
    for host in ("h" * 300, "", "höst ☃", "a/b"):
        member_at(member_name(host, 2**31, "f" * 32))
