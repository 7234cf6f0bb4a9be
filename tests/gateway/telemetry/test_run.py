"""What calls leave in the figures, and what of a trace reaches Triton: the real path, with real rooms."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest
from msgspec import structs

from gateway.audit.retention import Retention
from gateway.cluster.certificates import Process
from gateway.cluster.life import Life
from gateway.errors import GatewayError
from gateway.frontends.grpc_memory import MessageMemory
from gateway.frontends.http_body import JsonMemory
from gateway.kept.expiry import Expiry
from gateway.kept.sweep import Sweep
from gateway.pipeline import Pipeline
from gateway.telemetry import table
from gateway.telemetry.meter import EVENTS, Buckets, Meter
from gateway.telemetry.prometheus import text
from gateway.telemetry.rooms import (
    WorkerRooms,
    watch_ageing,
    watch_captures,
    watch_life,
    watch_once,
    watch_process,
    watch_servers,
    watch_shared,
    watch_silent,
    watch_usage,
)
from gateway.telemetry.table import TABLE
from gateway.usage.fold import Folder
from tenants.acts import Act
from tenants.api.application import Control
from tenants.keys import Secret
from tests.gateway.house import Client, House, house
from tests.gateway.kept.once_world import OnceWorld
from tests.gateway.telemetry.test_spans import NOT_SAMPLED, PARENT, SAMPLED, TRACE, Kept, tracing
from tests.gateway.usage.support import WorldLog
from tests.worlds.blobs import BlobWorld
from tests.worlds.segments import SegmentWorld
from tests.worlds.table import MemoryTable
from tests.worlds.triton import Exchange, TritonWorld


@dataclass(slots=True, eq=False)
class Traced(TritonWorld):
    """Keeps the traceparent of each call, "" without one."""

    parents: list[str] = field(default_factory=list)

    async def _infer(self, model: str, exchange: Exchange) -> None:
        if b'"id"' not in exchange.body:  # a canary has one
            self.parents.append(exchange.headers.get("traceparent", ""))
        await TritonWorld._infer(self, model, exchange)


async def nothing(_: str) -> int:
    return 0


@asynccontextmanager
async def watched(triton: TritonWorld) -> AsyncIterator[tuple[House, Meter]]:
    async with triton, house(triton) as it:
        at = it.pipeline
        memory = JsonMemory(1000, 1000)
        messages = MessageMemory(1000, 1000, lambda: 0, lambda: 0)
        control = Control(*cast("Any", (None,) * 5))  # nothing is asked
        registry = at.throttler.registry
        WorkerRooms(at.limiter, memory, messages, at.ledger, registry).watched_by(at.meter)
        watch_shared(at.meter, at.auth, at.policies, control)
        watch_servers(at.meter, it.board)
        claims = OnceWorld()
        watch_ageing(
            at.meter,
            Retention(SegmentWorld(), nothing, lambda: 0),
            Expiry(BlobWorld(), nothing, 1, lambda: 0),
            Sweep(claims.table, lambda: 0),
        )
        watch_usage(at.meter, Folder(lambda: WorldLog(SegmentWorld()), MemoryTable()))
        watch_captures(at.meter, it.captures)
        watch_once(at.meter, claims.process())
        life = Life.of(MemoryTable(), "m1", Process("here", "kernel", 1, 1), lambda: 0.0, lambda _: None)
        await life.begin()
        await life.turn()
        watch_life(at.meter, life)
        watch_silent(at.meter, lambda: 0)
        watch_process(at.meter, asyncio.get_running_loop().time)
        yield it, at.meter


def number(meter: Meter, metric: table.Metric, *values: str) -> float:
    """A figure; of a histogram how many values it took."""
    found = meter.read()[metric].get(values, 0)
    return sum(found.counts) if isinstance(found, Buckets) else found


async def test_a_run_fills_every_figure_but_those_of_what_did_not_happen() -> None:
    async with watched(TritonWorld()) as (it, meter):
        await it.pipeline.serve(it.call(), Client())
        with pytest.raises(GatewayError):
            await it.pipeline.serve(it.call("nowhere"), Client())
        await it.settled()
        empty = {metric for metric, points in meter.read().items() if not points}
        in_the_clear = {table.CERTIFICATE_EXPIRES, table.CERTIFICATES_REPLACED, table.CERTIFICATES_REFUSED}
        assert empty == set(EVENTS.values()) - {table.STARTS, table.LOADS} | in_the_clear | {table.CLAIMS}
        it.scaler.end("replica-0")
        while not number(meter, table.CRASHES, "local"):
            await asyncio.sleep(0.001)
        written = text(meter.read())
    assert len([line for line in written.splitlines() if line.startswith("# TYPE")]) == len(TABLE)


async def test_tokens_and_the_fetches_of_their_keys_are_counted() -> None:
    async with watched(TritonWorld()) as (it, meter):
        figures = (
            table.TOKENS,
            table.TOKENS_DROPPED,
            table.KEY_FETCHES,
            table.KEY_FAILURES,
            table.KEYS_REFUSED,
        )
        assert [number(meter, metric) for metric in figures] == [0, 0, 0, 0, 0]
        it.issuer.is_down = True
        for _ in range(3):
            with pytest.raises(GatewayError):
                await it.pipeline.auth.authenticate(Secret(it.issuer.token()), "192.0.2.1")
        assert [number(meter, metric) for metric in figures] == [0, 0, 1, 1, 2]
        it.issuer.is_down = False
        it.pipeline.auth.tokens.key_sets.cooldown_seconds = 0
        for name in ("ada", "bob"):
            await it.pipeline.auth.authenticate(Secret(it.issuer.token(sub=name)), "192.0.2.1")
        assert [number(meter, metric) for metric in figures] == [2, 0, 2, 1, 2]
        await it.directory.issuers.put("acme", [], Act("test", 1))
        await it.feed.look()
        assert [number(meter, metric) for metric in figures] == [0, 2, 2, 1, 2]


async def test_each_call_is_counted_once_however_it_ends() -> None:
    async with watched(TritonWorld()) as (it, meter):
        await it.pipeline.serve(it.call(), Client())
        await it.pipeline.examine(it.call(endpoint="metadata"), "describe")
        for name, status in (("nowhere", "404"), ("private", "404")):
            with pytest.raises(GatewayError):
                await it.pipeline.serve(it.call(name), Client())
            known = name if name == "private" else ""
            assert number(meter, table.CALLS, known, "infer", status) == 1
        assert number(meter, table.CALLS, "digits", "infer", "200") == 1
        assert number(meter, table.CALLS, "digits", "describe", "200") == 1
        assert sum(len(points) for points in [meter.read()[table.CALLS]]) == 4
        assert number(meter, table.ERRORS, "model_not_found") == 2
        assert number(meter, table.UPSTREAM, "digits") == 1
        assert number(meter, table.RECEIVED, "digits") == len(b'{"inputs":[]}')
        assert number(meter, table.SENT, "digits") > 0


async def test_what_is_under_way_is_seen_and_is_gone_when_it_ends() -> None:
    async with watched(TritonWorld(mood="holds")) as (it, meter):
        (triton,) = it.scaler.worlds
        call = asyncio.ensure_future(it.pipeline.serve(it.call(), Client()))
        while not number(meter, table.HELD, "digits"):
            await asyncio.sleep(0)
        await triton.arrived.wait()
        assert number(meter, table.HELD, "digits") == 0
        assert number(meter, table.IN_FLIGHT) == 1
        assert number(meter, table.REPLICAS, "local", "ready") == 1
        assert number(meter, table.RESIDENT, "digits", "ready") == 1
        call.cancel()
        await asyncio.wait([call])
        assert number(meter, table.IN_FLIGHT) == 0
        assert number(meter, table.CALLS, "digits", "infer", "499") == 1


async def test_a_refusal_before_there_is_a_call_is_counted_by_its_code() -> None:
    async with watched(TritonWorld()) as (it, meter):
        with pytest.raises(GatewayError) as refused:
            await it.pipeline.serve(it.call("nowhere"), Client())
        it.pipeline.refused("request-x", "192.0.2.1", refused.value)
        assert number(meter, table.ERRORS, "model_not_found") == 2


@pytest.mark.parametrize("traceparent", ["", SAMPLED, NOT_SAMPLED])
async def test_without_a_collector_a_traceparent_reaches_triton_as_it_came(traceparent: str) -> None:
    triton = Traced()
    async with watched(triton) as (it, _):
        await it.pipeline.serve(structs.replace(it.call(), traceparent=traceparent), Client())
    assert triton.parents == [traceparent]


async def test_a_sampled_call_reaches_triton_as_the_child_of_its_own_span_and_another_makes_none() -> None:
    triton, kept = Traced(), Kept()
    async with watched(triton) as (it, _):
        traced: Pipeline = replace(it.pipeline, tracer=tracing(kept))
        for parent in ("", NOT_SAMPLED):
            await traced.serve(structs.replace(it.call(), traceparent=parent), Client())
        assert kept.made == []
        await traced.serve(structs.replace(it.call(), traceparent=SAMPLED), Client())
        with pytest.raises(GatewayError):  # is not admitted
            await traced.serve(structs.replace(it.call("nowhere"), traceparent=SAMPLED), Client())
    forward, server = kept.ended
    assert forward.context is not None
    assert triton.parents == ["", NOT_SAMPLED, f"00-{TRACE}-{forward.context.span_id:016x}-01"]
    assert len(kept.made) == 2
    assert server.parent is not None
    assert f"{server.parent.span_id:016x}" == PARENT
    assert server.attributes is not None
    assert server.attributes["http.response.status_code"] == 200
