"""The spans of sampled calls, made by the OpenTelemetry SDK; for all other calls there is no object at all.

Whether a call is sampled is decided here and not by the SDK, whose own decision makes a span object first (12 us). The SDK queues ended
spans, 2,048 at most, and sends them from a thread of its own; more are dropped, and logged.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace import set_span_in_context as in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from gateway import __version__
from gateway.call import InferenceCall
from gateway.telemetry import table
from gateway.telemetry.otlp import LAST_SECONDS, SCOPE, our_resource
from gateway.telemetry.traceparent import Sampling

_OURS: Final = 500  # an error of the server's, as the convention has it; what the client did wrong is none

_propagator = TraceContextTextMapPropagator()


class Tracing:
    """Begins traces. `draw` gives a random number of [0, 1), `now_us` microseconds since the Unix epoch."""

    def __init__(
        self,
        processor: SpanProcessor,
        sampling: Sampling,
        *,
        now_us: Callable[[], int],
        draw: Callable[[], float],
        resource: Resource | None = None,
    ) -> None:
        self._sampling = sampling
        self._now_us = now_us
        self._draw = draw
        self._provider = TracerProvider(ALWAYS_ON, resource or our_resource(), shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer(SCOPE, __version__)

    def begin(self, call: InferenceCall, started_us: int) -> "CallTrace | None":
        """Of the port `Tracer`."""
        if not self._sampling.wants(call.traceparent, self._draw()):
            return None
        parent = _propagator.extract({"traceparent": call.traceparent})
        span = self._tracer.start_span(
            table.CALL_SPAN.name,
            parent,
            SpanKind.SERVER,
            {table.VERB: call.verb, table.REQUEST_ID: call.request_id},
            start_time=started_us * 1_000,
        )
        return CallTrace(self._tracer, span, self._now_ns)

    async def close(self, exporter: SpanExporter) -> None:
        """Sends what is queued, and waits for it a moment."""
        try:
            async with asyncio.timeout(LAST_SECONDS):
                await asyncio.to_thread(self._provider.shutdown)
        except TimeoutError:
            exporter.shutdown()  # ends its tries

    def _now_ns(self) -> int:
        return self._now_us() * 1_000


@dataclass(slots=True)
class CallTrace:
    """The span of one call, and of its present try."""

    tracer: Tracer
    span: Span
    now_ns: Callable[[], int]
    attempt: Span | None = None

    def forwarding(self, call: InferenceCall, replica: str, host: str, port: int) -> InferenceCall:
        """Of the port `Trace`."""
        self._end_attempt(StatusCode.ERROR)
        self.attempt = self.tracer.start_span(
            table.FORWARD_SPAN.name,
            in_context(self.span),
            SpanKind.CLIENT,
            {table.MODEL: call.model, table.REPLICA: replica, table.ADDRESS: host, table.PORT: port},
            start_time=self.now_ns(),
        )
        carrier: dict[str, str] = {}
        _propagator.inject(carrier, in_context(self.attempt))
        return replace(call, traceparent=carrier["traceparent"])

    def ended(self, model: str, tenant: str, status: int, error: str) -> None:
        """Of the port `Trace`."""
        failed = StatusCode.ERROR if status >= _OURS else StatusCode.UNSET
        self._end_attempt(failed)
        self.span.set_attributes({table.MODEL: model, table.TENANT: tenant, table.STATUS: status})
        if error:
            self.span.set_attribute(table.ERROR, error)
        self.span.set_status(Status(failed))
        self.span.end(self.now_ns())

    def _end_attempt(self, status: StatusCode) -> None:
        if self.attempt is not None:
            self.attempt.set_status(Status(status))
            self.attempt.end(self.now_ns())
            self.attempt = None


def batched(exporter: SpanExporter) -> SpanProcessor:
    """What ends is queued, and sent from a thread."""
    return BatchSpanProcessor(exporter)
