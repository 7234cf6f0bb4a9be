"""What is stored of measured compute: how far each place was measured and shared out, and the record of each interval. Pure.

    place  points: (when, total) as Triton said them      shared until the first point's share is recorded
    record one interval of one place, with all its shares, and how many of them are in the sums already

All are JSON, version 1; another version is refused, as is a field that is not known: to go on without it would count twice.
"""

from typing import Final, NamedTuple, TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from gateway.usage.apportion import IDLE, Interval, Ran, idle_us, shares
from gateway.usage.heard import Spot
from tenants import usage
from tenants.errors import Unreadable
from tenants.ports import Key, Row
from tenants.usage import UNITS, Group, Sums

PLACES: Final = "usage-places"
DUE: Final = "usage-apportion-due"
"""Records of which not all shares are in the sums yet."""
RECORDS: Final = "usage-apportion"
MOST_POINTS: Final = 30
_T = TypeVar("_T")
_NANOSECONDS: Final = 1000  # of a microsecond


class Point(NamedTuple):
    at_us: int
    total_ns: int


class Place(Struct, frozen=True, tag_field="v", tag=1, forbid_unknown_fields=True):
    """A model on a replica, from a load to its unload. `shared`: what came before it is somebody's, or has its line. `ended`: it is gone,
    and what it computed behind its last point nobody can know. `calls` were there until `shared`.
    """

    model: str
    """By its id."""
    shared: Point
    points: tuple[Point, ...] = ()
    ended: bool = False
    calls: int = 0

    @property
    def total_ns(self) -> int:
        """As it was said last."""
        return (self.points[-1] if self.points else self.shared).total_ns

    @property
    def is_done(self) -> bool:
        return self.ended and not self.points


class Share(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """`calls`: how often it happened, of a line that counts itself."""

    tenant: str
    key: str
    compute_us: int
    calls: int = 0


class Record(Struct, frozen=True, tag_field="v", tag=1, forbid_unknown_fields=True):
    """An apportion record: what a place computed in an interval, and whose that is. `applied` shares are in the sums."""

    replica: str
    model: str
    interval_us: tuple[int, int]
    compute_us: int
    shares: tuple[Share, ...]
    applied: int = 0

    def sums(self, first: int, until: int) -> dict[Group, Sums]:
        """What these of its shares add. They count in the hour in which the interval ended."""
        return {
            Group(it.tenant, unit, usage.period(unit, self.interval_us[1] - 1), it.key, self.model): Sums(
                compute_us=it.compute_us, calls=it.calls
            )
            for it in self.shares[first:until]
            for unit in UNITS
        }


def noted(place: Place, point: Point) -> Place:
    """With what Triton said now. Where nothing changed there is nothing to share; too many points are drawn together."""
    if (
        point.total_ns == place.total_ns
        or point.at_us <= (place.points[-1] if place.points else place.shared).at_us
    ):
        return place
    points = place.points if len(place.points) < MOST_POINTS else place.points[:-1]
    return replace(place, points=(*points, point))


class Cut(NamedTuple):
    """The first interval of a place, shared out."""

    place: Place
    record: Record


def cut(place: Place, replica: str, runs: list[Ran]) -> Cut:
    """`runs`: who was there. The place has a point. What is less than a microsecond stays for the next interval."""
    within = Interval(place.shared.at_us, place.points[0].at_us)
    compute_us = (place.points[0].total_ns - place.shared.total_ns) // _NANOSECONDS
    found = [
        Share(who.tenant, who.key, part)
        for who, part in sorted(shares(compute_us, within, runs).items())
        if part
    ]
    if idle := idle_us(within, runs):
        found.append(Share("", IDLE, idle))
    record = Record(replica, place.model, (within.start_us, within.end_us), compute_us, tuple(found))
    shared = Point(within.end_us, place.shared.total_ns + compute_us * _NANOSECONDS)
    there = place.calls + sum(1 for run in runs if run.who.tenant and within.overlap(run))
    return Cut(replace(place, shared=shared, points=place.points[1:], calls=there), record)


def line(spot: Spot, at_us: int, share: Share) -> Record:
    """What is no share of a measurement: how long a load took, what a crash swallowed."""
    return Record(*spot, (at_us - 1, at_us), 0, (share,))


def written(value: Place | Record) -> bytes:
    return msgspec.json.encode(value)


def read_place(row: Row) -> Place:
    return _read(row, Place)


def read_record(row: Row) -> Record:
    return _read(row, Record)


def _read(row: Row, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(row.value, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unreadable(f"{row.key}: {error}") from error


def record_at(partition: str, record: Record, number: int) -> Key:
    """In the order of time; `number` tells apart what would be at one place."""
    end_us = record.interval_us[1]
    return Key(partition, f"{end_us:020d}/{record.replica}/{record.model}/{number:03d}")
