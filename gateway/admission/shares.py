"""The row of a limit: who holds how much of it, and every move that changes that. Pure.

    partition       sort     value
    share/<name>    (empty)  Shares

Laws, of every row: the rates of the holders and the free one sum to the limit's rate, the capacities to its burst; what is free has
at most as many tokens as capacity. What is free may be less than nothing, after a plan became smaller, until the holders have
given that back; then it has no tokens and nobody takes.

Every move keeps them (`faults` says where not), and with them the limit: all the tokens there are, here and in the holders' buckets, fit
into the burst, and they refill at no more than the rate. README.md has the argument.
"""

from collections.abc import Collection, Iterator
from fractions import Fraction
from typing import Final, NamedTuple

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from gateway.admission.bucket import MICRO, ONE, Share, slowed
from tenants.plans import Rate
from tenants.ports import Key, Row
from tenants.rows import decoded

SLOW_RATE: Final = 5 * MICRO
"""A limit below it is not shared out, nor is one whose burst is under twice the members."""
MOST_MEMBERS: Final = 1_000
"""Of more the row might not hold all, so nothing is shared out."""
_FLOORS: Final = 50
"""One part in so many of the rate is divided evenly among all members, whatever their demand."""
_CAPACITY_FLOORS: Final = 4
_HYSTERESIS: Final = 100
"""A share is worth a write when it is off by an eighth of itself, or one part in so many of the rate if that is less; and by as much of
an equal part.
"""
_EIGHTH: Final = 8


class Damaged(Exception):
    """This row cannot be read, or is of a version that this program does not know. Fails closed. The text is for operators."""


class Limit(NamedTuple):
    """Of a plan, in millionths: of a request a second, of a request at once. Of two the one that holds `since` later counts.

    `since` is any number that grows with every change of plans, as that of the directory's last change which the member knows.
    """

    rate: int
    capacity: int
    since: int


class Holder(Struct, frozen=True):
    """A member's share. `beat` is another one with each of its renewals, so that others see that it lives, and never one that it had
    before, though it lost its share and came back. `demand` is what it is asked for, in millionths of a request a second.
    """

    rate: int
    capacity: int
    beat: int
    demand: int


class Free(Struct, frozen=True):
    """What nobody holds, and its tokens, in millionths of a request."""

    rate: int
    capacity: int
    tokens: int


class Shares(Struct, frozen=True, tag_field="v", tag=1):
    """A limit with its holders. `by` and `at_us` (microseconds since 1970 by that member's clock): who wrote it last, and when:
    so old are the tokens of what is free.

    Stored as JSON, version 1. A field may be added with a default that means what its absence meant before; any other change is
    version 2. Readers refuse versions they do not know.
    """

    rate: int
    capacity: int
    since: int
    free: Free
    holders: dict[str, Holder]
    by: str = ""
    at_us: int = 0


class Moved(NamedTuple):
    """A row to be written, and the tokens that come to the member once it is."""

    after: Shares
    taken: int


NOBODY: Final = Holder(0, 0, 0, 0)
"""What a member holds of which the row says nothing."""


def place(name: str) -> Key:
    return Key(f"share/{name}")


def encoded(shares: Shares) -> bytes:
    return msgspec.json.encode(shares)


def read(row: Row) -> Shares:
    """Raises Damaged."""
    return decoded(row, Shares, Damaged)


def limit_of(rate: Rate, since: int) -> Limit:
    """What a plan says, rounded down to millionths."""
    return Limit(int(Fraction(rate.rate) * MICRO), rate.burst * ONE, since)


def is_slow(limit: Limit, members: int) -> bool:
    """Whether it is spent from the row, and not shared out."""
    return limit.rate < SLOW_RATE or limit.capacity < 2 * members * ONE or members > MOST_MEMBERS


def overrules(limit: Limit, other: "Limit | Shares") -> bool:
    """Of two that differ the later counts; of two at once, which cannot be, the smaller."""
    return (limit.since, -limit.rate, -limit.capacity) > (other.since, -other.rate, -other.capacity) and (
        limit.rate,
        limit.capacity,
    ) != (other.rate, other.capacity)


def laid_out(limit: Limit) -> Shares:
    """The row of a limit that nobody has used: all of it is free, and the burst is there."""
    return Shares(
        limit.rate, limit.capacity, limit.since, Free(limit.rate, limit.capacity, limit.capacity), {}
    )


def under(shares: Shares, limit: Limit) -> Shares:
    """The same row under another plan. What is more is free, without tokens; what is less is taken from what is free, and may be owed."""
    free = shares.free
    tokens = scaled(free.tokens, limit.capacity, shares.capacity)
    capacity = free.capacity + limit.capacity - shares.capacity
    free = Free(free.rate + limit.rate - shares.rate, capacity, max(0, min(tokens, capacity)))
    return replace(shares, rate=limit.rate, capacity=limit.capacity, since=limit.since, free=free)


def scaled(part: int, new: int, old: int) -> int:
    """What is left of a part when the whole becomes smaller; it never becomes more."""
    return part * new // old if new < old else part


def without(shares: Shares, names: Collection[str]) -> Shares:
    """Their shares are free, and their tokens gone: nobody knows how many they had."""
    gone = [shares.holders[name] for name in names]
    free = shares.free
    free = Free(
        free.rate + sum(it.rate for it in gone), free.capacity + sum(it.capacity for it in gone), free.tokens
    )
    return replace(
        shares, free=free, holders={name: it for name, it in shares.holders.items() if name not in names}
    )


