"""The ledger: intents before, outcomes after, denials too; one write and one sync for all that a tick brings.

The door is open while a segment takes commits. When one fails, or takes longer than `stall_seconds`, the
segment is poisoned: the door closes, whoever waits gets SinkFailed, every open intent is lost (its outcome is
`unknown`), and the next commit goes to a fresh segment. Once that is durable the door is open again. Fails
closed; counted in `failures`. At the start nobody waits yet: the first segment has `create_seconds`.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from gateway.audit.batch import Batch, Closed, Current, Flight, Intent
from gateway.audit.denials import Tally
from gateway.audit.ports import Segment, SegmentStore, SinkFailed
from gateway.audit.record import (
    Denial,
    IntentBody,
    Outcome,
    Owed,
    ProbeBody,
    Record,
    SegmentBody,
    denial_record,
    intent_record,
    outcome_record,
    own_record,
)
from gateway.audit.recovery import recover
from gateway.audit.segment import first_chain, frame

__all__ = ["Counters", "Denial", "Intent", "IntentBody", "Knobs", "Ledger", "Outcome", "SinkFailed"]

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_UNWRITABLE = (TypeError, ValueError, OverflowError)  # a text or number that JSON cannot hold


@dataclass(frozen=True, slots=True)
class Knobs:
    stall_seconds: float = 2.0  # a commit that takes longer has failed
    create_seconds: float = 60.0  # the same for the first segment, which is filled while nobody waits
    retry_seconds: float = 1.0  # between two tries to open the door again
    ride_seconds: float = 0.01  # how long an outcome waits for an intent to ride with
    count_seconds: float = 1.0  # how often counts of denials are looked at
    waiting_bytes: int = 16 * 1024 * 1024  # beyond it nothing new is taken in


@dataclass(slots=True)
class Counters:
    """Since the ledger opened. `refused`: intents at a closed door. `malformed`: what JSON cannot hold."""

    commits: int = 0
    records: int = 0
    bytes: int = 0
    failures: int = 0
    intents: int = 0
    outcomes: int = 0
    unknown: int = 0
    denials: int = 0
    refused: int = 0
    malformed: int = 0


class Ledger:
    """Of one process. `open` it, let `run` run, and end `run` before leaving."""

    def __init__(
        self, store: SegmentStore, *, clock: Callable[[], int], new_id: Callable[[], str], knobs: Knobs
    ) -> None:
        self.counters = Counters()
        self.is_open = False
        self.damaged: tuple[str, ...] = ()  # segments of dead processes that were left as they are
        self._store = store
        self._clock = clock
        self._new_id = new_id
        self._knobs = knobs
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._ride: asyncio.TimerHandle | None = None
        self._recount: asyncio.TimerHandle | None = None
        self._tally = Tally()
        self._open: dict[Intent, None] = {}
        self._gathering = Batch()
        self._flight: Flight | None = None
        self._creating: asyncio.Future[Segment] | None = None
        self._current: Current | None = None
        self._closed = Closed()
        self._is_ending = False

    @staticmethod
    @asynccontextmanager
    async def open(
        store: SegmentStore,
        *,
        clock: Callable[[], int],
        new_id: Callable[[], str],
        knobs: Knobs | None = None,
    ) -> "AsyncIterator[Ledger]":
        """Repairs what the dead left, then opens the door; SinkFailed or SegmentFailed if it cannot.

        `clock`: microseconds since the epoch. `new_id`: fresh random ids of [0-9a-z]. Leaving flushes
        everything.
        """
        ledger = Ledger(store, clock=clock, new_id=new_id, knobs=knobs or Knobs())
        await ledger._start()
        try:
            yield ledger
        finally:
            await ledger._end()

    # What the request path calls.

    def intend(
        self,
        *,
        request: str,
        tenant: str,
        key: str,
        model: str,
        model_version: str,
        now_us: int,
        body: IntentBody,
    ) -> Intent:
        """Announces a call; SinkFailed when the door is closed or too much waits. No `request` comes twice."""
        batch = self._gathering
        if not self.is_open or batch.size_bytes > self._knobs.waiting_bytes:
            self.counters.refused += 1
            raise SinkFailed(
                "too much waits for the audit sink" if self.is_open else "the audit sink is closed"
            )
        owed = Owed(request=request, tenant=tenant, key=key, model=model, model_version=model_version)
        record_id = self._new_id()
        intent = Intent(record_id, owed, batch)
        batch.add(intent_record(record_id, owed, body, at_us=now_us), intent)
        self._open[intent] = None
        self.counters.intents += 1
        self._wake.set()
        return intent

    def settle(self, intent: Intent, outcome: Outcome, *, now_us: int) -> None:
        """Says how the call ended; the first time counts. Nothing happens for a lost intent. Never raises."""
        if intent not in self._open:
            return
        del self._open[intent]
        try:
            record = outcome_record(self._new_id(), intent.owed, outcome, at_us=now_us)
        except _UNWRITABLE:
            self.counters.malformed += 1
            unknown = Outcome(status="unknown", reason="malformed")
            record = outcome_record(self._new_id(), intent.owed, unknown, at_us=now_us)
        self.counters.outcomes += 1
        self._gathering.add(record, intent)
        self._ride_along()

    def deny(self, denial: Denial, *, now_us: int) -> None:
        """Records a refusal; counts it without a tenant, above ten a second, or for want of room. Never raises."""
        self.counters.denials += 1
        has_room = self._gathering.size_bytes <= self._knobs.waiting_bytes
        if not (self._tally.is_single(denial, now_us) and has_room):
            self._tally.count(denial, now_us)
            if self._recount is None:
                self._recount = self._loop.call_later(self._knobs.count_seconds, self._count_again)
            return
        try:
            self._gathering.add(denial_record(self._new_id(), denial, at_us=now_us))
        except _UNWRITABLE:
            self.counters.malformed += 1
        self._ride_along()

    def tick(self, *, now_us: int) -> None:
        """Records the counts of denials whose window is over, if there is room. Happens by itself as well."""
        if self._gathering.size_bytes <= self._knobs.waiting_bytes:
            self._add_counts(now_us)

    # The committer.

    async def run(self) -> None:
        """Commits until cancelled; a commit then in flight is finished when `open` is left."""
        while True:
            if self._flight is None:
                await self._wake.wait()
            try:
                await self._commit()
            except SinkFailed:
                await asyncio.sleep(self._knobs.retry_seconds)

    async def _start(self) -> None:
        async with self._store.recovery():
            found = await recover(self._store)
            self.damaged = found.damaged
            self._closed.named.extend(found.previous)
            for owed, segment in found.orphans:
                self._add_unknown(owed, segment)
            try:
                self._creating = self._store.create(self._new_id())
                await self._answer(self._creating, "the first segment", self._knobs.create_seconds)
                await self._commit()
            except SinkFailed:
                self._give_up()
                raise

    async def _end(self) -> None:
        """Flushes. After a fault it tries one fresh segment; failing that, the next start repairs."""
        self.is_open = False
        self._is_ending = True
        for timer in (self._ride, self._recount):
            if timer:
                timer.cancel()
        self._add_counts(None)
        for _ in range(2):
            try:
                while self._flight or self._gathering.items:
                    await self._commit()
                break
            except SinkFailed:
                continue
        self._give_up()
        if self._current:
            await self._current.segment.close()

    def _give_up(self) -> None:
        """Nothing more will name the closed segments, or use one that is still to come."""
        self._closed.release()
        if self._creating:
            self._creating.add_done_callback(_discard)

    async def _commit(self) -> None:
        """Makes what waits durable. Cancelled, it may be called again. SinkFailed: the door is closed."""
        try:
            flight = self._flight = self._flight or self._launch(await self._make_room())
            commit = f"a commit to segment {flight.current.segment.id}"
            await self._answer(flight.written, commit, self._knobs.stall_seconds)
        except SinkFailed as failure:
            self._fail(failure)
            raise
        self._land_at_once(flight)

    async def _answer(self, future: asyncio.Future[_T], what: str, limit_seconds: float) -> _T:
        await asyncio.wait((future,), timeout=limit_seconds)
        what = f"{what} in {self._store.place}"
        if not future.done():
            raise SinkFailed(f"{what}: no answer in {limit_seconds:g} s")
        if future.cancelled():
            raise SinkFailed(f"{what}: cancelled")
        if error := future.exception():
            raise SinkFailed(f"{what}: {error}") from error
        return future.result()

    async def _make_room(self) -> Current:
        """A segment that takes the batch: the current one, or a fresh one if there is none or it is full."""
        current = self._current
        if current and self._gathering.size_bytes <= current.segment.left_bytes:
            return current
        # Kept when there is no answer in time: the next try waits for the same one.
        creating = self._creating = self._creating or self._store.create(self._new_id())
        try:
            segment = await self._answer(creating, "a new segment", self._knobs.stall_seconds)
        except SinkFailed:
            self._creating = None if creating.done() else creating
            raise
        self._creating = None
        if current:
            self._closed.add(current, poisoned=False)
        self._current = Current(segment, first_chain(segment.id))
        return self._current

    def _launch(self, current: Current) -> Flight:
        batch, self._gathering = self._gathering, Batch()
        self._wake.clear()
        if self._ride:
            self._ride.cancel()
            self._ride = None
        opening = [] if current.commits else self._opening()
        framed = frame(current.commits, [*opening, *(item.record for item in batch.items)], current.chain)
        flight = Flight(current, batch, framed, current.segment.append(framed.data))
        flight.written.add_done_callback(lambda _: self._land_at_once(flight))
        return flight

    def _opening(self) -> list[Record]:
        owed = tuple(intent.owed for intent in self._open if intent.batch.is_durable)
        body = SegmentBody(previous=tuple(self._closed.named), owed=owed)
        records = [own_record(self._new_id(), "segment", body, at_us=self._clock())]
        if not (self.is_open or self._is_ending):
            records.append(own_record(self._new_id(), "probe", ProbeBody(), at_us=self._clock()))
        return records

    def _land_at_once(self, flight: Flight) -> None:
        """As soon as the segment says so: whoever waits for it need not wait for the committer's turn as well."""
        written = flight.written
        if self._flight is flight and not written.cancelled() and written.exception() is None:
            self._land(flight)

    def _land(self, flight: Flight) -> None:
        self._flight = None
        flight.current.chain = flight.frame.chain
        flight.current.commits += 1
        if flight.current.commits == 1:
            self._closed.release()
            self.is_open = not self._is_ending
        self.counters.commits += 1
        self.counters.records += len(flight.batch.items)
        self.counters.bytes += len(flight.frame.data)
        flight.batch.land()

    def _fail(self, failure: SinkFailed) -> None:
        """Closes the door. What waits goes on waiting, but each open intent, durable or not, is unknown."""
        _log.error("audit sink failed, the door is closed: %s", failure)
        self.counters.failures += 1
        self.is_open = False
        batches = [self._gathering]
        if self._flight:
            self._flight.written.cancel()
            batches.insert(0, self._flight.batch)
            self._flight = None
        if self._current:
            self._closed.add(self._current, poisoned=True)
            self._current = None
        items = [item for batch in batches for item in batch.items]
        unwritten = {i: None for _, i in items if i is not None and not i.batch.is_durable}
        lost = self._open | unwritten
        self._open = {}
        for intent in lost:
            intent.is_lost = True
        self._gathering = Batch()
        for record, about in items:
            if about is None or not about.is_lost:
                self._gathering.add(record, about)
        for intent in lost:
            self._add_unknown(intent.owed, self._closed.named[-1].segment)
        for batch in batches:
            batch.wake()
        self._wake.set()

    def _ride_along(self) -> None:
        if self._ride is None and not self._wake.is_set():
            self._ride = self._loop.call_later(self._knobs.ride_seconds, self._wake.set)

    def _add_unknown(self, owed: Owed, segment: str) -> None:
        unknown = Outcome(status="unknown")
        self._gathering.add(
            outcome_record(self._new_id(), owed, unknown, at_us=self._clock(), segment=segment)
        )
        self.counters.unknown += 1

    def _count_again(self) -> None:
        self._recount = None
        self.tick(now_us=self._clock())
        if self._tally:
            self._recount = self._loop.call_later(self._knobs.count_seconds, self._count_again)

    def _add_counts(self, now_us: int | None) -> None:
        for tenant, key, body in self._tally.take(now_us):
            self._gathering.add(
                own_record(self._new_id(), "denials", body, at_us=body.until_us - 1, tenant=tenant, key=key)
            )
            self._ride_along()


def _discard(created: asyncio.Future[Segment]) -> None:
    """A segment that came too late is given up, empty; the next start names it."""
    if not created.cancelled() and created.exception() is None:
        created.result().close()
