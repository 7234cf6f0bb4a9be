"""What does a member do for its permits, the calls at once of a limit, beside the requests?

    admit     a warm call: a look into the hand. No call of the table
    ask       a call for which the hand has none: what is free of the row is taken, if any is
    step      looks after those that are due: beats, gives what others want more, takes what is its part

A permit in use is not given. Who is silent has its calls under way still, so what it held is free for others when its deadline and that of
its last call have passed; a dead one's at once. A tight limit (`permits.is_tight`) is not held beyond use: what is idle goes back with the
next step. Fails closed: without the table what is held goes on until its deadline.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from gateway.admission import permits as rows
from gateway.admission.bucket import MICRO
from gateway.admission.permits import AtOnce, Hand, Permits
from gateway.admission.shares import Damaged
from gateway.loops import at_once
from tenants.errors import Conflict, TableUnavailable
from tenants.ports import Key, Put, Table

log = logging.getLogger(__name__)

MARGIN_US: Final = MICRO // 2
_FASTER: Final = 1_000
_BEATS: Final = 12  # in `stale_us`
_LOOK_US: Final = MICRO // 4
_PRESSED_LOOK_US: Final = MICRO // 10
_LOOKED_AFTER: Final = 250
"""So many limits are looked after at that pace, more of them slower."""
_ASK_US: Final = MICRO // 20
"""Behind an answer that none is free nobody asks for so long."""
_LEAST_MEASURE_US: Final = MICRO // 10
_WORTH: Final = 8
"""More than its part by one in so many, and by one at least, is worth giving."""
_IDLE_US: Final = 10 * MICRO
_SILENT_US: Final = MICRO
_ATTEMPTS: Final = 4
_AT_ONCE: Final = 16


class _Beat(NamedTuple):
    beat: int
    since_us: int


@dataclass(slots=True)
class _Held:
    """One limit that this member has permits of, or is about to. `named` is what the row says that it holds, as far as that is certain."""

    key: Key
    asked: AtOnce
    limit: AtOnce
    hand: Hand
    asked_us: int
    named: int = 0
    measured_us: int = 0
    wanted: int = 0
    refused: int = 0
    told: int = 0
    """What it told others that it wants."""
    next_us: int = 0
    next_ask_us: int = 0
    renewed_us: int = 0
    is_doubtful: bool = True
    seen: tuple[Permits, int] | None = None
    """The row as this member wrote it last, with its version: a guess at what is there."""
    beats: dict[str, _Beat] = field(default_factory=dict)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def under(self, limit: AtOnce) -> None:
        """The plan as the caller, or the row, knows it. A smaller one holds at once."""
        if rows.overrules(limit, self.limit):
            if limit.most < self.limit.most:
                self.hand.held = self.hand.held * limit.most // self.limit.most
            self.limit, self.next_us = limit, 0

    def measure(self, now_us: int) -> None:
        """Bring `wanted` up to date: it rises at once and falls by a quarter a look."""
        if now_us - self.measured_us < _LEAST_MEASURE_US:
            return
        self.measured_us = now_us
        wanted = min(self.limit.most, max(self.hand.peak, self.hand.used) + self.refused)
        self.wanted = max(wanted, self.wanted - 1 - self.wanted // 4)
        self.hand.peak, self.refused = self.hand.used, 0


@dataclass(slots=True)
class Permitting:
    """As `Sharing`. `call_us` is the longest that a call may take. `hand` is that of the limit's name, always the same one."""

    table: Table
    me: str
    clock: Callable[[], int]
    is_dead: Callable[[str], bool]
    members: Callable[[], int]
    call_us: int = 300 * MICRO
    stale_us: int = 60 * MICRO
    _held: dict[str, _Held] = field(default_factory=dict)
    _beat: int = 0

    def admit(self, name: str, limit: AtOnce, hand: Hand) -> bool | None:
        """Whether a permit of the hand is used from now on. None: ask the table, with `ask`."""
        held = self._held.get(name)
        if held is None:
            return None
        if limit is not held.asked:
            held.under(limit)
            held.asked = limit
        now_us = self.clock()
        if hand.take(now_us):
            return True
        held.refused += 1
        return None if now_us >= hand.deadline_us or now_us >= held.next_ask_us else False

    async def ask(self, name: str, limit: AtOnce, hand: Hand) -> None:
        """Hold a permit more than are in use, if one is free. Raises TableUnavailable, Damaged."""
        now_us = self.clock()
        held = self._held.get(name)
        if held is None:
            held = self._held[name] = _Held(rows.place(name), limit, limit, hand, now_us)
        held.asked_us = now_us
        async with held.turn:
            now_us = self.clock()
            if hand.used < hand.held and now_us < hand.deadline_us:
                return
            if now_us < held.next_ask_us:
                if now_us >= hand.deadline_us:
                    raise TableUnavailable("it has just given no answer")
                return
            held.next_ask_us = now_us + _SILENT_US  # unless it answers
            try:
                await self._renewed(held, need=hand.used + 1)
            except TableUnavailable:
                if self.clock() >= hand.deadline_us:
                    raise
                return  # what is held is in use: that is all that is known
            except asyncio.CancelledError:  # its client left: whether the table answers is not known
                held.next_ask_us = 0
                raise
            held.next_ask_us = 0 if hand.used < hand.held else self.clock() + _ASK_US

    def knows(self, name: str) -> bool:
        return name in self._held

    def due(self) -> list[str]:
        now_us = self.clock()
        return [name for name, it in self._held.items() if it.next_us <= now_us]

    async def step(self) -> None:
        """Look after all that are due."""
        await at_once(_AT_ONCE, (self.renew(name) for name in self.due()))

    async def renew(self, name: str) -> None:
        """One look at one limit. What the table does not answer is tried again; nothing is raised."""
        held = self._held.get(name)
        if held is None:
            return
        async with held.turn:
            now_us = self.clock()
            if held.hand.used or held.hand.peak or held.refused:
                held.asked_us = now_us
            try:
                if now_us - held.asked_us >= _IDLE_US:
                    await self._given_back(name, held)
                elif self._has_to_look(held, now_us):
                    await self._renewed(held)
                else:
                    held.measure(now_us)
            except TableUnavailable:
                held.next_us = self.clock() + _SILENT_US
            except Damaged:
                held.next_us = self.clock() + _SILENT_US
                log.exception("the permits of this process end soon")

    async def close(self) -> None:
        """Give everything back. Raises TableUnavailable, Damaged: what is left then comes back to the others by itself."""
        for name, held in list(self._held.items()):
            async with held.turn:
                await self._given_back(name, held)

    @property
    def _members(self) -> int:
        return max(1, self.members())

    def _has_to_look(self, held: _Held, now_us: int) -> bool:
        """Of a tight limit only what is idle, or over soon, is worth a call."""
        if not rows.is_tight(held.limit.most, self._members):
            return True
        is_due = bool(held.named) and now_us - held.renewed_us >= self.stale_us // _BEATS
        return held.is_doubtful or is_due or held.named > held.hand.used or held.hand.held > held.hand.used

    async def _renewed(self, held: _Held, need: int = 0) -> None:
        """Raises TableUnavailable, Damaged."""
        held.measure(self.clock())
        for attempt in range(_ATTEMPTS):
            guess = held.seen if need and not attempt and not held.is_doubtful else None
            seen = guess
            if seen is None:
                row = await self.table.get(held.key)
                seen = (rows.laid_out(held.limit), 0) if row is None else (rows.read(row), row.version)
            permits, version = seen
            judged = self._judged(held, permits)
            target, allowed = self._target(held, judged, need)
            if guess is not None and target < need:
                continue  # others may have given since
            if not self._is_worth(held, judged, target, must=judged is not permits):
                held.hand.held = min(held.named, allowed)
                break
            if await self._written(held, judged, target, allowed, version):
                break
        stretched = max(1, len(self._held) // _LOOKED_AFTER)
        look_us = _PRESSED_LOOK_US if held.wanted > held.hand.held else _LOOK_US
        held.next_us = self.clock() + look_us * stretched
        if rows.is_tight(held.limit.most, self._members):
            held.next_us = 0

    def _judged(self, held: _Held, permits: Permits) -> Permits:
        """The row under the plan that counts and without those that are gone; the same one where nothing was to be changed. It rules."""
        now_us = self.clock()
        mine = permits.holders.get(self.me, rows.NOBODY)
        held.named = min(held.named, mine.held)
        held.hand.held = min(held.hand.held, held.named)
        if rows.overrules(held.limit, permits):
            permits = rows.under(permits, held.limit)
        else:
            held.under(AtOnce(permits.most, permits.since))
        before, held.beats = held.beats, {}
        for name, it in permits.holders.items():
            if name != self.me:
                seen = before.get(name)
                held.beats[name] = seen if seen and seen.beat == it.beat else _Beat(it.beat, now_us)
        patience_us = self.stale_us + self.stale_us // _FASTER + MARGIN_US + self._calls_us
        gone = [
            name
            for name, seen in held.beats.items()
            if now_us - seen.since_us >= patience_us or self.is_dead(name)
        ]
        return rows.without(permits, gone) if gone else permits

    @property
    def _calls_us(self) -> int:
        """Behind its deadline a silent member's calls may be under way for so long."""
        return self.call_us + self.call_us // _FASTER

    def _target(self, held: _Held, permits: Permits, need: int) -> tuple[int, int]:
        """What the row is to say, and how many of that are for new calls."""
        mine, members = permits.holders.get(self.me, rows.NOBODY).held, self._members
        used, free, most = held.hand.used, max(0, permits.free), held.limit.most
        if rows.is_tight(most, members):
            target = min(mine + free, max(used, need))
            return target, target
        if rows.is_contended(permits, self.me):
            part = rows.part(permits, self.me, held.wanted)
            if permits.free >= 0 and mine - part <= 1 + part // _WORTH and mine > 1:
                return mine, mine
            return max(min(used, mine), min(mine, part)), part
        fair = rows.aim(permits, self.me, held.wanted, members)
        reach = mine + max(0, free - rows.kept_free(permits, self.me, members))
        target = max(mine, min(fair, reach), min(mine + free, need))
        return target, target

    def _is_worth(self, held: _Held, permits: Permits, target: int, *, must: bool) -> bool:
        mine = permits.holders.get(self.me)
        if mine is None:
            return True
        is_short = held.wanted > target
        is_news = is_short != (held.told > mine.held) or (is_short and held.wanted > held.told)
        is_due = self.clock() - held.renewed_us >= self.stale_us // _BEATS
        return must or held.is_doubtful or is_due or target != mine.held or is_news

    async def _written(self, held: _Held, permits: Permits, target: int, allowed: int, version: int) -> bool:
        """Whether the move was made. False: somebody was faster, and all is as before. Raises TableUnavailable."""
        sent_us, hand, limit = self.clock(), held.hand, held.limit
        before, named, was_doubtful = hand.held, held.named, held.is_doubtful
        hand.held, held.named = min(hand.held, target, allowed), min(named, target)
        self._beat += 1
        after = rows.moved(permits, self.me, target, wanted=held.wanted, beat=self._beat)
        held.is_doubtful, held.seen = True, None
        try:
            await self.table.transact(Put(held.key, rows.encoded(after), version))
        except Conflict:
            held.is_doubtful, held.named = was_doubtful, named
            hand.held = self._within(held, before, limit)
            return False
        held.is_doubtful, held.renewed_us, held.seen = False, sent_us, (after, version + 1)
        held.named, held.told = target, held.wanted
        hand.held = self._within(held, min(target, allowed), limit)
        hand.deadline_us = sent_us + self.stale_us - MARGIN_US
        return True

    def _within(self, held: _Held, count: int, limit: AtOnce) -> int:
        """So many of that limit, of the one that counts now: it may have become another one meanwhile."""
        most = held.limit.most
        return count * most // limit.most if most < limit.most else count

    async def _given_back(self, name: str, held: _Held) -> None:
        """Hold nothing but what is in use, and forget it once the row says so. Raises TableUnavailable, Damaged."""
        hand = held.hand
        for _ in range(_ATTEMPTS):
            row = await self.table.get(held.key)
            if row is None or self.me not in (permits := rows.read(row)).holders:
                break
            hand.held = held.named = 0
            hand.deadline_us = self.clock()
            held.is_doubtful, held.seen = (
                True,
                None,
            )  # also for who goes on: the next write settles what is held
            if hand.used:
                return
            try:
                await self.table.transact(
                    Put(held.key, rows.encoded(rows.without(permits, (self.me,))), row.version)
                )
                break
            except Conflict:
                continue
        else:
            return
        if self._held.get(name) is held and not hand.used:
            del self._held[name]
