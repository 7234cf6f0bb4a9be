"""A call with an Idempotency-Key on the request path: one run, one answer, and what did not run leaves its key to the next one."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pytest
from msgspec import structs

from gateway.call import InferenceCall
from gateway.errors import Code, GatewayError
from gateway.kept.answer import Answer
from gateway.kept.repeating import fingerprint
from gateway.pipeline import Pipeline
from tenants.acts import Act
from tenants.ports import Item, Key, Row
from tenants.privacy import Privacy
from tests.gateway.house import LIMITS, NOW_US, Body, Client, House, elastic, house
from tests.gateway.kept.once_world import OnceWorld
from tests.worlds.blobs import BlobWorld
from tests.worlds.segments import Fault as SegmentFault
from tests.worlds.table import MemoryTable
from tests.worlds.triton import ANSWER, Mood, ScalerWorld, TritonWorld

TOLD = Answer(200, (), ANSWER)
T = TypeVar("T")


class SlowTable(MemoryTable):
    """A write goes on when nobody waits for it any more, as a thread's does."""

    async def get_many(self, keys: Sequence[Key]) -> dict[Key, Row]:
        await asyncio.sleep(0)
        return await MemoryTable.get_many(self, keys)

    async def transact(self, *items: Item) -> None:
        await going_on(MemoryTable.transact(self, *items))


class SlowBlobs(BlobWorld):
    """As SlowTable."""

    async def put(self, name: str, data: bytes) -> bool:
        return await going_on(BlobWorld.put(self, name, data))


async def going_on(write: Coroutine[Any, Any, T]) -> T:
    async def made() -> T:
        await asyncio.sleep(0)
        return await write

    task = asyncio.ensure_future(made())
    task.add_done_callback(lambda it: it.exception())
    return await asyncio.shield(task)


@dataclasses.dataclass
class Place:
    house: House
    triton: TritonWorld
    world: OnceWorld
    pipeline: Pipeline

    def call(
        self, content: bytes = b'{"inputs":[]}', key: str = "one", seconds: float = 60.0
    ) -> InferenceCall:
        return structs.replace(self.house.call(payload=Body(content), seconds=seconds), once=key)

    async def serve(self, call: InferenceCall, told: Answer | None = TOLD) -> Client:
        client = Client(told=told)
        await self.pipeline.serve(call, client)
        await self.world.rest()
        return client

    async def refused(self, call: InferenceCall) -> GatewayError:
        with pytest.raises(GatewayError) as caught:
            await self.pipeline.serve(call, Client())
        await self.world.rest()
        return caught.value


@asynccontextmanager
async def place(mood: Mood = "answers") -> AsyncIterator[Place]:
    world = OnceWorld()
    async with TritonWorld(mood=mood) as triton, house(triton) as here:
        yield Place(here, triton, world, dataclasses.replace(here.pipeline, once=world.process()))


async def test_the_second_call_is_told_what_the_first_was_and_costs_its_tenant_nothing() -> None:
    async with place() as here:
        await here.serve(here.call())
        client = await here.serve(here.call())
        await here.house.settled()
        first, second = here.house.records("outcome")
        outcomes = here.house.outcomes()
    assert client.events == ["replay"]
    assert (client.status, client.body) == (200, ANSWER)
    assert len(here.triton.asked) == 1
    assert outcomes == ["done", "done"]
    assert (first.entry.requests, second.entry.requests) == (1, 0)
    assert (second.entry.weight, second.entry.bytes, second.entry.replica) == (0, 0, None)


async def test_a_replay_waits_for_its_intent_as_a_reply_does() -> None:
    async with place() as here:
        await here.serve(here.call())
        await here.house.settled()
        here.house.segments.faults.append(SegmentFault.LOST_BEFORE)
        assert (await here.refused(here.call())).code is Code.AUDIT_UNAVAILABLE


async def test_a_call_that_is_cut_off_at_whatever_moment_never_runs_twice_and_gives_back_what_it_held() -> (
    None
):
    async with place() as here:
        here.world.table, here.world.blobs = SlowTable(), SlowBlobs()
        here.pipeline = dataclasses.replace(here.pipeline, once=here.world.process())
        await here.serve(here.call(key="warm"))
        said, steps, is_over = set[str](), 0, False
        while not is_over:
            body, key = b'{"inputs":[%d]}' % steps, f"key {steps}"
            first = asyncio.ensure_future(here.pipeline.serve(here.call(body, key), Client(told=TOLD)))
            for _ in range(steps):
                await asyncio.sleep(0)
            is_over = first.done()
            first.cancel()
            # Asked again while the first one's end is still on its way, and when it is over.
            second = here.pipeline.serve(here.call(body, key), Client(told=TOLD))
            found: list[object] = [*await asyncio.gather(first, second, return_exceptions=True)]
            await here.world.rest()
            found += await asyncio.gather(here.serve(here.call(body, key)), return_exceptions=True)
            assert here.triton.asked.count(body) <= 1
            said.update(it.sentence for it in found if isinstance(it, GatewayError))
            assert all(isinstance(it, GatewayError | Client | None | asyncio.CancelledError) for it in found)
            steps += 1
        await here.house.settled()
    assert steps > (LIMITS.concurrent_requests or 0)  # so each gave back its reservation
    assert {sentence.partition("Key ")[2].split(",")[0] for sentence in said} == {
        "is still under way; its answer can be had when it is done",
        "may have run",
    }


