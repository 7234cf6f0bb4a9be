"""The operator's door, over a real socket: figures as Prometheus scrapes them, and health."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.frontends.http import Readiness
from gateway.frontends.operator import OperatorDoor, operator_paths
from gateway.telemetry.meter import Meter
from gateway.telemetry.prometheus import text
from tests.gateway.frontends.worlds import Answer, Door, door

OK = Readiness(ready=True, state="ok")


@asynccontextmanager
async def operator(meter: Meter, readiness: Readiness = OK) -> AsyncIterator[Door]:
    async def figures() -> str:
        return text(meter.read())

    async def present() -> Readiness:
        return readiness

    paths = operator_paths(figures, present)
    async with door(OperatorDoor(paths, lambda: "1" * 32)) as listening:
        yield listening


async def ask(listening: Door, request: str) -> Answer:
    return await listening.ask(f"{request} HTTP/1.1\r\nHost: x\r\n\r\n".encode())


async def test_a_scrape_gets_the_figures_of_that_moment() -> None:
    meter = Meter()
    async with operator(meter) as listening:
        for number in (1, 2):
            meter.happened("load", "digits")
            answer = await ask(listening, "GET /metrics")
            assert answer.status == 200
            assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
            families = {f.name: f for f in text_string_to_metric_families(answer.body.decode())}
            (sample,) = families["gateway_model_loads"].samples
            assert (sample.labels, sample.value) == ({"gateway_model": "digits"}, number)


@pytest.mark.parametrize(
    ("readiness", "status", "body"),
    [
        (OK, 200, b'{"status":"ok"}'),
        (Readiness(ready=True, state="degraded"), 200, b'{"status":"degraded"}'),
        (Readiness(ready=False, state="no"), 503, b'{"status":"no"}'),
    ],
)
async def test_readiness_is_the_public_listeners_and_life_is_another_thing(
    readiness: Readiness, status: int, body: bytes
) -> None:
    async with operator(Meter(), readiness) as listening:
        ready = await ask(listening, "GET /readyz")
        assert (ready.status, ready.body) == (status, body)
        healthy = await ask(listening, "GET /healthz")
        assert (healthy.status, healthy.body) == (200, b'{"status":"ok"}')


@pytest.mark.parametrize(
    ("request_line", "status", "allow"),
    [
        ("GET /", 404, None),
        ("GET /v2/models/digits", 404, None),
        ("GET /metrics/", 404, None),
        ("POST /metrics", 405, "GET, HEAD"),
    ],
)
async def test_nothing_else_is_here(request_line: str, status: int, allow: str | None) -> None:
    async with operator(Meter()) as listening:
        answer = await ask(listening, request_line)
        assert answer.error
        assert (answer.status, answer.headers.get("allow")) == (status, allow)


async def test_every_answer_carries_its_id() -> None:
    async with operator(Meter()) as listening:
        for path in ("/metrics", "/healthz", "/readyz", "/nowhere"):
            assert (await ask(listening, f"GET {path}")).headers["x-request-id"] == "1" * 32
