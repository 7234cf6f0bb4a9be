"""A collector gets the figures that a scrape gets, and a process does not wait for one that does not answer."""

import asyncio
import math
from collections.abc import Iterable
from itertools import count

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_CUMULATIVE
from opentelemetry.sdk.resources import Resource
from prometheus_client.parser import text_string_to_metric_families

from gateway import __version__
from gateway.telemetry.meter import EVENTS, Meter
from gateway.telemetry.otlp import LAST_SECONDS, Push
from gateway.telemetry.prometheus import name_of, text
from gateway.telemetry.table import TABLE
from tests.worlds.collector import CollectorWorld, plain

START_US = 1_700_000_000_000_000


def busy() -> Meter:
    """A meter in which every metric has a point."""
    meter = Meter()
    for seconds in (0.001, 0.3, 99.0):
        meter.settled(
            "infer", "digits", 200, seconds=seconds, upstream_seconds=seconds, received_bytes=7, sent_bytes=5
        )
        meter.phase("boot", seconds)
    meter.failed("rate_limited")
    for event in EVENTS:
        meter.happened(event, "one")
    for number, metric in enumerate(TABLE):
        if not meter.read()[metric]:
            values = tuple(f"of {attribute}" for attribute in metric.attributes)
            meter.watch(metric, lambda values=values, number=number: {values: number})  # type: ignore[misc]
    return meter


def exporter(collector: CollectorWorld) -> OTLPMetricExporter:
    return OTLPMetricExporter(f"{collector.url}/v1/metrics", timeout=60)


async def test_the_collector_gets_every_figure_that_a_scrape_gets() -> None:
    meter, clock = busy(), count(START_US)
    async with CollectorWorld() as collector:
        push = Push(meter.read, exporter(collector), lambda: next(clock))
        await push.push()
        families = {f.name: f for f in text_string_to_metric_families(text(meter.read()))}
        await push.close()
    assert set(collector.figures) == {metric.name for metric in TABLE}
    for metric in TABLE:
        sent = collector.figures[metric.name]
        assert (sent.unit, sent.description) == (metric.unit, metric.meaning)
        scraped = {
            (s.name, tuple(s.labels.values())): s.value
            for s in families[name_of(metric).removesuffix("_total")].samples
        }
        if metric.kind == "histogram":
            (histogram,) = sent.histogram.data_points
            assert sent.histogram.aggregation_temporality == AGGREGATION_TEMPORALITY_CUMULATIVE
            values = _values(histogram.attributes)
            assert scraped[f"{name_of(metric)}_sum", values] == histogram.sum
            assert scraped[f"{name_of(metric)}_count", values] == histogram.count
            assert tuple(histogram.explicit_bounds) == metric.bounds
            below = [sum(histogram.bucket_counts[: i + 1]) for i in range(len(metric.bounds) + 1)]
            edges = (*metric.bounds, math.inf)
            assert [scraped[f"{name_of(metric)}_bucket", (*values, _le(edge))] for edge in edges] == below
            assert not histogram.HasField("min")
            assert START_US * 1_000 <= histogram.start_time_unix_nano < histogram.time_unix_nano
        else:
            points = sent.gauge.data_points if metric.kind == "gauge" else sent.sum.data_points
            assert sent.sum.is_monotonic is (metric.kind == "counter")
            assert {
                (name_of(metric), _values(p.attributes)): p.as_int or p.as_double for p in points
            } == scraped


async def test_figures_grow_and_the_last_ones_are_sent_when_the_process_ends() -> None:
    meter = busy()
    async with CollectorWorld() as collector:
        push = Push(meter.read, exporter(collector), lambda: START_US)
        await push.push()
        meter.failed("rate_limited")
        meter.phase("boot", 1.0)
        await push.close()
    assert len(collector.metrics) == 2
    (errors,) = collector.figures["gateway.errors"].sum.data_points
    (boots,) = collector.figures["gateway.cold_start.duration"].histogram.data_points
    assert (errors.as_int, boots.count) == (2, 4)


async def test_what_is_counted_while_a_push_is_under_way_is_not_in_it() -> None:
    meter = busy()
    loop = asyncio.get_running_loop()

    class Recording(OTLPMetricExporter):
        """In its thread it has the loop count, and waits until it has."""

        def export(self, *given: object, **more: object) -> object:  # type: ignore[override]
            counted = asyncio.run_coroutine_threadsafe(_count(meter), loop)
            counted.result(10)
            return super().export(*given, **more)  # type: ignore[arg-type]

    async with CollectorWorld() as collector:
        push = Push(meter.read, Recording(f"{collector.url}/v1/metrics"), lambda: START_US)
        await push.push()
        (boots,) = collector.figures["gateway.cold_start.duration"].histogram.data_points
        assert (boots.count, sum(boots.bucket_counts)) == (3, 3)
        await push.close()


async def _count(meter: Meter) -> None:
    meter.phase("boot", 1.0)


async def test_the_collector_is_told_who_speaks() -> None:
    async with CollectorWorld() as collector:
        for resource in (None, Resource({"service.name": "mine"})):
            push = Push(busy().read, exporter(collector), lambda: START_US, resource)
            await push.push()
            (sent,) = collector.metrics[-1].resource_metrics
            named = plain(list(sent.resource.attributes))
            assert named["service.name"] == ("mine" if resource else "model-gateway")
            assert sent.scope_metrics[0].scope.version == __version__
            await push.close()


async def test_a_collector_that_hangs_keeps_no_process_from_ending() -> None:
    loop = asyncio.get_running_loop()
    async with CollectorWorld(is_silent=True) as collector:
        push = Push(
            busy().read, OTLPMetricExporter(f"{collector.url}/v1/metrics", timeout=5), lambda: START_US
        )
        began = loop.time()
        await push.close()
        assert loop.time() - began < LAST_SECONDS + 1
    assert collector.asked == 1


async def test_a_collector_that_fails_is_outlived() -> None:
    async with CollectorWorld(status=400) as collector:
        push = Push(busy().read, exporter(collector), lambda: START_US)
        await push.push()
        assert collector.metrics == []
        collector.status = 200
        await push.push()
        assert set(collector.figures) == {metric.name for metric in TABLE}
        await push.close()


def _values(attributes: Iterable[KeyValue]) -> tuple[str, ...]:
    return tuple(map(str, plain(list(attributes)).values()))


def _le(edge: float) -> str:
    return "+Inf" if math.isinf(edge) else str(edge)