def fair(shares: Shares, me: str, demand: int, members: int, quiet: Collection[str] = ()) -> Share:
    """What this member should hold by what all are asked for, of so many members. Those that hold nothing have their floor free; those
    that are quiet keep what they hold, and nothing more is kept for them.
    """
    demands = {name: it.demand for name, it in shares.holders.items() if name not in quiet} | {me: demand}
    kept = [it for name, it in shares.holders.items() if name in quiet]
    total, count = sum(demands.values()), max(members, len(demands))
    part = Fraction(demand, total) if total else Fraction(1, len(demands))
    floor = _floor(shares, count)
    return Share(
        floor.rate + int(max(0, shares.rate - sum(it.rate for it in kept) - count * floor.rate) * part),
        floor.capacity
        + int(max(0, shares.capacity - sum(it.capacity for it in kept) - count * floor.capacity) * part),
    )


def _floor(shares: Shares, count: int) -> Share:
    """What each of so many members has, or finds."""
    capacity = max(ONE, shares.capacity // _CAPACITY_FLOORS // count)
    return Share(shares.rate // _FLOORS // count, min(capacity, shares.capacity // count))


def is_worth(shares: Shares, me: str, demand: int, members: int, quiet: Collection[str]) -> bool:
    """Whether moving to the fair share, or telling the demand by which others find theirs, is worth a write."""
    mine = shares.holders.get(me)
    if mine is None:
        return True
    aim, told = (fair(shares, me, it, members, quiet) for it in (demand, mine.demand))
    part = shares.rate // _HYSTERESIS
    off = max(part // max(members, len(shares.holders)), min(part, mine.rate // _EIGHTH))
    is_low, is_high = aim.rate > mine.rate + off, mine.rate > aim.rate + off
    is_news = abs(aim.rate - told.rate) > off
    return (
        is_high
        or is_news
        or (is_low and shares.free.rate >= off)
        or (mine.capacity < ONE <= shares.free.capacity)
    )


def reach(shares: Shares, me: str, aim: Share, members: int) -> Share:
    """Of what this member aims at as much as there is: what it holds, and what is free beyond the floors of those who are not here yet."""
    free, mine = shares.free, shares.holders.get(me, NOBODY)
    count = len({*shares.holders, me})
    absent, floor = max(0, members - count), _floor(shares, max(members, count))
    return Share(
        min(aim.rate, mine.rate + max(0, free.rate - absent * floor.rate)),
        min(aim.capacity, mine.capacity + max(0, free.capacity - absent * floor.capacity)),
    )


def moved(shares: Shares, me: str, share: Share, *, beat: int, demand: int, given: int) -> Moved:
    """This member holds that share, which is within its reach. Tokens come with capacity, as those that are free are spread over what is
    free; `given` are the tokens that it gave up for this. It never had this beat.
    """
    free, mine = shares.free, shares.holders.get(me, NOBODY)
    more = max(0, share.capacity - mine.capacity)
    taken = free.tokens * more // free.capacity if more else 0
    rest = free.capacity + mine.capacity - share.capacity
    after = Free(free.rate + mine.rate - share.rate, rest, max(0, min(free.tokens - taken + given, rest)))
    holder = Holder(share.rate, share.capacity, beat, demand)
    return Moved(replace(shares, free=after, holders={**shares.holders, me: holder}), taken)


def lacking(shares: Shares) -> int:
    """How many tokens what is free has room for."""
    return max(0, shares.free.capacity - shares.free.tokens)


def topped(shares: Shares, tokens: int) -> Shares:
    """What is free with so many tokens more, that its next holder may begin with. It must have room for them."""
    return replace(shares, free=replace(shares.free, tokens=shares.free.tokens + tokens))


def left(shares: Shares, me: str, given: int) -> Shares:
    """This member holds nothing any more, and gave so many tokens."""
    after = without(shares, (me,))
    tokens = max(0, min(after.free.tokens + given, after.free.capacity))
    return replace(after, free=replace(after.free, tokens=tokens))


def refilled(shares: Shares, elapsed_us: int) -> Shares:
    """What is free when it was let refill for so long. Only whoever knows that it stood for as long may say so."""
    free = shares.free
    more = slowed(max(0, free.rate), elapsed_us) // MICRO
    return replace(
        shares, free=replace(free, tokens=max(free.tokens, min(free.capacity, free.tokens + more)))
    )


def spent(shares: Shares) -> Shares | None:
    """One request less in what is free; None: there is none."""
    free = shares.free
    return replace(shares, free=replace(free, tokens=free.tokens - ONE)) if free.tokens >= ONE else None


def stamped(shares: Shares, by: str, at_us: int) -> Shares:
    return replace(shares, by=by, at_us=at_us)


def faults(shares: Shares) -> Iterator[str]:
    """The laws that this row breaks."""
    holders = shares.holders.values()
    if sum(it.rate for it in holders) + shares.free.rate != shares.rate:
        yield "the rates do not sum to the limit's"
    if sum(it.capacity for it in holders) + shares.free.capacity != shares.capacity:
        yield "the capacities do not sum to the burst"
    if not 0 <= shares.free.tokens <= max(0, shares.free.capacity):
        yield "what is free has more tokens than capacity"
    if any(min(it.rate, it.capacity, it.demand) < 0 for it in holders):
        yield "a holder has less than nothing"
