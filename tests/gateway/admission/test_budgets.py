"""One member's side of the budgets: what it spends without asking, and what it does when the table does not answer."""

import asyncio
from dataclasses import dataclass, field

import pytest

from gateway.admission.budget import MICRO, Budget, Damaged, Holder, Limit, faults, place, read, total
from gateway.admission.budgets import MOST_LIMITS, Budgets, Refused, _Held
from gateway.admission.chunk import Chunk
from tenants.errors import TableUnavailable
from tenants.ports import Put
from tests.gateway.admission.counted import Counted
from tests.worlds.table import Fault, Pause

DAY_US = 86_400 * MICRO
LIMIT = Limit(100_000, "day")
TIGHT = Limit(10, "day")
NAME = "tenant/t_1/requests-day"


@dataclass
class House:
    """Some members over one table, all with the same clock, which a test moves."""

    table: Counted = field(default_factory=Counted)
    now_us: int = 20_000 * DAY_US + 3600 * MICRO
    dead: set[str] = field(default_factory=set)
    used: dict[str, int] = field(default_factory=dict)
    count: int = 2

    def member(self, name: str) -> Budgets:
        return Budgets(
            table=self.table,
            me=name,
            clock=lambda: self.now_us,
            wall_us=lambda: self.now_us,
            is_dead=self.dead.__contains__,
            members=lambda: self.count,
            spent=self.spent,
        )

    async def spent(self, member: str, _name: str, _start_us: int) -> int | None:
        return self.used.get(member)

    @property
    def row(self) -> Budget:
        found = read(self.table.rows[place(NAME)])
        assert not list(faults(found))
        return found

    async def pass_(self, seconds: float, *members: Budgets) -> None:
        """In quarters of a second, in which the members look after what they have."""
        for _ in range(int(seconds * 4)):
            self.now_us += MICRO // 4
            for it in members:
                await it.step()


async def reserved(member: Budgets, limit: Limit = LIMIT, units: int = 1) -> Chunk | None:
    found = member.admit(NAME, limit, units, member.wall_us()) or await member.ask(NAME, limit, units)
    if isinstance(found, Refused):
        return None
    found.reserve(units)
    return found


async def spent(member: Budgets, calls: int, limit: Limit = LIMIT, units: int = 1, used: int = 1) -> int:
    """How many of the calls are admitted, each ending before the next one comes."""
    count = 0
    for _ in range(calls):
        chunk = await reserved(member, limit, units)
        if chunk is not None:
            chunk.settle(units, used, chunk.start_us)
            count += 1
    return count


async def test_a_warm_budget_costs_no_call_of_the_table() -> None:
    house = House()
    member = house.member("a")
    for _ in range(8):
        await spent(member, 20)
        await house.pass_(0.25, member)
    house.table.calls.clear()
    assert await spent(member, 30) == 30
    assert not house.table.calls


async def test_a_tight_budget_costs_one_write_for_each_call() -> None:
    house = House()
    member = house.member("a")
    await spent(member, 1, TIGHT)
    house.table.calls.clear()
    assert await spent(member, 9, TIGHT) == 9
    assert house.table.calls == {"transact": 9}
    assert await spent(member, 5, TIGHT) == 0


async def test_calls_that_wait_together_share_a_write() -> None:
    house = House()
    member = house.member("a")
    limit = Limit(100, "day")
    await spent(member, 1, limit)
    house.table.calls.clear()
    pause = Pause()
    house.table.pauses_before.append(pause)
    calls = [asyncio.ensure_future(reserved(member, limit)) for _ in range(20)]
    await pause.came.wait()
    pause.go.set()
    assert all(await asyncio.gather(*calls))
    assert house.table.calls == {"transact": 2}, (
        "the first for itself, the second for those who came meanwhile"
    )


async def test_a_budget_is_spent_once_by_all_and_to_the_last_unit() -> None:
    house = House(count=4)
    members = [house.member(it) for it in "abcd"]
    limit = Limit(1000, "day")
    count = sum([await spent(it, 40, limit) for _ in range(10) for it in members])
    assert count == 1000
    assert await spent(members[0], 1, limit) == 0


@pytest.mark.parametrize("too_many", [80, 101], ids=["than are left", "than there ever are"])
async def test_who_asks_for_more_than_can_be_had_takes_nothing_from_others(too_many: int) -> None:
    house = House()
    first, second = house.member("a"), house.member("b")
    limit = Limit(100, "day")
    assert await spent(second, 30, limit) == 30
    assert await reserved(first, limit, too_many) is None
    assert await spent(second, 10, limit) == 10


