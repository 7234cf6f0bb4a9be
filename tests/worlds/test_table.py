"""The world keeps the contract that it stands for, and its faults are what they say."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from tenants.errors import TableUnavailable
from tenants.ports import Key, Page, Put, Row, Table
from tests.contracts.table import TableContract
from tests.contracts.table_places import OpenTable, every, sorts
from tests.worlds.table import Fault, MemoryTable, Pause

A = Key("a")


def doors(world: MemoryTable) -> OpenTable:
    @asynccontextmanager
    async def door() -> AsyncIterator[Table]:
        yield world

    def opened() -> AbstractAsyncContextManager[Table]:
        return door()

    return opened


class TestMemoryTable(TableContract):
    @pytest.fixture
    def open_table(self) -> OpenTable:
        return doors(MemoryTable())


class TestMemoryTableOfShortPages(TableContract):
    @pytest.fixture
    def open_table(self) -> OpenTable:
        return doors(MemoryTable(page_rows=deque([0, 1, 0, 2] * 5_000)))


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


@pytest.mark.parametrize("is_done", [False, True])
async def test_a_slow_call_waits_before_or_after_it_is_done_and_others_go_on(*, is_done: bool) -> None:
    world, pause = MemoryTable(), Pause()
    (world.pauses_after if is_done else world.pauses_before).append(pause)
    write = asyncio.ensure_future(world.transact(Put(A, b"", 0)))
    await pause.came.wait()
    assert (await world.get(A) is not None) is is_done
    assert not write.done()
    pause.go.set()
    await write
    assert await world.get(A) == Row(A, b"", 1)


@pytest.mark.parametrize("is_done", [False, True])
async def test_a_slow_write_that_nobody_waits_for_is_undone_or_done(*, is_done: bool) -> None:
    world, pause = MemoryTable(), Pause()
    (world.pauses_after if is_done else world.pauses_before).append(pause)
    write = asyncio.ensure_future(world.take(A, 1, 1))
    await pause.came.wait()
    write.cancel()
    with pytest.raises(asyncio.CancelledError):
        await write
    assert await world.take(A, 0, 1) == int(is_done)


async def test_a_page_is_as_short_as_asked_for_and_empty_where_there_is_a_place_to_go_on_from() -> None:
    world = MemoryTable(page_rows=deque([0, 2, 0, 1]))
    await world.transact(*(Put(Key("p", sort), b"", 0) for sort in ("a", "b", "c", "d")))
    assert await world.list("p") == Page((), "")
    page = await world.list("p", after="")
    assert (sorts(list(page.rows)), page.next_after) == (["a", "b"], "b")
    assert await world.list("p", after="b") == Page((), "b\0")
    assert sorts(await every(world, "p")) == ["a", "b", "c", "d"]
