"""What who has charge of a host's Tritons reads and writes: the members' reports go into the board, the board into the placements.

Nothing that is planned counts before it is written; and what was asked before a mark was written proves nothing about it (`draining`).
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from msgspec import structs

from gateway.scaling import facts, placements, reports
from gateway.scaling.board import Asked, Board, Lodging, lodgings_on
from gateway.scaling.breaker import Breaker
from gateway.scaling.draining import Beat, Drain, Patience, Placements, Spot, Watch
from gateway.scaling.facts import Facts
from gateway.scaling.placements import Address, Document, Lasted, Lodged, Pause, Wanted, brought
from gateway.scaling.reports import Evidence, Report
from gateway.scaling.residency import Life, Phase
from tenants.errors import Conflict, Unreadable
from tenants.ports import MOST_ITEMS, MOST_ROWS, Delete, Item, Put, Row, Table

log = logging.getLogger(__name__)

_REFRESH_SECONDS = 0.3
_SWEPT_SECONDS = 3600.0
_WHY_LETTERS = (
    300  # of what a model says as it fails, which may be long: the row has a bound, and the log has all of it
)


class Deposed(Exception):
    """Somebody else has written the placements, and so has charge: this process must not go on as if it had."""


@dataclass(slots=True)
class Desk:
    """`name` is of the member that has charge, `domain` the host, `clock` the one that all its members read. `is_dead` says whether a
    member's death is certain, `tell` has one look now."""

    table: Table
    domain: str
    name: str
    board: Board
    clock: Callable[[], float]
    patience: Patience
    is_dead: Callable[[str], bool]
    tell: Callable[[str], None]
    asks: int = 0
    watch: Watch = field(init=False)
    written: Document | None = None
    _version: int = 0  # of the row
    _attempt: Document | None = None  # of which it is not known whether it was written
    _reports: dict[str, Report] = field(default_factory=dict)
    _heard: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.watch = Watch(self.patience)

    @property
    def members(self) -> Mapping[str, Report]:
        """The newest report of each member that was heard and is not out."""
        heard = self.watch.heard
        return {name: it for name, it in self._reports.items() if name in heard and not heard[name].is_out}

    # The row

    async def take(self) -> Document | None:
        """What is written, by whoever had charge before; None: nothing. Raises TableUnavailable, Unreadable."""
        row = await self.table.get(placements.placements_at(self.domain))
        if row is None:
            self._version, self.written = 0, None
        else:
            self._version, self.written = row.version, placements.read(row)
        return self.written

    async def publish(self) -> bool:
        """The placements are as the board has them; whether that was written now. Raises TableUnavailable, Conflict, Deposed."""
        if self._attempt is not None:
            await self._settle(self._attempt)
        new = self._document()
        if new == self.written:
            return False
        self._attempt = new
        before, change = self._items(new)
        for start in range(0, len(before), MOST_ITEMS):
            await self.table.transact(*before[start : start + MOST_ITEMS])
        try:
            await self.table.transact(*change)
        except Conflict:
            await self._settle(new)
            raise
        self._made(new, self._version + 1)
        return True

    def _made(self, new: Document, version: int) -> None:
        self._attempt, self.written, self._version = None, new, version
        for place in self.board_places().values():
            it = new.places.get(place.replica.id, {}).get(place.model)
            if it is not None and place.loaded == 0:
                place.loaded = it.loaded
        for name in self.watch.heard:
            self.tell(name)

    async def _settle(self, attempt: Document) -> None:
        """What became of a write whose answer was lost. Raises Deposed."""
        row = await self.table.get(placements.placements_at(self.domain))
        if row is None:
            self._attempt, self._version = None, 0  # the table is another one: what is here is written anew
            return
        found = placements.read(row)
        if found == attempt or found.charge == self.name:  # or an earlier one of its own, late
            self._made(found, row.version)
        elif found == self.written:
            self._attempt, self._version = None, row.version
        else:
            raise Deposed(f"{found.charge} has written the placements")

    def board_places(self) -> dict[Spot, Lodging]:
        return {
            place.spot: place
            for server in self.board.servers.values()
            if server.replica is not None and server.life is not Life.STOPPING
            for place in lodgings_on(server)
        }

    def _document(self) -> Document:
        """The board, as it is to be written."""
        old = self.written.placements if self.written else Placements(version=int(self.clock() * 1e6))
        servers = {
            server.replica.id: server
            for server in self.board.servers.values()
            if server.replica is not None and server.life in (Life.READY, Life.RETIRING)
        }
        places = {spot: it for spot, it in self.board_places().items() if spot.replica in servers}
        wanted = {
            spot: Wanted(it.phase, it.memory_bytes, it.loaded, it.is_cut) for spot, it in places.items()
        }
        new = brought(old, servers, wanted)
        lodged: dict[str, dict[str, Lodged]] = {}
        for spot, it in new.places.items():
            known = places[spot]
            lodged.setdefault(spot.replica, {})[spot.model] = Lodged(
                it.phase.name, it.version, it.loaded, it.memory_bytes, it.is_cut, known.takes, known.looks
            )
        found = Document(
            version=old.version if new is old else new.version,
            charge=self.name,
            replicas={
                name: Address(
                    fleet=server.fleet,
                    host=server.replica.host,
                    port=server.replica.port,
                    grpc_port=server.replica.grpc_port,
                    control=server.replica.control,
                    retiring=server.life is Life.RETIRING,
                )
                for name, server in servers.items()
                if server.replica is not None
            },
            places=lodged,
            fleets=self._fleets(),
            models=self._models(),
            asks=self.asks,
        )
        if found == self.written or new is not old:
            return found
        return _with_version(found, old.version + 1)

    def _fleets(self) -> Lasted:
        now, fleets = self.clock(), self.board.fleets.items()
        return Lasted(
            {name: it.boot_seconds for name, it in fleets},
            {name: _pause(it.starts, it.refusals) for name, it in fleets if it.starts.state(now) != "closed"},
        )

    def _models(self) -> Lasted:
        now, models = self.clock(), self.board.models.items()
        return Lasted(
            {name: it.load_seconds for name, it in models},
            {name: _pause(it.loads, it.refusals) for name, it in models if it.loads.state(now) != "closed"},
        )

    def _items(self, new: Document) -> tuple[list[Item], list[Item]]:
        """What is written before, and with, the row: the facts of what takes calls now, without those of what is gone."""
        before, after = _called(self.written), _called(new)
        items: list[Item] = []
        for spot, place in self.board_places().items():
            it = new.places.get(spot.replica, {}).get(spot.model)
            is_new = it is not None and (spot.replica, it.loaded) in after - before
            if it is not None and is_new and place.config is not None and place.deployment is not None:
                value = facts.encoded(Facts(place.versions, place.config, place.deployment))
                items.append(Put(placements.facts_at(self.domain, spot.replica, it.loaded), value, None))
        items += [Delete(placements.facts_at(self.domain, *gone), None) for gone in sorted(before - after)]
        row = Put(placements.placements_at(self.domain), placements.encoded(new), self._version)
        split = max(0, len(items) - (MOST_ITEMS - 1))
        return items[:split], [*items[split:], row]

    # The reports

    async def hear(self) -> None:
        """What the members say now is on the board. Raises TableUnavailable."""
        version, asked_at = self.written.version if self.written else -1, self.clock()
        rows = await self._rows()
        now = self.clock()
        found = {row.key.sort: _report(row) for row in rows}
        beats = {
            row.key.sort: _beat(row, found[row.key.sort], is_dead=self.is_dead(row.key.sort)) for row in rows
        }
        self.watch.hear(beats, version=version, asked_at=asked_at, now=now)
        for name, report in found.items():
            before = self._reports.get(name)
            if report is not None and (before is None or before.number != report.number):
                self._add(before, report)
                self._reports[name] = report
        for name in self._reports.keys() - found.keys():
            del self._reports[name]
        self._sum(now)
        self._heard.set()
        await self._sweep(rows, now)

    async def _rows(self) -> list[Row]:
        rows: list[Row] = []
        after: str | None = None
        while True:
            page = await self.table.list(reports.partition_of(self.domain), after=after, limit=MOST_ROWS)
            rows += page.rows
            if page.next_after is None:
                return rows
            after = page.next_after

    def _add(self, before: Report | None, report: Report) -> None:
        """What came since the report before: of calls that is the difference of two counts."""
        for name, use in report.models.items():
            asked = self.board.asked(name)
            asked.called_at = max(asked.called_at, use.used_at)
        places = self.board_places()
        for replica, models in report.places.items():
            for model, new in models.items():
                place = places.get(Spot(replica, model))
                if place is None or place.loaded != new.loaded:
                    continue
                old = before.places.get(replica, {}).get(model) if before is not None else None
                _count(place, old if old is not None and old.loaded == new.loaded else _NOTHING, new)

    def _sum(self, now: float) -> None:
        """What is asked and under way now, of all that can still end well."""
        for asked in self.board.models.values():
            asked.waiting, asked.in_flight, asked.waiting_since = 0, 0, None
        places = self.board_places()
        for place in places.values():
            place.in_flight, place.failures = 0, 0
        for report in self.members.values():
            for model, use in report.models.items():
                asked = self.board.asked(model)
                asked.waiting += use.waiting
                asked.in_flight += use.under_way
                if use.waiting or use.under_way:
                    asked.called_at = now
                if use.waiting_since:
                    _wait(asked, use.waiting_since)
            for replica, models in report.places.items():
                for model, it in models.items():
                    found = places.get(Spot(replica, model))
                    if found is not None and found.loaded == it.loaded:
                        found.in_flight += it.under_way
                        found.failures += it.failures
        for place in places.values():
            if place.phase is Phase.DRAINING:
                place.is_drained = self._is_drained(place)

    def _is_drained(self, place: Lodging) -> bool:
        it = self.written.placements.places.get(place.spot) if self.written else None
        if it is None or it.phase is not Phase.DRAINING or it.loaded != place.loaded:
            return False
        return self.watch.is_drained(Drain(place.spot, it.version))

    async def _sweep(self, rows: list[Row], now: float) -> None:
        """The rows of members that are dead, and of those that said nothing for an hour, go: should one come back it is a new one."""
        for row in rows:
            heard = self.watch.heard[row.key.sort]
            is_swept = heard.is_out and (self.is_dead(row.key.sort) or now - heard.since > _SWEPT_SECONDS)
            if is_swept:
                with suppress(Conflict):
                    await self.table.transact(Delete(row.key, row.version))

    async def refresh(self) -> None:
        """What members knew when this was asked has been heard, of all that answer soon."""
        self.asks += 1
        asks = self.asks
        self.board.wake.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(_REFRESH_SECONDS):
                while any(report.answers < asks for report in self.members.values()):
                    self._heard.clear()
                    await self._heard.wait()


