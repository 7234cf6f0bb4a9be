"""What an operator sees of a running gateway: by scrape, and at a collector."""

import asyncio
import http.client
import json
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.world import MODELS, first_line, fp32, running
from tests.worlds.collector import CollectorWorld, plain

pytestmark = pytest.mark.triton

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PHASES = {"queue", "boot", "load", "first_inference"}


def get(address: str, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=10)
    connection.request("GET", path)
    reply = connection.getresponse()
    answer = reply.status, reply.read()
    connection.close()
    return answer


def visit(state: Path, collector: str) -> str:
    """A gateway's life with one traced call; gives what a scrape said of it."""
    with running(
        state, "--json", "--repository", str(MODELS), OTEL_EXPORTER_OTLP_ENDPOINT=collector
    ) as process:
        said = json.loads(first_line(process))
        host, _, port = said["http"].removeprefix("http://").partition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=60)
        headers = {"Authorization": f"Bearer {said['api_key']}", "traceparent": f"00-{TRACE}-{PARENT}-01"}
        connection.request("POST", "/v2/models/echo_fp32/infer", json.dumps(fp32(1)), headers)
        assert connection.getresponse().read()
        connection.close()
        assert get(said["operator"], "/healthz") == (200, b'{"status":"ok"}')
        assert get(said["operator"], "/readyz") == (200, b'{"status":"ok"}')
        assert get(said["http"], "/metrics")[0] == 401  # not on the public listener
        status, body = get(said["operator"], "/metrics")
        assert status == 200
    return body.decode()


async def test_a_cold_start_and_its_call_are_scraped_pushed_and_traced(state: Path) -> None:
    async with CollectorWorld() as collector:
        scraped = await asyncio.to_thread(visit, state, collector.url)
        figures, spans = collector.figures, {span.name: span for span in collector.spans}
    families = {family.name: family for family in text_string_to_metric_families(scraped)}

    cold = families["gateway_cold_start_duration_seconds"].samples
    assert {s.labels["gateway_phase"]: s.value for s in cold if s.name.endswith("_count")} == dict.fromkeys(
        PHASES, 1
    )
    points = figures["gateway.cold_start.duration"].histogram.data_points
    assert {plain(list(point.attributes))["gateway.phase"]: point.count for point in points} == dict.fromkeys(
        PHASES, 1
    )

    (calls,) = figures["http.server.request.duration"].histogram.data_points[:1]
    assert plain(list(calls.attributes)) == {
        "gateway.model": "echo_fp32",
        "gateway.verb": "infer",
        "http.response.status_code": "200",
    }
    assert (spans["call"].trace_id.hex(), spans["call"].parent_span_id.hex()) == (TRACE, PARENT)
    assert spans["forward"].parent_span_id == spans["call"].span_id
    assert spans["call"].start_time_unix_nano <= spans["forward"].start_time_unix_nano
    assert spans["forward"].end_time_unix_nano <= spans["call"].end_time_unix_nano
