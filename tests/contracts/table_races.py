"""The part of the exam in which many use one Table at once, or are gone before they had their answer."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from itertools import cycle

from hypothesis import given
from hypothesis import strategies as st

from tenants.errors import Conflict
from tenants.ports import MOST_COUNT, Check, Delete, Key, Put, Row, Table
from tests.contracts.table_places import A, B, Opened, OpenTable, every, fresh, law, sorts


async def taken_at_once(
    tables: Sequence[Table], counter: Key, amounts: Sequence[int], ceiling: int
) -> list[int | None]:
    """What each take was told; the tables take turns."""
    askers = zip(cycle(tables), amounts, strict=False)
    return await asyncio.gather(*(table.take(counter, amount, ceiling) for table, amount in askers))


class TableRaces(Opened):
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
    @given(st.lists(st.integers(1, 5), min_size=2, max_size=12), st.integers(0, 20))
    async def test_many_that_take_at_once_never_pass_the_ceiling(
        self, open_table: OpenTable, amounts: list[int], ceiling: int
    ) -> None:
        counter = fresh()
        async with open_table() as here, open_table() as there:
            totals = await taken_at_once([here, there], counter, amounts, ceiling)
            taken = sum(amount for amount, total in zip(amounts, totals, strict=True) if total is not None)
            assert await here.take(counter, 0, ceiling) == taken <= ceiling
        refused = [amount for amount, total in zip(amounts, totals, strict=True) if total is None]
        assert all(taken + amount > ceiling for amount in refused)

    @law
    @given(st.lists(st.integers(-4, 6), min_size=2, max_size=12), st.integers(0, 12))
    async def test_takes_and_give_backs_at_once_stay_between_zero_and_the_ceiling_and_add_up(
        self, open_table: OpenTable, amounts: list[int], ceiling: int
    ) -> None:
        counter = fresh()
        async with open_table() as here, open_table() as there:
            totals = await taken_at_once([here, there], counter, amounts, ceiling)
            taken = sum(amount for amount, total in zip(amounts, totals, strict=True) if total is not None)
            assert await there.take(counter, 0, MOST_COUNT) == taken
        assert all(total is None or 0 <= total <= ceiling for total in totals)

    async def test_of_many_that_have_read_the_same_state_exactly_one_writes_the_next_in_each_round(
        self, open_table: OpenTable
    ) -> None:
        async with open_table() as here, open_table() as there:
            tables = [here, there] * 6
            for number in range(12):
                seen = await asyncio.gather(*(table.get(A) for table in tables))
                assert {row.version if row else 0 for row in seen} == {number}
                answers = await asyncio.gather(
                    *(table.transact(Put(A, b"%d" % who, number)) for who, table in enumerate(tables)),
                    return_exceptions=True,
                )
                (winner,) = (who for who, answer in enumerate(answers) if answer is None)
                assert all(isinstance(answer, Conflict) for answer in answers if answer is not None)
                assert await here.get(A) == Row(A, b"%d" % winner, number + 1)

    async def test_what_a_transaction_of_checks_confirms_was_of_one_instant(
        self, open_table: OpenTable
    ) -> None:
        """Else one row of a transaction may be seen before the other."""
        left, right = fresh(), fresh()
        is_over = asyncio.Event()

        async def write(table: Table) -> None:
            for _ in range(40):
                await table.transact(Put(left, b"", None), Put(right, b"", None))
                await asyncio.sleep(0)
            is_over.set()

        async def confirmed(table: Table) -> bool:
            found = await table.get_many([left, right])
            versions = [found[key].version if key in found else 0 for key in (left, right)]
            try:
                await table.transact(Check(left, versions[0]), Check(right, versions[1]))
            except Conflict:
                return False
            assert versions[0] == versions[1]
            return True

        async def read(table: Table) -> None:
            while not is_over.is_set():
                await confirmed(table)
                await asyncio.sleep(0)
            assert await confirmed(table)

        async with open_table() as here, open_table() as there:
            await asyncio.gather(write(here), read(there), read(here))

    async def test_a_listing_gives_what_was_there_throughout_once_whatever_comes_and_goes_meanwhile(
        self, open_table: OpenTable
    ) -> None:
        partition = fresh().partition
        stay = [f"{number:02d}" for number in range(0, 40, 2)]
        is_over = asyncio.Event()

        async def churn(table: Table) -> None:
            while not is_over.is_set():
                for number in range(-1, 41, 2):
                    key = Key(partition, f"{number:02d}")
                    await table.transact(Delete(key, None) if await table.get(key) else Put(key, b"", None))
                    await asyncio.sleep(0)

        async def look(table: Table) -> None:
            for limit in (1, 2, 3, 7, 100):
                found = sorts(await every(table, partition, limit=limit))
                assert found == sorted(set(found))
                assert [sort for sort in found if sort in stay] == stay
                await asyncio.sleep(0)
            is_over.set()

        async with open_table() as here, open_table() as there:
            await here.transact(*(Put(Key(partition, sort), b"", 0) for sort in stay))
            await asyncio.gather(churn(here), look(there))

    async def test_a_row_that_is_deleted_between_two_pages_is_no_end_of_the_listing(
        self, table: Table
    ) -> None:
        partition = fresh().partition
        places = [Key(partition, sort) for sort in "abcd"]
        await table.transact(*(Put(place, b"", 0) for place in places))
        first = await table.list(partition, limit=2)
        while not first.rows:
            first = await table.list(partition, after=first.next_after, limit=2)
        last = first.rows[-1].key
        await table.transact(Delete(last, None))
        rest = [place.sort for place in places if place > last]
        rows, after = [*first.rows], first.next_after
        while after is not None:
            page = await table.list(partition, after=after)
            rows, after = [*rows, *page.rows], page.next_after
        assert sorts(rows) == [*sorts(list(first.rows)), *rest]

    async def test_a_write_whose_answer_nobody_waits_for_is_settled_by_writing_again(
        self, open_table: OpenTable
    ) -> None:
        """It was made wholly, or not, or is made yet: of it and the one that repeats it one succeeds."""
        async with open_table() as table, open_table() as other:
            for turns in range(6):
                left, right, counter = fresh(), fresh(), fresh()

                async def write(left: Key = left, right: Key = right, counter: Key = counter) -> None:
                    await table.transact(Put(left, b"once", 0), Put(right, b"once", 0))
                    await table.take(counter, 2, 3)

                writing = asyncio.ensure_future(write())
                for _ in range(turns):
                    await asyncio.sleep(0)
                writing.cancel()
                with suppress(asyncio.CancelledError):
                    await writing
                with suppress(Conflict):
                    await other.transact(Put(left, b"once", 0), Put(right, b"once", 0))
                expected = {key: Row(key, b"once", 1) for key in (left, right)}
                assert await other.get_many([left, right]) == expected
                assert await other.take(counter, 2, 3) in (None, 2)
                assert await table.take(counter, 0, 3) == 2
