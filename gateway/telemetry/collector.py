"""The collector's side of a process: what is opened when one is named, and what is left when the process ends."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from gateway.loops import every, running
from gateway.telemetry.destination import Destination
from gateway.telemetry.meter import Meter
from gateway.telemetry.traceparent import Tracer


@asynccontextmanager
async def collector(
    destination: Destination,
    meter: Meter,
    *,
    now_us: Callable[[], int],
    draw: Callable[[], float],
    instance: str = "",
) -> AsyncIterator[Tracer | None]:
    """Figures go to the collector while the block runs, and spans if the tracer that it gives is used; None without one.
    By `instance` the collector tells this process from others.

    The SDK is loaded only here: it is 15 MB that a process without a collector need not have.
    """
    async with AsyncExitStack() as stack:
        if destination.metrics_url:
            from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

            from gateway.telemetry.otlp import Push, our_resource

            push = Push(
                meter.read, OTLPMetricExporter(destination.metrics_url), now_us, our_resource(instance)
            )
            stack.push_async_callback(push.close)
            await stack.enter_async_context(running(push=every(destination.interval_seconds, push.push)))
        if not destination.traces_url:
            yield None
            return
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        from gateway.telemetry.otlp import our_resource
        from gateway.telemetry.spans import Tracing, batched

        exporter = OTLPSpanExporter(destination.traces_url)
        tracing = Tracing(
            batched(exporter), destination.sampling, now_us=now_us, draw=draw, resource=our_resource(instance)
        )
        stack.push_async_callback(tracing.close, exporter)
        yield tracing
