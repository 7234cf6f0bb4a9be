"""Who leads, step by step; what befalls many at once is in `test_members_simulation.py`."""

import asyncio
from dataclasses import dataclass, field

import msgspec
import pytest

from gateway.cluster.leadership import LEADER_AT, Leader, Leadership, read
from tenants.errors import TableUnavailable, Unreadable
from tenants.ports import Put, Row
from tests.worlds.table import Fault, MemoryTable, Pause

LAPSE = 4.0 * 1.001 + 0.25 + 1e-6  # clocks are floats


@dataclass
class World:
    """Clocks of members differ by hours. `away` are not here, `dead` are."""

    table: MemoryTable = field(default_factory=MemoryTable)
    now: float = 1000.0
    away: set[str] = field(default_factory=set)
    dead: set[str] = field(default_factory=set)

    def member(self, name: str) -> Leadership:
        ahead = 7200.0 * ord(name)
        return Leadership(
            self.table,
            name,
            clock=lambda: self.now + ahead,
            is_here=lambda _: name not in self.away,
            is_dead=lambda other, _: other in self.dead,
        )

    def leads(self, member: Leadership, after: float = 0.0) -> bool:
        return member.leads(member.clock() + after)

    def row(self) -> Leader:
        return read(self.table.rows[LEADER_AT])

    async def two(self) -> tuple[Leadership, Leadership]:
        """The first one leads, and the second one knows."""
        first, second = self.member("a"), self.member("b")
        await first.tick()
        await second.tick()
        assert self.leads(first)
        return first, second


async def test_the_first_one_leads_in_term_one_until_a_little_before_its_time_is_over() -> None:
    world = World()
    first, second = await world.two()
    assert first.acting(first.clock()) == 1
    assert second.acting(second.clock()) is None
    assert world.leads(first, 3.7)
    assert not world.leads(first, 3.75)
    assert (first.leader, second.leader) == ("a", "a")


async def test_a_leader_that_renews_goes_on_in_its_term() -> None:
    world = World()
    first, second = await world.two()
    for _ in range(20):
        world.now += 1
        await first.tick()
        await second.tick()
        assert world.leads(first)
        assert not world.leads(second)
    assert world.row().term == 1


async def test_behind_a_certificate_another_one_leads_at_once_in_the_next_term() -> None:
    world = World()
    first, second = await world.two()
    world.away.add("a")
    world.dead.add("a")
    await second.tick()
    assert not world.leads(first)
    assert second.acting(second.clock()) == 2


async def test_without_one_it_leads_once_the_row_stood_still_for_long_enough_on_its_own_clock() -> None:
    world = World()
    _, second = await world.two()
    world.now += LAPSE - 0.01
    await second.tick()
    assert not world.leads(second)
    world.now += 0.02
    await second.tick()
    assert world.leads(second)


async def test_whoever_starts_counts_from_its_own_first_look() -> None:
    world = World()
    await world.two()
    world.now += 100
    third = world.member("c")
    await third.tick()
    assert not world.leads(third)
    world.now += LAPSE
    await third.tick()
    assert world.leads(third)


async def test_of_many_that_would_lead_one_does() -> None:
    world = World()
    members = [world.member(name) for name in "abcd"]
    pause = Pause()
    world.table.pauses_before.append(pause)
    slow = asyncio.ensure_future(members[0].tick())
    await pause.came.wait()
    for member in members[1:]:
        await member.tick()
    pause.go.set()
    await slow
    assert [world.leads(member) for member in members] == [False, True, False, False]


async def test_an_election_that_meets_another_one_is_none() -> None:
    world = World()
    first, second = world.member("a"), world.member("b")
    row = Row(LEADER_AT, msgspec.json.encode(Leader("", 3, 1, 4.0)), 1)
    world.table.rows[LEADER_AT] = row
    await second.tick()
    stale = Put(LEADER_AT, msgspec.json.encode(Leader("a", 4, 1, 4.0)), row.version)
    with pytest.raises(Exception, match="version"):
        await world.table.transact(stale)
    await first.tick()
    assert [world.leads(first), world.leads(second)] == [False, True]


async def test_whoever_was_stopped_does_not_lead_and_goes_on_in_its_term_if_nobody_took_over() -> None:
    world = World()
    first, _ = await world.two()
    world.now += 50
    assert not world.leads(first)
    await first.tick()
    assert first.acting(first.clock()) == 1


