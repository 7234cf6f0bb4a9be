"""One member's permits: what a call costs, what becomes idle ones, and what happens when the table does not answer."""

import asyncio
from dataclasses import dataclass, field

import pytest

from gateway.admission.bucket import MICRO
from gateway.admission.permits import AtOnce, Hand, Holder, Permits, encoded, place, read
from gateway.admission.permitting import Permitting
from gateway.admission.shares import Damaged
from tenants.errors import TableUnavailable
from tenants.ports import Put, Row
from tests.gateway.admission.counted import Counted
from tests.worlds.table import Fault, Pause

NAME = "tenant/t_1"
CALL = 300


@dataclass
class Member:
    permitting: Permitting
    hand: Hand = field(default_factory=Hand)

    async def admitted(self, limit: AtOnce, calls: int = 1) -> int:
        """How many of so many calls are let in."""
        count = 0
        for _ in range(calls):
            is_in = self.permitting.admit(NAME, limit, self.hand)
            if is_in is None:
                await self.permitting.ask(NAME, limit, self.hand)
                is_in = self.permitting.admit(NAME, limit, self.hand)
            count += is_in is True
        return count

    def leave(self, calls: int = 1) -> None:
        self.hand.used -= calls


@dataclass
class House:
    table: Counted = field(default_factory=Counted)
    now_us: int = 10**12
    dead: set[str] = field(default_factory=set)
    count: int = 2

    def member(self, name: str) -> Member:
        how = (self.table, name, lambda: self.now_us, self.dead.__contains__, lambda: self.count)
        return Member(Permitting(*how, call_us=CALL * MICRO))

    @property
    def row(self) -> Permits:
        return read(self.table.rows[place(NAME)])

    async def pass_(self, seconds: float, *members: Member) -> None:
        """Meanwhile these look after what is due."""
        for _ in range(round(seconds / 0.05)):
            self.now_us += MICRO // 20
            for it in members:
                await it.permitting.step()


async def test_what_is_held_is_used_without_a_call_of_the_table() -> None:
    house = House(count=1)
    member = house.member("a")
    await member.admitted(AtOnce(5, 0))
    house.table.calls.clear()
    for _ in range(100):
        member.leave()
        assert await member.admitted(AtOnce(5, 0)) == 1
    assert await member.admitted(AtOnce(5, 0), 4) == 4
    assert house.table.calls.total() == 0


async def test_all_members_together_have_as_many_as_there_are() -> None:
    house = House(count=4)
    members = [house.member(name) for name in "abcd"]
    limit = AtOnce(20, 0)
    for _ in range(20):
        for it in members:
            await it.admitted(limit, 10)
        await house.pass_(0.25, *members)
    assert sum(it.hand.used for it in members) == 20
    assert house.row.free == 0


async def test_a_full_limit_asks_the_table_twenty_times_a_second_at_most() -> None:
    house = House(count=1)
    member, limit = house.member("a"), AtOnce(2, 0)
    await member.admitted(limit, 2)
    house.table.calls.clear()
    for _ in range(100):
        assert await member.admitted(limit, 50) == 0
        house.now_us += MICRO // 100
    assert house.table.calls["get"] <= 21


async def test_one_permit_goes_round_four_members_by_one_write_out_and_one_back() -> None:
    house = House(count=4)
    members = [house.member(name) for name in "abcd"]
    limit = AtOnce(1, 0)
    for it in members * 3:
        assert await it.admitted(limit) == 1
        for other in members:
            assert other is it or await other.admitted(limit) == 0
        it.leave()
        await house.pass_(0.1, *members)
    house.table.calls.clear()
    assert await members[0].admitted(limit) == 1
    members[0].leave()
    await house.pass_(0.1, *members)
    assert house.table.calls["transact"] == 2


async def test_what_a_dead_member_had_is_there_at_once_and_what_a_silent_one_had_behind_its_last_call() -> (
    None
):
    house = House()
    first, second = house.member("a"), house.member("b")
    limit = AtOnce(10, 0)
    await first.admitted(limit, 10)
    had = first.hand.used
    assert had > 5
    for _ in range(60 + CALL):
        await second.admitted(limit, 10)
        await house.pass_(1, second)
    assert second.hand.held == 10 - had
    for _ in range(3):
        await second.admitted(limit, 10)
        await house.pass_(1, second)
    assert second.hand.held == 10
    house.dead.add("b")
    third = house.member("c")
    house.count = 1
    assert await third.admitted(limit, 10) == 10


async def test_who_was_silent_for_too_long_lets_nobody_in_before_it_has_asked() -> None:
    house = House()
    member, limit = house.member("a"), AtOnce(10, 0)
    await member.admitted(limit)
    house.now_us += 60 * MICRO
    assert member.permitting.admit(NAME, limit, member.hand) is None
    house.table.gone = True
    for _ in range(3):
        with pytest.raises(TableUnavailable):
            await member.permitting.ask(NAME, limit, member.hand)
    assert member.hand.used == 1


