"""The calls of the audit log are added to the sums, each once: a portion and where it leads to are one transaction, which the row of that
place guards. Whoever else folds meanwhile makes it fail, and is followed; so one leads for the sake of work alone.

Fails open: requests do not wait for it, and what cannot be folded now is folded later. A row that cannot be read stops it (Unreadable),
which is for an operator: to count on from anything else would be wrong.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from gateway.audit.record import Entry
from gateway.usage.segments import Log, Segments
from gateway.usage.standing import Portion, Standing, portions, start
from tenants import usage
from tenants.errors import Conflict, Unreadable
from tenants.ports import MOST_ROWS, Key, Put, Row, Table
from tenants.usage import Group

PARTITION: Final = "usage-segments"
"""A Standing for each segment of which something was folded."""
_decode = msgspec.json.Decoder(Standing).decode
_log = logging.getLogger(__name__)


class Place(Struct, frozen=True):
    """A segment's standing, and the version of its row; 0: it has none."""

    standing: Standing
    version: int


class Folder:
    """Of one process, which added so many `calls` since its start."""

    def __init__(
        self, log: Callable[[], Log], table: Table, hear: Callable[[Entry], None] = lambda _: None
    ) -> None:
        """`hear` is told of each record that is read: of one that is not folded to its end it may hear twice."""
        self.calls = 0
        self._hear = hear
        self._segments = Segments(log)
        self._table = table
        self._places: dict[str, Place] = {}
        self._knows = False  # where each segment stands, as the table has it
        self._unfit: set[str] = set()

    async def look(self) -> None:
        """One pass: all that counts by now is in the sums. Raises TableUnavailable, Unreadable, OSError; the next pass does the rest."""
        try:
            await self._pass()
        except Conflict:
            _log.info("usage is being folded elsewhere too")
            self._knows = False
        except BaseException:
            self._knows = False  # whether a write was made nobody knows: the table says it at the next look
            raise

    async def _pass(self) -> None:
        if not self._knows:
            self._places, self._knows = await places(self._table), True
            for name in await asyncio.to_thread(self._segments.look):
                await self._hear_again(name)
        for name in await asyncio.to_thread(self._segments.look):
            if name not in self._unfit:
                while await self._step(name):
                    pass

    async def _step(self, name: str) -> bool:
        """Fold what one reading finds; False once there is no more now."""
        place = self._places.get(name) or Place(start(name), 0)
        if place.standing.done:
            return False
        end = self._segments.end(name)
        if end is not None and place.standing.commits >= end:
            await self._finish(name, place)
            return False
        it = await asyncio.to_thread(self._segments.next, name, place.standing)
        for commit in (*it.counted, *([it.waiting] if it.waiting else [])):
            for record in commit.records:
                self._hear(record.entry)
        if not it.counted:
            return end is not None and await self._place_anew(name, place)
        for portion in portions(place.standing, it.counted):
            place = await self._add(name, place, portion)
        return True

    async def _hear_again(self, name: str) -> None:
        """What another process folded of a segment that is not done: who shares out compute wants to know of its calls."""
        place = self._places.get(name)
        if place is None or place.standing.done:
            return
        at = start(name)
        while at.commits < place.standing.commits:
            it = await asyncio.to_thread(self._segments.next, name, at)
            if not it.counted:
                return
            for commit in it.counted:
                for record in commit.records:
                    self._hear(record.entry)
            at = at.behind_all(it.counted)

    async def _place_anew(self, name: str, place: Place) -> bool:
        """It ends later, and nothing is read there: bodies were forgotten since, so that all lies elsewhere now; or it is damaged."""
        found = await asyncio.to_thread(self._segments.placed, name, place.standing)
        if found.offset_bytes == place.standing.offset_bytes:
            _log.error(
                "segment %s is not what a later one says of it: its usage counts up to commit %d",
                name,
                found.commits,
            )
            self._unfit.add(name)
            return False
        self._places[name] = Place(found, place.version)
        return True

    async def _add(self, name: str, place: Place, portion: Portion) -> Place:
        if not portion.calls:  # nothing that must be remembered: what was read is read again
            place = Place(portion.standing, place.version)
        else:
            more = usage.folded(portion.calls)
            rows = await self._table.get_many([group.at for group in more])
            puts = [_sum(group, rows.get(group.at), more) for group in more]
            place = await self._write(name, Place(portion.standing, place.version), puts)
            self.calls += len(portion.calls)
        self._places[name] = place
        return place

    async def _finish(self, name: str, place: Place) -> None:
        """It is never looked at again."""
        done = replace(place.standing, done=True)
        self._places[name] = await self._write(name, Place(done, place.version), ())

    async def _write(self, name: str, place: Place, sums: Iterable[Put]) -> Place:
        """It stands there, with the sums that it leads to, or neither. Raises Conflict: somebody else has moved it."""
        mark = Put(Key(PARTITION, name), msgspec.json.encode(place.standing), place.version)
        await self._table.transact(mark, *sums)
        return Place(place.standing, place.version + 1)


async def places(table: Table) -> dict[str, Place]:
    """Where each segment stands of which something was folded. Raises TableUnavailable, Unreadable."""
    found: dict[str, Place] = {}
    after: str | None = None
    while True:
        page = await table.list(PARTITION, "", after, MOST_ROWS)
        found |= {row.key.sort: Place(_read(row), row.version) for row in page.rows}
        after = page.next_after
        if after is None:
            return found


def _read(row: Row) -> Standing:
    try:
        return _decode(row.value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unreadable(f"{row.key}: {error}") from error


def _sum(group: Group, row: Row | None, more: Mapping[Group, usage.Sums]) -> Put:
    return Put(group.at, usage.written(usage.read(row) + more[group]), row.version if row else 0)
