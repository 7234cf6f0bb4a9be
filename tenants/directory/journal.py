"""In what order changes are made: each is judged against what is there and written only if nothing was changed meanwhile.

One row, the head, is written with every change; its version is the number of the last one. So all changes are in one order, whoever
makes them, and who reads the records behind a number that it has seen misses none (`gateway/cluster/feed`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

import msgspec
from msgspec import Raw, Struct

from tenants.acts import Act
from tenants.directory import stages
from tenants.errors import Conflict, Repeated, Reused
from tenants.events import Changed, Head
from tenants.ids import ID_RANDOM_BYTES, new_id
from tenants.ports import MOST_KEYS, MOST_ROWS, Check, Delete, Item, Key, Put, Row, Table
from tenants.rows import HEAD_AT, Change, Receipt, change_at, encoded, read, readable, receipt_at, transaction

RECEIPT_SECONDS: Final = 86_400
MOST_CHANGES: Final = 8
"""So many changes fit in one transaction, with their events and what goes with them."""
_RIVALS: Final = 100
_LOOKED_AT: Final = 4

_Result = TypeVar("_Result")
_Read = TypeVar("_Read")


@dataclass(frozen=True, slots=True)
class Judged(Generic[_Result]):
    """What an act comes to: its result, and what is written for that, which may be nothing.

    `stored` is the result as a receipt keeps it, also of an act that changes nothing: without secrets.
    """

    result: _Result
    changes: tuple[Change, ...] = ()
    stored: Struct | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the order of changes is: its last number, and the head's content."""

    sequence: int
    head: Head

    def put(self, head: Head | None = None) -> Put:
        """Moves the head on by one number; whoever comes second meets a Conflict."""
        return Put(HEAD_AT, encoded(head or self.head), expected=self.sequence)


@dataclass(slots=True)
class Journal:
    """`entropy` gives that many random bytes, fit for secrets. Not shared between loops.

    Everything here raises TableUnavailable when the table gave no answer, and Unreadable for a damaged row.
    """

    table: Table
    entropy: Callable[[int], bytes]
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def new_id(self, prefix: str) -> str:
        return new_id(prefix, self.entropy(ID_RANDOM_BYTES))

    async def change(self, act: Act, judge: Callable[[], Awaitable[Judged[_Result]]]) -> _Result:
        """The result of the judgement, which is asked again whenever somebody else was faster; all it wants written is.

        Raises what the judgement raises, and Conflict when others were faster a hundred times. Under an idempotency key it is done once:
        Repeated, also for those that come at the same time, as a receipt is looked for behind the head that the change relies on.
        """
        async with self._turn:  # who waits here need not lose a race
            for _ in range(_RIVALS):
                standing = await self.standing()
                receipt = await self._receipt(act)
                if _fresh(receipt, act) is not None:
                    raise Repeated
                judged = await judge()
                items = self._items(standing, judged, act, receipt)
                if not items:
                    return judged.result
                items += await self._expired(act)
                try:
                    await self.table.transact(*items)
                except Conflict:
                    continue
                return judged.result
        raise Conflict(f"{_RIVALS} times somebody else was faster")

    def _items(self, standing: Standing, judged: Judged[_Result], act: Act, before: Row | None) -> list[Item]:
        items: list[Item] = []
        if judged.changes:
            ids = (self.new_id("e") for _ in judged.changes)
            items = [standing.put(), *transaction(judged.changes, standing.sequence + 1, ids, act)]
        if act.once is not None and judged.stored is not None:
            receipt = Receipt(act.once.asked, act.at_us, Raw(encoded(judged.stored)))
            # Also where there was nothing to change: asked again later, there may be. No change was made meanwhile.
            items = items or [Check(HEAD_AT, standing.sequence)]
            expected = before.version if before else 0
            items.append(Put(receipt_at(act.once.key), encoded(receipt), expected))
        return items

    async def receipt(self, act: Act, kind: type[_Read]) -> _Read | None:
        """What came of the first act under the same idempotency key, for a day. Raises Reused when something else was asked under it."""
        found = _fresh(await self._receipt(act), act)
        return None if found is None else msgspec.json.decode(found.result, type=kind)

    async def _receipt(self, act: Act) -> Row | None:
        return await self.table.get(receipt_at(act.once.key)) if act.once else None

    async def _expired(self, act: Act) -> list[Item]:
        """Receipts that hold no more are removed by those that come: of four that lie behind a new one, which is anywhere among them, so
        that there are seldom more than a third too many.
        """
        if act.once is None:
            return []
        page = await self.table.list("receipts", after=act.once.key, limit=_LOOKED_AT)
        rows = {row.key: row for row in page.rows}
        old = [at for at, found in readable(rows, Receipt).items() if not _holds(found, act)]
        return [Delete(at, rows[at].version) for at in old]

    async def standing(self) -> Standing:
        """Where the order of changes is, with no documents half rolled out: what somebody left so is finished first."""
        while True:
            standing = await self.glance()
            if standing.head.stage is None:
                return standing
            await stages.roll(self, standing)

    async def glance(self) -> Standing:
        """Where the order of changes is, whatever is under way."""
        row = await self.table.get(HEAD_AT)
        return Standing(row.version, read(row, Head)) if row else Standing(0, Head())

    async def last(self) -> int:
        """The number of the last change, whatever else the head says: one read of one row."""
        row = await self.table.get(HEAD_AT)
        return row.version if row else 0

    async def sequence(self) -> int:
        """The number of the last change; what was read after this is not older than that."""
        return (await self.standing()).sequence

    async def changes(self, after: int, limit: int = MOST_ROWS) -> tuple[Changed, ...]:
        """As many records behind that number as there are, and `limit` at most, in order. One whose number is not the next means that
        some are gone.
        """
        rows: list[Row] = []
        place: str | None = change_at(after).sort
        while place is not None and len(rows) < limit:
            page = await self.table.list("changes", after=place, limit=min(limit - len(rows), MOST_ROWS))
            rows += page.rows
            place = page.next_after
        return tuple(read(row, Changed) for row in rows)

    async def partition(self, partition: str, prefix: str = "") -> list[Row]:
        """All rows of a partition, page by page."""
        page = await self.table.list(partition, prefix, limit=MOST_ROWS)
        rows = [*page.rows]
        while page.next_after is not None:
            page = await self.table.list(partition, prefix, page.next_after, MOST_ROWS)
            rows += page.rows
        return rows

    async def many(self, at: Iterable[Key]) -> dict[Key, Row]:
        """Those that are there, in the order asked for."""
        distinct = list(dict.fromkeys(at))
        found: dict[Key, Row] = {}
        for start in range(0, len(distinct), MOST_KEYS):
            found |= await self.table.get_many(distinct[start : start + MOST_KEYS])
        return {key: found[key] for key in distinct if key in found}


@dataclass(frozen=True, slots=True)
class Page(Generic[_Read]):
    """Some values in order; `next_after` is the `after` of the next page, None when there is no more."""

    values: tuple[_Read, ...]
    next_after: str | None


def _fresh(row: Row | None, act: Act) -> Receipt | None:
    """The receipt, while it holds for the act. Raises Reused."""
    found = read(row, Receipt) if row else None
    if act.once is None or found is None or not _holds(found, act):
        return None
    if found.asked != act.once.asked:
        raise Reused
    return found


def _holds(receipt: Receipt, act: Act) -> bool:
    return act.at_us - receipt.at_us < RECEIPT_SECONDS * 1_000_000
