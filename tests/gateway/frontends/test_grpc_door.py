"""What the gRPC door promises its callers, before and behind the pipeline."""

import asyncio
import secrets
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2 as official

from gateway.frontends.grpc_server import listening
from gateway.frontends.http import Readiness
from gateway.scaling.scalers.process import free_port
from gateway.settings import Grpc, Http
from tenants.acts import Act
from tenants.plans import Limits, Rate
from tests.gateway.frontends.grpc_worlds import door, ended, infer, trailing

pytestmark = pytest.mark.usefixtures("grpc_loop")

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ANONYMOUS = ("ServerLive", "ServerReady", "/grpc.health.v1.Health/Check")
CLOSED = (
    *("RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload", "TraceSetting", "LogSettings"),
    *("SystemSharedMemoryStatus", "SystemSharedMemoryRegister", "SystemSharedMemoryUnregister"),
    *("CudaSharedMemoryStatus", "CudaSharedMemoryRegister", "CudaSharedMemoryUnregister"),
    *("ModelConfig", "modelinfer", "/inference.Other/ModelInfer"),
)


async def test_a_call_reaches_triton_as_it_was_judged_and_is_answered_and_recorded() -> None:
    async with door() as here:
        call = here.call("ModelInfer", infer(id="7"), ("traceparent", TRACE), ("mine", "secret"))
        reply = official.ModelInferResponse.FromString(await call)
        assert (reply.model_name, reply.id) == ("digits", "7")
        assert here.upstream.asked == [infer(id="7")]
        told = here.upstream.told[0]
        assert told["traceparent"] == TRACE
        assert not {"authorization", "mine"} & told.keys()
        found = await trailing(call)
        assert found["x-request-id"] == "request-1"
        assert "ratelimit" in found
        await here.here.settled()
        assert here.here.outcomes() == ["done"]
        (intent,) = here.here.records("intent")
        assert b'"protocol":"oip-grpc"' in intent.present


@pytest.mark.parametrize("method", ANONYMOUS)
async def test_health_needs_no_credential(method: str) -> None:
    async with door() as here:
        assert await here.call(method, metadata=()) == b"\x08\x01"


@pytest.mark.parametrize("method", [*CLOSED, "ModelInfer", "ModelMetadata", "ModelReady", "ServerMetadata"])
async def test_to_who_is_not_known_all_else_looks_the_same(method: str) -> None:
    async with door() as here:
        call = here.call(method, b"\xff", metadata=(("x-api-key", "gw_live_x"),))
        assert await ended(call) == ("UNAUTHENTICATED", "the credential is missing or not valid")
        assert "x-request-id" in await trailing(call)
        assert here.upstream.asked == []


async def test_of_who_is_not_known_no_message_is_awaited() -> None:
    async with door() as here:
        call = here.channel.stream_unary("/inference.GRPCInferenceService/ModelInfer")(metadata=())
        assert (await ended(call))[0] == "UNAUTHENTICATED"  # though nothing was sent


async def test_a_key_that_is_revoked_while_its_message_comes_is_served_no_more() -> None:
    async with door() as here:
        call: Any = here.channel.stream_unary("/inference.GRPCInferenceService/ModelInfer")(metadata=here.key)
        await call.wait_for_connection()
        async with asyncio.timeout(10):
            while not here.memory._awaited:  # until the caller is known
                await asyncio.sleep(0.001)
        (key,) = (await here.here.directory.keys.list("acme")).values
        await here.here.directory.keys.revoke("acme", key.id, act=Act("test", 1_700_000_000_000_000))
        await here.here.feed.look()
        await call.write(infer())
        await call.done_writing()
        assert (await ended(call))[0] == "UNAUTHENTICATED"
        assert here.upstream.asked == []


@pytest.mark.parametrize("method", CLOSED)
async def test_what_is_closed_is_not_there_and_never_reaches_triton(method: str) -> None:
    async with door() as here:
        assert (await ended(here.call(method, infer())))[0] == "UNIMPLEMENTED"
        assert here.upstream.asked == []
        await here.here.settled()
        assert here.here.denials() == ["no_such_path"]


async def test_two_different_credentials_are_refused_and_the_same_twice_is_one() -> None:
    async with door() as here:
        key = here.here.key.reveal()
        assert (await ended(here.call("ModelInfer", infer(), ("x-api-key", "other"))))[
            0
        ] == "INVALID_ARGUMENT"
        assert (await ended(here.call("ModelInfer", infer(), ("x-api-key", key))))[0] == "OK"


