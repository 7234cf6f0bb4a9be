"""A world with a Table in it: it keeps the whole contract, and no more of it than every store does. Its answers can be lost or late."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum

from tenants.errors import Conflict, TableUnavailable
from tenants.ports import (
    KEY_BYTES,
    MOST_KEYS,
    PAGE_BYTES,
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


class Fault(Enum):
    LOST_BEFORE = "the write never arrived"
    LOST_AFTER = "the write was made and its answer never arrived"


@dataclass(slots=True)
class Pause:
    """A call that is slow: it sets `came`, and goes on once `go` is set."""

    came: asyncio.Event = field(default_factory=asyncio.Event)
    go: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True)
class MemoryTable:
    """`write_faults` befall the next writes, one each. `pauses_before` hold the next calls before anything is done, `pauses_after` once it
    is done and not answered.

    The next `throttled` calls are refused, and while the table is `gone` nothing is answered. The next pages have at most so many rows as
    `page_rows` says: with 0 one is empty, where there is a place before its first row to go on from.
    """

    rows: dict[Key, Row] = field(default_factory=dict)
    counters: dict[Key, int] = field(default_factory=dict)
    write_faults: deque[Fault] = field(default_factory=deque)
    pauses_before: deque[Pause] = field(default_factory=deque)
    pauses_after: deque[Pause] = field(default_factory=deque)
    page_rows: deque[int] = field(default_factory=deque)
    throttled: int = 0
    gone: bool = False

    async def get(self, key: Key) -> Row | None:
        check_key(key)
        async with self._call():
            return self.rows.get(key)

    async def get_many(self, keys: Sequence[Key]) -> dict[Key, Row]:
        check_keys(keys)
        async with self._call():
            in_no_promised_order = reversed(keys)
            return {key: self.rows[key] for key in in_no_promised_order if key in self.rows}

    async def list(
        self, partition: str, prefix: str = "", after: str | None = None, limit: int = MOST_KEYS
    ) -> Page:
        check_page(partition, prefix, after, limit)
        async with self._call():
            rows = [
                row
                for key, row in self.rows.items()
                if key.partition == partition and key.sort.startswith(prefix)
            ]
            rows.sort(key=lambda row: row.key.sort.encode())
            later = [row for row in rows if after is None or row.key.sort.encode() > after.encode()]
            most = min(limit, self.page_rows.popleft()) if self.page_rows else limit
            return _page(later, after, most)

    async def transact(self, *items: Item) -> None:
        check_items(items)
        async with self._write():
            for item in items:
                if item.expected not in (None, self._version(item.key)):
                    raise Conflict(f"{item.key} has version {self._version(item.key)}")
            for item in items:
                if isinstance(item, Put):
                    self.rows[item.key] = Row(item.key, item.value, self._version(item.key) + 1)
                elif not isinstance(item, Check):
                    self.rows.pop(item.key, None)

    async def take(self, key: Key, amount: int, ceiling: int) -> int | None:
        check_take(key, amount, ceiling)
        async with self._write():
            total = self.counters.get(key, 0) + amount
            if not 0 <= total <= ceiling:
                return None
            self.counters[key] = total
            return total

    def _version(self, key: Key) -> int:
        return self.rows[key].version if key in self.rows else 0

    @asynccontextmanager
    async def _call(self) -> AsyncIterator[None]:
        """What is inside is done at one instant."""
        await _pass(self.pauses_before)
        if self.gone:
            raise TableUnavailable("gone")
        if self.throttled:
            self.throttled -= 1
            raise TableUnavailable("throttled")
        try:
            yield
        finally:
            await _pass(self.pauses_after)

    @asynccontextmanager
    async def _write(self) -> AsyncIterator[None]:
        async with self._call():
            fault = self.write_faults.popleft() if self.write_faults else None
            if fault is Fault.LOST_BEFORE:
                raise TableUnavailable(fault.value)
            try:
                yield
            finally:
                if fault is Fault.LOST_AFTER:
                    raise TableUnavailable(fault.value)


def _page(later: Sequence[Row], after: str | None, most: int) -> Page:
    place = "" if after is None else after + "\0"  # the very next one, and so before or at the first row
    if not later:
        return Page((), None)
    if most == 0 and place != later[0].key.sort and len(place.encode()) <= KEY_BYTES:
        return Page((), place)
    rows: list[Row] = []
    while len(rows) < min(max(most, 1), len(later)) and sum(len(row.value) for row in rows) < PAGE_BYTES:
        rows.append(later[len(rows)])
    return Page(tuple(rows), rows[-1].key.sort if len(rows) < len(later) else None)


async def _pass(pauses: deque[Pause]) -> None:
    if pauses:
        pause = pauses.popleft()
        pause.came.set()
        await pause.go.wait()
