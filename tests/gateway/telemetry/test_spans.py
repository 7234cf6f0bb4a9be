"""A span exists only for a sampled call, and then tells the whole way of it."""

import asyncio
from dataclasses import dataclass, field

import pytest
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import SpanKind, StatusCode

from gateway.call import InferenceCall
from gateway.frontends.http_body import NoBody
from gateway.telemetry.otlp import LAST_SECONDS
from gateway.telemetry.spans import CallTrace, Tracing, batched
from gateway.telemetry.table import SPANS
from gateway.telemetry.traceparent import Sampling
from tests.worlds.collector import CollectorWorld, plain

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = f"00-{TRACE}-{PARENT}-01"
NOT_SAMPLED = f"00-{TRACE}-{PARENT}-00"
NOW_US = 1_700_000_000_000_000


@dataclass
class Kept(SpanProcessor):
    """Every span that was ever made, and those that ended."""

    made: list[Span] = field(default_factory=list)
    ended: list[ReadableSpan] = field(default_factory=list)

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        self.made.append(span)

    def on_end(self, span: ReadableSpan) -> None:
        self.ended.append(span)


def tracing(kept: SpanProcessor, sampling: Sampling | None = None) -> Tracing:
    ticks = iter(range(NOW_US, NOW_US + 1000))
    return Tracing(kept, sampling or Sampling(ratio=0.0), now_us=lambda: next(ticks), draw=lambda: 0.5)


def call(traceparent: str) -> InferenceCall:
    return InferenceCall(
        request_id="request-1",
        endpoint="infer",
        model="digits",
        version="",
        credential=None,
        address="192.0.2.1",
        protocol="test",
        payload=NoBody(),
        deadline=1.0,
        traceparent=traceparent,
    )


def begun(traced: Tracing, traceparent: str = SAMPLED) -> CallTrace:
    trace = traced.begin(call(traceparent), NOW_US - 500)
    assert trace is not None
    return trace


@pytest.mark.parametrize("traceparent", ["", NOT_SAMPLED])
def test_a_call_that_is_not_sampled_makes_no_span(traceparent: str) -> None:
    kept = Kept()
    assert tracing(kept).begin(call(traceparent), NOW_US) is None
    assert kept.made == []


def test_a_sampled_call_is_one_server_span_and_a_client_span_for_each_try() -> None:
    kept = Kept()
    trace = begun(tracing(kept))
    sent = [trace.forwarding(call(SAMPLED), name, "127.0.0.1", 9000) for name in ("r1", "r2")]
    trace.ended("digits", "t_acme", 200, "")
    first, second, server = kept.ended
    assert [span.name for span in kept.ended] == ["forward", "forward", "call"]
    assert (server.kind, first.kind) == (SpanKind.SERVER, SpanKind.CLIENT)
    assert server.context is not None
    assert server.parent is not None
    assert (f"{server.context.trace_id:032x}", f"{server.parent.span_id:016x}") == (TRACE, PARENT)
    for span, outgoing in zip((first, second), sent, strict=True):
        assert span.context is not None
        assert span.parent == server.context
        assert outgoing.traceparent == f"00-{TRACE}-{span.context.span_id:016x}-01"
    assert (first.status.status_code, second.status.status_code) == (StatusCode.ERROR, StatusCode.UNSET)
    assert first.attributes == {
        "gateway.model": "digits",
        "gateway.replica": "r1",
        "server.address": "127.0.0.1",
        "server.port": 9000,
    }
    assert server.attributes == {
        "gateway.verb": "infer",
        "gateway.model": "digits",
        "gateway.request_id": "request-1",
        "gateway.tenant": "t_acme",
        "http.response.status_code": 200,
    }
    assert server.start_time == (NOW_US - 500) * 1_000


def test_a_call_without_a_parent_begins_a_trace_of_its_own_when_it_is_drawn() -> None:
    kept = Kept()
    trace = begun(tracing(kept, Sampling(ratio=0.6)), "")
    passed = trace.forwarding(call(""), "r1", "127.0.0.1", 9000).traceparent
    trace.ended("digits", "t_acme", 200, "")
    (_, server) = kept.ended
    assert server.parent is None
    assert server.context is not None
    assert passed.startswith(f"00-{server.context.trace_id:032x}-")


@pytest.mark.parametrize(("status", "code"), [(404, StatusCode.UNSET), (502, StatusCode.ERROR)])
def test_our_faults_are_errors_and_a_clients_are_not(status: int, code: StatusCode) -> None:
    kept = Kept()
    begun(tracing(kept)).ended("digits", "t_acme", status, "some_code")
    (server,) = kept.ended
    assert server.status.status_code is code
    assert server.attributes is not None
    assert server.attributes["error.type"] == "some_code"


def test_spans_and_their_attributes_are_those_of_the_table() -> None:
    kept = Kept()
    trace = begun(tracing(kept))
    trace.forwarding(call(SAMPLED), "r1", "127.0.0.1", 9000)
    trace.ended("digits", "t_acme", 502, "upstream_failed")
    made = {span.name: set(span.attributes or ()) for span in kept.ended}
    assert made == {row.name: set(row.attributes) for row in SPANS}


async def test_the_collector_gets_what_is_queued_before_the_process_ends() -> None:
    async with CollectorWorld() as collector:
        exporter = OTLPSpanExporter(f"{collector.url}/v1/traces", timeout=60)
        traced = tracing(batched(exporter))
        trace = begun(traced)
        trace.forwarding(call(SAMPLED), "r1", "127.0.0.1", 9000)
        trace.ended("digits", "t_acme", 200, "")
        await traced.close(exporter)
        forward, server = collector.spans
    assert (forward.name, server.name, server.trace_id.hex(), server.parent_span_id.hex()) == (
        *("forward", "call"),
        *(TRACE, PARENT),
    )
    assert forward.parent_span_id == server.span_id
    assert plain(list(server.attributes))["http.response.status_code"] == 200


async def test_a_collector_that_hangs_keeps_no_process_from_ending() -> None:
    loop = asyncio.get_running_loop()
    async with CollectorWorld(is_silent=True) as collector:
        exporter = OTLPSpanExporter(f"{collector.url}/v1/traces", timeout=5)
        traced = tracing(batched(exporter))
        begun(traced).ended("digits", "t_acme", 200, "")
        began = loop.time()
        await traced.close(exporter)
        assert loop.time() - began < LAST_SECONDS + 1
    assert collector.asked == 1