async def test_who_can_have_it_does_beside_one_who_asks_for_too_much() -> None:
    house = House()
    member = house.member("a")
    limit = Limit(100, "day")
    await spent(member, 1, limit)
    pause = Pause()
    house.table.pauses_before.append(pause)
    calls = [asyncio.ensure_future(reserved(member, limit, units)) for units in (10, 200, 20, 30)]
    await pause.came.wait()
    pause.go.set()
    assert [found is not None for found in await asyncio.gather(*calls)] == [True, False, True, True]


async def test_beyond_the_most_budgets_new_ones_that_come_together_replace_an_old_one() -> None:
    house = House()
    member = house.member("a")
    for number in range(MOST_LIMITS):
        member._held[f"old/{number}"] = _held(f"old/{number}", house.now_us)
    house.now_us += MICRO
    pause = Pause()
    house.table.pauses_before.append(pause)
    asks = [asyncio.ensure_future(member.ask(f"new/{number}", LIMIT, 1)) for number in range(5)]
    await pause.came.wait()
    pause.go.set()
    assert all(isinstance(it, Chunk) for it in await asyncio.gather(*asks))
    assert len(member._held) < MOST_LIMITS + 5


def _held(name: str, now_us: int) -> _Held:
    return _Held(place(name), Chunk(LIMIT, 0), LIMIT, now_us, now_us, now_us)


async def test_a_refusal_costs_nothing_and_says_when_the_period_ends() -> None:
    house = House()
    member = house.member("a")
    await spent(member, 11, TIGHT)
    house.table.calls.clear()
    assert await spent(member, 50, TIGHT) == 0
    told = member.admit(NAME, TIGHT, 1, house.now_us)
    assert told == Refused(0, 20_001 * DAY_US)
    assert not house.table.calls


async def test_a_new_period_is_a_new_budget() -> None:
    house = House()
    member = house.member("a")
    assert await spent(member, 11, TIGHT) == 10
    house.now_us += DAY_US
    assert await spent(member, 11, TIGHT) == 10
    assert house.row.start_us == 20_001 * DAY_US


async def test_whose_clock_is_behind_goes_on_in_the_period_that_the_row_is_of() -> None:
    house = House()
    ahead, behind = house.member("a"), house.member("b")
    house.now_us = 20_001 * DAY_US - MICRO // 2
    behind.wall_us = lambda: house.now_us - MICRO
    ahead.wall_us = lambda: house.now_us + MICRO
    assert await spent(behind, 4, TIGHT) == 4
    assert await spent(ahead, 4, TIGHT) == 4
    assert await spent(behind, 20, TIGHT) == 6
    assert (house.row.start_us, total(house.row)) == (20_001 * DAY_US, 10)


async def test_another_plan_holds_at_once_and_resets_nothing() -> None:
    house = House()
    member = house.member("a")
    await spent(member, 8, TIGHT)
    assert await spent(member, 1, Limit(8, "day")) == 0
    assert await spent(member, 10, Limit(12, "day")) == 4
    assert await spent(member, 1, Limit(5, "day")) == 0


async def test_what_was_taken_ahead_is_not_spent_beyond_a_smaller_plan() -> None:
    house = House(count=1)
    member = house.member("a")
    limit = Limit(2000, "day")
    await spent(member, 1, limit)
    assert member._held[NAME].chunk.left > 3
    assert await spent(member, 100, Limit(3, "day")) == 2


async def test_what_nobody_asks_for_is_given_back() -> None:
    house = House()
    member = house.member("a")
    await spent(member, 5)
    assert total(house.row) > 5
    await house.pass_(11, member)
    assert (total(house.row), house.row.used) == (5, 5)
    assert not member.due()
    assert await spent(member, 5) == 5


async def test_of_many_budgets_chunks_last_for_longer_and_are_looked_after_more_slowly() -> None:
    """A thousand tenants of 10 calls a second each: so many writes a second as a hundred would have."""
    house = House(count=1)
    member = house.member("a")
    names = [f"tenant/t_{number}/requests-day" for number in range(1000)]

    async def second() -> int:
        house.table.calls.clear()
        for _ in range(4):
            for name in names:
                for _ in range(2):
                    found = member.admit(name, LIMIT, 1, house.now_us) or await member.ask(name, LIMIT, 1)
                    assert isinstance(found, Chunk)
                    found.reserve(1)
                    found.settle(1, 1, found.start_us)
            await house.pass_(0.25, member)
        return house.table.calls["transact"]

    for _ in range(20):
        await second()
    assert sum([await second() for _ in range(10)]) / 10 < 500


async def test_who_leaves_gives_back_all_that_it_did_not_use() -> None:
    house = House()
    member = house.member("a")
    await spent(member, 5)
    await member.close()
    assert house.row == Budget(20_000 * DAY_US, 5, {})


