"""The exam of every Table: what each promise of `tenants.ports` looks like when it is kept.

A test module subclasses `TableContract` and says with the `open_table` fixture how its store is opened; each
call opens the same store once more.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenants.errors import Conflict
from tenants.ports import (
    KEY_BYTES,
    MOST_COUNT,
    MOST_ITEMS,
    MOST_KEYS,
    MOST_ROWS,
    TRANSACTION_BYTES,
    VALUE_BYTES,
    Check,
    Delete,
    Item,
    Key,
    Put,
    Row,
    Table,
    item_bytes,
)
from tests.contracts.table_places import A, B, every, fresh, later, law, sorts
from tests.contracts.table_races import TableRaces


class TableContract(TableRaces):
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

    async def test_what_is_just_within_the_limits_is_kept_and_one_byte_more_is_not(
        self, table: Table
    ) -> None:
        longest = Key("ä" * (KEY_BYTES // 2), "\U00010000" * (KEY_BYTES // 4))
        largest = [Put(place, bytes(VALUE_BYTES), 0) for place in (longest, *(fresh() for _ in range(8)))]
        others: list[Item] = [Check(fresh(), 0) for _ in range(MOST_ITEMS - len(largest) - 1)]
        place = fresh()
        most: list[Item] = [*largest, *others]
        left = TRANSACTION_BYTES - sum(map(item_bytes, [*most, Check(place, 0)]))
        with pytest.raises(ValueError, match="transaction"):
            await table.transact(*most, Put(place, bytes(left + 1), 0))
        assert await table.get(longest) is None
        await table.transact(*most, Put(place, bytes(left), 0))
        assert await table.get_many([item.key for item in most]) == {
            put.key: Row(put.key, put.value, 1) for put in largest
        }

    async def test_as_many_of_the_largest_rows_as_one_may_ask_for_come_whole(self, table: Table) -> None:
        """More than any store answers at once: it is asked on underneath, and pages end before."""
        partition, largest = fresh().partition, bytes(VALUE_BYTES)
        places = [Key(partition, f"{number:03d}") for number in range(MOST_KEYS)]
        at_once = TRANSACTION_BYTES // VALUE_BYTES - 1
        for start in range(0, len(places), at_once):
            await table.transact(*(Put(place, largest, 0) for place in places[start : start + at_once]))
        found = await table.get_many(places)
        assert {place: len(row.value) for place, row in found.items()} == dict.fromkeys(places, VALUE_BYTES)
        assert sorts(await every(table, partition, limit=MOST_ROWS)) == [place.sort for place in places]

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
        for limit in (0, MOST_ROWS + 1):
            with pytest.raises(ValueError, match="limit"):
                await table.list("a", limit=limit)
        for place in ("a" * (KEY_BYTES + 1), "\ud800"):
            with pytest.raises(ValueError, match=r"key|surrogate"):
                await table.list("a", prefix=place)
            with pytest.raises(ValueError, match=r"key|surrogate"):
                await table.list("a", after=place)
        for amount, ceiling in ((MOST_COUNT + 1, 5), (-MOST_COUNT - 1, 5), (1, -1), (1, MOST_COUNT + 1)):
            with pytest.raises(ValueError, match="take"):
                await table.take(A, amount, ceiling)

    async def test_get_many_gives_each_row_once_and_no_absent_one(self, table: Table) -> None:
        await table.transact(Put(A, b"one", None), Put(B, b"two", None))
        assert await table.get_many([]) == {}
        found = await table.get_many([B, Key("absent"), A, B])
        assert found == {A: Row(A, b"one", 1), B: Row(B, b"two", 1)}

    @law
    @given(
        kept=st.sets(
            st.text(st.sampled_from("a%_\x00\uffff\U00010000"), max_size=3), max_size=MOST_ITEMS - 1
        ),
        prefix=st.text(st.sampled_from("a%_\uffff"), max_size=2),
        limit=st.integers(1, 4),
    )
    async def test_the_pages_together_are_the_rows_with_the_prefix_in_the_order_of_their_bytes(
        self, table: Table, kept: set[str], prefix: str, limit: int
    ) -> None:
        partition = fresh().partition
        await table.transact(
            Put(Key(f"{partition}-"), b"", None),
            *(Put(Key(partition, sort), b"x", 0) for sort in kept),
        )
        wanted = sorted((sort for sort in kept if sort.startswith(prefix)), key=str.encode)
        rows = await every(table, partition, prefix, limit)
        assert rows == [Row(Key(partition, sort), b"x", 1) for sort in wanted]

    async def test_rows_are_in_the_order_of_utf_8_and_not_of_utf_16(self, table: Table) -> None:
        ordered = ["", "\0", "A", "a", "a\0", "é", "\ud7ff", "\ue000", "\uffff", "\U00010000", "\U0010ffff"]
        assert sorted(ordered, key=lambda sort: sort.encode("utf-16-be")) != ordered
        partition = fresh().partition
        await table.transact(*(Put(Key(partition, sort), b"", 0) for sort in reversed(ordered)))
        assert sorts(await every(table, partition, limit=2)) == ordered

    async def test_a_prefix_at_the_end_of_all_keys_finds_what_starts_with_it(self, table: Table) -> None:
        """Nothing comes behind it that a range could end at."""
        last, partition = "\U0010ffff", fresh().partition
        longest = last * (KEY_BYTES // 4)
        ordered = ["\U0010fffe", last, last + "a", last * 2, longest]
        await table.transact(*(Put(Key(partition, sort), b"", 0) for sort in ordered))
        assert sorts(await every(table, partition, last, limit=1)) == ordered[1:]
        assert sorts(await every(table, partition, longest)) == [longest]
        assert await later(table, partition, longest, longest) == []

    async def test_a_listing_starts_after_a_place_that_need_not_exist(self, table: Table) -> None:
        await table.transact(*(Put(Key("p", sort), b"", None) for sort in ("", "b", "k/1", "k/3", "l")))

        async def listed(prefix: str, after: str | None) -> list[str]:
            return sorts(await later(table, "p", prefix, after))

        assert await listed("", "k/2") == ["k/3", "l"]
        assert await listed("", "") == ["b", "k/1", "k/3", "l"]
        assert await listed("k/", "a") == ["k/1", "k/3"]
        assert await listed("k/", "k/3") == []
        assert await listed("k/", "z") == []

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

    async def test_counters_and_rows_do_not_see_each_other(self, table: Table) -> None:
        assert await table.take(A, 5, 10) == 5
        assert await table.get(A) is None
        assert await every(table, A.partition) == []
        await table.transact(Put(A, b"row", 0))
        await table.transact(Delete(A, 1))
        assert await table.take(A, MOST_COUNT - 5, MOST_COUNT) == MOST_COUNT

    async def test_a_counter_is_exact_up_to_the_largest_and_refused_over_its_ceiling(
        self, table: Table
    ) -> None:
        counter = fresh()
        assert await table.take(counter, MOST_COUNT, MOST_COUNT) == MOST_COUNT
        assert await table.take(counter, 1, MOST_COUNT) is None
        assert await table.take(counter, -1, 10) is None
        assert await table.take(counter, -1, MOST_COUNT) == MOST_COUNT - 1
        assert await table.take(counter, -MOST_COUNT, MOST_COUNT) is None
        assert await table.take(counter, 1 - MOST_COUNT, MOST_COUNT) == 0
