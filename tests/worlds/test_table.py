"""The world keeps the contract that it stands for, and its faults are what they say."""

from collections import deque
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from tenants.errors import TableUnavailable
from tenants.ports import Key, Put, Row, Table
from tests.contracts.table import OpenTable, TableContract
from tests.worlds.table import Fault, MemoryTable

A = Key("a")


class TestMemoryTable(TableContract):
    @pytest.fixture
    def open_table(self) -> OpenTable:
        world = MemoryTable()

        @asynccontextmanager
        async def door() -> AsyncIterator[Table]:
            yield world

        def opened() -> AbstractAsyncContextManager[Table]:
            return door()

        return opened


@pytest.mark.parametrize(("fault", "left"), [(Fault.LOST_BEFORE, None), (Fault.LOST_AFTER, Row(A, b"", 1))])
async def test_a_lost_answer_leaves_the_write_undone_or_done(fault: Fault, left: Row | None) -> None:
    world = MemoryTable(write_faults=deque([fault, fault]))
    with pytest.raises(TableUnavailable):
        await world.transact(Put(A, b"", 0))
    with pytest.raises(TableUnavailable):
        await world.take(A, 3, 3)
    assert await world.get(A) == left
    assert await world.take(A, 0, 3) == (3 if left else 0)


async def test_a_conflict_whose_answer_is_lost_is_not_told() -> None:
    world = MemoryTable(write_faults=deque([Fault.LOST_AFTER]))
    with pytest.raises(TableUnavailable):
        await world.transact(Put(A, b"", expected=7))
    assert await world.get(A) is None


async def test_a_throttled_table_refuses_so_many_calls_and_a_gone_one_all() -> None:
    world = MemoryTable(throttled=2)
    for _ in range(2):
        with pytest.raises(TableUnavailable):
            await world.transact(Put(A, b"", None))
    assert await world.get(A) is None
    world.gone = True
    for _ in range(3):
        with pytest.raises(TableUnavailable):
            await world.list("a")
    world.gone = False
    assert await world.get(A) is None