@pytest.mark.parametrize("model", ["private", "absent", "../digits", ""])
async def test_a_foreign_model_and_one_that_does_not_exist_are_not_told_apart(model: str) -> None:
    async with door() as here:
        assert await ended(here.call("ModelInfer", infer(model))) == ("NOT_FOUND", "there is no such model")
        assert here.upstream.asked == []


@pytest.mark.parametrize(
    "message", [b"\x0b", b"\x0a\xff", infer(parameters={"shared_memory_region": {"string_param": "x"}})]
)
async def test_a_hostile_message_is_refused_and_recorded_as_this_caller_s(message: bytes) -> None:
    async with door() as here:
        assert (await ended(here.call("ModelInfer", message)))[0] == "INVALID_ARGUMENT"
        assert here.upstream.asked == []
        await here.here.settled()
        assert here.here.denials() == ["bad_request"]


async def test_a_limit_says_when_to_come_back() -> None:
    limits = Limits(body_bytes=1000, requests_per_second=Rate(rate=0.5, burst=1))
    async with door(limits) as here:
        await here.call("ModelInfer", infer())
        call = here.call("ModelInfer", infer())
        assert (await ended(call))[0] == "RESOURCE_EXHAUSTED"
        assert (await trailing(call))["retry-after"] == "2"


async def test_a_message_over_the_plan_is_refused() -> None:
    async with door() as here:
        message = infer(id="x" * 2000)
        assert (await ended(here.call("ModelInfer", message)))[0] == "RESOURCE_EXHAUSTED"
        assert here.upstream.asked == []


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
async def test_a_compressed_message_arrives_inflated_and_a_bomb_does_not(
    compression: grpc.Compression,
) -> None:
    async with door(Limits(body_bytes=10**9), Grpc(message_bytes=64 * 1024)) as here:
        await here.call("ModelInfer", infer(id="x" * 60_000), compression=compression)
        assert here.upstream.asked == [infer(id="x" * 60_000)]
        bomb = here.call("ModelInfer", infer(id="x" * 10_000_000), compression=compression)
        assert (await ended(bomb))[0] == "RESOURCE_EXHAUSTED"
        assert len(here.upstream.asked) == 1


async def test_metadata_without_end_is_refused() -> None:
    async with door(http_knobs=Http(head_bytes=8192)) as here:
        call = here.call("ModelInfer", infer(), ("mine", "x" * 20_000))
        assert (await ended(call))[0] == "RESOURCE_EXHAUSTED"
        assert here.upstream.asked == []


@pytest.mark.parametrize("left_by", ["cancelling", "deadline"])
async def test_a_client_that_leaves_frees_its_place_and_stops_triton_within_a_second(left_by: str) -> None:
    async with door() as here:
        here.upstream.infer = here.upstream.hold
        call = here.call("ModelInfer", infer(), timeout=0.3 if left_by == "deadline" else None)
        await here.upstream.arrived.wait()
        if left_by == "cancelling":
            call.cancel()
        async with asyncio.timeout(1.3):
            await here.upstream.departed.wait()
        place = await here.here.pipeline.throttler.acquire("digits")
        assert place.in_flight == 1
        here.here.pipeline.throttler.release(place, "none")
        await here.here.settled()
        assert here.here.outcomes() in (["cancelled"], ["failed"])


async def test_an_error_of_triton_s_comes_with_its_status_and_its_text_cleaned() -> None:
    async def fails(_: object, context: Any) -> bytes:
        await context.abort(
            grpc.StatusCode.INTERNAL, "cannot open /dev/shm/region at 10.0.0.1:8000", (("own", "1"),)
        )
        return b""

    async with door() as here:
        here.upstream.infer = fails
        call = here.call("ModelInfer", infer())
        assert await ended(call) == ("INTERNAL", "cannot open (internal) at (internal)")
        found = await trailing(call)
        assert (found["own"], found["x-request-id"]) == ("1", "request-1")
        await here.here.settled()
        assert here.here.outcomes() == ["refused"]


async def test_a_server_that_dies_under_a_call_is_unavailable_and_not_the_client_s_fault() -> None:
    async with door() as here:
        here.upstream.infer = here.upstream.hold
        call = here.call("ModelInfer", infer())
        await here.upstream.arrived.wait()
        await here.upstream.die()
        assert (await ended(call))[0] == "UNAVAILABLE"
        await here.here.settled()
        assert here.here.outcomes()[0] in ("failed", "refused")


