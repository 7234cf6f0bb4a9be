"""The exam of every Table: what each promise of `tenants.ports` looks like when it is kept.

A test module subclasses `TableContract` and says with the `open_table` fixture how its store is opened; each
call opens the same store once more.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tenants.errors import Conflict
from tenants.ports import (
    KEY_BYTES,
    MOST_ITEMS,
    MOST_KEYS,
    VALUE_BYTES,
    Check,
    Delete,
    Item,
    Key,
    Put,
    Row,
    Table,
)

OpenTable = Callable[[], AbstractAsyncContextManager[Table]]

A, B = Key("a", "1"), Key("b")

# One store serves all examples of a law; each takes a place of its own in it.
law = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
_places = count()


def fresh(sort: str = "") -> Key:
    return Key(f"place/{next(_places)}", sort)


async def every(table: Table, partition: str, prefix: str = "", limit: int = MOST_KEYS) -> list[Row]:
    """All pages."""
    page = await table.list(partition, prefix, limit=limit)
    rows = [*page.rows]
    while page.next_after is not None:
        page = await table.list(partition, prefix, page.next_after, limit)
        assert len(page.rows) <= limit
        rows += page.rows
    return rows


class TableContract:
    @pytest.fixture
    def open_table(self) -> OpenTable:
        raise LookupError("each adapter's class says how its table is opened")

    @pytest.fixture
    async def table(self, open_table: OpenTable) -> AsyncIterator[Table]:
        async with open_table() as table:
            yield table

    async def test_a_row_is_read_as_it_was_written_and_its_version_counts_the_writes(
        self, table: Table
    ) -> None:
        assert await table.get(A) is None
        await table.transact(Put(A, b"\x00one\xff", expected=0))
        assert await table.get(A) == Row(A, b"\x00one\xff", 1)
        await table.transact(Put(A, b"", expected=1))
        await table.transact(Put(A, b"three", expected=None))
        assert await table.get(A) == Row(A, b"three", 3)

    async def test_a_row_put_after_a_delete_is_new(self, table: Table) -> None:
        await table.transact(Put(A, b"one", expected=0))
        await table.transact(Put(A, b"two", expected=1))
        await table.transact(Delete(A, expected=2))
        assert await table.get(A) is None
        await table.transact(Put(A, b"three", expected=0))
        assert await table.get(A) == Row(A, b"three", 1)

    @pytest.mark.parametrize(
        "refused",
        [
            Put(A, b"new", expected=0),
            Put(A, b"new", expected=2),
            Put(B, b"new", expected=1),
            Delete(A, expected=0),
            Delete(A, expected=2),
            Delete(B, expected=1),
            Check(A, expected=0),
            Check(A, expected=2),
            Check(B, expected=1),
        ],
        ids=repr,
    )
    async def test_one_condition_that_fails_lets_nothing_be_written(
        self, table: Table, refused: Item
    ) -> None:
        await table.transact(Put(A, b"old", expected=0))
        before, after = Put(fresh(), b"", expected=0), Put(fresh(), b"", expected=0)
        with pytest.raises(Conflict):
            await table.transact(before, refused, after)
        assert await table.get_many([A, B, before.key, after.key]) == {A: Row(A, b"old", 1)}

    async def test_conditions_that_hold_let_everything_be_written(self, table: Table) -> None:
        await table.transact(Put(A, b"old", expected=0), Delete(B, expected=0), Check(fresh(), expected=0))
        await table.transact(Check(A, expected=1), Put(B, b"", expected=0), Delete(fresh(), expected=None))
        await table.transact(Delete(A, expected=None), Delete(B, expected=1))
        assert await table.get_many([A, B]) == {}

    async def test_what_is_just_within_the_limits_is_kept(self, table: Table) -> None:
        longest = Key("ä" * (KEY_BYTES // 2), "\U00010000" * (KEY_BYTES // 4))
        places = [longest, *(fresh() for _ in range(MOST_ITEMS - 1))]
        largest = bytes(VALUE_BYTES)
        await table.transact(*(Put(place, largest, expected=0) for place in places))
        assert await table.get_many(places) == {place: Row(place, largest, 1) for place in places}

    @pytest.mark.parametrize(
        "items",
        [
            [],
            [Put(Key("many", str(number)), b"", None) for number in range(MOST_ITEMS + 1)],
            [Put(A, b"", None), Check(A, 0)],
            [Put(A, b"", None), Put(B, bytes(VALUE_BYTES + 1), None)],
            [Put(A, b"", None), Delete(Key("ä" * (KEY_BYTES // 2) + "a"), None)],
            [Put(A, b"", None), Check(Key("p", "s" * (KEY_BYTES + 1)), 0)],
            [Put(A, b"", None), Put(Key(""), b"", None)],
            [Put(A, b"", None), Put(Key("\ud800"), b"", None)],
        ],
        ids=["none", "too many", "twice", "value", "partition", "sort", "no partition", "no text"],
    )
    async def test_a_transaction_over_the_limits_is_refused_before_anything_is_written(
        self, table: Table, items: list[Item]
    ) -> None:
        with pytest.raises(ValueError, match=r"."):
            await table.transact(*items)
        assert await table.get(A) is None

    async def test_a_question_over_the_limits_is_refused(self, table: Table) -> None:
        with pytest.raises(ValueError, match="partition"):
            await table.get(Key(""))
        with pytest.raises(ValueError, match="keys"):
            await table.get_many([A] * (MOST_KEYS + 1))
        for limit in (0, 1001):
            with pytest.raises(ValueError, match="limit"):
                await table.list("a", limit=limit)
        for amount, ceiling in ((2**53 + 1, 5), (1, -1), (1, 2**53 + 1)):
            with pytest.raises(ValueError, match="take"):
                await table.take(A, amount, ceiling)

    async def test_get_many_gives_each_row_once_and_no_absent_one(self, table: Table) -> None:
        await table.transact(Put(A, b"one", None), Put(B, b"two", None))
        assert await table.get_many([]) == {}
        found = await table.get_many([B, Key("absent"), A, B])
        assert found == {A: Row(A, b"one", 1), B: Row(B, b"two", 1)}

    @law
    @given(
        sorts=st.sets(st.text(st.sampled_from("a%_\x00\uffff\U00010000"), max_size=3), max_size=MOST_ITEMS),
        prefix=st.text(st.sampled_from("a%_\uffff"), max_size=2),
        limit=st.integers(1, 4),
    )
    async def test_the_pages_together_are_the_rows_with_the_prefix_in_the_order_of_their_bytes(
        self, table: Table, sorts: set[str], prefix: str, limit: int
    ) -> None:
        partition = fresh().partition
        await table.transact(
            Put(Key(f"{partition}0"), b"", None),
            *(Put(Key(partition, sort), b"x", 0) for sort in list(sorts)[:24]),
        )
        kept = list(sorts)[:24]
        wanted = sorted((sort for sort in kept if sort.startswith(prefix)), key=str.encode)
        rows = await every(table, partition, prefix, limit)
        assert rows == [Row(Key(partition, sort), b"x", 1) for sort in wanted]

    async def test_a_listing_starts_after_a_place_that_need_not_exist(self, table: Table) -> None:
        await table.transact(*(Put(Key("p", sort), b"", None) for sort in ("", "b", "k/1", "k/3", "l")))

        async def listed(prefix: str, after: str | None) -> list[str]:
            return [row.key.sort for row in (await table.list("p", prefix, after)).rows]

        assert await listed("", "k/2") == ["k/3", "l"]
        assert await listed("", "") == ["b", "k/1", "k/3", "l"]
        assert await listed("k/", "a") == ["k/1", "k/3"]
        assert await listed("k/", "k/3") == []
        assert await listed("k/", "z") == []

    async def test_no_update_is_lost_when_many_read_and_write_the_same_row(
        self, open_table: OpenTable
    ) -> None:
        async def add_one(table: Table) -> None:
            while True:
                row = await table.get(A)
                total, version = (int(row.value), row.version) if row else (0, 0)
                try:
                    return await table.transact(Put(A, str(total + 1).encode(), expected=version))
                except Conflict:
                    continue

        async with open_table() as here, open_table() as there:
            await asyncio.gather(*(add_one(table) for table in (here, there) for _ in range(20)))
            assert await here.get(A) == await there.get(A) == Row(A, b"40", 40)

    async def test_of_many_that_create_the_same_row_one_does(self, open_table: OpenTable) -> None:
        async with open_table() as here, open_table() as there:
            tables = [here, there] * 10
            answers = await asyncio.gather(
                *(table.transact(Put(A, b"", 0), Put(fresh(), b"", 0)) for table in tables),
                return_exceptions=True,
            )
        assert [answer for answer in answers if not isinstance(answer, Conflict)] == [None]

    async def test_what_one_wrote_the_other_reads_at_once_and_the_next_one_too(
        self, open_table: OpenTable
    ) -> None:
        async with open_table() as here:
            async with open_table() as there:
                assert await there.get(A) is None
                await here.transact(Put(A, b"one", 0))
                assert await there.get(A) == Row(A, b"one", 1)
                await there.transact(Delete(A, 1), Put(B, b"two", 0))
            assert await here.get(A) is None
        async with open_table() as later:
            assert await later.get(B) == Row(B, b"two", 1)

    @law
    @given(st.lists(st.tuples(st.integers(-9, 9), st.integers(0, 20)), max_size=20))
    async def test_a_counter_never_leaves_zero_to_its_ceiling_and_counts_what_was_taken(
        self, table: Table, takes: list[tuple[int, int]]
    ) -> None:
        counter, taken = fresh(), 0
        for amount, ceiling in takes:
            fits = 0 <= taken + amount <= ceiling
            taken += amount if fits else 0
            assert await table.take(counter, amount, ceiling) == (taken if fits else None)

    @law
    @given(st.lists(st.integers(1, 5), min_size=2, max_size=12), st.integers(0, 20))
    async def test_many_that_take_at_once_never_pass_the_ceiling(
        self, open_table: OpenTable, amounts: list[int], ceiling: int
    ) -> None:
        counter = fresh()
        async with open_table() as here, open_table() as there:
            tables = [here, there] * len(amounts)
            totals = await asyncio.gather(
                *(
                    table.take(counter, amount, ceiling)
                    for table, amount in zip(tables, amounts, strict=False)
                )
            )
            taken = sum(amount for amount, total in zip(amounts, totals, strict=True) if total is not None)
            assert await here.take(counter, 0, ceiling) == taken <= ceiling
        refused = [amount for amount, total in zip(amounts, totals, strict=True) if total is None]
        assert all(taken + amount > ceiling for amount in refused)

    async def test_counters_and_rows_do_not_see_each_other(self, table: Table) -> None:
        assert await table.take(A, 5, 10) == 5
        assert await table.get(A) is None
        assert await every(table, A.partition) == []
        await table.transact(Put(A, b"row", 0))
        await table.transact(Delete(A, 1))
        assert await table.take(A, 2**53 - 5, 2**53) == 2**53
