"""One member's side of the limits: it spends its shares without asking anybody, and renews them beside the requests.

A warm admission is a look into a bucket. Behind it, for each limit that is in use, the member looks at the row a few times a second, and
writes it when its share is to change, when its beat is due, or when another member is gone. What it holds becomes less before the row is
written that says less, and more once a row is written that says more: so a write whose answer is lost makes its tokens vanish and nothing
else, and the next write that is answered settles what is held.

Fails closed: a share ends `stale_us` (less a margin) after its last renewal was sent, and what is not shared out is refused, as long as the
table gives no answer.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from gateway.admission import shares as rows
from gateway.admission.bucket import MICRO, NOTHING, Bucket, Share, Verdict
from gateway.admission.drawing import Drawing, Drawn
from gateway.admission.shares import Damaged, Limit, Shares
from gateway.loops import at_once
from tenants.errors import Conflict, TableUnavailable
from tenants.ports import Key, Put, Row, Table

log = logging.getLogger(__name__)

MARGIN_US: Final = MICRO // 2
"""Between the end of a share for its holder and for the others, on both sides. With a thousandth of `stale_us` it covers clocks."""
STEP_SECONDS: Final = 0.05
"""Between two looks at what is due."""
MOST_LIMITS: Final = 10_000
"""In use at once; the one that was asked longest ago is given back for another."""
_FASTER: Final = 1_000  # a clock runs fast or slow by one part in so many at most
_BEATS: Final = 12  # in `stale_us`
_QUIET: Final = 8
"""Who has not beaten for one part in so many of `stale_us` is given nothing more until it does."""
_LOOK_US: Final = MICRO // 4
_PRESSED_LOOK_US: Final = MICRO // 10
_LOOKED_AFTER: Final = 250
"""So many limits are looked after at that pace, more of them slower."""
_IDLE_US: Final = 10 * MICRO
_SMOOTH_US: Final = MICRO
_GIVEN_US: Final = MICRO
"""Who is short has more of the others' within a look or two, so nobody is told to wait longer for a small share's refill."""
_PLENTY: Final = 16
"""So many requests more or fewer than were expected are no chance, where that is half of them: the load is another one now."""
_LEAST_MEASURE_US: Final = MICRO // 20
_SILENT_US: Final = MICRO
_ATTEMPTS: Final = 4
_AT_ONCE: Final = 16


class _Beat(NamedTuple):
    """Of another holder, and when it was first seen here."""

    beat: int
    since_us: int


@dataclass(slots=True)
class _Held:
    """One limit that this member has a share of, or is about to."""

    key: Key
    asked: Limit
    limit: Limit
    bucket: Bucket
    measured_us: int
    asked_us: int
    demand: int = 0
    next_us: int = 0
    renewed_us: int = 0
    is_doubtful: bool = True
    """A write was not answered, so that nobody can tell what the row says until another one is. It begins so: an earlier life of this share
    may have left some.
    """
    is_short: bool = False
    """It holds less than it is asked for, and others should give."""
    silent_until_us: int = 0
    beats: dict[str, _Beat] = field(default_factory=dict)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def told(self, limit: Limit, now_us: int) -> None:
        """The plan as the caller, or the row, knows it. A smaller one holds at once."""
        if not rows.overrules(limit, self.limit):
            return
        old, self.limit, self.next_us = self.limit, limit, 0
        self.bucket.lower(self.within(self.bucket.share, old), now_us)

    def within(self, share: Share, limit: Limit) -> Share:
        """What a share of that limit is of the one that counts now; never more."""
        return Share(
            rows.scaled(share.rate, self.limit.rate, limit.rate),
            rows.scaled(share.capacity, self.limit.capacity, limit.capacity),
        )

    def given(self, verdict: Verdict) -> Verdict:
        """What the share answered, for who does not wait for it alone: the others give of theirs within a look or two."""
        limit = self.limit
        if verdict.reset_us <= _GIVEN_US or self.bucket.share.rate >= limit.rate:
            return verdict
        return Verdict(
            verdict.at_us,
            verdict.remaining,
            min(verdict.retry_after_us, _GIVEN_US),
            min(verdict.reset_us, max(_GIVEN_US, limit.capacity * MICRO // limit.rate)),
        )

    def measure(self, now_us: int) -> None:
        """Bring `demand` up to date."""
        elapsed = now_us - self.measured_us
        if elapsed >= _LEAST_MEASURE_US:
            asked, self.bucket.asked = self.bucket.asked, 0
            if asked:
                self.asked_us = now_us
            a_second = asked * MICRO * MICRO // elapsed
            change = a_second - self.demand
            is_another = (
                abs(change) * elapsed > _PLENTY * MICRO * MICRO
                and abs(change) > max(a_second, self.demand) // 2
            )
            self.demand += change if is_another else change * elapsed // (elapsed + _SMOOTH_US)
            self.measured_us = now_us


@dataclass(slots=True)
class Sharing:
    """`me` is a name that no other process has or had. `clock` is CLOCK_BOOTTIME, `wall_us` the time since 1970, in microseconds. `is_dead`
    says whether a member has a death certificate: it admits nothing any more. `members` is how many live, this one among them.

    `name` is of a limit: of a tenant's, a key's, a model's. Not shared between loops.
    """

    table: Table
    me: str
    clock: Callable[[], int]
    wall_us: Callable[[], int]
    is_dead: Callable[[str], bool]
    members: Callable[[], int]
    stale_us: int = 60 * MICRO
    _held: dict[str, _Held] = field(default_factory=dict)
    _drawn: dict[str, Drawn] = field(default_factory=dict)
    _drawing: Drawing = field(init=False)
    _beat: int = 0
    """Of the last write of any share."""

    def __post_init__(self) -> None:
        self._drawing = Drawing(self.table, self.me, self.clock, self.wall_us)

    def admit(self, name: str, limit: Limit) -> Verdict | None:
        """What is known here. None: ask the table, with `ask`."""
        held = self._held.get(name)
        if held is not None:
            now_us = self.clock()
            if limit is not held.asked:
                held.told(limit, now_us)
                held.asked = limit
            return None if held.bucket.is_over(now_us) else held.given(held.bucket.admit(now_us))
        drawn = self._drawn.get(name)
        if drawn is None or limit is not drawn.asked:
            return None
        return drawn.refusal(self.clock())

    def look(self, name: str) -> Verdict | None:
        """How a limit stands by what is known here, for one who asks for nothing; None: nothing is."""
        held = self._held.get(name)
        if held is not None:
            return held.given(held.bucket.look(self.clock()))
        drawn = self._drawn.get(name)
        return None if drawn is None else drawn.look(self.clock())

    def refund(self, name: str) -> None:
        """The last admission of `admit` has not been. Nothing may have been awaited since."""
        held = self._held.get(name)
        if held is not None:
            held.bucket.refund()

    async def give_back(self, name: str) -> None:
        """The last admission by a token out of the row has not been, as far as that can be said (`drawing`)."""
        drawn = self._drawn.get(name)
        if drawn is not None:
            await self._drawing.give_back(drawn)

    async def warmed(self, name: str, limit: Limit) -> bool:
        """Whether a share of it is held now; else it is not shared out. Raises TableUnavailable, Damaged."""
        held = self._held.get(name)
        if held is None and rows.is_slow(limit, self._members):
            return False
        self._drawn.pop(name, None)
        held = held or await self._new(name, limit)
        async with held.turn:
            if held.bucket.is_over(self.clock()) and self._held.get(name) is held:
                if self.clock() < held.silent_until_us:
                    raise TableUnavailable("it has just given no answer")
                await self._renewed(held)
        return True

    async def ask(self, name: str, limit: Limit) -> Verdict:
        """As `admit`, with a share of it first, or a token out of the row. Raises TableUnavailable, Damaged; nothing is admitted then."""
        for _ in range(_ATTEMPTS):
            if not await self.warmed(name, limit):
                return await self._draw(name, limit)
            verdict = self.admit(name, limit)
            if verdict is not None:
                return verdict
        raise TableUnavailable("no share of the limit could be had")

    def due(self) -> list[str]:
        """The limits that are to be looked after now."""
        now_us = self.clock()
        return [name for name, it in self._held.items() if it.next_us <= now_us]

    async def step(self) -> None:
        """Look after all that are due."""
        await at_once(_AT_ONCE, (self.renew(name) for name in self.due()))
        over_us = self.clock() - _IDLE_US
        for name in [
            name for name, it in self._drawn.items() if it.asked_us < over_us and not it.turn.locked()
        ]:
            del self._drawn[name]

    async def renew(self, name: str) -> None:
        """One look at one limit, with what follows from it. What the table does not answer is tried again; nothing is raised."""
        held = self._held.get(name)
        if held is None:
            return
        async with held.turn:
            try:
                now_us = self.clock()
                held.measure(now_us)
                is_idle = now_us - held.asked_us >= _IDLE_US and held.bucket.is_full(now_us)
                if is_idle or rows.is_slow(held.limit, self._members):
                    await self._given_back(name, held)
                else:
                    await self._renewed(held)
            except TableUnavailable:
                held.next_us = self.clock() + _SILENT_US
            except Damaged:
                held.next_us = self.clock() + _SILENT_US
                log.exception("what this process holds of a limit ends soon")

    async def close(self) -> None:
        """Give everything back. Raises TableUnavailable, Damaged: what is left then comes back to the others by itself."""
        await at_once(_AT_ONCE, (self._left(name, held) for name, held in list(self._held.items())))

    async def _left(self, name: str, held: _Held) -> None:
        async with held.turn:
            await self._given_back(name, held)

    @property
    def _members(self) -> int:
        return max(1, self.members())

    async def _renewed(self, held: _Held) -> None:
        """Raises TableUnavailable, Damaged."""
        for _ in range(_ATTEMPTS):
            try:
                row = await self.table.get(held.key)
                shares = self._found(row, held)
                judged = self._judged(held, shares)
                aim = self._aim(held, judged, must=judged is not shares)
                if aim is None or await self._written(held, judged, aim, 0 if row is None else row.version):
                    break
            except TableUnavailable:
                held.silent_until_us = self.clock() + _SILENT_US
                raise
        stretched = max(1, len(self._held) // _LOOKED_AFTER)
        held.next_us = self.clock() + (_PRESSED_LOOK_US if held.is_short else _LOOK_US) * stretched

    def _found(self, row: Row | None, held: _Held) -> Shares:
        return rows.laid_out(held.limit) if row is None else rows.read(row)

    def _judged(self, held: _Held, shares: Shares) -> Shares:
        """The row under the plan that counts and without the holders that are gone; the same one where nothing was to be changed.

        The row rules: this member holds no more than it says, and nothing if it says nothing of this member.
        """
        now_us = self.clock()
        mine = shares.holders.get(self.me, rows.NOBODY)
        held.bucket.lower(Share(mine.rate, mine.capacity), now_us)
        if rows.overrules(held.limit, shares):
            shares = rows.under(shares, held.limit)
        else:
            held.told(Limit(shares.rate, shares.capacity, shares.since), now_us)
        gone = self._gone(held, shares, now_us)
        return rows.without(shares, gone) if gone else shares

    def _gone(self, held: _Held, shares: Shares, now_us: int) -> list[str]:
        """The holders whose shares have ended: their beats stood still for long enough on this member's clock, or they are dead."""
        before, held.beats = held.beats, {}
        for name, it in shares.holders.items():
            if name != self.me:
                seen = before.get(name)
                held.beats[name] = seen if seen and seen.beat == it.beat else _Beat(it.beat, now_us)
        patience_us = self.stale_us + self.stale_us // _FASTER + MARGIN_US
        return [
            name
            for name, seen in held.beats.items()
            if now_us - seen.since_us >= patience_us or self.is_dead(name)
        ]

    def _aim(self, held: _Held, shares: Shares, *, must: bool) -> Share | None:
        """What this member should hold; None: it is not worth a write."""
        now_us = self.clock()
        held.measure(now_us)
        quiet = [
            name
            for name, seen in held.beats.items()
            if name in shares.holders and now_us - seen.since_us >= self.stale_us // _QUIET
        ]
        aim = rows.fair(shares, self.me, held.demand, self._members, quiet)
        held.is_short = held.bucket.share.rate < min(aim.rate, held.demand)
        is_due = must or held.is_doubtful or now_us - held.renewed_us >= self.stale_us // _BEATS
        return aim if is_due or rows.is_worth(shares, self.me, held.demand, self._members, quiet) else None

    async def _written(self, held: _Held, shares: Shares, aim: Share, version: int) -> bool:
        """Whether the move was made. False: somebody was faster, and all is as before. Raises TableUnavailable."""
        sent_us, bucket, limit, was_doubtful = self.clock(), held.bucket, held.limit, held.is_doubtful
        before = bucket.share
        share = rows.reach(shares, self.me, aim, self._members)
        given = bucket.lower(share, sent_us)
        self._beat += 1
        after, taken = rows.moved(shares, self.me, share, beat=self._beat, demand=held.demand, given=given)
        if not taken and (spare := min(rows.lacking(after), bucket.tokens - share.capacity // 2)) > 0:
            bucket.spend(spare)
            after, given = rows.topped(after, spare), given + spare
        held.is_doubtful = True
        try:
            await self._put(held, after, version)
        except Conflict:
            held.is_doubtful = was_doubtful
            self._returned(held, before, limit, given)
            return False
        except TableUnavailable:
            self._doubted(held, before, limit, given)
            raise
        held.is_doubtful, held.renewed_us = False, sent_us
        self._returned(held, share, limit, taken)
        bucket.deadline_us = sent_us + self.stale_us - MARGIN_US
        return True

    async def _put(self, held: _Held, after: Shares, version: int) -> None:
        row = rows.encoded(rows.stamped(after, self.me, self.wall_us()))
        await self.table.transact(Put(held.key, row, version))

    def _returned(self, held: _Held, share: Share, limit: Limit, tokens: int) -> None:
        """This share of that limit is held, with so many tokens more. The plan may have become another one meanwhile."""
        held.bucket.hold(held.within(share, limit), tokens, self.clock())

    def _doubted(self, held: _Held, share: Share, limit: Limit, tokens: int) -> None:
        """The tokens that were given are gone, and of the share that was held there is what is less."""

    async def _given_back(self, name: str, held: _Held) -> None:
        """Hold nothing, and forget it once the row says so. Raises TableUnavailable, Damaged; it is held on to for another try then."""
        given = 0
        for _ in range(_ATTEMPTS):
            row = await self.table.get(held.key)
            shares = self._found(row, held)
            mine = shares.holders.get(self.me)
            if row is None or mine is None:
                break
            given += held.bucket.lower(NOTHING, self.clock())
            held.bucket.deadline_us = self.clock()
            held.is_doubtful = True
            try:
                await self._put(held, rows.left(shares, self.me, given), row.version)
                break
            except Conflict:
                continue
        else:
            return
        if self._held.get(name) is held:
            del self._held[name]

    async def _new(self, name: str, limit: Limit) -> _Held:
        if len(self._held) >= MOST_LIMITS:
            longest = min(self._held, key=lambda it: self._held[it].bucket.at_us)
            await self._left(longest, self._held[longest])
        now_us = self.clock()
        new = _Held(rows.place(name), limit, limit, Bucket(now_us), now_us, now_us)
        return self._held.setdefault(name, new)

    async def _draw(self, name: str, limit: Limit) -> Verdict:
        now_us = self.clock()
        drawn = self._drawn.get(name)
        if drawn is None:
            drawn = self._drawn[name] = Drawn(rows.place(name), limit, now_us, limit)
        drawn.asked_us = now_us
        if limit is not drawn.asked:
            drawn.told(limit)
        return await self._drawing.draw(drawn)
