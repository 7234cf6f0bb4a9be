"""Calls at once: who holds how many permits of a limit, and what a member does with its own. Pure.

    partition       sort     value
    permits/<name>  (empty)  Permits

Laws, of every row: nobody holds less than nothing, and the permits of the holders with the free ones are as many as the limit. The free
ones may be less than none, after a plan became smaller, until the holders have given that back; then nobody takes. README.md has the
argument.
"""

from collections.abc import Collection, Iterator
from typing import Final, NamedTuple

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from gateway.admission.shares import Damaged
from tenants.ports import Key, Row
from tenants.rows import decoded


class AtOnce(NamedTuple):
    """Of a plan. Of two the one with the later `since` counts (`shares.Limit`)."""

    most: int
    since: int


class Holder(Struct, frozen=True):
    """`wanted` is how many it could use. `beat` is another one in each write of this member, and never one that it had before."""

    held: int
    wanted: int
    beat: int


class Permits(Struct, frozen=True, tag_field="v", tag=1):
    """A limit with its holders. Stored as JSON, version 1. A field may be added with a default that means what its absence meant before;
    any other change is version 2. Readers refuse versions they do not know.
    """

    most: int
    since: int
    holders: dict[str, Holder]

    @property
    def free(self) -> int:
        return self.most - sum(it.held for it in self.holders.values())


NOBODY: Final = Holder(0, 0, 0)


class Hand(Struct):
    """What this member holds of a limit. `used` are its calls under way. At and after the deadline it lets nobody in; who is in stays.

    `held` is at most what the row says, once another member may have read it: it is made less before a row is written that says less, and
    more once one is written that says more.
    """

    held: int = 0
    used: int = 0
    deadline_us: int = 0
    peak: int = 0
    """The most that was used since whoever measures demand has looked."""

    def take(self, now_us: int) -> bool:
        if self.used >= self.held or now_us >= self.deadline_us:
            return False
        self.used += 1
        self.peak = max(self.peak, self.used)
        return True

    @property
    def left(self) -> int:
        return max(0, self.held - self.used)


def place(name: str) -> Key:
    return Key(f"permits/{name}")


def encoded(permits: Permits) -> bytes:
    return msgspec.json.encode(permits)


def read(row: Row) -> Permits:
    """Raises Damaged."""
    return decoded(row, Permits, Damaged)


def laid_out(limit: AtOnce) -> Permits:
    return Permits(limit.most, limit.since, {})


def overrules(limit: AtOnce, other: "AtOnce | Permits") -> bool:
    """Of two that differ the later counts; of two at once, which cannot be for long, the smaller."""
    return limit.most != other.most and (limit.since, -limit.most) > (other.since, -other.most)


def is_tight(most: int, members: int) -> bool:
    """Whether an equal part of it is less than two: then nobody holds more than it uses."""
    return members > 1 and most < 2 * members


def aim(permits: Permits, me: str, wanted: int, members: int) -> int:
    """What this member should hold of a limit that is not tight: one, and a part of the others by what all want. Each wants one more for
    this, so that who wants nothing has some at hand, and some is there for who is not here yet.
    """
    wants = {name: it.wanted for name, it in permits.holders.items()} | {me: wanted}
    count = max(members, len(wants))
    rest = max(0, permits.most - count)
    return 1 + rest * (wanted + 1) // (sum(wants.values()) + count)


def part(permits: Permits, me: str, wanted: int) -> int:
    """The same where there is not enough: nobody keeps what it does not want."""
    total = sum(it.wanted for name, it in permits.holders.items() if name != me) + wanted
    return permits.most * wanted // total if total else permits.most // len({*permits.holders, me})


def kept_free(permits: Permits, me: str, members: int) -> int:
    """The parts of those who live and hold nothing yet."""
    wants = {name: it.wanted for name, it in permits.holders.items()} | {me: 0}
    count = max(members, len(wants))
    rest = max(0, permits.most - count)
    return (count - len(wants)) * (1 + rest // (sum(wants.values()) + count))


def is_contended(permits: Permits, me: str) -> bool:
    """Whether others want more, and only holders can give it."""
    return permits.free <= 0 and (
        permits.free < 0 or any(it.wanted > it.held for name, it in permits.holders.items() if name != me)
    )


def under(permits: Permits, limit: AtOnce) -> Permits:
    """The same row under another plan: what is less is taken from what is free, and may be owed."""
    return replace(permits, most=limit.most, since=limit.since)


def without(permits: Permits, names: Collection[str]) -> Permits:
    return replace(permits, holders={name: it for name, it in permits.holders.items() if name not in names})


def moved(permits: Permits, me: str, held: int, *, wanted: int, beat: int) -> Permits:
    """This member holds so many: no more than it did and what was free."""
    return replace(permits, holders={**permits.holders, me: Holder(held, wanted, beat)})


def faults(permits: Permits) -> Iterator[str]:
    """The laws that this row breaks; one that a smaller plan owes breaks none."""
    if any(min(it.held, it.wanted) < 0 for it in permits.holders.values()):
        yield "a holder has less than nothing"
