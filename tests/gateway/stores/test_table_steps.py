"""Whatever is asked of it in whatever order, SQLite answers as the world does and holds the same. Failures print the steps."""

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.stores.sqlite import SqliteTable
from tenants.errors import Conflict
from tenants.ports import MOST_COUNT, Check, Delete, Item, Key, Put
from tests.contracts.table_places import every, later
from tests.worlds.table import MemoryTable

PARTITIONS = ("p", "q")
SORTS = ("", "a", "a/1", "a/\uffff", "a/\U00010000", "b", "\U0010ffff")
places = st.builds(Key, st.sampled_from(PARTITIONS), st.sampled_from(SORTS))
versions = st.integers(0, 3)
items: st.SearchStrategy[Item] = st.one_of(
    st.builds(Put, places, st.binary(max_size=3), st.none() | versions),
    st.builds(Delete, places, st.none() | versions),
    st.builds(Check, places, versions),
)
_Answer = TypeVar("_Answer")


class TableSteps(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp())
        self.world = MemoryTable()
        self.opened = AsyncExitStack()
        self.tables: list[SqliteTable] = []
        self.run(self.open())

    def run(self, work: Awaitable[_Answer]) -> _Answer | type[Conflict]:
        async def answer() -> _Answer | type[Conflict]:
            try:
                return await work
            except Conflict:
                return Conflict

        return self.runner.run(answer())

    async def open(self) -> None:
        """Twice, as for two processes."""
        path = self.folder / "table.sqlite"
        self.tables = [await self.opened.enter_async_context(SqliteTable(path)) for _ in range(2)]

    @rule(which=st.integers(0, 1), given=st.lists(items, min_size=1, max_size=4, unique_by=lambda it: it.key))
    def transact(self, which: int, given: list[Item]) -> None:
        assert self.run(self.tables[which].transact(*given)) == self.run(self.world.transact(*given))

    @rule(which=st.integers(0, 1), place=places, amount=st.integers(-5, 9), ceiling=st.integers(0, 12))
    def take(self, which: int, place: Key, amount: int, ceiling: int) -> None:
        taken = self.run(self.tables[which].take(place, amount, ceiling))
        assert taken == self.run(self.world.take(place, amount, ceiling))

    @rule(which=st.integers(0, 1), keys=st.lists(places, max_size=5))
    def get(self, which: int, keys: list[Key]) -> None:
        table = self.tables[which]
        assert self.run(table.get_many(keys)) == self.run(self.world.get_many(keys))
        for key in keys:
            assert self.run(table.get(key)) == self.run(self.world.get(key))

    @rule(
        partition=st.sampled_from(PARTITIONS),
        prefix=st.sampled_from(("", "a", "a/", "\U0010ffff")),
        after=st.none() | st.sampled_from((*SORTS, "a/0", "z")),
        limit=st.integers(1, 5),
        short=st.lists(st.integers(0, 2), max_size=3),
    )
    def pages(self, partition: str, prefix: str, after: str | None, limit: int, short: list[int]) -> None:
        self.world.page_rows.extend(short)
        there = self.run(later(self.world, partition, prefix, after, limit))
        self.world.page_rows.clear()
        assert self.run(later(self.tables[0], partition, prefix, after, limit)) == there

    @rule()
    def restart(self) -> None:
        self.run(self.opened.aclose())
        self.run(self.open())

    @invariant()
    def both_hold_the_same(self) -> None:
        for table in self.tables:
            for partition in PARTITIONS:
                assert self.run(every(table, partition)) == self.run(every(self.world, partition))
        for place, total in self.world.counters.items():
            assert self.run(self.tables[0].take(place, 0, MOST_COUNT)) == total

    def teardown(self) -> None:
        self.run(self.opened.aclose())
        self.runner.close()
        shutil.rmtree(self.folder)


TestTableSteps = TableSteps.TestCase
TestTableSteps.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
