"""All changes are in one order, without a gap, whoever makes them; each is judged against what is there when it is written."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest

from gateway.stores.sqlite import SqliteTable
from tenants.acts import Act
from tenants.directory import Directory
from tenants.directory.journal import Journal, Judged
from tenants.errors import Conflict, InUse, NotFound, TenantsError
from tenants.events import Action, Changed, Event
from tenants.plans import Limits, Plan
from tenants.ports import Item, Key, Page, Row, Table
from tenants.rows import HEAD_AT, Change, encoded, read
from tests.tenants.conftest import BY, NOW, TEAM, events
from tests.worlds.table import MemoryTable

ACT = Act(BY, NOW + 1)
WRITERS = 50


@dataclass(slots=True)
class Crowded:
    """A table whose every answer lets others go first, as the answers of a store far away do."""

    table: Table
    random: Random = field(default_factory=lambda: Random(3))

    async def _others(self) -> None:
        for _ in range(self.random.randrange(4)):
            await asyncio.sleep(0)

    async def get(self, key: Key) -> Row | None:
        await self._others()
        return await self.table.get(key)

    async def get_many(self, keys: Sequence[Key]) -> dict[Key, Row]:
        await self._others()
        return await self.table.get_many(keys)

    async def list(
        self, partition: str, prefix: str = "", after: str | None = None, limit: int = 100
    ) -> Page:
        await self._others()
        return await self.table.list(partition, prefix, after, limit)

    async def transact(self, *items: Item) -> None:
        await self._others()
        await self.table.transact(*items)
        await self._others()

    async def take(self, key: Key, amount: int, ceiling: int) -> int | None:
        return await self.table.take(key, amount, ceiling)


async def whole_order(directory: Directory, page: int = 1000) -> list[Changed]:
    """All records, page by page."""
    found: list[Changed] = []
    while more := await directory.journal.changes(found[-1].sequence if found else 0, page):
        found += more
    return found


async def expect_one_order(directory: Directory, told: Sequence[Event]) -> None:
    """Numbers from 1 without a gap, the head at the last, and behind each number its very events."""
    order = await whole_order(directory)
    assert [it.sequence for it in order] == list(range(1, len(order) + 1))
    assert await directory.journal.sequence() == len(order)
    table = directory.journal.table
    for record in order:
        rows = [await table.get(Key(*place)) for place in record.events]
        found = [read(row, Event) for row in rows if row]
        assert len(found) == len(record.events)
        assert {it.sequence for it in found} == {record.sequence}
        assert {it.at_us for it in found} == {record.at_us}
        assert {it.subject for it in found} == set(record.subjects)
    assert sum(len(it.events) for it in order) == len(told)


async def test_fifty_writers_of_one_process_and_two_directories_leave_no_gap_and_lose_nothing(
    world: MemoryTable,
) -> None:
    table = Crowded(world)
    two = [Directory(table, Random(seed).randbytes) for seed in (1, 2)]
    await two[0].values.put(TEAM, act=Act(BY, NOW))
    names = [f"t{number}" for number in range(WRITERS)]
    await asyncio.gather(
        *(two[number % 2].tenants.create(name, "team", ACT) for number, name in enumerate(names))
    )
    await expect_one_order(two[0], events(world))
    assert {tenant.name for tenant in (await two[1].tenants.list()).values} == set(names)


async def test_writers_of_two_processes_on_one_file_leave_no_gap(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        two = [
            Directory(
                await stack.enter_async_context(SqliteTable(tmp_path / "table.sqlite")),
                Random(seed).randbytes,
            )
            for seed in (1, 2)
        ]
        await two[0].values.put(TEAM, act=Act(BY, NOW))
        await asyncio.gather(
            *(two[number % 2].tenants.create(f"t{number}", "team", ACT) for number in range(20))
        )
        assert [it.sequence for it in await whole_order(two[1])] == list(range(1, 22))


async def test_of_many_who_want_one_name_at_once_one_gets_it(world: MemoryTable) -> None:
    table = Crowded(world)
    many = [Directory(table, Random(seed).randbytes) for seed in range(10)]
    await many[0].values.put(TEAM, act=Act(BY, NOW))
    done = await asyncio.gather(
        *(directory.tenants.create("acme", "team", ACT) for directory in many), return_exceptions=True
    )
    assert sum(not isinstance(it, TenantsError) for it in done) == 1
    assert [it.action for it in events(world)].count(Action.TENANT_CREATED) == 1


async def test_a_plan_is_never_removed_from_under_a_tenant_that_comes_at_the_same_time(
    world: MemoryTable,
) -> None:
    for seed in range(20):
        world.rows.clear()
        table = Crowded(world, Random(seed))
        here, there = Directory(table, Random(1).randbytes), Directory(table, Random(2).randbytes)
        await here.values.put(TEAM, act=Act(BY, NOW))
        made, removed = await asyncio.gather(
            here.tenants.create("acme", "team", ACT),
            there.values.remove(Plan, "team", ACT),
            return_exceptions=True,
        )
        assert isinstance(made, NotFound) != isinstance(removed, InUse), seed


async def test_pages_of_the_order_are_continued_behind_the_last_number(acme: Directory) -> None:
    whole = await whole_order(acme)
    assert len(whole) == 5
    assert await whole_order(acme, page=2) == whole
    assert [it.sequence for it in await acme.journal.changes(3)] == [4, 5]
    assert await acme.journal.changes(5) == ()


async def test_short_and_empty_pages_hide_no_record_of_the_order(acme: Directory, world: MemoryTable) -> None:
    world.page_rows.extend([2, 0, 1])
    assert [it.sequence for it in await acme.journal.changes(0)] == [1, 2, 3, 4, 5]
    world.page_rows.extend([1, 0])
    assert [it.sequence for it in await acme.journal.changes(0, 3)] == [1, 2, 3]


async def test_a_change_of_nothing_takes_no_number(acme: Directory) -> None:
    before = await acme.journal.sequence()
    await acme.tenants.do("acme", "resume", ACT)
    await acme.values.put(TEAM, act=ACT)
    assert await acme.journal.sequence() == before


async def test_a_change_is_told_with_its_reason_in_its_tenants_own_events(acme: Directory) -> None:
    await acme.tenants.do("acme", "suspend", Act("cli:ann", NOW + 1, "bill 17"))
    page = await acme.tenants.events("acme")
    assert [it.action for it in page.values] == ["tenant.created", "tenant.suspended"]
    assert (page.values[-1].actor, page.values[-1].reason) == ("cli:ann", "bill 17")
    first = await acme.tenants.events("acme", limit=1)
    rest = await acme.tenants.events("acme", first.next_after)
    assert (*first.values, *rest.values) == page.values


# Judged anew


@dataclass(slots=True)
class Rival(MemoryTable):
    """Somebody else moves the head before each of the next so many writes."""

    rivals: int = 0

    async def transact(self, *items: Item) -> None:
        if self.rivals:
            self.rivals -= 1
            head = self.rows.get(HEAD_AT)
            version = head.version + 1 if head else 1
            self.rows[HEAD_AT] = Row(HEAD_AT, b'{"v":1,"stage":null,"rolled":0}', version)
        await MemoryTable.transact(self, *items)


def noting(asked: list[int]) -> Callable[[], Awaitable[Judged[int]]]:
    """A judgement that notes how often it was asked."""

    async def judge() -> Judged[int]:
        asked.append(len(asked) + 1)
        plan = Plan("free", len(asked), Limits(10))
        change = Change(Action.PLAN_CREATED, "free", Key("plans", "free"), None, encoded(plan))
        return Judged(len(asked), (change,))

    return judge


async def test_a_change_is_judged_anew_whenever_somebody_was_faster_and_the_last_judgement_counts() -> None:
    world, asked = Rival(rivals=3), list[int]()
    journal = Journal(world, Random(1).randbytes)
    assert await journal.change(ACT, noting(asked)) == 4
    assert asked == [1, 2, 3, 4]
    assert read(world.rows[Key("plans", "free")], Plan).weight == 4
    assert await journal.sequence() == 4


async def test_who_is_never_the_fastest_is_told_so_and_has_changed_nothing() -> None:
    world, asked = Rival(rivals=10**6), list[int]()
    with pytest.raises(Conflict, match="faster"):
        await Journal(world, Random(1).randbytes).change(ACT, noting(asked))
    assert len(asked) == 100
    assert list(world.rows) == [HEAD_AT]


def test_events_carry_no_more_of_a_reason_than_a_line() -> None:
    assert Act(BY, NOW, "x" * 500).reason
    for reason in ("x" * 501, "two\nlines", "\x1b[2J"):
        with pytest.raises(TenantsError, match="reason"):
            Act(BY, NOW, reason)
