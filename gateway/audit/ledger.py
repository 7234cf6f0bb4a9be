"""The ledger: intents before, outcomes after, denials too. It says what is recorded; how that becomes durable, the committer."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from gateway.audit.batch import Intent
from gateway.audit.committer import Committer, Counters, Knobs
from gateway.audit.denials import Tally
from gateway.audit.ports import SegmentStore, SinkFailed
from gateway.audit.record import (
    Denial,
    IntentBody,
    Outcome,
    Owed,
    denial_record,
    intent_record,
    outcome_record,
    own_record,
)

__all__ = ["Counters", "Denial", "Intent", "IntentBody", "Knobs", "Ledger", "Outcome", "SinkFailed"]

_UNWRITABLE = (TypeError, ValueError, OverflowError)  # a text or number that JSON cannot hold


class Ledger:
    """Of one process. `open` it, let `run` run, and end `run` before leaving."""

    def __init__(
        self, store: SegmentStore, *, clock: Callable[[], int], new_id: Callable[[], str], knobs: Knobs
    ) -> None:
        self._committer = Committer(store, clock=clock, new_id=new_id, knobs=knobs)
        self.counters = self._committer.counters
        self._clock = clock
        self._new_id = new_id
        self._count_seconds = knobs.count_seconds
        self._recount: asyncio.TimerHandle | None = None
        self._tally = Tally()

    @property
    def is_open(self) -> bool:
        return self._committer.is_open

    @property
    def damaged(self) -> tuple[str, ...]:
        """Segments of dead processes that were left as they are."""
        return self._committer.damaged

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
        await ledger._committer.start()
        try:
            yield ledger
        finally:
            await ledger._end()

    async def run(self) -> None:
        """Commits until cancelled; a commit then in flight is finished when `open` is left."""
        await self._committer.run()

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
        if not (self.is_open and self._committer.has_room):
            self.counters.refused += 1
            raise SinkFailed(
                "too much waits for the audit sink" if self.is_open else "the audit sink is closed"
            )
        owed = Owed(request=request, tenant=tenant, key=key, model=model, model_version=model_version)
        intent = self._committer.announce(owed, intent_record(self._new_id(), owed, body, at_us=now_us))
        self.counters.intents += 1
        return intent

    def settle(self, intent: Intent, outcome: Outcome, *, now_us: int) -> None:
        """Says how the call ended; the first time counts. Nothing happens for a lost intent. Never raises."""
        if not self._committer.close(intent):
            return
        try:
            record = outcome_record(self._new_id(), intent.owed, outcome, at_us=now_us)
        except _UNWRITABLE:
            self.counters.malformed += 1
            unknown = Outcome(status="unknown", reason="malformed")
            record = outcome_record(self._new_id(), intent.owed, unknown, at_us=now_us)
        self.counters.outcomes += 1
        self._committer.add(record, intent)

    def deny(self, denial: Denial, *, now_us: int) -> None:
        """Records a refusal; counts it without a tenant, above ten a second, or for want of room. Never raises."""
        self.counters.denials += 1
        if not (self._tally.is_single(denial, now_us) and self._committer.has_room):
            self._tally.count(denial, now_us)
            if self._recount is None:
                self._count_later()
            return
        try:
            self._committer.add(denial_record(self._new_id(), denial, at_us=now_us))
        except _UNWRITABLE:
            self.counters.malformed += 1

    def tick(self, *, now_us: int) -> None:
        """Records the counts of denials whose window is over, if there is room. Happens by itself as well."""
        if self._committer.has_room:
            self._add_counts(now_us)

    async def _end(self) -> None:
        """Nothing more is taken in, and all that waits becomes durable."""
        self._committer.is_open = False
        if self._recount:
            self._recount.cancel()
        self._add_counts(None)
        await self._committer.end()

    def _count_later(self) -> None:
        self._recount = asyncio.get_running_loop().call_later(self._count_seconds, self._count_again)

    def _count_again(self) -> None:
        self._recount = None
        self.tick(now_us=self._clock())
        if self._tally:
            self._count_later()

    def _add_counts(self, now_us: int | None) -> None:
        for tenant, key, body in self._tally.take(now_us):
            self._committer.add(
                own_record(self._new_id(), "denials", body, at_us=body.until_us - 1, tenant=tenant, key=key)
            )
