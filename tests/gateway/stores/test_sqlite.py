"""The SQLite table keeps the contract; and what only a file can do to it."""

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.stores.sqlite import SqliteTable
from tenants.errors import TableUnavailable
from tenants.ports import Delete, Key, Put, Row
from tests.contracts.table import TableContract
from tests.contracts.table_places import OpenTable, every

A, B = Key("a"), Key("b")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "table.sqlite"


@pytest.fixture
def no_database(path: Path) -> Path:
    path.write_bytes(b"no database, but long enough for its head" * 100)
    return path


def modes(folder: Path) -> dict[str, int]:
    return {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}


@contextmanager
def stuck_writer(path: Path) -> Iterator[None]:
    """Another program that stopped inside a write."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    yield
    connection.close()


class TestSqliteTable(TableContract):
    @pytest.fixture
    def open_table(self, path: Path) -> OpenTable:
        return lambda: SqliteTable(path)


@pytest.mark.parametrize("mode_before", [0o600, 0o644])
async def test_the_files_are_for_their_owner_only(path: Path, mode_before: int) -> None:
    async with SqliteTable(path):
        os.chmod(path, mode_before)
    async with SqliteTable(path) as table:
        await table.transact(Put(A, b"", 0))
        found = modes(path.parent)
    assert found == dict.fromkeys(("table.sqlite", "table.sqlite-wal", "table.sqlite-shm"), 0o600)


@pytest.mark.parametrize(("durable", "synchronous"), [(True, 2), (False, 1)])
async def test_a_write_waits_for_the_disk_unless_it_need_not_be_durable(
    path: Path, *, durable: bool, synchronous: int
) -> None:
    async with SqliteTable(path, durable=durable) as table:
        pragmas = await table._writes.run(
            lambda writer: [
                writer.execute(f"PRAGMA {name}").fetchone() for name in ("journal_mode", "synchronous")
            ]
        )
    assert pragmas == [("wal",), (synchronous,)]


async def test_a_new_file_is_for_its_owner_only_from_the_start(path: Path) -> None:
    async with SqliteTable(path) as table:
        await table.get(A)
        assert set(modes(path.parent).values()) == {0o600}


async def test_many_open_a_new_file_at_once(path: Path) -> None:
    async def put(number: int) -> None:
        async with SqliteTable(path) as table:
            await table.transact(Put(Key("p", str(number)), b"", 0))

    await asyncio.gather(*(put(number) for number in range(8)))
    async with SqliteTable(path) as table:
        assert len(await every(table, "p")) == 8


async def test_what_is_no_database_or_no_place_for_one_is_unavailable(no_database: Path) -> None:
    for place in (no_database, no_database / "below", no_database.with_name("nowhere") / "table.sqlite"):
        with pytest.raises(TableUnavailable):
            async with SqliteTable(place):
                pass


async def test_a_writer_that_is_stuck_keeps_writers_out_but_not_readers(path: Path) -> None:
    async with SqliteTable(path, busy_seconds=0.01) as table:
        await table.transact(Put(A, b"one", 0))
        with stuck_writer(path):
            with pytest.raises(TableUnavailable):
                await table.transact(Put(A, b"two", 1))
            with pytest.raises(TableUnavailable):
                await table.take(A, 1, 1)
            assert await table.get(A) == Row(A, b"one", 1)
        await table.transact(Put(A, b"two", 1))
        assert await table.get(A) == Row(A, b"two", 2)


async def test_a_write_that_waits_for_another_process_keeps_no_reader_of_its_own_waiting(path: Path) -> None:
    async with SqliteTable(path, busy_seconds=60) as table:
        await table.transact(Put(A, b"one", 0))
        with stuck_writer(path):
            write = asyncio.gather(table.transact(Put(A, b"two", 1)))
            assert await table.get(A) == Row(A, b"one", 1)
            assert await table.get_many([A]) == {A: Row(A, b"one", 1)}
            assert (await table.list("a")).rows == (Row(A, b"one", 1),)
            assert not write.done()
        await write
        assert await table.get(A) == Row(A, b"two", 2)


async def test_a_writer_that_is_stuck_keeps_nobody_from_opening(path: Path) -> None:
    async with SqliteTable(path) as table:
        await table.transact(Put(A, b"one", 0))
    with stuck_writer(path):
        async with SqliteTable(path, busy_seconds=0.01) as table:
            assert await table.get(A) == Row(A, b"one", 1)


async def test_the_loop_runs_on_while_the_table_waits(path: Path) -> None:
    async with SqliteTable(path, busy_seconds=60) as table:
        with stuck_writer(path):
            write = asyncio.gather(table.transact(Put(A, b"", 0)))
            await asyncio.sleep(0)
            assert not write.done()
        await write


async def test_a_cancelled_write_is_done_or_not_but_never_by_half(path: Path) -> None:
    async with SqliteTable(path) as table:
        with stuck_writer(path):
            write = asyncio.gather(table.transact(Put(A, b"", 0), Put(B, b"", 0)))
            await asyncio.sleep(0)
            write.cancel()
            with pytest.raises(asyncio.CancelledError):
                await write
        assert len(await table.get_many([A, B])) in (0, 2)


WRITER = """
import asyncio, pathlib, sys
from gateway.stores.sqlite import SqliteTable
from tenants.ports import Key, Put

async def main():
    async with SqliteTable(pathlib.Path(sys.argv[1])) as table:
        for number in range(1_000_000):
            sort = f"{number:09d}"
            await table.transact(Put(Key("left", sort), b"", 0), Put(Key("right", sort), b"", 0))
            print(sort, flush=True)

asyncio.run(main())
"""


def told_by_a_killed_writer(path: Path, lines: int) -> list[str]:
    """What a process was told is written, up to its death by SIGKILL somewhere after so many lines."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout
        told = [writer.stdout.readline() for _ in range(lines)]
        writer.kill()
        return [line.strip() for line in (*told, *writer.stdout) if line.endswith("\n")]


@pytest.mark.parametrize("lines", [1, 20, 77])
async def test_what_a_killed_process_was_told_is_written_is_there_and_nothing_by_half(
    path: Path, lines: int
) -> None:
    told = told_by_a_killed_writer(path, lines)
    async with SqliteTable(path) as table:
        left = [row.key.sort for row in await every(table, "left", limit=1000)]
        right = [row.key.sort for row in await every(table, "right", limit=1000)]
    assert left == right
    assert left[: len(told)] == told
    assert len(told) >= lines
    assert len(left) - len(told) in (0, 1)


def traces(folder: Path, value: bytes) -> list[str]:
    return sorted(file.name for file in folder.iterdir() if value in file.read_bytes())


async def test_what_is_deleted_from_a_table_that_erases_is_in_none_of_its_files(path: Path) -> None:
    async with SqliteTable(path, erases=True) as table:
        await table.transact(Put(A, b"a wrapped key", 0))
        was_there = traces(path.parent, b"a wrapped key")
        await table.transact(Delete(A, None))
        left = traces(path.parent, b"a wrapped key")
    assert (was_there, left) == (["table.sqlite-wal"], [])


async def test_a_deletion_says_so_while_a_reader_keeps_what_was_deleted(path: Path) -> None:
    async with SqliteTable(path, busy_seconds=0.01, erases=True) as table:
        await table.transact(Put(A, b"a wrapped key", 0))
        reader = sqlite3.connect(path, isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM rows").fetchall()
        with pytest.raises(TableUnavailable, match="erased"):
            await table.transact(Delete(A, None))
        reader.close()
        await table.transact(Delete(A, None))
        left = traces(path.parent, b"a wrapped key")
    assert left == []