async def test_what_the_dead_held_is_kept_back_until_it_is_known_what_they_used() -> None:
    house = House()
    dead, alive = house.member("a"), house.member("b")
    await spent(dead, 5)
    held = total(house.row)
    house.dead.add("a")
    await spent(alive, 20)
    await house.pass_(6, alive)
    assert "a" in house.row.holders
    house.used["a"] = 5
    await spent(alive, 20)
    await house.pass_(6, alive)
    assert "a" not in house.row.holders
    assert held > 5
    assert house.row.used == 45


@pytest.mark.parametrize("fault", Fault)
async def test_of_a_lost_answer_nothing_is_spent_and_nothing_is_lost(fault: Fault) -> None:
    house = House()
    member, other = house.member("a"), house.member("b")
    assert await spent(member, 3, TIGHT) == 3
    house.table.write_faults.append(fault)
    with pytest.raises(TableUnavailable):
        await spent(member, 1, TIGHT)
    with pytest.raises(TableUnavailable):
        await spent(member, 1, TIGHT)
    house.now_us += 2 * MICRO
    assert await spent(member, 2, TIGHT) == 2
    assert await spent(other, 20, TIGHT) + await spent(member, 20, TIGHT) == 5


@pytest.mark.parametrize("fault", Fault)
async def test_what_was_given_back_with_a_lost_answer_is_not_spent_meanwhile(fault: Fault) -> None:
    house = House()
    member = house.member("a")
    await spent(member, 5)
    chunk = member._held[NAME].chunk
    await member.step()
    house.now_us += 11 * MICRO
    house.table.write_faults.append(fault)
    await member.step()
    assert chunk.left == 0
    house.now_us += 2 * MICRO
    await member.step()
    assert total(house.row) == 5
    assert await spent(member, 5) == 5


async def test_what_was_given_back_is_not_spent_while_that_write_may_yet_be_made() -> None:
    """The row still says that it is held; the write that gives it back is late."""
    house = House()
    member = house.member("a")
    await spent(member, 5)
    chunk = member._held[NAME].chunk
    await member.step()
    house.now_us += 11 * MICRO
    house.table.write_faults.extend([Fault.LOST_BEFORE, Fault.LOST_BEFORE])
    await member.step()
    house.now_us += 2 * MICRO
    with pytest.raises(TableUnavailable):
        await spent(member, 1)
    assert chunk.left == 0


async def test_a_call_that_is_cancelled_while_it_asks_leaves_nothing_behind() -> None:
    house = House()
    member = house.member("a")
    await spent(member, 1, TIGHT)
    pause = Pause()
    house.table.pauses_after.append(pause)
    call = asyncio.ensure_future(reserved(member, TIGHT))
    await pause.came.wait()
    call.cancel()
    pause.go.set()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert await spent(member, 20, TIGHT) == 9


async def test_without_the_table_what_is_held_goes_on_and_then_it_is_unavailable() -> None:
    house = House()
    member = house.member("a")
    await spent(member, 1)
    left = member._held[NAME].chunk.left
    house.table.gone = True
    assert await spent(member, left) == left
    with pytest.raises(TableUnavailable):
        await spent(member, 1)
    house.table.calls.clear()
    with pytest.raises(TableUnavailable):
        await spent(member, 1)
    assert not house.table.calls, "it was asked only now"
    house.table.gone = False
    house.now_us += 2 * MICRO
    assert await spent(member, 1) == 1


async def test_a_row_that_cannot_be_read_admits_nothing() -> None:
    house = House()
    await house.table.transact(Put(place(NAME), b"?", 0))
    member = house.member("a")
    with pytest.raises(Damaged):
        await spent(member, 1)
    await member.step()


async def test_what_was_used_beyond_the_budget_refuses_what_comes_next() -> None:
    house = House()
    member = house.member("a")
    assert await spent(member, 1, TIGHT, units=5, used=25) == 1
    assert await spent(member, 1, TIGHT) == 0
    await house.pass_(6, member)
    assert house.row.used == 25


async def test_what_a_call_did_not_use_is_there_for_the_next() -> None:
    house = House()
    member = house.member("a")
    limit = Limit(1000, "minute")
    assert await spent(member, 1, limit, units=400, used=100) == 1
    house.table.calls.clear()
    assert await spent(member, 1, limit, units=300, used=300) == 1
    assert not house.table.calls
    assert await spent(member, 1, limit, units=700, used=0) == 0
    assert await spent(member, 1, limit, units=600, used=600) == 1


async def test_a_row_that_was_lost_is_told_anew_of_what_was_used() -> None:
    house = House()
    member = house.member("a")
    await spent(member, 8, TIGHT)
    del house.table.rows[place(NAME)]
    assert await spent(member, 20, TIGHT) == 2
    assert house.row.holders == {"a": Holder(10, 0)}
