"""What was used: sums per hour, day and month of each tenant's keys and models, folded from what calls were. Pure.

Sums are whole numbers and adding them has no order, so however the calls come, in whatever portions, the same calls give the same sums.
That each call is added once is the folder's to see to (`gateway/usage`): it writes where it stands with the sums, or neither.

A call counts in the hour, day and month, UTC, in which its outcome was written: one that becomes `unknown` at a restart is of that time.
Only what is priced in an outcome is billed; an `unknown` one is counted and costs nothing.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Final, Literal, NamedTuple, Protocol, get_args

import msgspec
from msgspec import Struct

from tenants.errors import Invalid, Unreadable
from tenants.plans import Prices, amount
from tenants.ports import Key, Row

Unit = Literal["hour", "day", "month"]
UNITS: Final[tuple[Unit, ...]] = get_args(Unit)
Ending = Literal["done", "failed", "refused", "partial", "cancelled", "unknown"]
"""How a call ended, as its outcome says it."""
ENDINGS: Final[tuple[Ending, ...]] = get_args(Ending)

_LENGTHS: Final[Mapping[Unit, int]] = {"hour": 13, "day": 10, "month": 7}
"""Characters of 2026-11-27T15 that name the period."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_HOUR: Final = "%Y-%m-%dT%H"
_HOUR_US: Final = 3_600_000_000
_SHAPES: Final = ("%Y-%m", "%Y-%m-%d", _HOUR, "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%SZ")
_CENT_OF_A_CENT: Final = Decimal("0.0001")


class Call(Struct, frozen=True, kw_only=True):
    """One call that ended, as its outcome in the audit log says. `ended` None: an older program's, which kept that to the sealed body."""

    tenant: str
    key: str
    model: str
    at_us: int
    ended: Ending | None = None
    requests: int = 0
    tokens: int = 0
    bytes: int = 0
    compute_us: int = 0
    """As it was estimated: the time on its replica, where its outcome says no better."""


class Sums(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Of some calls. Stored as JSON, version 1, with `v`. A later field has a default that is left out. A reader that does not know all
    of a row refuses it: to write it again without what it does not know would be to forget that.
    """

    calls: int = 0
    requests: int = 0
    tokens: int = 0
    bytes: int = 0
    estimated_compute_us: int = 0
    """What the calls were taken to need when they ended: budgets run on it."""
    compute_us: int = 0
    """Their part of what Triton measured, once that is shared out: it follows the calls by some seconds."""
    done: int = 0
    failed: int = 0
    refused: int = 0
    partial: int = 0
    cancelled: int = 0
    unknown: int = 0

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(**{name: getattr(self, name) + getattr(other, name) for name in self.__struct_fields__})


class _Stored(Sums, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    v: Literal[1]


class Group(NamedTuple):
    """Whose sums: each has a row. `period`: 2026-11-27T15, 2026-11-27 or 2026-11, in UTC."""

    tenant: str
    unit: Unit
    period: str
    key: str
    model: str

    @property
    def at(self) -> Key:
        """A tenant's periods of one length lie together, in the order of time."""
        return Key(f"usage/{self.tenant}/{self.unit}", f"{self.period}/{self.key}/{self.model}")


NOTHING: Final = Sums()
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Stored).decode


def period(unit: Unit, at_us: int) -> str:
    """The one in which that microsecond since 1970 is."""
    return (_EPOCH + at_us * _MICROSECOND).strftime(_HOUR)[: _LENGTHS[unit]]


def groups(call: Call) -> Iterator[Group]:
    """Where it counts: one of each unit."""
    for unit in UNITS:
        yield Group(call.tenant, unit, period(unit, call.at_us), call.key, call.model)


def of(calls: Sequence[Call]) -> Sums:
    ended = Counter(call.ended for call in calls if call.ended)
    return Sums(
        calls=len(calls),
        requests=sum(call.requests for call in calls),
        tokens=sum(call.tokens for call in calls),
        bytes=sum(call.bytes for call in calls),
        estimated_compute_us=sum(call.compute_us for call in calls),
        **{str(how): number for how, number in ended.items()},
    )


