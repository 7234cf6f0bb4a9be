"""One member's side of the limits: what it may spend without asking, and what it does when the table does not answer."""

import asyncio
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from gateway.admission import sharing
from gateway.admission.bucket import MICRO, ONE, Bucket, Share
from gateway.admission.shares import Damaged, Limit, Shares, faults, place, read
from gateway.admission.sharing import Sharing
from tenants.errors import TableUnavailable
from tenants.ports import Put
from tests.gateway.admission.counted import Counted
from tests.worlds.table import Fault, Pause

LIMIT = Limit(200 * MICRO, 100 * ONE, 0)
NAME = "tenant/t_1"


@dataclass
class House:
    """Some members over one table, all with the same clock, which a test moves."""

    table: Counted = field(default_factory=Counted)
    now_us: int = 10**12
    dead: set[str] = field(default_factory=set)
    count: int = 2

    def member(self, name: str, ahead_us: int = 0) -> Sharing:
        return Sharing(
            table=self.table,
            me=name,
            clock=lambda: self.now_us,
            wall_us=lambda: self.now_us + ahead_us,
            is_dead=self.dead.__contains__,
            members=lambda: self.count,
        )

    @property
    def row(self) -> Shares:
        shares = read(self.table.rows[place(NAME)])
        assert list(faults(shares)) == []
        return shares

    def pass_(self, seconds: float) -> None:
        self.now_us += int(seconds * MICRO)


async def admitted(member: Sharing, asked: int, limit: Limit = LIMIT) -> int:
    return sum([(await member.ask(NAME, limit)).admitted for _ in range(asked)])


def share(member: Sharing) -> Share:
    return member._held[NAME].bucket.share


async def test_a_warm_limit_costs_no_call_of_the_table() -> None:
    house = House(count=1)
    member = house.member("a")
    assert await admitted(member, 1) == 1
    house.table.calls.clear()
    assert await admitted(member, 500) == 99
    told = member.admit(NAME, LIMIT)
    assert told is not None
    assert not told.admitted
    assert not house.table.calls


async def test_the_burst_is_there_once_however_many_members_come() -> None:
    house = House(count=4)
    members = [house.member(name) for name in "abcd"]
    found = [await admitted(it, 200) for it in members]
    assert sum(found) <= 100
    assert min(found) >= 1, "a member that comes begins with something"
    for _ in range(20):
        for member in members:
            await member.renew(NAME)
    assert sum([await admitted(it, 200) for it in members]) == 0


async def test_shares_follow_the_demand() -> None:
    house = House(count=2)
    members = [house.member("a"), house.member("b")]
    for weights in ((90, 10), (10, 90)):
        for _ in range(20):
            for member, asked in zip(members, weights, strict=True):
                await admitted(member, asked)
                await member.renew(NAME)
            house.pass_(0.25)
        rates = [share(it).rate for it in members]
        assert sum(rates) <= LIMIT.rate
        assert 0.85 <= max(rates) / LIMIT.rate <= 0.92
        assert rates.index(max(rates)) == weights.index(max(weights))


