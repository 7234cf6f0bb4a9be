"""Which rows of limits say nothing any more? Those of tenants that are closed, of keys that are revoked, of limits that no plan has now.

    partition    sort             value
    limits       <a row's name>   nothing: there are, or were, rows of that name

A row goes when it has stood still for an hour, nobody who may live holds of it, and its burst would be whole by now: so it says what a row
says that is laid out anew, and whoever needs it next finds no difference. An hour is more than any write is late, so none comes to a row
that took its place. Only who leads does this, as it is enough; each deletion is a compare-and-swap, so two would do no harm.

Fails open: what is not swept takes room, and nothing else.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from gateway.admission import permits, shares
from gateway.admission.bucket import MICRO
from gateway.admission.shares import Damaged
from tenants.errors import Conflict
from tenants.ports import MOST_KEYS, Delete, Key, Put, Row, Table

LIMITS: Final = "limits"
TELL_SECONDS: Final = 5.0
SWEEP_SECONDS: Final = 600.0
STOOD_US: Final = 3600 * MICRO


class _Seen(NamedTuple):
    version: int
    since_us: int


@dataclass(slots=True)
class Sweeping:
    """`clock` is CLOCK_BOOTTIME in microseconds. `leads` says whether this member does now."""

    table: Table
    clock: Callable[[], int]
    is_dead: Callable[[str], bool]
    leads: Callable[[], bool]
    swept: int = 0
    _noted: set[str] = field(default_factory=set)
    _seen: dict[Key, _Seen] = field(default_factory=dict)

    def note(self, name: str) -> None:
        """There are, or are to be, rows of this name."""
        self._noted.add(name)

    async def tell(self) -> None:
        """The names that were noted are where others find them. Raises TableUnavailable: the next time goes on."""
        for name in list(self._noted):
            at = Key(LIMITS, name)
            if await self.table.get(at) is None:
                await self.table.transact(Put(at, b"", None))
            self._noted.discard(name)

    async def look(self) -> None:
        """Raises TableUnavailable: the next time goes on."""
        if not self.leads():
            self._seen.clear()
            return
        after: str | None = None
        found: dict[Key, _Seen] = {}
        while True:
            page = await self.table.list(LIMITS, after=after, limit=MOST_KEYS // 2)
            found |= await self._looked([row.key.sort for row in page.rows])
            if page.next_after is None:
                break
            after = page.next_after
        self._seen = found

    async def _looked(self, names: Sequence[str]) -> dict[Key, _Seen]:
        """Those that are there, and since when they stand."""
        stand: dict[Key, _Seen] = {}
        places = {name: (shares.place(name), permits.place(name)) for name in names}
        rows = await self.table.get_many([key for pair in places.values() for key in pair])
        now_us = self.clock()
        for name, pair in places.items():
            there = [rows[key] for key in pair if key in rows]
            for row in there:
                before = self._seen.get(row.key)
                is_same = before is not None and before.version == row.version
                stand[row.key] = before if before is not None and is_same else _Seen(row.version, now_us)
            if name not in self._noted and all(self._is_over(row, stand[row.key], now_us) for row in there):
                await self._deleted(name, there)
        return stand

    def _is_over(self, row: Row, seen: _Seen, now_us: int) -> bool:
        stood_us = now_us - seen.since_us
        if stood_us < STOOD_US:
            return False
        try:
            if row.key.partition.startswith("permits/"):
                return all(self.is_dead(it) for it in permits.read(row).holders)
            found = shares.read(row)
        except Damaged:
            return False
        found = shares.without(found, [it for it in found.holders if self.is_dead(it)])
        return not found.holders and shares.lacking(shares.refilled(found, stood_us)) == 0

    async def _deleted(self, name: str, rows: Iterable[Row]) -> None:
        try:
            for row in rows:
                await self.table.transact(Delete(row.key, row.version))
                self.swept += 1
            await self.table.transact(Delete(Key(LIMITS, name), None))
        except Conflict:
            return  # somebody came back
