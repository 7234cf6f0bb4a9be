"""Bodies of audit records are forgotten when they are over: in closed segments, one at a time. Entries and chain stay as they are.

A segment is closed once nobody owns it and a later one names it. That one must have stood for an hour: so its own opening is on the disk,
whatever happens, and no recovery meets a segment without its bodies. What is no longer what a later one says of it is left as it is, and
the log says so: it is for `gateway audit verify`, and an operator. A body that could not be forgotten stays until the next look.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, NamedTuple

from gateway.audit.ports import SegmentStore
from gateway.audit.record import Entry, Previous, SegmentBody
from gateway.audit.recovery import head
from gateway.audit.segment import Fault, first_chain, forgotten, opened_us, opening, walk
from gateway.audit.verify import closed

Days = Callable[[str], Awaitable[int | None]]
"""How old the bodies of the tenant with this id become; None: they are kept."""

MOST_KNOWN: Final = 200_000
"""Tenants of segments that are remembered, some 100 bytes each."""
SETTLED_US: Final = 3_600_000_000
_DAY_US: Final = 86_400_000_000
_log = logging.getLogger(__name__)


class Retention:
    """`clock`: microseconds since 1970, as entries have. `segments` and `bodies` count what was forgotten since the start."""

    def __init__(
        self, store: SegmentStore, days_of: Days, clock: Callable[[], int], most_known: int = MOST_KNOWN
    ) -> None:
        self.segments = 0
        self.bodies = 0
        self._store = store
        self._days_of = days_of
        self._clock = clock
        self._openings: dict[str, _Opening] = {}
        # The oldest body of each tenant, by segment: what need not be read again.
        self._oldest: dict[str, Mapping[str, int]] = {}
        self._room = most_known
        self._unfit: set[str] = set()

    async def look(self) -> None:
        """One pass, unless another process is at it. Raises SegmentFailed, and what `days_of` does; the next pass does the rest."""
        async with self._store.retention() as is_alone:
            if is_alone:
                await self._pass()

    async def _pass(self) -> None:
        now = self._clock()
        stored = await self._store.stored()
        openings: dict[str, SegmentBody | None] = {}
        for segment_id, _ in stored:
            found = await self._opening(segment_id)
            openings[segment_id] = found.body if found and found.at_us <= now - SETTLED_US else None
        ends = closed(openings)
        limits = _Limits(self._days_of, now)
        for segment_id, is_locked in stored:
            if segment_id in ends and not is_locked and segment_id not in self._unfit:
                await self._forget(segment_id, ends[segment_id], limits)

    async def _opening(self, segment_id: str) -> "_Opening | None":
        known = self._openings.get(segment_id)
        if known is None:
            data = await head(self._store, segment_id)
            body, at_us = opening(segment_id, data), opened_us(segment_id, data)
            if body is None or at_us is None:
                return None
            known = self._openings[segment_id] = _Opening(SegmentBody(previous=body.previous), at_us)
        return known

    async def _forget(self, segment_id: str, end: Previous, limits: "_Limits") -> None:
        oldest = self._oldest.get(segment_id)
        if oldest is not None and not await limits.reach(oldest):
            return
        data = await self._store.read(segment_id)
        whole = await asyncio.to_thread(_until, segment_id, data, end)
        if whole is None:
            self._unfit.add(segment_id)
            _log.error(
                "segment %s is not what a later one says of it: none of its bodies is forgotten", segment_id
            )
            return
        seen = _Judge({})
        await asyncio.to_thread(forgotten, segment_id, whole, seen)
        judge, left = seen, None
        if await limits.reach(seen.oldest):
            judge = _Judge({tenant: await limits.of(tenant) for tenant in seen.oldest})
            left = await asyncio.to_thread(forgotten, segment_id, whole, judge)
        if left is None and any(data[len(whole) :]):
            left = (
                whole  # a poisoned one: what lies behind its end never happened, and no time is known of it
            )
        if left is not None:
            await self._store.replace(segment_id, left)
            self.segments += 1
            self.bodies += judge.over
            _log.info("segment %s: %d bodies are over and forgotten", segment_id, judge.over)
        self._know(segment_id, judge.oldest)

    def _know(self, segment_id: str, oldest: Mapping[str, int]) -> None:
        """Of what there is no room for, the segment is read again with each look."""
        self._room += len(self._oldest.pop(segment_id, ()))
        if len(oldest) <= self._room:
            self._oldest[segment_id] = oldest
            self._room -= len(oldest)


class _Opening(NamedTuple):
    body: SegmentBody
    at_us: int


class _Limits:
    """Of one pass: before when a tenant's bodies are over, asked for once."""

    def __init__(self, days_of: Days, now_us: int) -> None:
        self._days_of = days_of
        self._now_us = now_us
        self._known: dict[str, int] = {}

    async def of(self, tenant: str) -> int:
        if tenant not in self._known:
            days = await self._days_of(tenant)
            self._known[tenant] = 0 if days is None else self._now_us - days * _DAY_US
        return self._known[tenant]

    async def reach(self, oldest: Mapping[str, int]) -> bool:
        """Whether any of these is over."""
        for tenant, at_us in oldest.items():
            if at_us < await self.of(tenant):
                return True
        return False


class _Judge:
    """Says which are over, counts them, and keeps the time of the oldest that is not. What is of no tenant is never over."""

    def __init__(self, limits: Mapping[str, int]) -> None:
        self.over = 0
        self.oldest: dict[str, int] = {}
        self._limits = limits

    def __call__(self, entry: Entry) -> bool:
        if entry.tenant is None:
            return False
        if entry.at_us < self._limits.get(entry.tenant, 0):
            self.over += 1
            return True
        self.oldest[entry.tenant] = min(entry.at_us, self.oldest.get(entry.tenant, entry.at_us))
        return False


def _until(segment_id: str, data: bytes, end: Previous) -> bytes | None:
    """Its commits up to the end that a later segment says; None if they are others, or more, or something else is there."""
    commits, end_bytes, chain = 0, 0, first_chain(segment_id)
    for found in walk(segment_id, data):
        if commits == end.commits:
            if not end.poisoned:
                return None
            break
        if isinstance(found, Fault):
            return None
        commits, end_bytes, chain = commits + 1, found.end_bytes, found.chain
    return data[:end_bytes] if commits == end.commits and chain.hex() == end.chain else None