async def test_readiness_is_told_by_every_door_of_health() -> None:
    async with door() as here:
        watch = here.channel.unary_stream("/grpc.health.v1.Health/Watch")(b"")
        assert await watch.read() == b"\x08\x01"
        here.ready = Readiness(ready=False, state="no")
        assert await here.call("/grpc.health.v1.Health/Check") == b"\x08\x02"
        assert await here.call("ServerReady") == b""
        assert await watch.read() == b"\x08\x02"
        watch.cancel()
        unknown = b"\x0a\x03abc"
        assert (await ended(here.call("/grpc.health.v1.Health/Check", unknown)))[0] == "NOT_FOUND"
        assert await here.channel.unary_stream("/grpc.health.v1.Health/Watch")(unknown).read() == b"\x08\x03"


async def test_a_model_is_ready_and_described_by_its_name() -> None:
    async with door() as here:
        name = official.ModelReadyRequest(name="digits").SerializeToString()
        assert await here.call("ModelReady", name) == b"\x08\x01"
        await here.call("ModelMetadata", name)
        assert here.upstream.asked == [name]
        foreign = official.ModelReadyRequest(name="private").SerializeToString()
        for method in ("ModelReady", "ModelMetadata"):
            assert (await ended(here.call(method, foreign)))[0] == "NOT_FOUND"


async def test_a_stop_finishes_what_is_under_way_and_takes_nothing_new() -> None:
    goes_on = asyncio.Event()

    async def waits(*_: object) -> bytes:
        await goes_on.wait()
        return b""

    async with door() as here, asyncio.TaskGroup() as group:
        here.upstream.infer = waits
        idle = here.stream()
        call = here.call("ModelInfer", infer())
        await asyncio.gather(here.upstream.arrived.wait(), idle.wait_for_connection())
        served = group.create_task(here.server.serve())
        here.server.stop()
        assert (await ended(idle))[0] == "UNAVAILABLE"
        assert (await ended(here.call("ModelInfer", infer())))[0] == "UNAVAILABLE"
        assert not served.done()
        goes_on.set()
        assert await ended(call) == ("OK", "")
        await served


async def test_the_second_stop_does_not_wait() -> None:
    async with door() as here, asyncio.TaskGroup() as group:
        here.upstream.infer = here.upstream.hold
        under_way = here.call("ModelInfer", infer())
        await here.upstream.arrived.wait()
        served = group.create_task(here.server.serve())
        here.server.stop()
        here.server.stop()
        async with asyncio.timeout(5):
            await served
        assert (await ended(under_way))[0] in ("UNAVAILABLE", "CANCELLED")


async def test_a_server_that_has_ended_leaves_no_call_that_is_not_settled() -> None:
    begun, settled = asyncio.Event(), asyncio.Event()

    async def act(*_: object) -> bytes:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.3)  # what it is that settling waits for
            settled.set()
        return b""

    async with door() as here:
        methods = here.server.door._methods
        methods["/inference.GRPCInferenceService/ModelInfer"] = here.server.door.oip._method(act)
        port = free_port(secrets.choice)
        async with listening(here.server.door, "127.0.0.1", port, Grpc(), Http()) as other:
            channel = grpc.aio.insecure_channel(other.address)
            method: Any = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
            call = method(b"", metadata=here.key)
            await begun.wait()
        assert settled.is_set()
        assert (await ended(call))[0] in ("UNAVAILABLE", "CANCELLED")
        await channel.close()


async def test_who_watches_the_health_takes_no_calls_place() -> None:
    async with door() as here:
        watch = here.channel.unary_stream("/grpc.health.v1.Health/Watch")
        watchers = [watch(b"") for _ in range(100)]
        assert {await watcher.read() for watcher in watchers} == {b"\x08\x01"}
        assert (await ended(here.call("/grpc.health.v1.Health/Check", metadata=())))[0] == "UNAVAILABLE"
        assert await ended(here.call("ModelInfer", infer())) == ("OK", "")
        for watcher in watchers:
            watcher.cancel()


async def test_a_message_over_the_plan_is_refused_before_anybody_reads_what_is_in_it() -> None:
    async with door(Limits(body_bytes=1_000)) as here:
        assert (await ended(here.call("ModelInfer", b"\xff" * 1_001)))[0] == "RESOURCE_EXHAUSTED"
        assert (await ended(here.call("ModelInfer", b"\xff" * 1_000)))[0] == "INVALID_ARGUMENT"
