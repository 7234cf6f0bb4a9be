"""Figures and spans to an OpenTelemetry collector (OTLP over HTTP), where one is named by OpenTelemetry's own variables.

Numbers are observed by the SDK's observable instruments. It has none for a histogram, and its collection takes points from instruments
only, so what it collected is completed with our histograms, as values of its own data model, on the way to the exporter. All is
cumulative. A reading is taken on the loop, so that its figures belong together; encoding and sending happen in a thread.

Fails open: a collector that does not answer is logged by the SDK, and what it did not get in time is dropped.
"""

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, Final

from opentelemetry.metrics import CallbackOptions, Meter, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Histogram,
    HistogramDataPoint,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    PeriodicExportingMetricReader,
    ScopeMetrics,
)
from opentelemetry.sdk.metrics.export import Metric as Exported
from opentelemetry.sdk.resources import OTELResourceDetector, Resource

from gateway import __version__
from gateway.telemetry.meter import Buckets, Reading
from gateway.telemetry.table import TABLE, Metric

SCOPE: Final = "gateway"
LAST_SECONDS: Final = 2.0  # for what is left when the process ends


def our_resource(instance: str = "") -> Resource:
    """Who says all this; OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES go before it. `instance` is of this process alone."""
    told = {"service.name": "model-gateway", "service.version": __version__}
    ours = Resource.create(told | ({"service.instance.id": instance} if instance else {}))
    return ours.merge(OTELResourceDetector().detect())


class Push:
    """Sends readings through an exporter, when it is told to."""

    def __init__(
        self,
        read: Callable[[], Reading],
        exporter: MetricExporter,
        now_us: Callable[[], int],
        resource: Resource | None = None,
    ) -> None:
        self._read = read
        self._now_us = now_us
        self._started_ns = now_us() * 1_000
        self._reading: Reading = {}
        # An interval without end: the loop says when, and no thread of the SDK's reads what the loop is writing.
        self._reader = PeriodicExportingMetricReader(
            _Completing(exporter, self._histograms), export_interval_millis=math.inf
        )
        self._provider = MeterProvider(
            [self._reader], resource=resource or our_resource(), shutdown_on_exit=False
        )
        meter = self._provider.get_meter(SCOPE, __version__)
        for metric in TABLE:
            if metric.kind != "histogram":
                _instrument(meter, metric, partial(self._observe, metric))

    async def push(self) -> None:
        """What there is now has been sent, or was dropped."""
        self._reading = _kept(self._read())
        await asyncio.to_thread(self._reader.collect)

    async def close(self) -> None:
        """Sends what there is once more, and waits for it a moment."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_SECONDS):
                await self.push()
        self._provider.shutdown()

    def _observe(self, metric: Metric, _: CallbackOptions) -> Iterable[Observation]:
        for values, value in self._reading[metric].items():
            if not isinstance(value, Buckets):
                yield Observation(value, _attributes(metric, values))

    def _histograms(self) -> list[Exported]:
        return [
            _exported(metric, points, self._started_ns, self._now_us() * 1_000)
            for metric, points in self._reading.items()
            if metric.kind == "histogram" and points
        ]


class _Completing(MetricExporter):
    """Hands what the SDK collected to another exporter, with the histograms that it cannot observe."""

    def __init__(self, exporter: MetricExporter, histograms: Callable[[], list[Exported]]) -> None:
        super().__init__()
        self._exporter = exporter
        self._histograms = histograms

    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **more: Any
    ) -> MetricExportResult:
        ours = metrics_data.resource_metrics[0]
        scope = ours.scope_metrics[0]
        whole = ScopeMetrics(scope.scope, [*scope.metrics, *self._histograms()], scope.schema_url)
        data = MetricsData([replace(ours, scope_metrics=[whole])])
        return self._exporter.export(data, timeout_millis=timeout_millis, **more)

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return self._exporter.force_flush(timeout_millis)

    def shutdown(self, timeout_millis: float = 30_000, **more: Any) -> None:
        self._exporter.shutdown(timeout_millis, **more)


def _instrument(
    meter: Meter, metric: Metric, observe: Callable[[CallbackOptions], Iterable[Observation]]
) -> None:
    create = {
        "counter": meter.create_observable_counter,
        "up-down counter": meter.create_observable_up_down_counter,
        "gauge": meter.create_observable_gauge,
    }[metric.kind]
    create(metric.name, [observe], metric.unit, metric.meaning)


def _exported(
    metric: Metric, points: Mapping[tuple[str, ...], Any], started_ns: int, now_ns: int
) -> Exported:
    values = [
        HistogramDataPoint(
            attributes=_attributes(metric, attributes),
            start_time_unix_nano=started_ns,
            time_unix_nano=now_ns,
            count=sum(buckets.counts),
            sum=buckets.total,
            bucket_counts=buckets.counts,
            explicit_bounds=buckets.bounds,
            min=None,  # type: ignore[arg-type]  # optional in OTLP, which it is encoded to
            max=None,  # type: ignore[arg-type]
        )
        for attributes, buckets in points.items()
    ]
    return Exported(
        metric.name, metric.meaning, metric.unit, Histogram(values, AggregationTemporality.CUMULATIVE)
    )


def _attributes(metric: Metric, values: tuple[str, ...]) -> dict[str, str]:
    return dict(zip(metric.attributes, values, strict=True))


def _kept(reading: Reading) -> Reading:
    """The reading as it is now, whatever is counted meanwhile."""
    return {
        metric: {
            values: value.copy() if isinstance(value, Buckets) else value for values, value in points.items()
        }
        for metric, points in reading.items()
    }
