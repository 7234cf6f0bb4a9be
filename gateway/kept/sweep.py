"""Claims that are over go, a page at a time."""

import asyncio
import logging
from collections.abc import Callable
from itertools import islice
from typing import Final

from gateway.kept import claims
from tenants.errors import Conflict
from tenants.ports import MOST_ITEMS, Delete, Row, Table

_PAGE: Final = 1000
_log: Final = logging.getLogger(__name__)


class Sweep:
    """`now_us` is the time. `swept` counts what was deleted since the start. Any number of processes may do it at once."""

    def __init__(self, table: Table, now_us: Callable[[], int], answer_seconds: float = 5.0) -> None:
        self.swept = 0
        self._table = table
        self._now_us = now_us
        self._answer_seconds = answer_seconds

    async def look(self) -> None:
        """One pass. Raises TableUnavailable, TimeoutError; the next pass does the rest."""
        before = self.swept
        for partition in claims.PARTITIONS:
            await self._partition(partition)
        if self.swept > before:
            _log.info("%d claims of an Idempotency-Key are over and deleted", self.swept - before)

    async def _partition(self, partition: str) -> None:
        """From the oldest day on, until one that is not over."""
        after: str | None = None
        while True:
            async with asyncio.timeout(self._answer_seconds):
                page = await self._table.list(partition, after=after, limit=_PAGE)
            over = [row for row in page.rows if claims.is_swept(row.key.sort, self._now_us())]
            left = iter(over)
            while batch := list(islice(left, MOST_ITEMS)):
                await self._delete(batch)
            after = page.next_after
            if after is None or len(over) < len(page.rows):
                return

    async def _delete(self, rows: list[Row]) -> None:
        try:
            async with asyncio.timeout(self._answer_seconds):
                await self._table.transact(*(Delete(row.key, row.version) for row in rows))
            self.swept += len(rows)
        except Conflict:  # another process was faster; what is left of them is there at the next pass
            return