async def test_a_steady_load_is_not_written_more_often_than_the_beat() -> None:
    house = House(count=2)
    members = [house.member("a"), house.member("b")]

    async def load(seconds: int) -> None:
        for _ in range(seconds * 4):
            for member, asked in zip(members, (90, 10), strict=True):
                await admitted(member, asked)
                await member.renew(NAME)
            house.pass_(0.25)

    await load(5)
    house.table.calls.clear()
    await load(60)
    assert house.table.calls["transact"] <= 2 * (60 // 5 + 1)


@pytest.mark.parametrize("fault", [*Fault])
async def test_a_lost_answer_costs_tokens_and_never_makes_any(fault: Fault) -> None:
    house = House(count=2)
    first, second = house.member("a"), house.member("b")
    await admitted(first, 50)
    await admitted(second, 1)
    for _ in range(8):
        house.pass_(0.25)
        await admitted(second, 50)
        for member in (first, second):
            house.table.write_faults.append(fault)
            await member.renew(NAME)
            house.table.write_faults.clear()
            held = [share(it) for it in (first, second)]
            assert sum(it.rate for it in held) <= house.row.rate
            assert sum(it.capacity for it in held) <= house.row.capacity
    house.pass_(1)
    for _ in range(4):
        await first.renew(NAME)
        await second.renew(NAME)
    assert {name: (it.rate, it.capacity) for name, it in house.row.holders.items()} == {
        "a": share(first),
        "b": share(second),
    }


async def test_a_share_ends_when_the_table_is_gone_for_as_long_and_not_before() -> None:
    house = House(count=1)
    member = house.member("a")
    await admitted(member, 1)
    house.table.gone = True
    house.pass_(59.4)
    await member.renew(NAME)
    assert await admitted(member, 1) == 1
    house.pass_(0.1)
    assert member.admit(NAME, LIMIT) is None
    with pytest.raises(TableUnavailable):
        await member.ask(NAME, LIMIT)
    house.table.calls.clear()
    with pytest.raises(TableUnavailable):
        await member.ask(NAME, LIMIT)
    assert not house.table.calls, "who has just given no answer is not asked for each request"
    house.table.gone = False
    house.pass_(1.1)
    assert await admitted(member, 1) == 1


async def test_a_silent_holder_is_waited_for_by_ones_own_clock_and_loses_its_tokens() -> None:
    house = House(count=2)
    silent, other = house.member("a"), house.member("b")
    await admitted(silent, 1)
    await admitted(other, 1)
    first_seen = house.now_us
    while "a" in house.row.holders:
        assert house.now_us - first_seen <= 61 * MICRO
        house.pass_(0.25)
        await admitted(other, 100)
        await other.renew(NAME)
    assert house.now_us - first_seen >= 60.5 * MICRO
    assert silent.admit(NAME, LIMIT) is None, "its own deadline came first"
    assert other._held[NAME].bucket.tokens < 30 * ONE, "what it had is nobody's"


async def test_a_dead_holders_share_is_there_at_once_without_its_tokens() -> None:
    house = House(count=2)
    dead, other = house.member("a"), house.member("b")
    await admitted(dead, 1)
    await admitted(other, 200)
    house.dead.add("a")
    house.pass_(0.25)
    await admitted(other, 200)
    await other.renew(NAME)
    assert "a" not in house.row.holders
    assert share(other).rate >= LIMIT.rate * 0.98
    assert await admitted(other, 200) <= 1


async def test_who_comes_back_never_has_a_beat_that_was_seen_before() -> None:
    """Else whoever saw it long ago takes it for one that stood still since."""
    house = House(count=2)
    back, other = house.member("a"), house.member("b")
    await admitted(back, 1)
    beats = [house.row.holders["a"].beat]
    for _ in range(3):
        house.dead.add("a")
        await other.ask(NAME, LIMIT)
        other._held[NAME].next_us = 0
        await other.renew(NAME)
        house.dead.clear()
        house.pass_(1)
        await back.renew(NAME)
        beats.append(house.row.holders["a"].beat)
    assert all(before < after for before, after in pairwise(beats))


async def test_whom_the_row_does_not_name_holds_nothing_from_its_next_look_on() -> None:
    house = House(count=1)
    member = house.member("a")
    await admitted(member, 1)
    house.table.rows.clear()
    await house.member("b").ask(NAME, LIMIT)
    await member.renew(NAME)
    assert share(member).rate <= LIMIT.rate - house.row.holders["b"].rate


async def test_what_is_not_used_is_given_back_with_its_tokens_and_forgotten() -> None:
    house = House(count=1)
    member = house.member("a")
    await admitted(member, 50)
    for _ in range(60):
        house.pass_(0.25)
        await member.step()
    assert not member._held
    assert not house.row.holders
    assert house.row.free.tokens == LIMIT.capacity
    assert await admitted(house.member("b"), 200) == 100


async def test_who_leaves_gives_all_back() -> None:
    house = House(count=2)
    member = house.member("a")
    await admitted(member, 10)
    await member.close()
    assert not house.row.holders
    assert house.row.free.tokens == 90 * ONE


async def test_limits_in_use_are_bounded() -> None:
    house = House(count=1)
    member = house.member("a")
    member._held.update(
        {
            f"tenant/{n}": sharing._Held(place(str(n)), LIMIT, LIMIT, Bucket(n), 0, 0)
            for n in range(sharing.MOST_LIMITS)
        }
    )
    await member.ask(NAME, LIMIT)
    assert len(member._held) == sharing.MOST_LIMITS
    assert "tenant/0" not in member._held, "it was asked longest ago"


async def test_a_smaller_plan_holds_at_once_and_resets_nothing() -> None:
    house = House(count=1)
    member = house.member("a")
    await admitted(member, 60)
    smaller = Limit(20 * MICRO, 10 * ONE, 1)
    house.table.gone = True
    assert await admitted(member, 100, smaller) == 4, "of what is left as large a part as before"
    house.pass_(1)
    assert 9 <= await admitted(member, 100, smaller) <= 10, "the new burst at most, without the table"
    house.table.gone = False
    house.pass_(1)
    await member.renew(NAME)
    assert house.row.rate == 20 * MICRO
    assert share(member) == Share(20 * MICRO, 10 * ONE)


async def test_a_larger_plan_gives_its_rate_at_once_and_no_second_burst() -> None:
    house = House(count=1)
    member = house.member("a")
    await admitted(member, 100)
    larger = Limit(400 * MICRO, 300 * ONE, 1)
    await admitted(member, 1, larger)
    await member.renew(NAME)
    assert share(member) == Share(400 * MICRO, 300 * ONE)
    assert await admitted(member, 100, larger) == 0
    house.pass_(0.1)
    assert 38 <= await admitted(member, 100, larger) <= 40


async def test_who_has_not_heard_of_a_plan_does_not_take_it_back() -> None:
    house = House(count=2)
    first, second = house.member("a"), house.member("b")
    await admitted(first, 1)
    await admitted(second, 1)
    new = Limit(50 * MICRO, 20 * ONE, 5)
    await admitted(first, 1, new)
    await first.renew(NAME)
    house.pass_(0.3)
    await second.renew(NAME)
    await admitted(second, 1, LIMIT)
    await second.renew(NAME)
    assert (house.row.rate, house.row.since) == (50 * MICRO, 5)
    assert share(first).rate + share(second).rate <= 50 * MICRO


async def test_a_row_that_cannot_be_read_ends_what_is_held_and_gives_nothing() -> None:
    house = House(count=1)
    member = house.member("a")
    await admitted(member, 1)
    await house.table.transact(Put(place(NAME), b"?", None))
    await member.renew(NAME)
    house.pass_(60)
    assert member.admit(NAME, LIMIT) is None
    with pytest.raises(Damaged):
        await member.ask(NAME, LIMIT)


async def test_many_first_requests_make_one_share() -> None:
    house = House(count=1)
    member = house.member("a")
    found = await asyncio.gather(*(member.ask(NAME, LIMIT) for _ in range(50)))
    assert all(it.admitted for it in found)
    assert house.table.calls == {"get": 1, "transact": 1}


async def test_a_caller_that_leaves_while_a_share_is_written_leaves_no_share_behind() -> None:
    house = House(count=1)
    member = house.member("a")
    pause = Pause()
    house.table.pauses_after.extend([Pause(go=_set()), pause])
    asking = asyncio.ensure_future(member.ask(NAME, LIMIT))
    await pause.came.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert share(member) == Share(0, 0)
    assert await admitted(member, 1) == 0, "the tokens that it had sent for are gone"
    house.pass_(0.1)
    assert await admitted(member, 100) >= 19


def _set() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


async def test_a_small_share_says_to_wait_for_the_others_and_not_for_its_own_refill() -> None:
    """Others give within a look or two: its floor, a fiftieth of its part of the rate, is not what it will have."""
    house = House()
    limit = Limit(5 * MICRO, 10 * ONE, 0)
    first, second = house.member("a"), house.member("b")
    await admitted(first, 1, limit)
    await admitted(second, 10, limit)
    refused, looked = second.admit(NAME, limit), second.look(NAME)
    assert refused is not None
    assert looked is not None
    assert not refused.admitted
    assert share(second).rate < limit.rate // 10
    assert refused.retry_after_us <= MICRO
    assert looked.retry_after_us <= MICRO
    assert max(refused.reset_us, looked.reset_us) <= 2 * MICRO, "the whole burst is there again by then"
