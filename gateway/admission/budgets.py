"""One member's side of the budgets: it spends its chunks without asking anybody, and takes, tells and gives back beside the calls.

Where the chunk that a member may have is smaller than what a call needs, each call is one bounded write of the row. What a call reserved
beyond what it used stays in the chunk, so the next call needs less.

Fails closed: a chunk is spent while its period lasts, without the table too; then, and where nothing is left of it, TableUnavailable.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from gateway.admission import budget as rows
from gateway.admission.budget import MICRO, Budget, Damaged, Limit
from gateway.admission.chunk import Chunk
from gateway.loops import at_once
from tenants.errors import Conflict, TableUnavailable
from tenants.ports import Key, Put, Table

log = logging.getLogger(__name__)

MOST_LIMITS: Final = 10_000
"""In use at once; the one that was asked longest ago is given back for another."""
STEP_SECONDS: Final = 0.05
"""Between two looks at what is due."""
_CLOSE_SECONDS: Final = 2.0
LOOK_US: Final = MICRO // 4
_LOOKED_AFTER: Final = 100
"""So many budgets are looked after at that pace, more of them slower: their chunks last for longer, and what was used is told later."""
_TOLD_US: Final = 5 * MICRO
"""What was used is in the row so much later at the latest."""
_IDLE_US: Final = 10 * MICRO
_SILENT_US: Final = MICRO
_EMPTY_US: Final = MICRO
"""So long nobody asks again for what was not there: others may give back, or settle for less than they reserved."""
_SPENT_US: Final = 5 * MICRO
_ATTEMPTS: Final = 8
_AT_ONCE: Final = 16

UsedBy = Callable[[str, str, int], Awaitable[int | None]]
"""Of a member that is gone, of a budget, and of the period that began then: all that it used. None: that cannot be told yet."""


async def given_back(budgets: "Budgets") -> None:
    """As this process ends others have its chunks at once; without an answer they are kept back until it is known what it used."""
    try:
        async with asyncio.timeout(_CLOSE_SECONDS):
            await budgets.close()
    except (TableUnavailable, Damaged, TimeoutError) as fault:
        log.warning("what is left of budgets was not given back: %r", fault)


async def untold(_member: str, _name: str, _start_us: int) -> int | None:
    return None


class Refused(NamedTuple):
    """So much cannot be had before the period ends, unless somebody gives back."""

    remaining: int
    ends_us: int


@dataclass(slots=True)
class _Held:
    """One budget that this member has a chunk of, or is about to. `row` is how it was last known to be; None: it is to be read."""

    key: Key
    chunk: Chunk
    asked: Limit
    measured_us: int
    asked_us: int
    told_us: int
    row: Budget | None = None
    version: int = 0
    doubted: int = -1
    """A write was not answered that expected this version; until another one is there, or written, the claim is not to grow."""
    demand: int = 0
    waits: list[int] = field(default_factory=list)
    """What each call wants that waits, as they came."""
    next_us: int = 0
    empty_until_us: int = 0
    empty_units: int = 0
    silent_until_us: int = 0
    unsettled: dict[str, int] = field(default_factory=dict)
    """Members that are gone, and when it is asked again what they used."""
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def wanted(self) -> int:
        return sum(self.waits)

    def had_of(self, most: int) -> int:
        """What those who wait can have of so much. Who wants more than is left has nothing kept for it, and takes nothing from others."""
        had = 0
        for units in self.waits:
            had += units if had + units <= most else 0
        return had

    def told(self, limit: Limit) -> None:
        """The plan as the caller knows it."""
        if limit.since < self.asked.since:
            return
        if limit.units != self.asked.units:
            self.chunk.told(limit.units)
            self.empty_until_us = self.next_us = 0
        self.asked = limit

    def measure(self, now_us: int) -> None:
        """Bring `demand`, units a second, up to date."""
        elapsed = now_us - self.measured_us
        asked, self.chunk.asked = self.chunk.asked, 0
        if asked:
            self.asked_us = now_us
        self.chunk.asked_most = max(1, self.chunk.asked_most - self.chunk.asked_most // 16)
        self.demand += (asked * MICRO // max(1, elapsed) - self.demand) * elapsed // (elapsed + MICRO)
        self.measured_us = now_us


@dataclass(slots=True)
class Budgets:
    """`me` is a name that no other process has or had. `clock` is CLOCK_BOOTTIME, `wall_us` the time since 1970, in microseconds. `is_dead`
    says whether a member has a death certificate: it spends nothing any more. `members` is how many live, this one among them. `spent`
    tells what a dead one used; until it does, what that one held stays back.

    `name` is of a budget: of a tenant's, a key's, a model's. Not shared between loops.
    """

    table: Table
    me: str
    clock: Callable[[], int]
    wall_us: Callable[[], int]
    is_dead: Callable[[str], bool]
    members: Callable[[], int]
    spent: UsedBy = untold
    _held: dict[str, _Held] = field(default_factory=dict)

    def admit(self, name: str, limit: Limit, units: int, now_us: int) -> Chunk | Refused | None:
        """The chunk that has so much left at this reading of the wall clock, by what is known here; `reserve` it before anything is
        awaited. None: `ask`.
        """
        held = self._held.get(name)
        if held is None:
            return None
        if limit is not held.asked:
            held.told(limit)
        chunk = held.chunk
        if units <= chunk.left and now_us < chunk.until_us:  # as `has`, without the call
            return chunk
        return self._refusal(held, units, now_us)

    def _refusal(self, held: _Held, units: int, now_us: int) -> Refused | None:
        if units < held.empty_units or self.clock() >= held.empty_until_us:
            return None
        chunk = held.chunk
        return None if now_us >= chunk.until_us else Refused(max(0, chunk.left), chunk.until_us)

    async def ask(self, name: str, limit: Limit, units: int) -> Chunk | Refused:
        """As `admit`, with as much of the budget first. Raises TableUnavailable, Damaged; nothing was reserved then."""
        for _ in range(_ATTEMPTS):
            held = self._held.get(name) or await self._new(name, limit)
            held.waits.append(units)
            try:
                async with held.turn:
                    found = self.admit(name, limit, units, self.wall_us())
                    if found is None and self._held.get(name) is held:
                        if self.clock() < held.silent_until_us:
                            break
                        await self._renewed(name, held)
            finally:
                held.waits.remove(units)
            found = self.admit(name, limit, units, self.wall_us())
            if found is not None:
                return found
        raise TableUnavailable("nothing of the budget could be had")

    def chunk(self, name: str) -> Chunk | None:
        """What this member holds of a budget; None: it has not asked for any lately."""
        held = self._held.get(name)
        return None if held is None else held.chunk

    def due(self) -> list[str]:
        """The budgets that are to be looked after now."""
        now_us = self.clock()
        return [name for name, it in self._held.items() if it.next_us <= now_us]

    async def step(self) -> None:
        """Look after all that are due."""
        await at_once(_AT_ONCE, (self.renew(name) for name in self.due()))

    async def renew(self, name: str) -> None:
        """Take ahead, tell and give back, as far as it is worth a write. What is not answered is tried again; nothing is raised."""
        held = self._held.get(name)
        if held is None:
            return
        async with held.turn:
            now_us = self.clock()
            held.measure(now_us)
            held.next_us = now_us + LOOK_US * self._stretch
            try:
                if now_us - held.asked_us >= _IDLE_US and not held.chunk.reserved:
                    await self._given_back(name, held)
                elif self._is_worth(held):
                    await self._renewed(name, held)
            except TableUnavailable:
                held.next_us = self.clock() + _SILENT_US
            except Damaged:
                held.next_us = self.clock() + _SILENT_US
                log.exception("of a budget no more can be spent than this process holds")

    async def close(self) -> None:
        """Give everything back. Raises TableUnavailable, Damaged: what is left then comes back once it is known what this member used."""
        await at_once(_AT_ONCE, (self._left(name, held) for name, held in list(self._held.items())))

    async def _left(self, name: str, held: _Held) -> None:
        async with held.turn:
            await self._given_back(name, held, leaves=True)

    def _is_worth(self, held: _Held) -> bool:
        """Whether a look would end in a write: there is to be taken ahead, given back, told, or settled for who is gone."""
        chunk, now_us = held.chunk, self.clock()
        if held.row is None or held.doubted >= 0:
            return True
        if self.wall_us() >= chunk.until_us:
            return held.demand > 0
        has = max(0, chunk.left)
        aim = self._aim(held, held.row)
        return (
            chunk.claim != self._mine(held.row).claim
            or (chunk.asked_most <= aim and has < aim // 2)
            or has > max(2 * aim, chunk.asked_most)
            or (chunk.used != self._mine(held.row).used and now_us - held.told_us >= _TOLD_US * self._stretch)
            or any(held.unsettled.get(it, 0) <= now_us for it in held.row.holders if self.is_dead(it))
        )

    def _mine(self, row: Budget) -> rows.Holder:
        return row.holders.get(self.me, rows.NOBODY)

    def _aim(self, held: _Held, row: Budget) -> int:
        """What this member should have to spend."""
        chunk = held.chunk
        remaining = chunk.limit - rows.total(row) + max(0, chunk.left)
        return self._chunk(held, remaining)

    def _chunk(self, held: _Held, remaining: int) -> int:
        chunk = held.chunk
        return rows.chunk(remaining, self.members(), held.demand * self._stretch, chunk.asked_most)

    @property
    def _stretch(self) -> int:
        return max(1, len(self._held) // _LOOKED_AFTER)

    async def _renewed(self, name: str, held: _Held) -> None:
        """One look, and one write where there is something to be changed. Raises TableUnavailable, Damaged."""
        try:
            is_known = False
            for _ in range(_ATTEMPTS):
                if held.row is None:
                    await self._look(held)
                    is_known = True
                row = await self._judged(name, held)
                most = self._most(held, row)
                if held.wanted > most and not is_known:
                    held.row = None  # others may have given back since
                    continue
                claim = self._wanted(held, row, most)
                if await self._written(
                    held, rows.moved(row, self.me, used=held.chunk.used, claim=claim), claim
                ):
                    return
        except TableUnavailable:
            held.silent_until_us = self.clock() + _SILENT_US
            held.row = None
            raise

    async def _look(self, held: _Held) -> None:
        """The row as it is: it rules, once no write can change it that was not answered."""
        row = await self.table.get(held.key)
        held.version = 0 if row is None else row.version
        held.row = rows.laid_out(0) if row is None else rows.read(row)
        is_decided = held.version != held.doubted
        chunk = held.chunk
        if held.row.start_us == chunk.start_us:
            claim = self._mine(held.row).claim
            chunk.allow(claim if is_decided else min(chunk.claim, claim))
            chunk.total = rows.total(held.row)
            chunk.told(chunk.limit)
        if is_decided:
            held.doubted = -1

    async def _judged(self, name: str, held: _Held) -> Budget:
        """The row of the period that counts, without the holders that are gone."""
        chunk, row = held.chunk, held.row or rows.laid_out(0)
        start_us = max(row.start_us, rows.began(chunk.span, self.wall_us()))
        if chunk.start_us != start_us:
            self._begin(held, row, start_us)
        if row.start_us != start_us:
            return rows.laid_out(start_us)
        now_us = self.clock()
        for gone in [it for it in row.holders if it != self.me and self.is_dead(it)]:
            if not row.holders[gone].held:
                row = rows.left(row, gone, 0)
            elif held.unsettled.get(gone, 0) <= now_us:
                held.unsettled[gone] = now_us + _SPENT_US
                used = await self.spent(gone, name, start_us)
                if used is not None:
                    row = rows.left(row, gone, used)
        return row

    def _begin(self, held: _Held, row: Budget, start_us: int) -> None:
        """Another period. Of one that the row is of already this member may have spent before, and given the rest back."""
        held.chunk.begin(start_us)
        held.unsettled.clear()
        held.empty_until_us = 0
        if row.start_us == start_us:
            held.chunk.used = held.chunk.claim = self._mine(row).used

    def _most(self, held: _Held, row: Budget) -> int:
        """What this member could have to spend, if it took all that there is."""
        chunk, mine = held.chunk, self._mine(row)
        return max(0, chunk.limit - (rows.total(row) - mine.claim) - chunk.used - chunk.reserved)

    def _wanted(self, held: _Held, row: Budget, most: int) -> int:
        """What the claim is to be. Notes what cannot be had."""
        chunk = held.chunk
        aim = self._chunk(held, most)
        want, has = max(held.had_of(most), aim), chunk.left
        if held.wanted > most:
            held.empty_units, held.empty_until_us = most + 1, self.clock() + _EMPTY_US
        if want < has <= max(2 * aim, chunk.asked_most):
            want = has
        return chunk.used + chunk.reserved + min(want, most)

    async def _written(self, held: _Held, after: Budget, claim: int) -> bool:
        """Whether the row is that now, with this claim. False: somebody was faster. Raises TableUnavailable."""
        chunk, version = held.chunk, held.version
        start_us, before = chunk.start_us, chunk.claim
        if after == held.row and held.doubted < 0:
            chunk.total = rows.total(after)
            self._returned(held, start_us, claim - before)
            return True
        chunk.allow(min(before, claim))
        was_doubted, held.doubted, held.row = held.doubted, version, None
        try:
            await self.table.transact(Put(held.key, rows.encoded(after), version))
        except Conflict:
            held.doubted = was_doubted
            self._returned(held, start_us, before - min(before, claim))
            return False
        except TableUnavailable:
            self._lost(held, start_us, claim - before)
            raise
        held.doubted, held.row, held.version, held.told_us = -1, after, version + 1, self.clock()
        chunk.total = rows.total(after)
        self._returned(held, start_us, claim - min(before, claim))
        return True

    def _returned(self, held: _Held, start_us: int, units: int) -> None:
        """So much more may be spent of the period that began then. The plan may have become smaller meanwhile."""
        if held.chunk.start_us == start_us:
            held.chunk.allow(held.chunk.claim + units)
            held.chunk.told(held.chunk.limit)

    def _lost(self, held: _Held, start_us: int, units: int) -> None:
        """Nothing of what was to come may be spent, and nothing of what was given back."""

    async def _given_back(self, name: str, held: _Held, *, leaves: bool = False) -> None:
        """Hold nothing beyond what is reserved, and forget it once the row says so. Raises TableUnavailable, Damaged."""
        chunk = held.chunk
        for _ in range(_ATTEMPTS):
            if held.row is None:
                await self._look(held)
            row = await self._judged(name, held)
            if self.me not in row.holders and not chunk.used and held.doubted < 0:
                break
            claim = chunk.used + chunk.reserved
            is_last = leaves and not chunk.reserved
            after = (
                rows.left(row, self.me, chunk.used)
                if is_last
                else rows.moved(row, self.me, used=chunk.used, claim=claim)
            )
            if await self._written(held, after, claim):
                break
        else:
            return
        if self._held.get(name) is held and not chunk.reserved and not held.wanted and chunk.left <= 0:
            del self._held[name]

    async def _new(self, name: str, limit: Limit) -> _Held:
        if len(self._held) >= MOST_LIMITS:
            longest = min(self._held, key=lambda it: self._held[it].asked_us)
            old = self._held[longest]
            async with old.turn:
                await self._given_back(longest, old)
        now_us = self.clock()
        new = _Held(rows.place(name), Chunk(limit, 0), limit, now_us, now_us, now_us)
        return self._held.setdefault(name, new)
