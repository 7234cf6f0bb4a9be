"""Limits that are not shared out: each admission is one write of the row, and a refusal costs nothing until there can be a token again.

What is free of the row refills for as long as it certainly stood. A member knows that of the row that it wrote, by its own clock since it
read that before writing; of one that it read, since it had read it; and of one that another wrote, by the time that this one wrote into it
less `APART_US`, which is how far the clocks of two hosts may be apart. It takes the longest of these.

Fails closed: while the table gives no answer nothing is admitted (TableUnavailable). What was written with a lost answer counts as spent.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from gateway.admission import shares as rows
from gateway.admission.bucket import MICRO, ONE, Verdict, slowed
from gateway.admission.shares import Limit, Shares
from tenants.errors import Conflict, TableUnavailable
from tenants.ports import Key, Put, Table

APART_US: Final = MICRO
SILENT_US: Final = MICRO
"""After a call without an answer nobody asks the table again for so long."""
_ATTEMPTS: Final = 8
_AGAIN_US: Final = MICRO // 20
_UNKNOWN_WAIT_US: Final = MICRO


@dataclass(slots=True)
class _Seen:
    """The row as it is known here, its version, since when it certainly stood (own clock), and whether that is to the microsecond."""

    shares: Shares
    version: int
    since_us: int
    is_own: bool


@dataclass(slots=True)
class Drawn:
    """One limit as this member draws from it."""

    key: Key
    asked: Limit
    asked_us: int
    limit: Limit
    seen: _Seen | None = None
    before: _Seen | None = None
    """The row as it would be without the last admission here, for as long as nobody has written since."""
    empty_until_us: int = 0
    silent_until_us: int = 0
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def refusal(self, now_us: int) -> Verdict | None:
        """What is known without asking anybody."""
        wait_us = self.empty_until_us - now_us
        return Verdict(now_us, 0, wait_us, wait_us) if wait_us > 0 else None

    def look(self, now_us: int) -> Verdict | None:
        """How it stands by what is known here, for one who asks for nothing; None: nothing is."""
        refusal = self.refusal(now_us)
        if refusal is not None or self.seen is None:
            return refusal
        shares = rows.refilled(self.seen.shares, now_us - self.seen.since_us)
        tokens = shares.free.tokens // ONE
        return Verdict(now_us, tokens, 0 if tokens else _wait_us(shares), _reset_us(shares))

    def told(self, limit: Limit) -> None:
        """The plan as the caller knows it."""
        self.asked = limit
        if rows.overrules(limit, self.limit):
            self.limit, self.empty_until_us = limit, 0


@dataclass(slots=True)
class Drawing:
    """`clock` is CLOCK_BOOTTIME, `wall_us` the time since 1970, both in microseconds; `me` is a name that no other process ever has."""

    table: Table
    me: str
    clock: Callable[[], int]
    wall_us: Callable[[], int]

    async def draw(self, drawn: Drawn) -> Verdict:
        """Admit one, or tell how long to wait. Raises TableUnavailable, Damaged; nothing is admitted then."""
        async with drawn.turn:
            now_us = self.clock()
            if now_us < drawn.silent_until_us:
                raise TableUnavailable("it has just given no answer")
            try:
                return drawn.refusal(now_us) or await self._draw(drawn)
            except TableUnavailable:
                drawn.seen = None
                drawn.silent_until_us = self.clock() + SILENT_US
                raise

    async def give_back(self, drawn: Drawn) -> None:
        """The last admission has not been, if nobody has written the row since: it is as if nobody had asked then. Else what was drawn is
        lost, as nobody can tell whether it would have found room. Raises TableUnavailable: it may be lost.
        """
        async with drawn.turn:
            before, drawn.before = drawn.before, None
            if before is None:
                return
            drawn.seen = None
            try:
                await self.table.transact(Put(drawn.key, rows.encoded(before.shares), before.version))
            except Conflict:
                return
            drawn.seen = _Seen(before.shares, before.version + 1, before.since_us, is_own=True)

    async def _draw(self, drawn: Drawn) -> Verdict:
        for _ in range(_ATTEMPTS):
            seen = drawn.seen = drawn.seen or await self._read(drawn)
            # It is decided at `now_us`: it stood until no later, and what is written says no earlier.
            wall_us, now_us = self.wall_us(), self.clock()
            stood_us = self._stood_us(seen, now_us, wall_us)
            found = self._refilled(drawn, seen.shares, stood_us)
            after = rows.spent(found)
            if after is None:
                drawn.empty_until_us = now_us + _wait_us(found)
                return Verdict(now_us, 0, drawn.empty_until_us - now_us, _reset_us(found))
            after = rows.stamped(after, self.me, self.wall_us())
            drawn.seen = drawn.before = None
            try:
                await self.table.transact(Put(drawn.key, rows.encoded(after), seen.version))
            except Conflict:
                continue
            drawn.seen = _Seen(after, seen.version + 1, now_us, is_own=True)
            unspent = rows.stamped(found, self.me, after.at_us)
            drawn.before = _Seen(unspent, seen.version + 1, now_us, is_own=True)
            return Verdict(now_us, after.free.tokens // ONE, 0, _reset_us(after))
        return Verdict(self.clock(), 0, _AGAIN_US, _AGAIN_US)

    async def _read(self, drawn: Drawn) -> _Seen:
        row = await self.table.get(drawn.key)
        if row is None:
            return _Seen(rows.laid_out(drawn.limit), 0, self.clock(), is_own=False)
        return _Seen(rows.read(row), row.version, self.clock(), is_own=False)

    def _refilled(self, drawn: Drawn, shares: Shares, stood_us: int) -> Shares:
        """What is free by now, under the plan that counts. While the row stood, the lower rate of the old plan and the new one held."""
        if not rows.overrules(drawn.limit, shares):
            drawn.limit = Limit(shares.rate, shares.capacity, shares.since)
            return rows.refilled(shares, stood_us)
        if drawn.limit.rate < shares.rate:
            return rows.refilled(rows.under(shares, drawn.limit), stood_us)
        return rows.under(rows.refilled(shares, stood_us), drawn.limit)

    def _stood_us(self, seen: _Seen, now_us: int, wall_us: int) -> int:
        known = now_us - seen.since_us
        return known if seen.is_own else max(known, wall_us - seen.shares.at_us - APART_US)


def _wait_us(shares: Shares) -> int:
    """Until there is a whole token, where there is none."""
    return _until_us(shares, ONE) if shares.free.capacity >= ONE else _UNKNOWN_WAIT_US


def _reset_us(shares: Shares) -> int:
    return _until_us(shares, shares.free.capacity)


def _until_us(shares: Shares, tokens: int) -> int:
    """Until there are so many; at least a microsecond."""
    a_second = slowed(max(0, shares.free.rate), MICRO)
    return (
        max(0, tokens - shares.free.tokens) * MICRO * MICRO // a_second + 1 if a_second else _UNKNOWN_WAIT_US
    )