def folded(calls: Iterable[Call]) -> dict[Group, Sums]:
    """Each call is added once, to those of its hour: days and months are sums of hours."""
    alike: dict[tuple[str, str, str, int], list[Call]] = {}
    for call in calls:
        alike.setdefault((call.tenant, call.key, call.model, call.at_us // _HOUR_US), []).append(call)
    found: dict[Group, Sums] = {}
    for hour in alike.values():
        sums = of(hour)
        for group in groups(hour[0]):
            found[group] = found.get(group, NOTHING) + sums
    return found


def written(sums: Sums) -> bytes:
    return _encode(_Stored(v=1, **{name: getattr(sums, name) for name in Sums.__struct_fields__}))


def read(row: Row | None) -> Sums:
    """Raises Unreadable for a damaged row, and one of a later program's."""
    if row is None:
        return NOTHING
    try:
        stored = _decode(row.value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unreadable(f"{row.key}: {error}") from error
    return Sums(**{name: getattr(stored, name) for name in Sums.__struct_fields__})


def group_of(tenant: str, unit: Unit, sort: str) -> Group:
    """Whose a row is, by its place in its partition."""
    found, key, model = sort.split("/")
    return Group(tenant, unit, found, key, model)


def cost(sums: Sums, prices: Prices) -> Decimal:
    """What that is by these prices, exactly; compute by what was measured."""
    return (
        amount(prices.per_1000_requests) * sums.requests / 1000
        + amount(prices.per_million_tokens) * sums.tokens / 1_000_000
        + amount(prices.per_compute_second) * sums.compute_us / 1_000_000
    )


def money(exact: Decimal) -> str:
    """As it is told: to a hundredth of a cent."""
    return str(exact.quantize(_CENT_OF_A_CENT, ROUND_HALF_UP))


class Asked(NamedTuple):
    """Which rows: periods from `start` on and before `end`, as `period` names them, "" is no bound; of one key or model, None: of all."""

    tenant: str
    unit: Unit
    start: str = ""
    end: str = ""
    key: str | None = None
    model: str | None = None

    def holds(self, group: Group) -> bool:
        return (
            (group.tenant, group.unit) == (self.tenant, self.unit)
            and self.start <= group.period
            and (not self.end or group.period < self.end)
            and self.key in (None, group.key)
            and self.model in (None, group.model)
        )


class Used(NamedTuple):
    """Sums by group, in order; `waiting` of their calls are in the log and not in the stored sums yet."""

    sums: Mapping[Group, Sums]
    waiting: int


class UsageReader(Protocol):
    """Who knows what was used."""

    async def used(self, asked: Asked) -> Used:
        """All calls whose outcome was on the disk when it was asked. Raises TableUnavailable, Unreadable."""


def started(text: str, unit: Unit, path: str) -> str:
    """The period in which that time is, as people write times: 2026-11, 2026-11-27, 2026-11-27T15. Raises Invalid."""
    return _moment(text, path).strftime(_HOUR)[: _LENGTHS[unit]]


def ended(text: str, unit: Unit, path: str) -> str:
    """What every period comes before that begins before that time. Raises Invalid."""
    found = _moment(text, path)
    whole = found.strftime(_HOUR)
    name = whole[: _LENGTHS[unit]]
    begins = name + "0001-01-01T00"[_LENGTHS[unit] :] == whole and not found.minute and not found.second
    return name if begins else f"{name}~"


def _moment(text: str, path: str) -> datetime:
    for shape in _SHAPES:
        with suppress(ValueError):
            return datetime.strptime(text, shape).replace(tzinfo=UTC)
    raise Invalid(path, "must be a time in UTC like 2026-11, 2026-11-27 or 2026-11-27T15")
