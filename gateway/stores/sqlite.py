"""The Table in one SQLite file, for one host: any number of processes may have it open at once.

Durable: a write has reached the disk (WAL, synchronous FULL) when the call returns. Trusted: whoever can
write the file can make keys, so its mode is 0600. If it is lost, all tenants and keys are; `gateway backup` copies
it, also while it is in use. `schema.py` has its format.

Fails closed: every SQLite error is TableUnavailable. A process that stops inside a write keeps the other
writers out, and each of them gives up after `busy_seconds`; readers go on, also those of a process whose own write waits.
"""

import asyncio
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from tempfile import mkstemp
from types import TracebackType
from typing import Self, TypeVar

from gateway.stores import schema
from tenants.errors import Conflict, TableUnavailable
from tenants.ports import (
    MOST_KEYS,
    PAGE_BYTES,
    Check,
    Delete,
    Item,
    Key,
    Page,
    Put,
    Row,
    check_items,
    check_key,
    check_keys,
    check_page,
    check_take,
)

_FROM = "SELECT sort, value, version FROM rows WHERE partition = ? AND sort >= ? ORDER BY sort"
_AFTER = "SELECT sort, value, version FROM rows WHERE partition = ? AND sort > ? ORDER BY sort"

_Answer = TypeVar("_Answer")