async def test_whoever_was_stopped_finds_another_one_leading() -> None:
    world = World()
    first, second = await world.two()
    world.now += 50
    await second.tick()
    await first.tick()
    assert [world.leads(first), world.leads(second)] == [False, True]
    assert (first.leader, first.term) == ("b", 2)


async def test_whoever_is_not_here_does_not_lead_and_does_not_keep_others_from_it() -> None:
    world = World()
    first, second = await world.two()
    world.away.add("a")
    assert not world.leads(first)
    for _ in range(6):
        world.now += 1
        await first.tick()
        await second.tick()
    assert world.leads(second)


async def test_whoever_is_not_here_is_not_elected() -> None:
    world = World()
    world.away.add("a")
    first = world.member("a")
    await first.tick()
    assert LEADER_AT not in world.table.rows


@pytest.mark.parametrize("fault", list(Fault))
async def test_an_election_whose_answer_is_lost_is_found_by_the_next_tick(fault: Fault) -> None:
    world = World()
    first = world.member("a")
    world.table.write_faults.append(fault)
    with pytest.raises(TableUnavailable):
        await first.tick()
    assert not world.leads(first)
    world.now += 1
    await first.tick()
    assert first.acting(first.clock()) == 1


async def test_a_renewal_that_was_made_and_not_answered_counts_from_when_it_was_sent() -> None:
    world = World()
    first, _ = await world.two()
    world.now += 3
    world.table.write_faults.append(Fault.LOST_AFTER)
    with pytest.raises(TableUnavailable):
        await first.tick()
    world.now += 2
    assert not world.leads(first)
    world.table.write_faults.append(Fault.LOST_BEFORE)
    with pytest.raises(TableUnavailable):
        await first.tick()
    assert world.leads(first, 1.7)
    assert not world.leads(first, 1.75)


async def test_a_late_write_of_its_own_gives_no_time_that_it_does_not_know_of() -> None:
    world = World()
    first = world.member("a")
    world.table.write_faults.extend([Fault.LOST_BEFORE, Fault.LOST_BEFORE])
    for _ in range(2):
        with pytest.raises(TableUnavailable):
            await first.tick()
        world.now += 1
    await world.table.transact(Put(LEADER_AT, msgspec.json.encode(Leader("a", 1, 1, 4.0)), 0))
    world.table.write_faults.append(Fault.LOST_BEFORE)
    with pytest.raises(TableUnavailable):
        await first.tick()
    assert not world.leads(first)
    await first.tick()
    assert world.leads(first)


async def test_whoever_hands_over_does_not_lead_and_another_one_does_at_once() -> None:
    world = World()
    first, second = await world.two()
    await first.hand_over()
    assert not world.leads(first)
    await first.tick()
    await second.tick()
    assert second.acting(second.clock()) == 2
    await first.hand_over()
    assert world.leads(second)


async def test_whoever_hands_over_without_an_answer_does_not_lead_either() -> None:
    world = World()
    first, _ = await world.two()
    world.table.gone = True
    with pytest.raises(TableUnavailable):
        await first.hand_over()
    assert not world.leads(first)
    world.table.gone = False
    await first.tick()
    assert world.row().name == ""


async def test_whoever_finds_an_act_of_a_higher_term_stops_and_never_acts_in_a_lower_one() -> None:
    world = World()
    first, second = await world.two()
    first.outranked(7)
    assert not world.leads(first)
    await first.tick()
    assert first.acting(first.clock()) == 8
    second.outranked(3)
    assert second.term == 3


async def test_over_a_row_that_cannot_be_read_nobody_is_elected() -> None:
    world = World()
    first, second = await world.two()
    row = world.table.rows[LEADER_AT]
    world.table.rows[LEADER_AT] = Row(LEADER_AT, b'{"v":2}', row.version + 1)
    for _ in range(10):
        for member in (first, second):
            with pytest.raises(Unreadable):
                await member.tick()
        world.now += 1
    assert [world.leads(first), world.leads(second)] == [False, False]


def test_the_leaders_row_is_written_and_read_as_ever() -> None:
    value = b'{"v":1,"name":"m1","term":3,"beat":9,"lasts_seconds":4.0}'
    leader = Leader("m1", 3, 9, 4.0)
    assert msgspec.json.encode(leader) == value
    assert read(Row(LEADER_AT, value, 1)) == leader
