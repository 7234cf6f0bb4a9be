"""What a named collector opens and closes; without one there is nothing of it."""

import subprocess
import sys

from gateway.telemetry.collector import collector
from gateway.telemetry.destination import Destination
from gateway.telemetry.meter import Meter
from gateway.telemetry.traceparent import Sampling
from tests.gateway.telemetry.test_spans import NOW_US, SAMPLED, call
from tests.worlds.collector import CollectorWorld


async def test_figures_and_spans_have_arrived_when_the_process_ends() -> None:
    async with CollectorWorld() as world:
        to = Destination(f"{world.url}/v1/metrics", f"{world.url}/v1/traces", 60.0, Sampling())
        meter = Meter()
        async with collector(to, meter, now_us=lambda: NOW_US, draw=lambda: 0.5) as tracer:
            assert tracer is not None
            trace = tracer.begin(call(SAMPLED), NOW_US)
            assert trace is not None
            trace.ended("digits", "t_acme", 200, "")
            meter.failed("rate_limited")
        assert [span.name for span in world.spans] == ["call"]
        (errors,) = world.figures["gateway.errors"].sum.data_points
        assert errors.as_int == 1


async def test_each_signal_may_go_alone() -> None:
    meter = Meter()
    meter.failed("rate_limited")
    async with CollectorWorld() as world:
        only_figures = Destination(metrics_url=f"{world.url}/v1/metrics")
        async with collector(only_figures, meter, now_us=lambda: NOW_US, draw=lambda: 0.5) as tracer:
            assert tracer is None
        only_spans = Destination(traces_url=f"{world.url}/v1/traces")
        pushes = len(world.metrics)
        async with collector(only_spans, meter, now_us=lambda: NOW_US, draw=lambda: 0.5) as tracer:
            assert tracer is not None
        assert (pushes > 0, len(world.metrics), world.traces) == (True, pushes, [])


async def test_without_a_collector_nothing_is_traced() -> None:
    async with collector(Destination(), Meter(), now_us=lambda: NOW_US, draw=lambda: 0.5) as tracer:
        assert tracer is None


def test_a_process_without_a_collector_does_not_even_load_the_sdk() -> None:
    look = (
        "import sys, gateway.app; print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    found = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
