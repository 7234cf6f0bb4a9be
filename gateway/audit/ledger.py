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
    Sealer,
    Withheld,
    denial_record,
    intent_record,
    outcome_record,
    own_record,
)
from gateway.audit.sealing import Keyring, Sealers
from gateway.envelope.ports import KeysUnavailable

__all__ = ["Counters", "Denial", "Intent", "IntentBody", "Knobs", "Ledger", "Outcome", "SinkFailed"]

_UNWRITABLE = (TypeError, ValueError, OverflowError)  # a text or number that JSON cannot hold


class Ledger:
    """Of one process. `open` it, let `run` run, and end `run` before leaving."""

    def __init__(
        self,
        store: SegmentStore,
        *,
        clock: Callable[[], int],
        new_id: Callable[[], str],
        knobs: Knobs,
        keyring: Keyring | None,
    ) -> None:
        self._committer = Committer(store, clock=clock, new_id=new_id, knobs=knobs)
        self.counters = self._committer.counters
        self._clock = clock
        self._new_id = new_id
        self._count_seconds = knobs.count_seconds
        self._recount: asyncio.TimerHandle | None = None
        self._series_seconds = knobs.series_seconds
        self._reforget: asyncio.TimerHandle | None = None
        self._tally = Tally()
        self._sealers = Sealers(keyring, lambda: self._committer.segment_id) if keyring is not None else None

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
        keyring: Keyring | None = None,
    ) -> "AsyncIterator[Ledger]":
        """Repairs what the dead left, then opens the door; SinkFailed or SegmentFailed if it cannot.

        `clock`: microseconds since the epoch. `new_id`: fresh random ids of [0-9a-z]. Leaving flushes
        everything. `keyring`: with whose keys what is of a tenant's requests is sealed; without one all is in the clear.
        """
        ledger = Ledger(store, clock=clock, new_id=new_id, knobs=knobs or Knobs(), keyring=keyring)
        await ledger._committer.start()
        ledger._forget_series()
        try:
            yield ledger
        finally:
            await ledger._end()

    async def run(self) -> None:
        """Commits until cancelled; a commit then in flight is finished when `open` is left."""
        await self._committer.run()

    # What the request path calls.

    @property
    def seals(self) -> bool:
        """Whether what is of a tenant's requests is sealed, or else in the clear."""
        return self._sealers is not None

    def held_sealer(self, tenant: str) -> Sealer | None:
        """With what this tenant's records are sealed, if its key is here. Waits for nothing."""
        return self._sealers.held(tenant) if self._sealers is not None else None

    async def sealer(self, tenant: str) -> Sealer | None:
        """With what this tenant's records are sealed, for `intend` and `deny`, once its key is here. None: they are in the clear.
        Raises KeysUnavailable and KeyRefused; then nothing of this tenant's is served: fails closed.
        """
        if self._sealers is None:
            return None
        return self._sealers.held(tenant) or await self._sealers.fetched(tenant)

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
        sealer: Sealer | None = None,
    ) -> Intent:
        """Announces a call; SinkFailed when the door is closed or too much waits. No `request` comes twice. `sealer`: the tenant's, where
        records are sealed; KeysUnavailable without, and where its key may be used no more and no newer one is here.
        """
        if self._sealers is not None:
            sealer = self._sealers.now(tenant, sealer) if sealer is not None else None
            if sealer is None:
                raise KeysUnavailable("an intent without what seals it")
        if not (self.is_open and self._committer.has_room):
            self.counters.refused += 1
            raise SinkFailed(
                "too much waits for the audit sink" if self.is_open else "the audit sink is closed"
            )
        owed = Owed(request=request, tenant=tenant, key=key, model=model, model_version=model_version)
        record = intent_record(self._new_id(), owed, body, at_us=now_us, sealer=sealer)
        intent = self._committer.announce(owed, record, sealer)
        self.counters.intents += 1
        return intent

    def settle(self, intent: Intent, outcome: Outcome, *, now_us: int) -> None:
        """Says how the call ended; the first time counts. Nothing happens for a lost intent. Never raises. It is sealed as its intent was;
        where that key may be used no more, with the tenant's newest one, and where that is not here, its body is withheld.
        """
        if not self._committer.close(intent):
            return
        sealer = self._present(intent.owed.tenant, intent.sealer)
        try:
            record = outcome_record(self._new_id(), intent.owed, outcome, at_us=now_us, sealer=sealer)
        except _UNWRITABLE:
            self.counters.malformed += 1
            unknown = Outcome(status="unknown", reason="malformed")
            record = outcome_record(self._new_id(), intent.owed, unknown, at_us=now_us, sealer=sealer)
        self.counters.outcomes += 1
        self._committer.add(record, intent)

    def deny(self, denial: Denial, *, now_us: int, sealer: Sealer | None = None) -> None:
        """Records a refusal; counts it without a tenant, above ten a second, or for want of room. Never raises. Where records are sealed
        and the tenant's key is not here, its body is withheld.
        """
        self.counters.denials += 1
        if not (self._tally.is_single(denial, now_us) and self._committer.has_room):
            self._tally.count(denial, now_us)
            if self._recount is None:
                self._count_later()
            return
        try:
            sealer = self._present(denial.tenant, sealer)
            self._committer.add(denial_record(self._new_id(), denial, at_us=now_us, sealer=sealer))
        except _UNWRITABLE:
            self.counters.malformed += 1

    def tick(self, *, now_us: int) -> None:
        """Records the counts of denials whose window is over, if there is room. Happens by itself as well."""
        if self._committer.has_room:
            self._add_counts(now_us)

    async def close_destroyed(self) -> None:
        """Nothing here seals with a key that is destroyed, or could open what it sealed. Called every few seconds."""
        if self._sealers is not None:
            await self._sealers.look()

    async def _end(self) -> None:
        """Nothing more is taken in, and all that waits becomes durable."""
        self._committer.is_open = False
        for timer in (self._recount, self._reforget):
            if timer:
                timer.cancel()
        self._add_counts(None)
        await self._committer.end()

    def _count_later(self) -> None:
        self._recount = asyncio.get_running_loop().call_later(self._count_seconds, self._count_again)

    def _count_again(self) -> None:
        self._recount = None
        self.tick(now_us=self._clock())
        if self._tally:
            self._count_later()

    def _forget_series(self) -> None:
        if self._sealers:
            self._sealers.forget()
            self._reforget = asyncio.get_running_loop().call_later(self._series_seconds, self._forget_series)

    def _add_counts(self, now_us: int | None) -> None:
        for tenant, key, body in self._tally.take(now_us):
            at_us, sealer = body.until_us - 1, self._present(tenant)
            self._committer.add(
                own_record(
                    self._new_id(), "denials", body, at_us=at_us, tenant=tenant, key=key, sealer=sealer
                )
            )

    def _present(self, tenant: str | None, given: Sealer | None = None) -> Sealer | None:
        """What seals this tenant's records without a wait. What is of no tenant is of no request that was known: it stays in the clear."""
        if self._sealers is None or tenant is None:
            return None
        if found := self._sealers.now(tenant, given):
            return found
        self.counters.withheld += 1
        return Withheld()