async def test_an_outage_lets_in_what_is_held_and_a_full_hand_is_full() -> None:
    house = House(count=1)
    member, limit = house.member("a"), AtOnce(3, 0)
    await member.admitted(limit)
    house.table.gone = True
    await house.pass_(30, member)
    assert await member.admitted(limit, 5) == 2
    house.table.gone = False
    await house.pass_(2, member)
    assert member.hand.deadline_us > house.now_us + 50 * MICRO


async def test_a_smaller_plan_holds_at_once_and_who_is_in_stays() -> None:
    house = House(count=1)
    member = house.member("a")
    await member.admitted(AtOnce(10, 0), 8)
    assert await member.admitted(AtOnce(4, 1)) == 0
    member.leave(5)
    await house.pass_(1, member)
    assert await member.admitted(AtOnce(4, 1), 5) == 1
    assert (house.row.most, house.row.holders["a"].held) == (4, 4)


@pytest.mark.parametrize("fault", list(Fault))
async def test_a_lost_answer_gives_nobody_more_than_there_are(fault: Fault) -> None:
    house = House()
    first, second = house.member("a"), house.member("b")
    limit = AtOnce(10, 0)
    house.table.write_faults.append(fault)
    with pytest.raises(TableUnavailable):
        await first.admitted(limit)
    for _ in range(8):
        await house.pass_(0.5, first, second)
        for it in (first, second):
            await it.admitted(limit, 10)
    assert first.hand.used + second.hand.used == 10


async def test_permits_that_nobody_uses_go_back_and_all_do_at_the_end() -> None:
    house = House()
    first, second = house.member("a"), house.member("b")
    limit = AtOnce(10, 0)
    await first.admitted(limit)
    first.leave()
    await house.pass_(11, first)
    assert house.row.holders == {}
    await second.admitted(limit)
    second.leave()
    await second.permitting.close()
    assert house.row.holders == {}


async def test_who_comes_while_idle_permits_are_about_to_go_back_keeps_them_all() -> None:
    house = House()
    member, limit = house.member("a"), AtOnce(10, 0)
    await member.admitted(limit)
    member.leave()
    await house.pass_(10, member)
    held = member.hand.held
    assert held > 1
    await _idle_look_during_which_one_is_admitted(house, member, limit)
    assert member.hand.used == 1
    await house.pass_(0.1, member)
    assert member.hand.held == held
    assert await member.admitted(limit) == 1


async def _idle_look_during_which_one_is_admitted(house: House, member: Member, limit: AtOnce) -> None:
    house.now_us += MICRO * 3 // 5
    pause = Pause()
    house.table.pauses_before.append(pause)
    look = asyncio.ensure_future(member.permitting.renew(NAME))
    await pause.came.wait()
    assert member.permitting.admit(NAME, limit, member.hand)
    pause.go.set()
    await look


async def test_many_limits_are_looked_after_more_slowly_and_not_with_more_calls_of_the_table() -> None:
    house = House(count=1)
    permitting, limit = house.member("a").permitting, AtOnce(10, 0)
    for number in range(1000):
        await permitting.ask(f"plan-key/{number}", limit, Hand())
    await house.pass_(1, Member(permitting))
    house.table.calls.clear()
    await house.pass_(2, Member(permitting))
    assert house.table.calls["get"] <= 2 * 1000
    assert house.table.calls["get"] >= 1000, "each is looked after yet"


async def test_who_leaves_while_the_table_is_asked_has_nobody_else_refused() -> None:
    house = House()
    member, limit = house.member("a"), AtOnce(10, 0)
    pause = Pause()
    house.table.pauses_before.append(pause)
    first = asyncio.ensure_future(member.permitting.ask(NAME, limit, member.hand))
    await pause.came.wait()
    second = asyncio.ensure_future(member.admitted(limit))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == 1


async def test_a_damaged_row_lets_nobody_in() -> None:
    house = House()
    await house.table.transact(Put(place(NAME), b'{"v":2}', 0))
    member = house.member("a")
    with pytest.raises(Damaged):
        await member.admitted(AtOnce(10, 0))
    assert member.hand.used == 0


def test_rows_of_version_1_are_read_as_they_were_written() -> None:
    golden = b'{"v":1,"most":20,"since":7,"holders":{"m1":{"held":3,"wanted":5,"beat":9}}}'
    permits = Permits(20, 7, {"m1": Holder(3, 5, 9)})
    assert encoded(permits) == golden
    assert read(Row(place(NAME), golden, 1)) == permits
    assert permits.free == 17
