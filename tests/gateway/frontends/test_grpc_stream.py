"""What a stream promises: each message is a call of its own, replies keep Triton's order, and an end that is not whole says so."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2 as official

from gateway.frontends.grpc_call import Caller
from gateway.frontends.grpc_stream import Stream
from gateway.settings import Grpc
from tenants.acts import Act
from tenants.plans import Limits, Rate
from tests.gateway.frontends.grpc_worlds import Door, door, ended, infer, trailing

pytestmark = pytest.mark.usefixtures("grpc_loop")


def reply(number: int, **fields: Any) -> bytes:
    message: bytes = official.ModelStreamInferResponse(
        infer_response={"id": str(number)}, **fields
    ).SerializeToString()
    return message


async def is_decoupled(here: Door, *, decoupled: bool) -> None:
    """What Triton says of the model is known once it is loaded."""
    place = await here.here.pipeline.throttler.acquire("digits")
    place.grpc.is_decoupled = decoupled
    here.here.pipeline.throttler.release(place, "none")


async def ids(stream: Any, number: int) -> list[str]:
    found = [await stream.read() for _ in range(number)]
    return [message.infer_response.id for message in found]


class Gates:
    """A request is answered when the gate of its id is open."""

    def __init__(self, *names: str) -> None:
        self.gates = {name: asyncio.Event() for name in names}
        self.at_once = 0
        self.most_at_once = 0

    async def answer(self, request: Any, _: object) -> AsyncIterator[bytes]:
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        if request.id in self.gates:
            await self.gates[request.id].wait()
        self.at_once -= 1
        yield reply(request.id)


@pytest.mark.parametrize("decoupled", [False, True])
async def test_replies_keep_the_order_of_their_requests_but_those_of_a_decoupled_model(
    *, decoupled: bool
) -> None:
    gates = Gates("1")
    async with door() as here:
        await is_decoupled(here, decoupled=decoupled)
        here.upstream.stream = gates.answer
        stream = here.stream()
        for name in ("1", "2", "3"):
            await stream.write(infer(id=name))
        if decoupled:
            assert set(await ids(stream, 2)) == {"2", "3"}
        gates.gates["1"].set()
        assert await ids(stream, 1 if decoupled else 3) == (["1"] if decoupled else ["1", "2", "3"])
        await stream.done_writing()
        assert await ended(stream) == ("OK", "")
        assert (await trailing(stream))["x-request-id"]
        await here.here.settled()
        assert here.here.outcomes() == ["done"] * 3


async def test_a_refusal_of_one_message_is_told_in_its_turn_and_the_stream_goes_on() -> None:
    async with door() as here:
        stream = here.stream()
        for message in (infer(id="1"), infer("private", id="2"), b"\x0b", infer(id="3")):
            await stream.write(message)
        found = [await stream.read() for _ in range(4)]
        assert [it.error_message for it in found] == [
            "",
            "there is no such model",
            "the message holds a group, or what is no field",
            "",
        ]
        assert [it.infer_response.id for it in found] == ["1", "2", "", "3"]
        await here.here.settled()
        assert sorted(here.here.denials()) == ["bad_request", "model_not_found"]


async def test_each_message_is_admitted_for_itself() -> None:
    limits = Limits(body_bytes=1000, requests_per_second=Rate(rate=0.001, burst=2))
    async with door(limits) as here:
        stream = here.stream()
        for _ in range(3):
            await stream.write(infer())
        texts = [(await stream.read()).error_message for _ in range(3)]
        assert texts == ["", "", "too many requests; wait as long as Retry-After says"]
        assert len(here.upstream.asked) == 2


async def test_a_refusal_is_a_message_also_for_who_asks_for_a_status_and_triton_is_not_told_of_that() -> None:
    async with door() as here:
        stream = here.stream(("triton_grpc_error", "true"))
        await stream.write(infer("private"))
        assert (await stream.read()).error_message == "there is no such model"
        await stream.write(infer(id="2"))
        assert await ids(stream, 1) == ["2"]
        assert all("triton_grpc_error" not in told for told in here.upstream.told)


@pytest.mark.parametrize("wants_status", [False, True])
async def test_an_error_of_the_model_s_is_a_message_or_a_status_and_cleaned(*, wants_status: bool) -> None:
    async def fails(*_: object) -> AsyncIterator[bytes]:
        yield reply(1)
        message = official.ModelStreamInferResponse(
            error_message="no /dev/shm/region", infer_response={"model_name": "digits"}
        )
        yield message.SerializeToString()
        yield reply(2)

    async with door() as here:
        here.upstream.stream = fails
        stream = here.stream(*([("triton_grpc_error", "true")] if wants_status else []))
        await stream.write(infer())
        assert await ids(stream, 1) == ["1"]
        if wants_status:
            assert await ended(stream) == ("INTERNAL", "no (internal)")
            return
        assert (await stream.read()).error_message == "no (internal)"
        assert await ids(stream, 1) == ["2"]
        assert all("triton_grpc_error" not in told for told in here.upstream.told)


async def test_a_reply_that_breaks_off_ends_the_stream_with_a_status_and_is_recorded_as_partial() -> None:
    async def breaks(_: object, context: Any) -> AsyncIterator[bytes]:
        yield reply(1)
        await context.abort(grpc.StatusCode.UNAVAILABLE, "stopping")

    async with door() as here:
        here.upstream.stream = breaks
        stream = here.stream()
        await stream.write(infer())
        assert await ids(stream, 1) == ["1"]
        assert await ended(stream) == ("UNAVAILABLE", "the model server failed while it had this request")
        await here.here.settled()
        assert here.here.outcomes() == ["partial"]


async def test_no_more_messages_are_read_than_are_served_at_once() -> None:
    gates = Gates(*map(str, range(20)))
    async with door(grpc_knobs=Grpc(stream_calls=3)) as here:
        here.upstream.stream = gates.answer
        stream = here.stream()
        for number in range(20):
            await stream.write(infer(id=str(number)))
        for number in range(20):
            gates.gates[str(number)].set()
            assert await ids(stream, 1) == [str(number)]
        assert 1 <= gates.most_at_once <= 3


async def test_a_client_that_leaves_stops_all_that_it_has_under_way() -> None:
    async def holds(*_: object) -> AsyncIterator[bytes]:
        await here.upstream.hold()
        yield b""

    async with door() as here:
        here.upstream.stream = holds
        stream = here.stream()
        await stream.write(infer())
        await here.upstream.arrived.wait()
        stream.cancel()
        async with asyncio.timeout(1):
            await here.upstream.departed.wait()
        await here.here.settled()
        assert here.here.outcomes() == ["cancelled"]


async def test_a_client_that_does_not_read_holds_triton_back() -> None:
    sent = 0

    async def floods(*_: object) -> AsyncIterator[bytes]:
        nonlocal sent
        for number in range(400):
            sent += 1
            yield reply(number, error_message="") + b"\xba\x3e\xff\xff\x03" + bytes(65_535)

    async with door() as here:
        here.upstream.stream = floods
        stream = here.stream()
        await stream.write(infer())
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.2)  # as long as nothing moves
        assert sent < 300
        assert await ids(stream, 400) == [str(number) for number in range(400)]


async def test_a_key_that_is_revoked_ends_the_stream() -> None:
    async with door() as here:
        stream = here.stream()
        await stream.write(infer(id="1"))
        assert await ids(stream, 1) == ["1"]
        (key,) = (await here.here.directory.keys.list("acme")).values
        await here.here.directory.keys.revoke("acme", key.id, act=Act("test", 1_700_000_000_000_000))
        await here.here.feed.look()
        await stream.write(infer(id="2"))
        assert (await ended(stream))[0] == "UNAUTHENTICATED"


class Deaf:
    """A client that sends refused messages without end, and reads nothing."""

    def __init__(self) -> None:
        self.sent = 0

    async def read(self) -> bytes:
        self.sent += 1
        await asyncio.sleep(0)
        return infer("private", id="x" * 2_000)

    async def write(self, message: bytes) -> None:
        assert len(message) < 1_200
        await asyncio.Event().wait()


async def test_who_does_not_read_its_refusals_is_not_read_any_further() -> None:
    client: Any = Deaf()
    async with door() as here:
        pipeline = here.here.pipeline
        who = Caller("r", here.here.key, "192.0.2.1", pipeline.clock() + 60, "")
        stream = Stream(client, pipeline, here.memory, who, at_once=4, request_seconds=60)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await stream.run()
    assert client.sent == 4
