"""A world with a Table in it: it keeps the whole contract, and its answers can be lost."""

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum

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


class Fault(Enum):
    LOST_BEFORE = "the write never arrived"
    LOST_AFTER = "the write was made and its answer never arrived"


@dataclass(slots=True)
class MemoryTable:
    """`write_faults` befall the next writes, one each.

    The next `throttled` calls are refused, and while the table is `gone` nothing is answered.
    """

    rows: dict[Key, Row] = field(default_factory=dict)
    counters: dict[Key, int] = field(default_factory=dict)
    write_faults: deque[Fault] = field(default_factory=deque)
    throttled: int = 0
    gone: bool = False

    async def get(self, key: Key) -> Row | None:
        check_key(key)
        self._answer()
        return self.rows.get(key)

    async def get_many(self, keys: Sequence[Key]) -> dict[Key, Row]:
        check_keys(keys)
        self._answer()
        in_no_promised_order = reversed(keys)
        return {key: self.rows[key] for key in in_no_promised_order if key in self.rows}

    async def list(
        self, partition: str, prefix: str = "", after: str | None = None, limit: int = MOST_KEYS
    ) -> Page:
        check_page(partition, limit)
        self._answer()
        wanted = sorted(
            (
                row
                for key, row in self.rows.items()
                if key.partition == partition and key.sort.startswith(prefix)
            ),
            key=lambda row: row.key.sort.encode(),
        )
        later = [row for row in wanted if after is None or row.key.sort.encode() > after.encode()]
        page = tuple(later[:limit])
        return Page(page, page[-1].key.sort if len(later) > limit else None)

    async def transact(self, *items: Item) -> None:
        check_items(items)
        with self._write():
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
        with self._write():
            total = self.counters.get(key, 0) + amount
            if not 0 <= total <= ceiling:
                return None
            self.counters[key] = total
            return total

    def _version(self, key: Key) -> int:
        return self.rows[key].version if key in self.rows else 0

    def _answer(self) -> None:
        if self.gone:
            raise TableUnavailable("gone")
        if self.throttled:
            self.throttled -= 1
            raise TableUnavailable("throttled")

    @contextmanager
    def _write(self) -> Iterator[None]:
        self._answer()
        fault = self.write_faults.popleft() if self.write_faults else None
        if fault is Fault.LOST_BEFORE:
            raise TableUnavailable(fault.value)
        try:
            yield
        finally:
            if fault is Fault.LOST_AFTER:
                raise TableUnavailable(fault.value)
