"""The Table in one SQLite file, for one host: any number of processes may have it open at once.

Durable: a write has reached the disk (WAL, synchronous FULL) when the call returns. Trusted: whoever can
write the file can make keys, so its mode is 0600. If it is lost, all tenants and keys are; the back-up is
`sqlite3 FILE ".backup COPY"`, also while it is in use.

Fails closed: every SQLite error is TableUnavailable. A process that stops inside a write keeps the other
writers out, and each of them gives up after `busy_seconds`; readers go on.
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
from typing import Final, Self, TypeVar

from tenants.errors import Conflict, TableUnavailable
from tenants.ports import (
    MOST_KEYS,
    Check,
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

# "gwTB", so that another program's file is never taken for ours. A new version is a new number and a step
# from the old one; a file of a version that is not ours is refused.
APPLICATION_ID: Final = 0x67775442
SCHEMA_VERSION: Final = 1
_SCHEMA = (
    "PRAGMA journal_mode = WAL",
    """CREATE TABLE rows (partition TEXT NOT NULL, sort TEXT NOT NULL,
       value BLOB NOT NULL, version INTEGER NOT NULL, PRIMARY KEY (partition, sort)) STRICT, WITHOUT ROWID""",
    """CREATE TABLE counters (partition TEXT NOT NULL, sort TEXT NOT NULL, total INTEGER NOT NULL,
       PRIMARY KEY (partition, sort)) STRICT, WITHOUT ROWID""",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)
_FROM = "SELECT sort, value, version FROM rows WHERE partition = ? AND sort >= ? ORDER BY sort"
_AFTER = "SELECT sort, value, version FROM rows WHERE partition = ? AND sort > ? ORDER BY sort"

_Answer = TypeVar("_Answer")


class SqliteTable:
    """An async context manager, open inside it. One thread of its own does the work; the loop never waits."""

    def __init__(self, path: Path, *, busy_seconds: float = 5.0) -> None:
        self._path = path
        self._busy_seconds = busy_seconds
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sqlite")
        self._connection: sqlite3.Connection

    async def __aenter__(self) -> Self:
        """Open, made if there was none. TableUnavailable if it cannot be, or is of another version."""
        try:
            self._connection = await self._run(self._open)
        except BaseException:
            self._thread.shutdown(wait=False)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        closed = self._thread.submit(self._connection.close)
        self._thread.shutdown(wait=False)
        await asyncio.wrap_future(closed)

    async def get(self, key: Key) -> Row | None:
        check_key(key)
        return await self._run(lambda: self._row(key))

    async def get_many(self, keys: Sequence[Key]) -> dict[Key, Row]:
        check_keys(keys)
        return await self._run(lambda: {key: row for key in keys if (row := self._row(key))})

    async def list(
        self, partition: str, prefix: str = "", after: str | None = None, limit: int = MOST_KEYS
    ) -> Page:
        check_page(partition, limit)
        return await self._run(lambda: self._page(partition, prefix, after, limit))

    async def transact(self, *items: Item) -> None:
        check_items(items)
        await self._run(lambda: self._transact(items))

    async def take(self, key: Key, amount: int, ceiling: int) -> int | None:
        check_take(key, amount, ceiling)
        return await self._run(lambda: self._take(key, amount, ceiling))

    async def _run(self, work: Callable[[], _Answer]) -> _Answer:
        """Cancelling the caller does not undo: as with a lost answer, the work may have been done."""
        try:
            return await asyncio.wrap_future(self._thread.submit(work))
        except (sqlite3.Error, OSError) as error:
            raise TableUnavailable(f"{self._path}: {error}") from error

    # From here on in the thread

    def _open(self) -> sqlite3.Connection:
        if not self._path.exists():
            _create(self._path)
        self._path.chmod(0o600)
        connection = sqlite3.connect(self._path, timeout=self._busy_seconds, isolation_level=None)
        try:
            self._recognise(connection)
            connection.execute("PRAGMA synchronous = FULL")
        except BaseException:
            connection.close()
            raise
        return connection

    def _recognise(self, connection: sqlite3.Connection) -> None:
        (application_id,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if (application_id, version) != (APPLICATION_ID, SCHEMA_VERSION):
            raise TableUnavailable(f"{self._path}: not a table of schema version {SCHEMA_VERSION}")

    def _row(self, key: Key) -> Row | None:
        select = "SELECT value, version FROM rows WHERE partition = ? AND sort = ?"
        found = self._connection.execute(select, key).fetchone()
        return found and Row(key, *found)

    def _page(self, partition: str, prefix: str, after: str | None, limit: int) -> Page:
        select, bound = (_FROM, prefix) if after is None or after < prefix else (_AFTER, after)
        rows: list[Row] = []
        with closing(self._connection.execute(select, (partition, bound))) as found:
            for sort, value, version in found:
                if not sort.startswith(prefix):
                    break
                if len(rows) == limit:
                    return Page(tuple(rows), rows[-1].key.sort)
                rows.append(Row(Key(partition, sort), value, version))
        return Page(tuple(rows), None)

    def _transact(self, items: Sequence[Item]) -> None:
        with _writing(self._connection) as connection:
            for item in items:
                row = self._row(item.key)
                version = row.version if row else 0
                if item.expected not in (None, version):
                    raise Conflict(f"{item.key} has version {version}, expected {item.expected}")
                if isinstance(item, Put):
                    connection.execute(
                        "INSERT OR REPLACE INTO rows VALUES (?, ?, ?, ?)",
                        (*item.key, item.value, version + 1),
                    )
                elif not isinstance(item, Check):
                    connection.execute("DELETE FROM rows WHERE partition = ? AND sort = ?", item.key)

    def _take(self, key: Key, amount: int, ceiling: int) -> int | None:
        with _writing(self._connection) as connection:
            select = "SELECT total FROM counters WHERE partition = ? AND sort = ?"
            (total,) = connection.execute(select, key).fetchone() or (0,)
            total += amount
            if not 0 <= total <= ceiling:
                return None
            connection.execute("INSERT OR REPLACE INTO counters VALUES (?, ?, ?)", (*key, total))
            return int(total)


def _create(path: Path) -> None:
    """A complete new file appears under its name, unless another process was faster.

    Made aside, because SQLite does not wait its turn where several switch the same file to WAL.
    """
    descriptor, made = mkstemp(dir=path.parent, prefix=f"{path.name}.")
    os.close(descriptor)
    try:
        with closing(sqlite3.connect(made, isolation_level=None)) as connection:
            for statement in _SCHEMA:
                connection.execute(statement)
        with suppress(FileExistsError):
            os.link(made, path)
    finally:
        os.unlink(made)


@contextmanager
def _writing(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """One transaction: all of it is on the disk afterwards, or, when it raises, nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
