"""A reading as Prometheus text, format 0.0.4. Pure.

Written here, from the numbers themselves: OpenTelemetry's own reader and its Prometheus exporter take some 60 us a point, during which
no call is served, and have no histogram that is observed. Names are translated as OpenTelemetry's compatibility rules say.
"""

from collections.abc import Iterator
from functools import cache
from typing import Final

from gateway.telemetry.meter import Buckets, Reading
from gateway.telemetry.table import Metric

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_UNITS: Final = {"s": "_seconds", "By": "_bytes"}  # units in braces are left out
_TYPES: Final = {
    "counter": "counter",
    "up-down counter": "gauge",
    "gauge": "gauge",
    "histogram": "histogram",
}
_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def text(reading: Reading) -> str:
    """Every metric of the reading, also one that has no point yet."""
    return "".join(line + "\n" for line in _lines(reading))


def name_of(metric: Metric) -> str:
    """The metric's name in Prometheus."""
    name = metric.name.replace(".", "_") + _UNITS.get(metric.unit, "")
    return f"{name}_total" if metric.kind == "counter" else name


def _lines(reading: Reading) -> Iterator[str]:
    for metric, points in reading.items():
        name = name_of(metric)
        yield f"# HELP {name} {metric.meaning}"
        yield f"# TYPE {name} {_TYPES[metric.kind]}"
        names = [attribute.replace(".", "_") for attribute in metric.attributes]
        for values, value in points.items():
            labels = ",".join(
                f'{label}="{text.translate(_ESCAPES)}"' for label, text in zip(names, values, strict=True)
            )
            if isinstance(value, Buckets):
                yield from _histogram(name, labels, value)
            else:
                yield f"{name}{{{labels}}} {value}" if labels else f"{name} {value}"


def _histogram(name: str, labels: str, buckets: Buckets) -> Iterator[str]:
    start = f"{name}_bucket{{{labels}," if labels else f"{name}_bucket{{"
    number = 0
    for edge, count in zip(_edges(buckets.bounds), buckets.counts, strict=True):
        number += count
        yield f"{start}{edge}{number}"
    outer = f"{{{labels}}}" if labels else ""
    yield f"{name}_sum{outer} {buckets.total}"
    yield f"{name}_count{outer} {number}"


@cache
def _edges(bounds: tuple[float, ...]) -> tuple[str, ...]:
    """The end of each bucket's line; there are only the table's bounds."""
    return (*(f'le="{bound}"}} ' for bound in bounds), 'le="+Inf"} ')
