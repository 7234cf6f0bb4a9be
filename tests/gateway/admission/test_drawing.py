"""A limit that is spent from its row: one write for each that is admitted, nothing for one that is refused, and no clock is believed."""

import asyncio

import pytest

from gateway.admission.bucket import MICRO, ONE
from gateway.admission.drawing import APART_US
from gateway.admission.shares import Limit, limit_of
from tenants.errors import TableUnavailable
from tenants.plans import Rate
from tests.gateway.admission.test_sharing import LIMIT, NAME, House, admitted
from tests.worlds.table import Fault

A_MINUTE = limit_of(Rate(1 / 60, 2), 0)
AGAIN = 60.1
"""Seconds until there is another one: a thousandth more than a minute."""


async def test_each_admission_is_one_write_and_a_refusal_costs_nothing() -> None:
    house = House(count=4)
    member = house.member("a")
    assert await admitted(member, 2, A_MINUTE) == 2
    assert house.table.calls == {"get": 1, "transact": 2}
    assert await admitted(member, 100, A_MINUTE) == 0
    told = member.admit(NAME, A_MINUTE)
    assert told is not None
    assert 60 * MICRO <= told.retry_after_us <= AGAIN * MICRO
    house.pass_(AGAIN)
    assert await admitted(member, 100, A_MINUTE) == 1
    assert house.table.calls == {"get": 1, "transact": 3}


async def test_all_members_together_have_one_burst_and_one_rate() -> None:
    house = House(count=4)
    members = [house.member(name) for name in "abcd"]
    assert sum([await admitted(it, 5, A_MINUTE) for it in members]) == 2
    for _ in range(3):
        house.pass_(AGAIN)
        assert sum([await admitted(it, 5, A_MINUTE) for it in members]) == 1
    house.pass_(10_000)
    assert sum([await admitted(it, 5, A_MINUTE) for it in members]) == 2, "however long nobody came"


async def test_calls_that_come_at_once_are_admitted_as_if_one_after_the_other() -> None:
    house = House(count=4)
    member = house.member("a")
    limit = limit_of(Rate(1, 7), 0)
    found = await asyncio.gather(*(member.ask(NAME, limit) for _ in range(20)))
    assert sum(it.admitted for it in found) == 7
    assert house.table.calls == {"get": 1, "transact": 7}


@pytest.mark.parametrize("ahead_us", [-APART_US, APART_US // 2, APART_US])
async def test_a_clock_that_is_ahead_by_a_second_makes_nothing_refill_sooner(ahead_us: int) -> None:
    house = House(count=4)
    first, ahead = house.member("a"), house.member("b", ahead_us)
    assert await admitted(first, 2, A_MINUTE) == 2
    house.pass_(59.9)
    assert await admitted(ahead, 1, A_MINUTE) == 0
    house.pass_(AGAIN - 59.9 + 2 * APART_US / MICRO)
    assert await admitted(ahead, 1, A_MINUTE) == 1


async def test_who_saw_the_row_itself_need_not_believe_a_clock() -> None:
    house = House(count=4)
    first, behind = house.member("a"), house.member("b", -1000 * MICRO)
    assert await admitted(first, 2, A_MINUTE) == 2
    assert await admitted(behind, 1, A_MINUTE) == 0
    house.pass_(AGAIN)
    assert await admitted(behind, 1, A_MINUTE) == 1


async def test_nothing_is_admitted_while_the_table_is_gone_and_it_is_not_asked_each_time() -> None:
    house = House(count=4)
    member = house.member("a")
    assert await admitted(member, 1, A_MINUTE) == 1
    house.table.gone = True
    house.table.calls.clear()
    for _ in range(5):
        with pytest.raises(TableUnavailable):
            await member.ask(NAME, A_MINUTE)
    assert house.table.calls.total() == 1
    house.table.gone = False
    house.pass_(1.1)
    assert await admitted(member, 5, A_MINUTE) == 1


@pytest.mark.parametrize(("fault", "left"), [(Fault.LOST_BEFORE, 2), (Fault.LOST_AFTER, 1)])
async def test_what_was_written_with_a_lost_answer_is_spent_and_not_admitted(fault: Fault, left: int) -> None:
    house = House(count=4)
    member = house.member("a")
    house.table.write_faults.append(fault)
    with pytest.raises(TableUnavailable):
        await member.ask(NAME, A_MINUTE)
    house.pass_(1.1)
    assert await admitted(member, 5, A_MINUTE) == left


async def test_a_plan_that_becomes_slow_gives_the_shares_back_to_the_row_and_resets_nothing() -> None:
    house = House(count=2)
    members = [house.member("a"), house.member("b")]
    for member in members:
        await admitted(member, 200)
    slow = Limit(MICRO, 10 * ONE, 1)
    assert sum([await admitted(it, 50, slow) for it in members]) <= 1
    for member in members:
        await member.renew(NAME)
    assert not house.row.holders
    assert sum([await admitted(it, 50, slow) for it in members]) <= 1
    house.pass_(2.1)
    assert sum([await admitted(it, 50, slow) for it in members]) == 2
    assert house.row.rate == MICRO


async def test_a_plan_that_is_slow_no_more_is_shared_out() -> None:
    house = House(count=1)
    member = house.member("a")
    assert await admitted(member, 5, A_MINUTE) == 2
    later = LIMIT._replace(since=1)
    assert await admitted(member, 1, later) == 0, "a new plan is no new burst"
    house.pass_(0.1)
    assert 18 <= await admitted(member, 100, later) <= 20