class _Worker:
    """A connection to the file and the one thread that uses it; the loop never waits."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sqlite")
        self._connection: sqlite3.Connection | None = None

    async def open(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connection = await self._answer(connect)

    async def close(self) -> None:
        closed = self._thread.submit(self._connection.close) if self._connection else None
        self._thread.shutdown(wait=False)
        if closed is not None:
            await asyncio.wrap_future(closed)

    async def run(self, work: Callable[[sqlite3.Connection], _Answer]) -> _Answer:
        """Cancelling the caller does not undo: as with a lost answer, the work may have been done."""
        connection = self._connection
        if connection is None:
            raise TableUnavailable(f"{self._path}: not open")
        return await self._answer(lambda: work(connection))

    async def _answer(self, work: Callable[[], _Answer]) -> _Answer:
        try:
            return await asyncio.wrap_future(self._thread.submit(work))
        except (sqlite3.Error, OSError) as error:
            raise TableUnavailable(f"{self._path}: {error}") from error


class SqliteTable:
    """An async context manager, open inside it. Reads do not stand in line behind a write that waits for another process.

    `erases`: when a row was deleted, its bytes are in none of the table's files any more, at the price of a checkpoint. TableUnavailable
    while somebody still reads what was there before; repeating the deletion, also of what is gone, does the rest.

    Not `durable`: a write outlives every process, and may be lost with the host's power, the newest ones first and none in part.
    """

    def __init__(
        self, path: Path, *, busy_seconds: float = 5.0, erases: bool = False, durable: bool = True
    ) -> None:
        self._path = path
        self._synchronous = "FULL" if durable else "NORMAL"
        self._busy_seconds = busy_seconds
        self._erases = erases
        self._reads, self._writes = _Worker(path), _Worker(path)

    async def __aenter__(self) -> Self:
        """Open, made if there was none, of the newest version. Raises TableUnavailable, UnknownFormat."""
        try:
            for worker in (self._writes, self._reads):
                await worker.open(self._open)
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def _close(self) -> None:
        for worker in (self._reads, self._writes):
            await worker.close()

    async def get(self, key: Key) -> Row | None:
        check_key(key)
        return await self._reads.run(lambda reader: _row(reader, key))

    async def get_many(self, keys: Sequence[Key]) -> dict[Key, Row]:
        check_keys(keys)
        return await self._reads.run(lambda reader: {key: row for key in keys if (row := _row(reader, key))})

    async def list(
        self, partition: str, prefix: str = "", after: str | None = None, limit: int = MOST_KEYS
    ) -> Page:
        check_page(partition, prefix, after, limit)
        return await self._reads.run(lambda reader: _page(reader, partition, prefix, after, limit))

    async def transact(self, *items: Item) -> None:
        check_items(items)
        await self._writes.run(lambda writer: self._transact(writer, items))

    async def take(self, key: Key, amount: int, ceiling: int) -> int | None:
        check_take(key, amount, ceiling)
        return await self._writes.run(lambda writer: self._take(writer, key, amount, ceiling))

    # From here on in a thread

    def _open(self) -> sqlite3.Connection:
        if not self._path.exists():
            _create(self._path)
        self._path.chmod(0o600)
        connection = sqlite3.connect(self._path, timeout=self._busy_seconds, isolation_level=None)
        try:
            schema.version_of(connection, self._path)
            connection.execute(f"PRAGMA synchronous = {self._synchronous}")
            connection.execute("PRAGMA secure_delete = ON")  # how SQLite was built decides otherwise
            schema.migrate(connection, self._path)
        except BaseException:
            connection.close()
            raise
        return connection

    def _transact(self, writer: sqlite3.Connection, items: Sequence[Item]) -> None:
        with self._writing(writer):
            for item in items:
                row = _row(writer, item.key)
                version = row.version if row else 0
                if item.expected not in (None, version):
                    raise Conflict(f"{item.key} has version {version}, expected {item.expected}")
                if isinstance(item, Put):
                    writer.execute(
                        "INSERT OR REPLACE INTO rows VALUES (?, ?, ?, ?)",
                        (*item.key, item.value, version + 1),
                    )
                elif not isinstance(item, Check):
                    writer.execute("DELETE FROM rows WHERE partition = ? AND sort = ?", item.key)
        if self._erases and any(isinstance(item, Delete) for item in items):
            self._erase(writer)

    def _erase(self, writer: sqlite3.Connection) -> None:
        """The log is in the file and empty, so what was overwritten in the one is not kept in the other."""
        (is_busy, _, _) = writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if is_busy:
            raise TableUnavailable(f"{self._path}: what was deleted cannot be erased yet, as somebody reads")

    def _take(self, writer: sqlite3.Connection, key: Key, amount: int, ceiling: int) -> int | None:
        with self._writing(writer):
            select = "SELECT total FROM counters WHERE partition = ? AND sort = ?"
            (total,) = writer.execute(select, key).fetchone() or (0,)
            total += amount
            if not 0 <= total <= ceiling:
                return None
            writer.execute("INSERT OR REPLACE INTO counters VALUES (?, ?, ?)", (*key, total))
            return int(total)

    @contextmanager
    def _writing(self, writer: sqlite3.Connection) -> Iterator[None]:
        """One transaction, in the format that was there when the file was opened: a newer program may have changed it since."""
        with schema.writing(writer):
            schema.version_of(writer, self._path)
            yield


def _row(reader: sqlite3.Connection, key: Key) -> Row | None:
    select = "SELECT value, version FROM rows WHERE partition = ? AND sort = ?"
    found = reader.execute(select, key).fetchone()
    return found and Row(key, *found)


def _page(reader: sqlite3.Connection, partition: str, prefix: str, after: str | None, limit: int) -> Page:
    select, bound = (_FROM, prefix) if after is None or after < prefix else (_AFTER, after)
    rows: list[Row] = []
    held_bytes = 0
    with closing(reader.execute(select, (partition, bound))) as found:
        for sort, value, version in found:
            if not sort.startswith(prefix):
                break
            if len(rows) == limit or held_bytes >= PAGE_BYTES:
                return Page(tuple(rows), rows[-1].key.sort)
            rows.append(Row(Key(partition, sort), value, version))
            held_bytes += len(value)
    return Page(tuple(rows), None)


def copy(path: Path, to: Path) -> int:
    """`to` becomes the table as it was at one instant, also while it is written. Returns its schema version. Raises TableUnavailable,
    UnknownFormat.
    """
    try:
        with (
            closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)) as source,
            closing(sqlite3.connect(to)) as target,
        ):
            version = schema.version_of(source, path)
            source.backup(target)
            ((found, *_), *_) = target.execute("PRAGMA quick_check(1)")
    except sqlite3.Error as error:
        raise TableUnavailable(f"{path}: {error}") from error
    if found != "ok":
        raise TableUnavailable(f"{path}: {found}")
    return version


def rows(path: Path) -> list[Row]:
    """All of a table that nobody writes, by partition and sort; its folder stays as it is. Raises TableUnavailable, UnknownFormat."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?immutable=1", uri=True)) as reader:
            schema.version_of(reader, path)
            found = reader.execute(
                "SELECT partition, sort, value, version FROM rows ORDER BY partition, sort"
            )
            return [Row(Key(partition, sort), value, version) for partition, sort, value, version in found]
    except sqlite3.Error as error:
        raise TableUnavailable(f"{path}: {error}") from error


def holds_rows(path: Path) -> bool:
    """Whether there is a table that has any. Raises TableUnavailable, UnknownFormat."""
    if not path.exists():
        return False
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)) as reader:
            schema.version_of(reader, path)
            return reader.execute("SELECT 1 FROM rows LIMIT 1").fetchone() is not None
    except sqlite3.Error as error:
        raise TableUnavailable(f"{path}: {error}") from error


def _create(path: Path) -> None:
    """A complete new file appears under its name, unless another process was faster.

    Made aside, because SQLite does not wait its turn where several switch the same file to WAL.
    """
    descriptor, made = mkstemp(dir=path.parent, prefix=f"{path.name}.")
    os.close(descriptor)
    try:
        schema.create(Path(made))
        with suppress(FileExistsError):
            os.link(made, path)
    finally:
        os.unlink(made)
