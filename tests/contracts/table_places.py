"""What the exams of a Table share: how one is opened, places that nobody else uses, and a listing read to its end."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from itertools import count

import pytest
from hypothesis import HealthCheck, settings

from tenants.ports import MOST_KEYS, PAGE_BYTES, Key, Row, Table

OpenTable = Callable[[], AbstractAsyncContextManager[Table]]

A, B = Key("a", "1"), Key("b")

# One store serves all examples of a law; each takes a place of its own in it.
law = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
_places = count()


def fresh(sort: str = "") -> Key:
    return Key(f"place/{next(_places)}", sort)


async def every(table: Table, partition: str, prefix: str = "", limit: int = MOST_KEYS) -> list[Row]:
    """All pages, also short and empty ones."""
    return await later(table, partition, prefix, None, limit)


async def later(
    table: Table, partition: str, prefix: str, after: str | None, limit: int = MOST_KEYS
) -> list[Row]:
    """What `every` gives, from a place on."""
    rows: list[Row] = []
    while True:
        page = await table.list(partition, prefix, after, limit)
        assert len(page.rows) <= limit
        assert sum(len(row.value) for row in page.rows[:-1]) < PAGE_BYTES
        rows += page.rows
        if page.next_after is None:
            return rows
        assert after is None or page.next_after.encode() > after.encode()
        after = page.next_after


def sorts(rows: list[Row]) -> list[str]:
    return [row.key.sort for row in rows]


class Opened:
    """Each call of `open_table` opens the same store once more."""

    @pytest.fixture
    def open_table(self) -> OpenTable:
        raise LookupError("each adapter's class says how its table is opened")

    @pytest.fixture
    async def table(self, open_table: OpenTable) -> AsyncIterator[Table]:
        async with open_table() as table:
            yield table
