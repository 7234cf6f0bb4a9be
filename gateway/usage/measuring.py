"""Compute is measured and shared out: each place is looked at while it is used and before it goes, and what it computed between two looks
becomes an apportion record, whose shares are then added to the sums. Each step is one `transact` guarded by the row that it moves, so each
nanosecond is shared out once, whatever crashes. A total lives in Triton: what a dead process did not note, the next one finds there.

Fails open: calls wait for none of this. What is gone with a server that ended by itself is estimated by its calls, in the line
`unattributed`.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from gateway.scaling.board import Lodging, ManagedServer, lodgings_on
from gateway.scaling.scaler import Replica
from gateway.triton.client import Client, NotSent, UpstreamFailed
from gateway.triton.statistics import Totals, statistics
from gateway.usage import measured
from gateway.usage.apportion import CANARY, COLD_START, LOAD, UNATTRIBUTED, Ran, Who
from gateway.usage.heard import Calls, Spot
from gateway.usage.measured import DUE, PLACES, RECORDS, Place, Point, Record, Share
from tenants import usage
from tenants.errors import Conflict, TableUnavailable, Unreadable
from tenants.ports import MOST_ITEMS, MOST_ROWS, Delete, Item, Key, Put, Row, Table
from tenants.usage import UNITS

LAG_US: Final = 3_000_000
"""Behind its end an interval is shared out: by then the outcomes of its calls are read."""
LOOK_US: Final = 5_000_000
GONE_US: Final = 30_000_000
_FIRST_US: Final = 10_000_000  # before the first look at a place: calls that were there count
_MOST_SAID: Final = 1_000  # answers that wait for the table; those of who leaves come on top
_MOST_SHARES: Final = (MOST_ITEMS - 2) // len(UNITS)
_CLOSE_SECONDS: Final = 5.0
_SILENCE: Final = (NotSent, UpstreamFailed, TimeoutError)
Ask = Callable[[Client, Replica, str], Awaitable[dict[str, Totals]]]
_log = logging.getLogger(__name__)


class _Held(Struct):
    """A place as its row has it."""

    key: Key
    place: Place
    version: int


class _Said(NamedTuple):
    """What a server said at a time of what its models computed. `ids` of those that are ours, by name; `ends`: they are about to go."""

    replica: str
    ids: Mapping[str, str]
    found: Mapping[str, Totals]
    at_us: int
    since_us: int
    ends: bool
    line: Record | None


class Where(NamedTuple):
    replica: str
    name: str
    """Of the model, as Triton knows it."""


def _where(held: _Held) -> Where:
    replica, name, _ = held.key.sort.split("/")
    return Where(replica, name)


class Measuring:
    """Of whoever has charge of the servers. `now_us`: microseconds since 1970."""

    def __init__(
        self,
        table: Table,
        calls: Calls,
        servers: Callable[[], Iterable[ManagedServer]],
        now_us: Callable[[], int],
        ask: Ask = statistics,
    ) -> None:
        self._table = table
        self.calls = calls
        self._servers = servers
        self._now_us = now_us
        self._ask = ask
        self._held: dict[Key, _Held] = {}
        self._now: dict[Where, _Held] = {}  # of those, the places that are there
        self._seen_us: dict[Where, int] = {}  # when its server last said something
        self._said: deque[_Said] = deque()
        self._knows = False
        self._looked_us = 0
        self._one = asyncio.Lock()  # a place that goes is measured between two steps of a look

    async def look(self) -> None:
        """Measure what runs, if it is time; share out what is due. Raises TableUnavailable, Unreadable; the next look does the rest."""
        now = self._now_us()
        if now - self._looked_us >= LOOK_US and len(self._said) < _MOST_SAID:
            self._looked_us = now
            for server in list(self._servers()):
                await self._measure(server)
        await self.note()
        await self._share()
        await self._bury({server.replica.id for server in self._servers() if server.replica is not None})
        await self._apply_all()
        self.calls.forget_old(now)

    async def note(self) -> None:
        """All that servers said by now is in the table. Raises as `look`; what is not noted is tried again."""
        async with self._one:
            await self._know()
            while self._said:
                await self._note_all(self._said[0])
                self._said.popleft()

    async def close(self) -> None:
        """As this process ends. Without an answer it is as if it had been killed: what is not noted the next one finds in Triton, or
        estimates.
        """
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self.note()
        except (TableUnavailable, Unreadable, Conflict, TimeoutError) as fault:
            _log.warning("what servers said last of their compute was not noted: %r", fault)

    # What the lifecycle tells. None of these fails, and none waits for more than an answer of the server.

    async def loaded(self, place: Lodging, load_seconds: float, try_seconds: float) -> None:
        """A model is there: its load took so long, the last part of it its first inference; it takes no calls yet."""
        now, spot = self._now_us(), Spot(place.replica.id, place.row.id)
        tried_us = now - round(try_seconds * 1e6)
        self.calls.ran(spot, f"{COLD_START} {now}", Ran(Who("", COLD_START), tried_us, now))
        line = measured.line(spot, now, Share("", LOAD, round(load_seconds * 1e6), 1))
        await self._measure(place.server, place.model, since_us=tried_us, line=line)

    async def leaving(self, server: ManagedServer, name: str = "") -> None:
        """A model, or all of a server, is about to go."""
        await self._measure(server, name, ends=True)

    def tried(self, place: Lodging, seconds: float) -> None:
        """A canary was there, for so long until now."""
        now, spot = self._now_us(), Spot(place.replica.id, place.row.id)
        self.calls.ran(spot, f"{CANARY} {now}", Ran(Who("", CANARY), now - round(seconds * 1e6), now))

    # Measuring

    async def _measure(
        self,
        server: ManagedServer,
        name: str = "",
        *,
        ends: bool = False,
        since_us: int = 0,
        line: Record | None = None,
    ) -> None:
        replica, client = server.replica, server.control
        if replica is None or client is None:
            return
        ids = {place.model: place.row.id for place in lodgings_on(server)}
        try:
            found = await self._ask(client, replica, name)
        except _SILENCE as fault:
            _log.info("replica %s does not say what it computed: %r", replica.id, fault)
            found = {}
        now = self._now_us()
        self._said.append(_Said(replica.id, ids, found, now, since_us or now - _FIRST_US, ends, line))

    async def _note_all(self, said: _Said) -> None:
        if said.line is not None:
            at = measured.record_at(DUE, said.line, 2)
            await self._table.transact(Put(at, measured.written(said.line), None))
        for name, totals in said.found.items():
            where = Where(said.replica, name)
            if name in said.ids or where in self._now:
                point = Point(said.at_us, totals.compute_ns)
                await self._note(where, said.ids.get(name, ""), totals, point, said)
                self._seen_us[where] = said.at_us
                if said.ends:
                    del self._seen_us[where]

    async def _note(self, where: Where, model: str, totals: Totals, point: Point, said: _Said) -> None:
        held = self._now.get(where)
        if (
            held is not None and point.total_ns < held.place.total_ns
        ):  # it was loaded anew, and nobody saw it go
            await self._write(held, replace(held.place, ended=True))
            held = None
        if held is None:
            if not totals.executions:
                return
            # No two lives of a place have a row in common.
            key = Key(PLACES, f"{where.replica}/{where.name}/{point.at_us:020d}")
            held = _Held(key, Place(model, Point(said.since_us, 0)), 0)
        place = measured.noted(held.place, point)
        if said.ends:
            place = replace(place, ended=True)
        if place != held.place or not held.version:
            await self._write(held, place)

    async def _write(self, held: _Held, place: Place, *items: Put) -> None:
        await self._guarded(Put(held.key, measured.written(place), held.version), *items)
        held.place, held.version = place, held.version + 1
        self._keep(held)

    async def _guarded(self, *items: Item) -> None:
        try:
            await self._table.transact(*items)
        except BaseException:
            self._knows = False  # whether it was made nobody knows: the table says it at the next look
            raise

    def _keep(self, held: _Held) -> None:
        where = _where(held)
        self._held[held.key] = held
        if not held.place.ended:
            self._now[where] = held
        elif self._now.get(where) is held:
            del self._now[where]

    async def _know(self) -> None:
        if not self._knows:
            self._held, self._now = {}, {}
            for row in await self._rows(PLACES):
                self._keep(_Held(row.key, measured.read_place(row), row.version))
            self._knows = True

    async def _bury(self, running: set[str]) -> None:
        """A server that ended by itself took with it what it computed behind the last look."""
        now = self._now_us()
        async with self._one:
            await self._know()
            for where, held in list(self._now.items()):
                last_us = max(held.place.shared.at_us, self._seen_us.get(where, 0))
                if where.replica in running or held.place.points or now - last_us < GONE_US:
                    continue
                spot = Spot(where.replica, held.place.model)
                lost = [
                    run
                    for run in self.calls.on(spot, now)
                    if last_us <= run.start_us and run.end_us < now and run.who.tenant
                ]
                each_us = (held.place.shared.total_ns // 1000) // max(held.place.calls, 1)
                items: tuple[Put, ...] = ()
                if lost:
                    share = Share("", UNATTRIBUTED, each_us * len(lost), len(lost))
                    record = measured.line(spot, now, share)
                    items = (Put(measured.record_at(DUE, record, 1), measured.written(record), 0),)
                await self._write(held, replace(held.place, ended=True), *items)
                self._seen_us.pop(where, None)

    # Sharing out

    async def _share(self) -> None:
        async with self._one:
            await self._know()
            for held in list(self._held.values()):
                where = _where(held)
                while held.place.points and self._now_us() - held.place.points[0].at_us >= LAG_US:
                    spot = Spot(where.replica, held.place.model)
                    runs = self.calls.on(spot, self._now_us())
                    cut = measured.cut(held.place, where.replica, runs)
                    record = Put(measured.record_at(DUE, cut.record, 0), measured.written(cut.record), 0)
                    await self._write(held, cut.place, record)
                    self.calls.forget(spot, cut.place.shared.at_us)
                if held.place.is_done:
                    await self._guarded(Delete(held.key, held.version))
                    del self._held[held.key]

    async def _apply_all(self) -> None:
        for row in await self._rows(DUE):
            try:
                await self._apply(row)
            except (
                Conflict
            ):  # the sums were folded meanwhile, or somebody else applies: the next look goes on
                return

    async def _apply(self, row: Row) -> None:
        """All of a record is in the sums, and it is where records stay."""
        record, version = measured.read_record(row), row.version
        while True:
            until = record.applied + _MOST_SHARES
            more = record.sums(record.applied, until)
            rows = await self._table.get_many([group.at for group in more]) if more else {}
            record = replace(record, applied=min(until, len(record.shares)))
            value = measured.written(record)
            is_last = record.applied == len(record.shares)
            moved = (
                (Delete(row.key, version), Put(Key(RECORDS, row.key.sort), value, None))
                if is_last
                else (Put(row.key, value, version),)
            )
            sums = [
                Put(
                    group.at,
                    usage.written(usage.read(found := rows.get(group.at)) + it),
                    found.version if found else 0,
                )
                for group, it in more.items()
            ]
            await self._table.transact(*moved, *sums)
            if is_last:
                return
            version += 1

    async def _rows(self, partition: str) -> list[Row]:
        found: list[Row] = []
        after: str | None = None
        while True:
            page = await self._table.list(partition, "", after, MOST_ROWS)
            found += page.rows
            after = page.next_after
            if after is None:
                return found