_NOTHING = Evidence(0, 0, 0.0, 0, 0, 0, 0, 0)


def _count(place: Lodging, old: Evidence, new: Evidence) -> None:
    well, left = new.well - old.well, new.left - old.left
    place.uses += new.uses - old.uses
    place.well += well
    place.server.well += well
    place.last_use = max(place.last_use, new.used_at)
    place.was_left = left > 0 or (place.was_left and not well)
    if new.suspicions > old.suspicions:
        place.is_suspect = True


def _wait(asked: Asked, since: float) -> None:
    asked.waiting_since = since if asked.waiting_since is None else min(asked.waiting_since, since)


def _pause(breaker: Breaker, refusals: int) -> Pause:
    return Pause(breaker.why.partition("\n")[0][:_WHY_LETTERS], breaker.until, refusals)


def _report(row: Row) -> Report | None:
    try:
        return reports.read(row)
    except Unreadable as fault:
        log.warning("a member's report says nothing: %s", fault)
        return None


def _beat(row: Row, report: Report | None, *, is_dead: bool) -> Beat:
    if report is None:  # it is waited for while its row changes
        return Beat(-row.version, is_dead=is_dead)
    return Beat(report.number, report.drains, is_dead, report.lasts_seconds)


def _called(document: Document | None) -> set[tuple[str, int]]:
    """The loads that members call, or did: there are facts of each."""
    places = document.places.items() if document is not None else ()
    return {(name, it.loaded) for name, models in places for it in models.values() if it.phase != "LOADING"}


def _with_version(document: Document, version: int) -> Document:
    return structs.replace(document, version=version)
