"""The pool of gRPC connections against a server of gRPC's own: whole messages both ways, statuses, and only whole exchanges kept."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2 as official

from gateway.call import GRPC, GRPC_STREAM, InferenceCall, Outgoing
from gateway.frontends.http_body import NoBody
from gateway.triton.client import NotSent, UpstreamFailed
from gateway.triton.grpc_client import GrpcClient, GrpcReply
from gateway.triton.grpc_status import Status
from tests.worlds.triton_grpc import GrpcWorld

pytestmark = pytest.mark.usefixtures("grpc_loop")

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def call(protocol: str = GRPC, traceparent: str = "") -> InferenceCall:
    return InferenceCall(
        request_id="r1",
        model="digits",
        version="",
        credential=None,
        address="192.0.2.1",
        protocol=protocol,
        payload=NoBody(),
        deadline=60.0,
        traceparent=traceparent,
    )


def body(*tensors: bytes, **fields: Any) -> Outgoing:
    request = official.ModelInferRequest(model_name="digits", **fields)
    return Outgoing(
        head=request.SerializeToString(),
        first=official.ModelInferRequest(raw_input_contents=tensors).SerializeToString(),
    )


@asynccontextmanager
async def pool(world: GrpcWorld) -> AsyncIterator[GrpcClient]:
    client = GrpcClient("127.0.0.1", world.port)
    try:
        yield client
    finally:
        client.abort()


async def messages(reply: GrpcReply) -> list[bytes]:
    found: list[bytes] = []
    await reply.pour(found.append)
    return found


async def test_a_message_goes_and_comes_whole_and_its_connection_is_used_again() -> None:
    async with GrpcWorld() as world, pool(world) as client:
        for number in range(3):
            reply = await client.send(call(traceparent=TRACE), body(b"x", id=str(number)))
            (message,) = await messages(reply)
            client.release(reply)
            assert official.ModelInferResponse.FromString(message).id == str(number)
            assert (reply.status, reply.code) == (200, Status.OK)
        assert len(client._idle) == 1
        assert {told["traceparent"] for told in world.told} == {TRACE}


@pytest.mark.parametrize("size", [0, 1, 16 * 1024 - 50, 16 * 1024, 65_535, 5 * 1024 * 1024])
async def test_a_tensor_of_any_size_survives_both_ways(size: int) -> None:
    async def echo(request: Any, _: object) -> bytes:
        reply = official.ModelInferResponse(raw_output_contents=request.raw_input_contents)
        message: bytes = reply.SerializeToString()
        return message

    async with GrpcWorld(infer=echo) as world, pool(world) as client:
        tensor = bytes(n % 251 for n in range(min(size, 10_000))) * (size // 10_000 or 1)
        for _ in range(2):
            reply = await client.send(call(), body(tensor, b"end"))
            (message,) = await messages(reply)
            client.release(reply)
            assert list(official.ModelInferResponse.FromString(message).raw_output_contents) == [
                tensor,
                b"end",
            ]
        assert len(client._idle) == 1


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, 400),
        (grpc.StatusCode.NOT_FOUND, 404),
        (grpc.StatusCode.INTERNAL, 500),
        (grpc.StatusCode.UNAVAILABLE, 503),
    ],
)
async def test_a_status_and_its_text_and_trailing_metadata_come_as_they_are(
    code: grpc.StatusCode, status: int
) -> None:
    async def refuses(_: object, context: Any) -> bytes:
        await context.abort(code, "grüße 100%", (("mine", "1"), ("endpoint-load-metrics", "cpu=1")))
        return b""

    async with GrpcWorld(infer=refuses) as world, pool(world) as client:
        reply = await client.send(call(), body())
        assert (reply.code.name, reply.status) == (code.name, status)
        assert (await messages(reply))[0].decode() == "grüße 100%"
        assert reply.metadata == (("mine", "1"),)
        client.release(reply)
        assert len(client._idle) == 1


async def test_replies_of_a_stream_come_one_by_one_and_in_order() -> None:
    goes_on = asyncio.Event()

    async def counts(*_: object) -> AsyncIterator[bytes]:
        yield b"0"
        await goes_on.wait()
        for number in range(1, 100):
            yield b"%d" % number

    async with GrpcWorld(stream=counts) as world, pool(world) as client:
        reply = await client.send(call(GRPC_STREAM), body())
        goes_on.set()
        assert await messages(reply) == [b"%d" % number for number in range(100)]
        client.release(reply)
        assert len(client._idle) == 1


async def test_what_the_first_message_told_stays_the_status_of_a_stream_that_ends_well() -> None:
    refusal = official.ModelStreamInferResponse(error_message="wrong").SerializeToString()

    async def refuses(*_: object) -> AsyncIterator[bytes]:
        yield refusal

    async with GrpcWorld(stream=refuses) as world, pool(world) as client:
        reply = await client.send(call(GRPC_STREAM), body())
        assert await messages(reply) == [refusal]
        assert (reply.code.name, reply.status) == ("OK", 400)
        client.release(reply)


async def test_a_reply_that_is_held_is_not_read_on_without_end() -> None:
    sent = 0

    async def floods(*_: object) -> AsyncIterator[bytes]:
        nonlocal sent
        for _number in range(200):
            sent += 1
            yield bytes(256 * 1024)

    async with GrpcWorld(stream=floods) as world, pool(world) as client:
        reply = await client.send(call(GRPC_STREAM), body())
        reply.pause()
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.1)  # as long as nothing moves
        assert sent < 100
        reply.resume()
        assert len(await messages(reply)) == 200
        client.release(reply)


async def test_a_stream_that_breaks_off_is_a_failure_and_never_a_clean_end() -> None:
    async def breaks(_: object, context: Any) -> AsyncIterator[bytes]:
        yield b"0"
        await context.abort(grpc.StatusCode.UNAVAILABLE, "stopping")

    async with GrpcWorld(stream=breaks) as world, pool(world) as client:
        reply = await client.send(call(GRPC_STREAM), body())
        with pytest.raises(UpstreamFailed, match="stopping"):
            await messages(reply)
        client.release(reply)


async def test_a_caller_who_leaves_stops_the_server_and_its_connection_is_not_kept() -> None:
    async with GrpcWorld() as world, pool(world) as client:
        world.infer = world.hold
        task = asyncio.ensure_future(client.send(call(), body()))
        await world.arrived.wait()
        task.cancel()
        async with asyncio.timeout(1):
            await world.departed.wait()
        assert not client._idle
        assert not client._busy


async def test_a_server_that_is_gone_was_not_sent_anything_and_one_that_goes_may_have_run_it() -> None:
    async with GrpcWorld() as world, pool(world) as client:
        world.infer = world.hold
        task = asyncio.ensure_future(client.send(call(), body()))
        await world.arrived.wait()
        client.abort()
        with pytest.raises(UpstreamFailed):
            await task
    with pytest.raises(NotSent):
        await GrpcClient("127.0.0.1", world.port).send(call(), body())
