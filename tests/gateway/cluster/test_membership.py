"""What a member knows of itself and of others, step by step; what befalls many at once is in `test_members_simulation.py`."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from gateway.cluster.certificates import NotProven, Process, left, reaped
from gateway.cluster.member import MOST_MEMBERS, Member, Says, encoded, member_at, read
from gateway.cluster.membership import Crowded, Ended, Membership, certify
from tenants.errors import TableUnavailable
from tenants.ports import Put, Row
from tests.worlds.table import Fault, MemoryTable

PARENT = Process("here", "kernel", 1, 1)
STALE = 60.0
JUST_OVER = 60.0 * 1.001 + 0.25 + 1e-6  # clocks are floats


def process(number: int) -> Process:
    return Process("here", "kernel", 100 + number, 7)


@dataclass
class World:
    table: MemoryTable = field(default_factory=MemoryTable)
    now: float = 1000.0

    def member(self, number: int = 1, ahead: float = 0.0, **how: Any) -> Membership:
        clock: Callable[[], float] = lambda: self.now + ahead  # noqa: E731 - as an argument is
        return Membership(self.table, f"m{number}", process(number), clock, **how)

    async def joined(self, number: int = 1, ahead: float = 0.0) -> Membership:
        member = self.member(number, ahead)
        await member.join()
        return member

    def row(self, number: int = 1) -> Member:
        return read(self.table.rows[member_at(f"m{number}")])

    async def die(self, number: int) -> None:
        found = process(number)
        await certify(self.table, reaped(f"m{number}", found, found.pid, PARENT))


# Of itself


async def test_a_member_is_here_from_its_first_beat_until_its_deadline_counted_from_before_it_was_sent() -> (
    None
):
    world = World()
    member = world.member()
    assert not member.is_here(world.now)
    await member.join()
    assert member.is_here(world.now + 59.7)
    assert not member.is_here(world.now + 59.75)


@pytest.mark.parametrize("what", ["look", "beat"])
async def test_whoever_only_looks_or_only_beats_is_not_here_for_long(what: str) -> None:
    world = World()
    member = await world.joined()
    for _ in range(60):
        world.now += 1
        await getattr(member, what)()
    assert not member.is_here(world.now)


async def test_whoever_was_stopped_is_not_here_and_is_again_once_it_has_looked_and_beaten() -> None:
    world = World()
    member = await world.joined()
    world.now += 3_000
    assert not member.is_here(world.now)
    await member.look()
    assert not member.is_here(world.now)
    await member.beat()
    assert member.is_here(world.now)


@pytest.mark.parametrize("act", ["look", "beat"])
async def test_whoever_finds_itself_dead_has_ended_and_writes_nothing_any_more(act: str) -> None:
    world = World()
    member = await world.joined()
    await world.die(1)
    rows = dict(world.table.rows)
    for _ in range(2):
        with pytest.raises(Ended):
            await getattr(member, act)()
        assert not member.is_here(world.now)
    assert world.table.rows == rows


@pytest.mark.parametrize("act", ["look", "beat"])
async def test_whoever_finds_no_row_of_itself_has_ended(act: str) -> None:
    world = World()
    member = await world.joined()
    world.table.rows.clear()
    with pytest.raises(Ended):
        await getattr(member, act)()
    assert not member.is_here(world.now)
    assert world.table.rows == {}


async def test_whoever_finds_its_name_taken_by_another_process_has_ended() -> None:
    world = World()
    await world.joined(1)
    other = Membership(world.table, "m1", process(2), lambda: world.now)
    with pytest.raises(Ended, match="another's"):
        await other.join()


async def test_whoever_is_certified_before_it_has_joined_never_joins() -> None:
    world = World()
    await world.die(1)
    with pytest.raises(Ended):
        await world.member(1).join()


@pytest.mark.parametrize("fault", list(Fault))
async def test_a_beat_whose_answer_is_lost_is_found_by_the_next_whether_or_not_it_was_made(
    fault: Fault,
) -> None:
    world = World()
    member = await world.joined()
    for _ in range(3):
        world.now += 1
        world.table.write_faults.append(fault)
        with pytest.raises(TableUnavailable):
            await member.beat()
    await member.beat()
    assert world.row().beat == 5
    await member.look()
    assert member.is_here(world.now + 59)


async def test_a_beat_that_was_made_and_not_answered_counts_from_when_it_was_sent() -> None:
    world = World()
    member = await world.joined()
    world.now += 50
    world.table.write_faults.append(Fault.LOST_AFTER)
    with pytest.raises(TableUnavailable):
        await member.beat()
    world.now += 9
    world.table.write_faults.append(Fault.LOST_BEFORE)
    with pytest.raises(TableUnavailable):
        await member.beat()
    await member.look()
    assert member.is_here(1000 + 50 + 59.7)
    assert not member.is_here(1000 + 50 + 59.75)


async def test_a_late_beat_gives_no_time_to_the_newer_one_that_was_not_made() -> None:
    world = World()
    member = await world.joined()
    for _ in range(2):
        world.now += 10
        world.table.write_faults.append(Fault.LOST_BEFORE)
        with pytest.raises(TableUnavailable):
            await member.beat()
    late = msgspec.structs.replace(world.row(), beat=2)
    await world.table.transact(Put(member_at("m1"), encoded(late), 1))
    world.table.write_faults.append(Fault.LOST_BEFORE)
    with pytest.raises(TableUnavailable):
        await member.beat()
    await member.look()
    assert member.is_here(1000 + 59.7)
    assert not member.is_here(1000 + 59.75)


@pytest.mark.parametrize("fault", list(Fault))
async def test_a_join_whose_answer_is_lost_may_be_tried_again(fault: Fault) -> None:
    world = World()
    member = world.member()
    world.table.write_faults.append(fault)
    with pytest.raises(TableUnavailable):
        await member.join()
    assert not member.is_here(world.now)
    await member.join()
    assert member.is_here(world.now)


async def test_a_write_that_is_made_when_a_later_one_was_about_to_be_is_taken_for_its_own() -> None:
    world = World()
    member = await world.joined()
    late = Put(member_at("m1"), encoded(msgspec.structs.replace(world.row(), beat=2)), 1)
    world.table.write_faults.append(Fault.LOST_BEFORE)
    with pytest.raises(TableUnavailable):
        await member.beat()
    await world.table.transact(late)
    await member.beat()
    await member.beat()
    assert not member.ended
    assert world.table.rows[member_at("m1")].version == 4


async def test_what_a_member_says_goes_with_its_next_beat_and_more_than_a_row_holds_is_refused() -> None:
    world = World()
    member, other = await world.joined(1), await world.joined(2)
    says = Says("0.2", draining=True, acknowledged={"r1/digits": "7"})
    member.say(says)
    await member.beat()
    await other.look()
    seen = other.members()["m1"].member
    assert seen is not None
    assert seen.says == says
    with pytest.raises(ValueError, match="at most 8192"):
        member.say(Says(acknowledged={"x" * 100: "y" * 8100}))
    await member.beat()
    assert world.row().says == says


# Of others


async def test_another_one_is_silent_once_its_beat_stood_still_for_long_enough_on_ones_own_clock() -> None:
    world = World()
    await world.joined(1, ahead=-5e6)
    other = await world.joined(2)
    first = world.now
    for seconds, standing in ((0, "live"), (JUST_OVER - 0.1, "live"), (JUST_OVER, "silent")):
        world.now = first + seconds
        await other.look()
        assert other.standing("m1") == standing
        assert not other.is_dead("m1")


async def test_a_silent_one_that_beats_is_live_again() -> None:
    world = World()
    member, other = await world.joined(1), await world.joined(2)
    world.now += 100
    await other.look()
    assert other.standing("m1") == "silent"
    await member.beat()
    await other.look()
    assert other.standing("m1") == "live"


async def test_nobody_is_judged_while_the_table_gives_no_answer() -> None:
    world = World()
    await world.joined(1)
    other = await world.joined(2)
    world.now += 1_000
    world.table.gone = True
    with pytest.raises(TableUnavailable):
        await other.look()
    assert other.standing("m1") == "live"
    assert not other.is_here(world.now)


async def test_a_dead_one_is_dead_at_once_and_a_swept_one_for_whoever_found_it_named_before() -> None:
    world = World()
    await world.joined(1)
    other = await world.joined(2)
    named_at = world.now
    assert not other.is_dead("m1", named_at)
    await world.die(1)
    world.now += 1
    await other.look()
    assert (other.standing("m1"), other.is_dead("m1")) == ("dead", True)
    world.now += JUST_OVER - 0.1
    await other.look()
    await other.sweep()
    assert member_at("m1") in world.table.rows
    world.now += 0.2
    await other.look()
    await other.sweep()
    assert member_at("m1") not in world.table.rows
    await other.look()
    assert other.standing("m1") is None
    assert other.is_dead("m1", named_at)
    assert not other.is_dead("m1", world.now)
    assert not other.is_dead("m1")


async def test_a_silent_one_is_swept_after_an_hour_and_has_ended_when_it_comes_back() -> None:
    world = World()
    member, other = await world.joined(1), await world.joined(2)
    for seconds, is_there in ((3_599.0, True), (2.0, False)):
        world.now += seconds
        await other.look()
        await other.sweep()
        assert (member_at("m1") in world.table.rows) is is_there
    with pytest.raises(Ended):
        await member.beat()


async def test_one_that_beats_while_it_is_swept_stays() -> None:
    world = World()
    member, other = await world.joined(1), await world.joined(2)
    world.now += 3_700
    await other.look()
    await member.beat()
    await other.sweep()
    await member.look()
    assert not member.ended


async def test_a_row_that_cannot_be_read_is_live_and_silent_but_never_dead() -> None:
    world = World()
    other = await world.joined(2)
    world.table.rows[member_at("m1")] = Row(member_at("m1"), b'{"v":2}', 1)
    for standing in ("live", "silent"):
        await other.look()
        assert other.standing("m1") == standing
        assert other.members()["m1"].member is None
        assert not other.is_dead("m1", -1.0)
        world.now += 100


async def test_a_certificate_of_another_process_makes_nobody_dead() -> None:
    world = World()
    member, other = await world.joined(1), await world.joined(2)
    for certificate in (left("m2", process(2)), left("m1", process(2)), left("m2", process(1))):
        found = msgspec.structs.replace(world.row(), certificate=certificate)
        await world.table.transact(Put(member_at("m1"), encoded(found), None))
        await other.look()
        assert other.standing("m1") == "live"
        await member.look()


async def test_whoever_leaves_is_dead_for_others_at_once_and_is_not_here() -> None:
    world = World()
    member, other = await world.joined(1), await world.joined(2)
    await member.leave()
    assert not member.is_here(world.now)
    await other.look()
    assert other.is_dead("m1")


async def test_whoever_leaves_without_an_answer_is_not_here_either() -> None:
    world = World()
    member = await world.joined(1)
    world.table.gone = True
    with pytest.raises(TableUnavailable):
        await member.leave()
    assert not member.is_here(world.now)


async def test_a_certificate_is_not_written_over_another_process_and_once_is_enough() -> None:
    world = World()
    await world.joined(1)
    with pytest.raises(NotProven):
        await certify(world.table, reaped("m1", process(2), 102, PARENT))
    await world.die(1)
    rows = dict(world.table.rows)
    await world.die(1)
    assert world.table.rows == rows


async def test_more_members_than_there_may_be_do_not_join() -> None:
    world = World()
    for number in range(MOST_MEMBERS):
        await world.joined(number)
    member = world.member(MOST_MEMBERS)
    with pytest.raises(Crowded):
        await member.join()
    assert not member.is_here(world.now)
    await world.die(0)
    first = world.member(MOST_MEMBERS + 1)
    await first.look()
    world.now += JUST_OVER
    await first.look()
    await first.sweep()
    await member.join()
    assert member.is_here(world.now)


@pytest.mark.parametrize("name", ["", "a/b", "x" * 65, "a b"])
async def test_what_is_no_name_joins_nothing(name: str) -> None:
    world = World()
    member = Membership(world.table, name, process(1), lambda: 0.0)
    with pytest.raises(ValueError, match="name"):
        await member.join()
