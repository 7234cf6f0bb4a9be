"""What messages may take of the memory: one tenant's are refused before the others suffer, and what was refused is not kept."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2 as official

from gateway.errors import Code, GatewayError, forget_frames
from gateway.frontends.grpc_call import Caller, InferMessage
from gateway.frontends.grpc_memory import MessageMemory
from gateway.frontends.grpc_stream import Stream
from gateway.settings import Grpc
from tenants.plans import Limits, Rate
from tests.gateway.frontends.grpc_worlds import Door, Process, door, ended, infer, trailing

pytestmark = pytest.mark.usefixtures("grpc_loop")

LARGE = infer(id="x" * 60_000)
ROOM_FOR_TWO = Grpc(memory_bytes=500_000, message_bytes=125_000)
ROOMY = Limits(body_bytes=10**6)
SPENT = ("RESOURCE_EXHAUSTED", "too many requests at once; let some finish first")


async def until_taken(memory: MessageMemory, size: int) -> None:
    async with asyncio.timeout(5):
        while memory.taken_bytes != size:
            await asyncio.sleep(0.001)


async def test_a_message_is_on_its_tenant_s_account_until_its_call_is_settled() -> None:
    async with door(ROOMY, ROOM_FOR_TWO) as here:
        answer = here.upstream.infer
        here.upstream.infer = here.upstream.hold
        held = [here.call("ModelInfer", LARGE) for _ in range(2)]
        await until_taken(here.memory, 2 * len(LARGE))
        refused = here.call("ModelInfer", LARGE)
        assert await ended(refused) == SPENT
        assert (await trailing(refused))["retry-after"] == "1"
        for call in held:
            call.cancel()
        await until_taken(here.memory, 0)
        here.upstream.infer = answer
        assert (await ended(here.call("ModelInfer", LARGE)))[0] == "OK"
        assert here.memory.taken_bytes == 0
        await here.here.settled()
        assert here.here.denials() == ["too_many_at_once"]


async def test_a_stream_s_message_for_which_is_no_room_is_refused_in_its_turn_and_the_stream_goes_on() -> (
    None
):
    async with door(ROOMY, ROOM_FOR_TWO) as here:
        held: Any = asyncio.Event()

        async def waits(request: Any, _: object) -> Any:
            await held.wait()
            yield b""

        here.upstream.stream = waits
        stream = here.stream()
        for _ in range(3):
            await stream.write(LARGE)
        await until_taken(here.memory, 2 * len(LARGE))
        held.set()
        told = [(await stream.read()).error_message for _ in range(3)]
        assert told == ["", "", SPENT[1]]
        await until_taken(here.memory, 0)
        await stream.write(LARGE)
        assert (await stream.read()).error_message == ""


async def test_a_reply_that_its_client_does_not_take_stays_on_the_account() -> None:
    async def answers(*_: object) -> bytes:
        return bytes(4_000_000)

    takes_little = [("grpc.http2.bdp_probe", 0)]
    async with (
        door(ROOMY, ROOM_FOR_TWO) as here,
        grpc.aio.insecure_channel(here.server.address, takes_little) as channel,
    ):
        here.upstream.infer = answers
        call: Any = channel.stream_stream("/inference.GRPCInferenceService/ModelInfer")(metadata=here.key)
        await call.write(infer())
        await until_taken(here.memory, 4_000_000)
        assert await ended(here.call("ModelInfer", LARGE)) == SPENT
        assert await call.read() == bytes(4_000_000)
        await until_taken(here.memory, 0)


async def test_replies_of_a_stream_that_its_client_does_not_take_stay_on_the_account() -> None:
    takes_little = [("grpc.http2.bdp_probe", 0)]
    reply = official.ModelInferResponse(model_name="digits", raw_output_contents=[bytes(3_000_000)])
    large: bytes = official.ModelStreamInferResponse(infer_response=reply).SerializeToString()

    async def answers(*_: object) -> AsyncIterator[bytes]:
        for message in (large, large, large):
            yield message

    async with (
        door(ROOMY, ROOM_FOR_TWO) as here,
        grpc.aio.insecure_channel(here.server.address, takes_little) as channel,
    ):
        here.upstream.stream = answers
        call: Any = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")(
            metadata=here.key
        )
        await call.write(infer())
        async with asyncio.timeout(5):
            while here.memory.taken_bytes < len(large):  # and the request
                await asyncio.sleep(0.001)
        call.cancel()
        await until_taken(here.memory, 0)


async def waiting(here: Door, number: int) -> list[Any]:
    """So many calls whose message does not come, each awaited."""
    calls = [
        here.channel.stream_unary("/inference.GRPCInferenceService/ModelInfer")(metadata=here.key)
        for _ in range(number)
    ]
    for call in calls:
        await call.wait_for_connection()
    return calls


async def test_in_a_process_that_has_grown_who_awaits_a_message_needs_room_for_the_largest(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with door(ROOMY, ROOM_FOR_TWO) as here:
        stream = here.stream()
        await stream.write(infer(id="1"))
        await stream.read()  # it is the oldest, and idle
        late = await waiting(here, 2)
        here.process.resident_bytes = here.process.used_bytes = 500_001
        assert [await ended(call) for call in late] == [SPENT] * 2
        await stream.write(infer(id="2"))
        assert (await stream.read()).infer_response.id == "2"
        await here.here.settled()
        assert here.here.denials() == ["too_many_at_once"] * 2
        assert sum("is over its budget" in line for line in caplog.messages) == 1  # and the operator knows


async def test_a_stream_that_may_send_no_more_has_what_is_under_way_answered() -> None:
    async with door(ROOMY, ROOM_FOR_TWO) as here:
        held: Any = asyncio.Event()

        async def waits(*_: object) -> Any:
            await held.wait()
            yield b""

        here.upstream.stream = waits
        stream = here.stream()
        for _ in range(2):
            await stream.write(LARGE)
        await until_taken(here.memory, 2 * len(LARGE))  # and it awaits a third one
        here.process.resident_bytes = here.process.used_bytes = 500_001
        while not here.here.denials():
            await here.here.settled()
            await asyncio.sleep(0.01)
        held.set()
        for _ in range(2):
            assert (await stream.read()).error_message == ""
        assert await ended(stream) == SPENT


@pytest.mark.parametrize(("resident", "used"), [(500_000, 500_000), (10**9, 500_000)])
async def test_while_the_process_has_room_nobody_is_cut_for_what_the_allocator_keeps(
    resident: int, used: int
) -> None:
    process = Process(resident, used)
    memory = MessageMemory(500_000, 500_000, lambda: 0, lambda: process.used_bytes)
    memory.resident_bytes = lambda: process.resident_bytes
    with memory.awaiting("a"), memory.awaiting("a"):
        for _ in range(3):
            await memory.look()
            await asyncio.sleep(0)


async def test_what_one_tenant_has_too_much_goes_before_what_all_have() -> None:
    grown = [0]
    memory = MessageMemory(400, 300, lambda: grown[0], lambda: grown[0])
    ends: list[tuple[str, str]] = []

    async def awaits(tenant: str) -> None:
        try:
            with memory.awaiting(tenant):
                await asyncio.Event().wait()
        except GatewayError as refusal:
            ends.append((tenant, refusal.code.value))

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(awaits(tenant)) for tenant in ("a", "b", "a", "c")]
        await asyncio.sleep(0)
        await memory.look()
        grown[0] = 401
        for expected in (
            [("a", "too_many_at_once")],
            [("a", "too_many_at_once"), ("b", "overloaded"), ("c", "overloaded")],
        ):
            await memory.look()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert sorted(ends) == sorted(expected)
        tasks[0].cancel()


class Leaving:
    """A client that leaves as its message has come: the job that would serve it never begins."""

    runner: "asyncio.Task[None]"

    async def read(self) -> bytes:
        self.runner.cancel()
        return LARGE


async def test_a_message_that_nobody_began_to_serve_is_given_back_too() -> None:
    client: Any = Leaving()
    async with door(ROOMY, ROOM_FOR_TWO) as here, asyncio.TaskGroup() as group:
        pipeline = here.here.pipeline
        who = Caller("r", here.here.key, "192.0.2.1", pipeline.clock() + 60, "")
        stream = Stream(client, pipeline, here.memory, who, at_once=4, request_seconds=60)
        client.runner = group.create_task(stream.run())
        await asyncio.wait([client.runner])
        assert here.memory.taken_bytes == 0


async def test_of_what_nobody_awaits_grpc_takes_little() -> None:
    async with door(Limits(body_bytes=10**9), Grpc(stream_calls=1)) as here:

        async def waits(*_: object) -> Any:
            await here.upstream.hold()
            yield b""

        here.upstream.stream = waits
        stream, sent = here.stream(), []
        await stream.write(infer())
        await here.upstream.arrived.wait()

        async def send() -> None:
            for number in range(60):
                await stream.write(bytes(2**20))
                sent.append(number)

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(send(), 1)
        assert len(sent) <= 1


async def test_a_refused_call_keeps_nothing_until_the_collector_comes_by() -> None:
    limits = Limits(body_bytes=10**6, requests_per_second=Rate(rate=0.0001, burst=1))
    async with door(limits) as here:
        await here.call("ModelInfer", LARGE)
        gc.collect()
        gc.disable()
        try:
            for message in (LARGE, infer("private"), infer("absent")):
                await ended(here.call("ModelInfer", message))
            kept = [it for it in gc.get_objects() if isinstance(it, InferMessage)]
        finally:
            gc.enable()
        assert kept == []


def test_an_error_that_is_told_lets_go_of_all_that_led_to_it() -> None:
    class Request:
        pass

    def fails() -> "tuple[Exception, weakref.ref[Request]]":
        request = Request()
        kept: list[Exception] = []
        try:
            try:
                raise ValueError  # noqa: TRY301 - what led to it
            except ValueError as cause:
                kept.append(cause)
                raise GatewayError(Code.INTERNAL) from cause
        except GatewayError as error:
            kept.append(error)
            return error, weakref.ref(request)

    gc.disable()
    try:
        error, request = fails()
        assert request() is not None
        forget_frames(error)
        assert request() is None
        error.__cause__ = error  # as of one that was raised from itself
        forget_frames(error)
        assert error.__cause__ is None
    finally:
        gc.enable()
