"""The figures of several processes as those of one. Pure.

Numbers and histograms are added, unless their row in the table says that the least or the most of them tells more (`Metric.across`). What
only grows keeps growing when a process ends: whoever adds up keeps what was `lasting` of it.
"""

from collections.abc import Iterable
from typing import Final

import msgspec
from msgspec import Struct

from gateway.telemetry.meter import Buckets, Points, Reading
from gateway.telemetry.table import TABLE, Metric

_BY_NAME: Final = {metric.name: metric for metric in TABLE}


class Counts(Struct, frozen=True, array_like=True):
    """A histogram's."""

    counts: tuple[int, ...]
    total: float


class Point(Struct, frozen=True, array_like=True):
    values: tuple[str, ...]
    number: int | float | Counts


class Told(Struct, frozen=True):
    """What one process tells another one of its host: JSON, which a file has for as long as the supervisor of both lives. Of figures that
    the other one does not know it takes none, as while one of them is of another version.
    """

    ready: bool
    state: str
    figures: dict[str, tuple[Point, ...]] = {}


def encoded(reading: Reading, *, ready: bool, state: str) -> bytes:
    return msgspec.json.encode(
        Told(ready, state, {metric.name: _points(points) for metric, points in reading.items()})
    )


def decoded(data: bytes) -> Told:
    """ValueError for anything else."""
    return msgspec.json.decode(data, type=Told)


def read(told: Told) -> Reading:
    """What was told of the metrics that are known here."""
    return {
        metric: {point.values: number for point in points if (number := _number(metric, point)) is not None}
        for name, points in told.figures.items()
        if (metric := _BY_NAME.get(name)) is not None
    }


def lasting(reading: Reading) -> Reading:
    """What is still true of a process when it has ended."""
    return {metric: points for metric, points in reading.items() if metric.kind in ("counter", "histogram")}


def added(readings: Iterable[Reading]) -> Reading:
    """Every metric of the table, over all of these."""
    sums: dict[Metric, dict[tuple[str, ...], int | float | Buckets]] = {metric: {} for metric in TABLE}
    for reading in readings:
        for metric, points in reading.items():
            found = sums[metric]
            for values, number in points.items():
                found[values] = _both(metric, found[values], number) if values in found else number
    return dict(sums)


def _both(metric: Metric, one: int | float | Buckets, other: int | float | Buckets) -> int | float | Buckets:
    if isinstance(one, Buckets) or isinstance(other, Buckets):
        if not (isinstance(one, Buckets) and isinstance(other, Buckets)):
            raise TypeError(f"{metric.name} is a histogram here and a number there")
        both = one.copy()
        both.counts = [a + b for a, b in zip(one.counts, other.counts, strict=True)]
        both.total += other.total
        return both
    match metric.across:
        case "sum":
            return one + other
        case "least":
            return min(one, other)
        case "most":
            return max(one, other)


def _points(points: Points) -> tuple[Point, ...]:
    return tuple(
        Point(values, Counts(tuple(it.counts), it.total) if isinstance(it, Buckets) else it)
        for values, it in points.items()
    )


def _number(metric: Metric, point: Point) -> int | float | Buckets | None:
    """None for what has another form here."""
    if len(point.values) != len(metric.attributes) or isinstance(point.number, Counts) != bool(metric.bounds):
        return None
    if not isinstance(point.number, Counts):
        return point.number
    buckets = Buckets(metric.bounds)
    if len(point.number.counts) != len(buckets.counts):
        return None
    buckets.counts, buckets.total = list(point.number.counts), point.number.total
    return buckets
