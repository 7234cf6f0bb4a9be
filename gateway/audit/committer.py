"""The committer: what waits becomes one commit of a segment, and what becomes of all of it when that fails.

A commit costs some ten times what a record costs, so one is due when somebody waits for it, when it holds a fair part of the calls that
are open, or when it has gathered for `ride_seconds` with none before it under way. A call that comes alone is due at once.

The door is open while a segment takes commits. When one fails, or takes longer than `stall_seconds`, the
segment is poisoned: the door closes, whoever waits gets SinkFailed, every open intent is lost (its outcome is
`unknown`), and the next commit goes to a fresh segment. Once that is durable the door is open again. Fails
closed; counted in `failures`. At the start nobody waits yet: the first segment has `create_seconds`.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from gateway.audit.batch import Batch, Closed, Current, Flight, Intent
from gateway.audit.ports import Segment, SegmentStore, SinkFailed
from gateway.audit.record import (
    Outcome,
    Owed,
    ProbeBody,
    Record,
    Sealer,
    SegmentBody,
    outcome_record,
    own_record,
)
from gateway.audit.recovery import recover
from gateway.audit.segment import first_chain, frame

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Knobs:
    stall_seconds: float = 2.0  # a commit that takes longer has failed
    create_seconds: float = 60.0  # the same for the first segment, which is filled while nobody waits
    retry_seconds: float = 1.0  # between two tries to open the door again
    ride_seconds: float = 0.01  # how long a record waits for others to ride with
    fair_part: int = 4  # a commit with an intent for every fourth open call is worth its cost
    count_seconds: float = 1.0  # how often counts of denials are looked at
    series_seconds: float = (
        20.0  # how often what seals is forgotten if nobody was given it since: below half a minute
    )
    waiting_bytes: int = 16 * 1024 * 1024  # beyond it nothing new is taken in


@dataclass(slots=True)
class Counters:
    """Since the ledger opened. `refused`: intents at a closed door. `malformed`: what JSON cannot hold. `withheld`: bodies that no
    key was there for.
    """

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
    withheld: int = 0


class Committer:
    """Of one ledger, which alone calls it. `start` it, let `run` run, and `end` it when that has ended."""

    def __init__(
        self, store: SegmentStore, *, clock: Callable[[], int], new_id: Callable[[], str], knobs: Knobs
    ) -> None:
        self.counters = Counters()
        self.is_open = False
        self.segment_id = ""  # of the segment that takes commits, or took the last ones
        self.damaged: tuple[str, ...] = ()  # segments of dead processes that were left as they are
        self._store = store
        self._clock = clock
        self._new_id = new_id
        self._knobs = knobs
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()  # `run` has to see to it: a segment is full, or has failed
        self._is_running = False
        self._is_called = False  # a look at what is due is on its way
        self._ride: asyncio.TimerHandle | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._open: dict[Intent, None] = {}
        self._gathering = Batch(self._look_soon)
        self._flight: Flight | None = None
        self._creating: asyncio.Future[Segment] | None = None
        self._current: Current | None = None
        self._closed = Closed()
        self._failure: SinkFailed | None = None  # why the door is closed
        self._fault: Exception | None = None  # of our own
        self._is_ending = False

    # What the ledger calls.

    @property
    def has_room(self) -> bool:
        """Whether what waits is few enough for more of it."""
        return self._gathering.size_bytes <= self._knobs.waiting_bytes

    def announce(self, owed: Owed, record: Record, sealer: Sealer | None) -> Intent:
        """A call has begun: it is open until `close`."""
        batch = self._gathering
        intent = Intent(owed, batch, sealer)
        batch.add(record, intent)
        batch.intents += 1
        self._open[intent] = None
        self._look_soon()
        return intent

    def close(self, intent: Intent) -> bool:
        """The call has ended; whether it was open until now, and its outcome is to be added."""
        if intent not in self._open:
            return False
        del self._open[intent]
        return True

    def add(self, record: Record, intent: Intent | None = None) -> None:
        """For the next commit, that of an intent if one comes soon. `intent`: whose outcome it is."""
        self._gathering.add(record, intent)
        self._ride_along()

    async def run(self) -> None:
        """Commits until cancelled; a commit then in flight is finished when `open` is left.

        While all goes well `_look` does it, without a task to be woken: this is for what takes a new segment.
        """
        self._is_running = True
        self._look_soon()
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                if self._fault:
                    raise self._fault
                if not self.is_open:
                    await asyncio.sleep(self._knobs.retry_seconds)
                if self._gathering.items or not self.is_open:
                    with suppress(SinkFailed):  # which has woken us again
                        await self._commit()
        finally:
            self._is_running = False

    def _guarded(self, act: Callable[..., None], *given: Flight) -> None:
        """A callback: a fault that nobody foresaw closes the door and ends `run`, and with it the process."""
        try:
            act(*given)
        except Exception as fault:  # noqa: BLE001 - whatever it was, a gateway must not go on without its committer
            self.is_open = False
            self._fault = fault
            self._wake.set()

    def _look_soon(self) -> None:
        """Behind all that this tick brings."""
        if self._is_running and self._flight is None and not self._is_called:
            self._is_called = True
            self._loop.call_soon(self._guarded, self._look)

    def _look(self) -> None:
        """Starts the commit that is due; without a segment that takes it the committer has to."""
        self._is_called = False
        batch = self._gathering
        if self._flight or not (self._is_running and batch.items):
            return
        is_worth_it = batch.intents and batch.intents * self._knobs.fair_part >= len(self._open)
        if not (batch.is_wanted or is_worth_it):
            self._ride_along()
        elif (current := self._current) and batch.size_bytes <= current.segment.left_bytes:
            self._launch(current)
        else:
            self._wake.set()

    async def start(self) -> None:
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

    async def end(self) -> None:
        """Flushes. After a fault it tries one fresh segment; failing that, the next start repairs."""
        self.is_open = False
        self._is_ending = True
        if self._ride:
            self._ride.cancel()
        for _ in range(2):
            try:
                while self._flight or self._gathering.items:
                    await self._commit()
                break
            except SinkFailed:
                continue
        if self._watch:
            self._watch.cancel()
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
        flight = self._flight
        if flight is None:
            try:
                flight = self._launch(await self._make_room())
            except SinkFailed as failure:
                self._fail(failure)
                raise
        await asyncio.wait((flight.written,))  # `_told` has been told first
        if self._failure:
            raise self._failure

    async def _answer(self, future: asyncio.Future[_T], what: str, limit_seconds: float) -> _T:
        await asyncio.wait((future,), timeout=limit_seconds)
        return self._result(future, what, limit_seconds)

    def _result(self, future: asyncio.Future[_T], what: str, limit_seconds: float) -> _T:
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
        self.segment_id = segment.id
        return self._current

    def _launch(self, current: Current) -> Flight:
        batch = self._gathering
        self._failure = None
        if self._ride:
            self._ride.cancel()
            self._ride = None
        opening = [] if current.commits else self._opening()
        framed = frame(current.commits, [*opening, *(item.record for item in batch.items)], current.chain)
        ends_at = self._loop.time() + self._knobs.stall_seconds
        flight = self._flight = Flight(current, batch, framed, current.segment.append(framed.data), ends_at)
        self._gathering = Batch(self._look_soon)
        flight.written.add_done_callback(lambda _: self._guarded(self._told, flight))
        if self._watch is None:
            self._watch = self._loop.call_at(ends_at, self._guarded, self._watch_over)
        return flight

    def _opening(self) -> list[Record]:
        owed = tuple(intent.owed for intent in self._open if intent.batch.is_durable)
        body = SegmentBody(previous=tuple(self._closed.named), owed=owed)
        records = [own_record(self._new_id(), "segment", body, at_us=self._clock())]
        if not (self.is_open or self._is_ending):
            records.append(own_record(self._new_id(), "probe", ProbeBody(), at_us=self._clock()))
        return records

    def _watch_over(self) -> None:
        """One timer for all commits: it is set again for what is left to the present one."""
        flight, self._watch = self._flight, None
        if flight and flight.ends_at > self._loop.time():
            self._watch = self._loop.call_at(flight.ends_at, self._guarded, self._watch_over)
        elif flight:
            self._told(flight)

    def _told(self, flight: Flight) -> None:
        """The segment has answered, or it is too late for that."""
        if self._flight is not flight:
            return
        try:
            commit = f"a commit to segment {flight.current.segment.id}"
            self._result(flight.written, commit, self._knobs.stall_seconds)
        except SinkFailed as failure:
            self._fail(failure)
        else:
            self._land(flight)
            self._look_soon()

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
        self._failure = failure
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
        about = [item.intent for item in items if item.intent is not None]
        unwritten = {intent: None for intent in about if not intent.batch.is_durable}
        lost = self._open | unwritten
        self._open = {}
        for intent in lost:
            intent.is_lost = True
        self._gathering = Batch(self._look_soon)
        for item in items:
            if item.intent is None or not item.intent.is_lost:
                self._gathering.add(item.record, item.intent)
        for intent in lost:
            self._add_unknown(intent.owed, self._closed.named[-1].segment)
        for batch in batches:
            batch.drop()
        self._wake.set()

    def _ride_along(self) -> None:
        if self._ride is None:
            self._ride = self._loop.call_later(self._knobs.ride_seconds, self._ride_over)

    def _ride_over(self) -> None:
        self._ride = None
        self._gathering.want()

    def _add_unknown(self, owed: Owed, segment: str) -> None:
        unknown = Outcome(status="unknown")
        self._gathering.add(
            outcome_record(self._new_id(), owed, unknown, at_us=self._clock(), segment=segment)
        )
        self.counters.unknown += 1


def _discard(created: asyncio.Future[Segment]) -> None:
    """A segment that came too late is given up, empty; the next start names it."""
    if not created.cancelled() and created.exception() is None:
        created.result().close()
