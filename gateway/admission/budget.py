"""The row of a budget: so many units of a calendar period, how many of them were used, and which members hold some to spend. Pure.

    partition       sort     value
    budget/<name>   (empty)  Budget

Law, of every row by which somebody took: what was used and what is held are at most the budget. So whatever becomes of a holder, no more
than the budget is ever spent in a period. A row belongs to one period; the first who needs a later one writes it over, and what was held
of the earlier one is worth nothing from then on. A period never goes back: whose clock is behind goes on in the one that the row is of.

A holder's claim is all that it was ever allowed in the period: what it told of as used, and what it holds beyond that. To tell moves units
from the one to the other, to take makes the claim larger, to give back makes it smaller, and nothing else does.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from tenants.ports import Key, Row
from tenants.rows import decoded

Span = Literal["minute", "day", "month"]
MICRO: Final = 1_000_000
_LASTS_US: Final = MappingProxyType({"minute": 60 * MICRO, "day": 86_400 * MICRO})
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

PART: Final = 100
"""One part in so many of what remains is held by all members together, to spend without asking."""
AHEAD: Final = 8
"""A member holds so many calls, where its demand of a second is less."""


class Damaged(Exception):
    """This row cannot be read, or is of a version that this program does not know. Fails closed. The text is for operators."""


class Limit(NamedTuple):
    """So many units in each such period. Of two the one counts that was read at a later change of the directory, `since`."""

    units: int
    span: Span
    since: int = 0


class Holder(Struct, frozen=True):
    """A member: what it told of as used, over all of its life in this period, and what it holds beyond that."""

    used: int
    held: int

    @property
    def claim(self) -> int:
        return self.used + self.held


class Budget(Struct, frozen=True, tag_field="v", tag=1):
    """A period, by the microsecond since 1970 at which it begins. `used` is what all told of, those that are gone among them.

    Stored as JSON, version 1. A field may be added with a default that means what its absence meant before; any other change is
    version 2. Readers refuse versions they do not know.
    """

    start_us: int
    used: int
    holders: dict[str, Holder]


NOBODY: Final = Holder(0, 0)


def began(span: Span, now_us: int) -> int:
    """When the period began that this moment is in, in UTC."""
    if span == "month":
        at = _EPOCH + timedelta(microseconds=now_us)
        return _since_epoch(at.replace(day=1, hour=0, minute=0, second=0, microsecond=0))
    return now_us - now_us % _LASTS_US[span]


def ended(span: Span, start_us: int) -> int:
    """When the period ends that began then; the next one begins."""
    if span == "month":
        at = _EPOCH + timedelta(microseconds=start_us)
        return _since_epoch(
            at.replace(year=at.year + at.month // 12, month=at.month % 12 + 1)  # a first day of a month
        )
    return start_us + _LASTS_US[span]


def _since_epoch(at: datetime) -> int:
    return (at - _EPOCH) // _MICROSECOND


def place(name: str) -> Key:
    return Key(f"budget/{name}")


def encoded(budget: Budget) -> bytes:
    return msgspec.json.encode(budget)


def read(row: Row) -> Budget:
    """Raises Damaged."""
    return decoded(row, Budget, Damaged)


def laid_out(start_us: int) -> Budget:
    """A period of which nothing was used."""
    return Budget(start_us, 0, {})


def total(budget: Budget) -> int:
    """What was used or may be."""
    return budget.used + sum(it.held for it in budget.holders.values())


def moved(budget: Budget, me: str, *, used: int, claim: int) -> Budget:
    """This member has used so much in this period, and may use as much as its claim."""
    before = budget.holders.get(me, NOBODY)
    holder = Holder(used, claim - used)
    return replace(budget, used=budget.used + used - before.used, holders={**budget.holders, me: holder})


def left(budget: Budget, name: str, used: int) -> Budget:
    """This member is gone, and used so much in this period: the rest of what it held is there again."""
    holders = {other: it for other, it in budget.holders.items() if other != name}
    told = budget.holders.get(name, NOBODY).used
    return replace(budget, used=budget.used + max(0, used - told), holders=holders)


def chunk(remaining: int, members: int, a_second: int, a_call: int) -> int:
    """What a member should have to spend, of so much that nobody used and no other member holds: a second of its demand, or a few calls.

    All members together have one part in `PART` at most: so much is unused at the most when those who have it never spend it.
    """
    return max(0, min(max(a_second, AHEAD * a_call), remaining // (PART * max(1, members))))


def faults(budget: Budget) -> Iterator[str]:
    """The laws that this row breaks, whatever the plan says."""
    if budget.used < sum(it.used for it in budget.holders.values()):
        yield "its holders told of more than was used"
    if any(it.held < 0 for it in budget.holders.values()):
        yield "a holder holds less than nothing"
