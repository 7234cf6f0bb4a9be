"""At both doors a call under an Idempotency-Key goes on without its client, ends with the gateway's grace, and never runs again."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from tritonclient.grpc import service_pb2 as official

from gateway.frontends.http import HttpDoor, Readiness, other_paths
from gateway.frontends.http_body import JsonMemory
from gateway.frontends.oip_rest import OipRest
from gateway.wire.oip_grpc import fingerprint, read_infer
from tests.gateway.frontends import grpc_worlds
from tests.gateway.frontends.grpc_worlds import ended, infer, trailing
from tests.gateway.frontends.test_oip_rest import BODY, ids, request, stop
from tests.gateway.frontends.worlds import Answer, Door, door
from tests.gateway.house import House, house
from tests.gateway.kept.once_world import OnceWorld
from tests.worlds.triton import ANSWER, EVENT, Mood, TritonWorld
from tests.worlds.triton_grpc import SERVICE, answers

KEY = ("idempotency-key", "first")
INFER = "/v2/models/digits/infer"

# REST


@asynccontextmanager
async def opened(triton: TritonWorld) -> AsyncIterator[tuple[House, Door]]:
    async with triton, house(triton) as here:
        oip = OipRest(replace(here.pipeline, once=OnceWorld().process()), JsonMemory(10**6, 10**6), 60.0)
        app = HttpDoor(oip, other_paths(oip, lambda: Readiness(ready=True, state="ok")), ids())
        async with door(app) as world:
            yield here, world


def asked(here: House, target: str = INFER, body: bytes = BODY) -> bytes:
    return request(here, "POST", target, body, "Idempotency-Key: first")


async def repeated(here: House, world: Door, target: str = INFER, body: bytes = BODY) -> Answer:
    """The answer to the same again, once the first call is over."""
    async with asyncio.timeout(5):
        while True:
            answer = await world.ask(asked(here, target, body))
            if b"under way" not in answer.body:
                return answer


@pytest.mark.parametrize("leaves", ["closing", "sending what is no HTTP"])
async def test_who_left_hears_the_answer_of_the_one_run(leaves: str) -> None:
    async with opened(triton := TritonWorld(mood="holds")) as (here, world):
        wire = await world.connect()
        await wire.send(asked(here))
        await triton.arrived.wait()
        if leaves == "closing":
            wire.writer.close()
        else:
            await wire.send(b"\0\r\n\r\n")
        await world.empty()
        assert not triton.departed.is_set()
        triton.released.set()
        again = await repeated(here, world)
        assert (again.status, again.body, again.headers["idempotent-replayed"]) == (200, ANSWER, "true")
        assert triton.asked == [BODY]
        await here.settled()
        assert here.outcomes().count("done") == 2


async def test_without_a_key_who_leaves_ends_its_call() -> None:
    async with opened(triton := TritonWorld(mood="holds")) as (here, world):
        wire = await world.connect()
        await wire.send(request(here, "POST", INFER, BODY))
        await triton.arrived.wait()
        wire.writer.close()
        async with asyncio.timeout(5):
            await triton.departed.wait()


async def test_a_call_without_its_client_ends_with_the_grace_of_a_stop() -> None:
    async with opened(triton := TritonWorld(mood="holds")) as (here, world):
        wire = await world.connect()
        await wire.send(asked(here))
        await triton.arrived.wait()
        wire.writer.close()
        await world.empty()
        assert len(world.server.server_state.tasks) == 1  # what a stop waits for
        stop(world)
        async with asyncio.timeout(5):
            await triton.departed.wait()
        again = await repeated(here, world)
        assert (again.status, triton.asked) == (409, [BODY])


async def test_who_leaves_a_stream_ends_it_and_it_does_not_run_again() -> None:
    target = "/v2/models/digits/generate_stream"
    async with opened(triton := TritonWorld(mood="stops within")) as (here, world):
        wire = await world.connect()
        await wire.send(asked(here, target, b"{}"))
        async with asyncio.timeout(5):
            await wire.reader.readuntil(EVENT)
            wire.writer.close()
            await triton.departed.wait()
        assert (await repeated(here, world, target, b"{}")).status == 409
        await here.settled()
        assert here.outcomes()[0] == "cancelled"


@pytest.mark.parametrize("mood", ["closes within", "closes within an error"])
async def test_a_reply_that_breaks_off_is_a_whole_refusal_and_does_not_run_again(mood: Mood) -> None:
    async with opened(triton := TritonWorld(mood=mood)) as (here, world):
        wire = await world.connect()
        first = await wire.ask(asked(here))
        assert (first.status, first.error) == (502, "the model server failed while it had this request")
        again = await repeated(here, world)
        assert (again.status, "idempotent-replayed" in again.headers) == (409, False)
        assert len(triton.asked) == 1


# gRPC


@asynccontextmanager
async def grpc_door() -> AsyncIterator[grpc_worlds.Door]:
    async with grpc_worlds.door() as here:
        oip = here.server.door.oip
        oip.pipeline = replace(oip.pipeline, once=OnceWorld().process())
        yield here


class Waiting:
    """A model that answers when it is let go."""

    def __init__(self) -> None:
        self.goes_on = asyncio.Event()

    async def __call__(self, given: Any, context: Any) -> bytes:
        await self.goes_on.wait()
        return await answers(given, context)


@pytest.mark.usefixtures("grpc_loop")
@pytest.mark.parametrize("left_by", ["cancelling", "deadline"])
async def test_over_grpc_who_left_hears_the_answer_of_the_one_run(left_by: str) -> None:
    async with grpc_door() as here:
        here.upstream.infer = model = Waiting()
        timeout = 0.3 if left_by == "deadline" else None
        call = here.call("ModelInfer", infer(id="mine"), KEY, timeout=timeout)
        await here.upstream.arrived.wait()
        if left_by == "cancelling":
            call.cancel()
        assert (await call.code()).name in ("CANCELLED", "DEADLINE_EXCEEDED")
        under_way = here.call("ModelInfer", infer(id="mine"), KEY)
        assert (await ended(under_way))[0] == "ABORTED"
        assert (await trailing(under_way))["retry-after"] == "1"
        model.goes_on.set()
        await here.server.door.oip.outliving.over()
        again = here.call("ModelInfer", infer(id="mine"), KEY)
        assert official.ModelInferResponse.FromString(await again).id == "mine"
        assert (await trailing(again))["idempotent-replayed"] == "true"
        assert (len(here.upstream.asked), here.memory.taken_bytes) == (1, 0)


@pytest.mark.usefixtures("grpc_loop")
async def test_over_grpc_a_stop_waits_for_a_call_without_its_client() -> None:
    async with grpc_door() as here, asyncio.TaskGroup() as group:
        here.upstream.infer = model = Waiting()
        call = here.call("ModelInfer", infer(), KEY)
        await here.upstream.arrived.wait()
        call.cancel()
        served = group.create_task(here.server.serve())
        here.server.stop()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(served), 0.3)
        model.goes_on.set()
        await served
        await here.here.settled()
        assert here.here.outcomes() == ["done"]


@pytest.mark.usefixtures("grpc_loop")
async def test_over_grpc_a_stop_waits_for_a_call_that_was_not_read_yet_and_then_lost_its_client() -> None:
    async with grpc_door() as here, asyncio.TaskGroup() as group:
        here.upstream.infer = model = Waiting()
        call = here.channel.stream_unary(f"{SERVICE}ModelInfer")(metadata=(*here.key, KEY))
        while not here.memory._awaited:
            await asyncio.sleep(0.001)
        served = group.create_task(here.server.serve())
        here.server.stop()
        while (await ended(here.call("ServerLive")))[0] != "UNAVAILABLE":
            pass  # nothing more is taken
        await call.write(infer())
        await call.done_writing()
        await here.upstream.arrived.wait()
        call.cancel()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(served), 0.3)
        model.goes_on.set()
        await served
        await here.here.settled()
        assert here.here.outcomes() == ["done"]


@pytest.mark.usefixtures("grpc_loop")
async def test_over_grpc_the_second_stop_waits_for_no_call_without_its_client() -> None:
    async with grpc_door() as here, asyncio.TaskGroup() as group:
        here.upstream.infer = here.upstream.hold
        call = here.call("ModelInfer", infer(), KEY)
        await here.upstream.arrived.wait()
        call.cancel()
        served = group.create_task(here.server.serve())
        here.server.stop()
        here.server.stop()
        async with asyncio.timeout(5):
            await served
            await here.upstream.departed.wait()


@pytest.mark.usefixtures("grpc_loop")
async def test_over_grpc_a_large_reply_is_told_and_not_again() -> None:
    async def large(*_: object) -> bytes:
        reply = official.ModelInferResponse(raw_output_contents=[bytes(2**20)])
        message: bytes = reply.SerializeToString()
        return message

    async with grpc_door() as here:
        here.upstream.infer = large
        assert len(await here.call("ModelInfer", infer(), KEY)) > 2**20
        code, text = "ABORTED", "under way"
        while "under way" in text:
            code, text = await ended(here.call("ModelInfer", infer(), KEY))
        assert (code, "larger than 1 MiB" in text) == ("ABORTED", True)


def test_over_grpc_a_request_is_the_same_in_whatever_order_its_maps_are() -> None:
    def asked_with(*names: str, raw: bytes = b"a") -> bytes:
        message = official.ModelInferRequest(model_name="digits", raw_input_contents=[raw])
        message.inputs.add(name="in", datatype="BYTES", shape=[1])
        # An entry of a map is a message of its own, and they may come in any order.
        entries = [official.ModelInferRequest() for _ in names]
        for entry, name in zip(entries, names, strict=True):
            entry.parameters[name].int64_param = len(name)
        return fingerprint(
            read_infer(message.SerializeToString() + b"".join(it.SerializeToString() for it in entries))
        )

    found = asked_with("a", "bb", "ccc")
    assert len(found) == 32
    assert asked_with("ccc", "a", "bb") == found
    assert found not in (asked_with("a", "bb"), asked_with("a", "bb", "ccc", raw=b"b"))
