"""Where things are counted: plain numbers in slotted objects, added to on the request path and read when somebody asks.

Pure, and of one loop. What other rooms count themselves is not counted again: `watch` reads it there.
"""

from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from gateway.telemetry import table
from gateway.telemetry.table import Metric

MOST_MODELS: Final = 1_000
OTHER: Final = "*"  # no model has this name: all beyond the first thousand

# Every point of every metric, by the values of its attributes. What a histogram gives stays in use: read it before the next await.
Points = Mapping[tuple[str, ...], "int | float | Buckets"]
Reading = dict[Metric, Points]

# What scaling's Observer is told of, of a fleet or of a model.
EVENTS: Final[Mapping[str, Metric]] = {
    "start": table.STARTS,
    "start_failed": table.START_FAILURES,
    "crash": table.CRASHES,
    "stop": table.STOPS,
    "load": table.LOADS,
    "load_failed": table.LOAD_FAILURES,
    "eviction": table.EVICTIONS,
    "idle_unload": table.IDLE_UNLOADS,
    "canary_failed": table.CANARY_FAILURES,
    "breaker_opened": table.BREAKER_OPENS,
    "full": table.QUEUE_FULL,
    "late": table.QUEUE_LATE,
}


class Buckets:
    """A histogram: `counts[i]` are the values above `bounds[i - 1]` and at most `bounds[i]`, the last those above all."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def copy(self) -> "Buckets":
        copy = Buckets(self.bounds)
        copy.counts, copy.total = self.counts.copy(), self.total
        return copy


class _Model:
    """What the calls of one model add up to."""

    __slots__ = ("calls", "received_bytes", "sent_bytes", "upstream")

    def __init__(self) -> None:
        self.calls: dict[tuple[str, int], Buckets] = {}
        self.upstream: Buckets | None = None
        self.received_bytes = 0
        self.sent_bytes = 0


@dataclass(slots=True)
class Meter:
    """Also scaling's Observer."""

    _models: dict[str, _Model] = field(default_factory=dict)
    _errors: dict[str, int] = field(default_factory=dict)
    _phases: dict[str, Buckets] = field(default_factory=dict)
    _events: dict[tuple[Metric, str], int] = field(default_factory=dict)
    _watched: dict[Metric, Callable[[], Points]] = field(default_factory=dict)

    def settled(
        self,
        verb: str,
        model: str,
        status: int,
        *,
        seconds: float,
        upstream_seconds: float | None,
        received_bytes: int,
        sent_bytes: int,
    ) -> None:
        """A call has ended. `model` is a known one's name, "" for none; `upstream_seconds` is None if it never left for Triton."""
        counts = self._models.get(model) or self._add_model(model)
        calls = counts.calls.get((verb, status))
        if calls is None:
            calls = counts.calls[verb, status] = Buckets(table.CALLS.bounds)
        calls.add(seconds)
        if upstream_seconds is not None:
            if counts.upstream is None:
                counts.upstream = Buckets(table.UPSTREAM.bounds)
            counts.upstream.add(upstream_seconds)
            counts.sent_bytes += sent_bytes
        counts.received_bytes += received_bytes

    def failed(self, code: str) -> None:
        """A call was refused or failed with this code of the table of errors."""
        self._errors[code] = self._errors.get(code, 0) + 1

    def phase(self, phase: str, seconds: float) -> None:
        """Of scaling's Observer."""
        buckets = self._phases.get(phase)
        if buckets is None:
            buckets = self._phases[phase] = Buckets(table.COLD_START.bounds)
        buckets.add(seconds)

    def happened(self, event: str, name: str) -> None:
        """Of scaling's Observer: to the fleet or the model of this name."""
        key = (EVENTS[event], name)
        self._events[key] = self._events.get(key, 0) + 1

    def watch(self, metric: Metric, read: Callable[[], Points]) -> None:
        """What another room counts: `read` gives its points whenever somebody asks for them."""
        self._watched[metric] = read

    def watch_number(self, metric: Metric, read: Callable[[], float]) -> None:
        """The same, of a metric without attributes."""
        self._watched[metric] = lambda: {(): read()}

    def read(self) -> Reading:
        """All there is, in the table's order."""
        own: dict[Metric, dict[tuple[str, ...], int | float | Buckets]] = {
            metric: {} for metric in table.TABLE
        }
        for model, counts in self._models.items():
            for (verb, status), calls in counts.calls.items():
                own[table.CALLS][model, verb, str(status)] = calls
            own[table.RECEIVED][model,] = counts.received_bytes
            if counts.upstream is not None:
                own[table.UPSTREAM][model,] = counts.upstream
                own[table.SENT][model,] = counts.sent_bytes
        for code, number in self._errors.items():
            own[table.ERRORS][code,] = number
        for phase, buckets in self._phases.items():
            own[table.COLD_START][phase,] = buckets
        for (metric, name), number in self._events.items():
            own[metric][name,] = number
        return {**own, **{metric: read() for metric, read in self._watched.items()}}

    def _add_model(self, model: str) -> _Model:
        name = model if len(self._models) < MOST_MODELS else OTHER
        return self._models.setdefault(name, _Model())