async def test_a_replay_is_not_captured_as_nothing_was_asked() -> None:
    async with place() as here:
        act = Act("test", NOW_US)
        await here.house.directory.values.put(Privacy("watched", capture="on"), act=act)
        await here.house.directory.tenants.change("acme", act, privacy="watched")
        await here.house.feed.look()
        await here.serve(here.call())
        await here.house.captured(1)
        assert (await here.serve(here.call())).events == ["replay"]
        assert (here.house.captures.stored, here.house.captures.held_bytes) == (1, 0)
    assert (here.house.captures.stored, here.house.captures.lost.total()) == (1, 0)


async def test_another_body_under_the_same_key_is_422_and_not_sent() -> None:
    async with place() as here:
        await here.serve(here.call())
        error = await here.refused(here.call(b'{"inputs":[1]}'))
        await here.house.settled()
        assert here.house.outcomes() == ["done", "failed"]
    assert (error.code, error.rendering.http) == (Code.IDEMPOTENCY_KEY_REUSED, 422)
    assert len(here.triton.asked) == 1


@pytest.mark.parametrize(
    "other", [{"model": "x"}, {"version": "2"}, {"protocol": "oip-grpc"}, {"endpoint": "generate"}], ids=str
)
async def test_the_fingerprint_tells_models_versions_doors_and_endpoints_apart(other: dict[str, str]) -> None:
    async with place() as here:
        call = here.call()
    assert fingerprint(call) == fingerprint(here.call(key="two"))
    assert fingerprint(structs.replace(call, **other)) != fingerprint(call)


async def test_what_was_streamed_is_409_when_it_is_asked_again() -> None:
    async with place() as here:
        await here.serve(here.call(), told=None)
        error = await here.refused(here.call())
    assert error.code is Code.ALREADY_RUN
    assert "streamed" in error.sentence
    assert len(here.triton.asked) == 1


async def test_two_at_once_are_one_run_and_the_other_hears_that_it_is_under_way() -> None:
    async with place("holds") as here:
        first = asyncio.ensure_future(here.serve(here.call()))
        await here.triton.arrived.wait()
        error = await here.refused(here.call())
        here.triton.released.set()
        await first
        assert (await here.serve(here.call())).events == ["replay"]
    assert (error.code, error.retry_after_seconds) == (Code.ALREADY_RUN, 1)
    assert len(here.triton.asked) == 1


async def test_a_call_that_may_have_run_never_runs_again() -> None:
    async with place("closes before") as here:
        assert (await here.refused(here.call())).code is Code.UPSTREAM_FAILED
        error = await here.refused(here.call())
    assert error.code is Code.ALREADY_RUN
    assert "not known" in error.sentence
    assert len(here.triton.asked) == 1


async def test_a_call_that_its_deadline_ended_in_the_model_never_runs_again() -> None:
    async with place("holds") as here:
        assert (await here.refused(here.call(seconds=0.3))).code is Code.DEADLINE_EXCEEDED
        assert (await here.refused(here.call())).code is Code.ALREADY_RUN
        here.triton.released.set()
    assert len(here.triton.asked) == 1


async def test_a_call_for_which_there_was_no_place_leaves_its_key_to_the_next_one() -> None:
    async with place() as here:
        found, known = here.pipeline, here.pipeline.known
        nowhere, _ = elastic(ScalerWorld([]), known.models, known.fleets)
        here.pipeline = dataclasses.replace(found, throttler=nowhere)
        assert (await here.refused(here.call(seconds=0.2))).code is Code.DEADLINE_EXCEEDED
        assert here.triton.asked == []
        here.pipeline = found
        assert (await here.serve(here.call())).events[-1] == "end"
        assert (await here.serve(here.call())).events == ["replay"]


async def test_while_nobody_can_tell_whether_it_ran_a_call_with_a_key_is_503_and_one_without_is_served() -> (
    None
):
    async with place() as here:
        here.world.table.gone = True
        error = await here.refused(here.call())
        await here.serve(here.call(key=""))
        assert len(here.triton.asked) == 1
        here.pipeline = here.house.pipeline  # which keeps no claims
        assert (await here.refused(here.call())).code is Code.IDEMPOTENCY_UNAVAILABLE
    assert (error.code, error.rendering.http) == (Code.IDEMPOTENCY_UNAVAILABLE, 503)


async def test_an_answer_that_cannot_be_kept_is_told_all_the_same() -> None:
    async with place() as here:
        here.world.blobs.is_down = True
        client = await here.serve(here.call())
        here.world.blobs.is_down = False
        error = await here.refused(here.call())
    assert client.events[-1] == "end"
    assert "could not be kept" in error.sentence
