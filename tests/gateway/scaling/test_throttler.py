"""What the throttler promises to calls that come while nothing runs."""

import asyncio

import pytest

from gateway.errors import Code
from gateway.triton.client import NotSent
from tests.gateway.scaling.elastic import elastic, model
from tests.worlds.triton import TritonWorld


async def test_two_hundred_first_calls_start_one_server_load_once_and_none_is_lost() -> None:
    async with TritonWorld() as triton, elastic(triton) as here:
        places = await asyncio.gather(*(here.throttler.acquire("digits") for _ in range(200)))
        assert {place.replica.id for place in places} == {"replica-0"}
        assert places[0].in_flight == 200
        for place in places:
            here.throttler.release(place, "well")
        assert places[0].in_flight == 0
    assert here.scaler.started == ["replica-0"]
    assert triton.loads == ["digits"]


async def test_nothing_starts_while_nobody_calls() -> None:
    async with TritonWorld() as triton, elastic(triton) as here:
        await asyncio.sleep(0)
    assert here.scaler.started == []


async def test_every_server_that_was_started_is_stopped_at_the_end() -> None:
    async with TritonWorld() as triton, elastic(triton) as here:
        await here.served_by()
    assert here.scaler.stopped == here.scaler.started


async def test_calls_beyond_the_bound_are_refused_at_once_and_one_model_leaves_room_for_others() -> None:
    models = (model("a"), model("b"))
    async with (
        TritonWorld(models=("a", "b")) as triton,
        elastic(triton, most_waiting=4, models=models) as here,
    ):
        async with asyncio.TaskGroup() as group:
            who = (("a", "t"), ("a", "u"), ("b", "v"), ("b", "w"))
            held = [group.create_task(here.served_by(*each)) for each in who]
            await asyncio.sleep(0)
            errors = [await here.refused(name, "x") for name in ("a", "b")]
        assert [task.result() for task in held] == ["replica-0"] * 4
    assert {error.code for error in errors} == {Code.OVERLOADED}
    assert all(error.retry_after_seconds for error in errors)


async def test_a_caller_that_leaves_gives_its_place_in_the_queue_back() -> None:
    async with TritonWorld() as triton, elastic(triton, most_waiting=2) as here:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await here.throttler.acquire("digits")
        assert await here.served_by() == "replica-0"


async def test_a_caller_that_leaves_in_the_moment_in_which_it_gets_a_place_gives_that_back() -> None:
    async with TritonWorld() as triton, elastic(triton) as here, asyncio.TaskGroup() as group:
        place = await here.throttler.acquire("digits")
        await here.rests(place)
        waits = group.create_task(here.throttler.acquire("digits"))
        await asyncio.sleep(0)
        here.throttler.admit(place)
        waits.cancel()
        await asyncio.wait([waits])
        assert waits.cancelled()
        assert place.in_flight == 1
        assert here.throttler.held == 0


async def test_no_call_is_held_longer_than_its_models_start_deadline() -> None:
    triton = TritonWorld(boots=asyncio.Event())
    async with triton, elastic(triton, models=(model("digits", start_deadline_seconds=0.05),)) as here:
        error = await here.refused()
        assert (error.code, here.throttler.held) == (Code.MODEL_UNAVAILABLE, 0)
        assert error.retry_after_seconds


async def test_a_place_that_cannot_be_reached_gets_no_calls_until_it_was_looked_at() -> None:
    async with TritonWorld() as triton, elastic(triton) as here:
        place = await here.throttler.acquire("digits")
        here.throttler.lost(place, NotSent("cannot connect"))
        assert place.demand.rotation == []
        assert await here.throttler.acquire("digits") is place  # it answers
        assert ("breaker_opened", "digits") in here.notes.events
    assert here.scaler.started == ["replica-0"]


async def test_a_call_takes_the_place_with_the_fewest_calls() -> None:
    async with TritonWorld() as one, TritonWorld() as two:
        models = (model("digits", max_replicas=2, target_concurrency=1),)
        async with elastic(one, two, models=models) as here:
            first = [await here.throttler.acquire("digits") for _ in range(4)]
            await here.until(lambda: len(first[0].demand.rotation) == 2)
            taken = [(await here.throttler.acquire("digits")).replica.id for _ in range(4)]
    assert taken == ["replica-1"] * 4


async def test_what_is_offered_at_zero_is_what_the_repository_holds_and_asking_starts_nothing() -> None:
    async with TritonWorld() as triton, elastic(triton) as here:
        offered = [here.throttler.offers("digits", version) for version in ("", "1", "3", "x")]
        assert offered == [True, True, False, False]
        assert not here.throttler.offers("absent", "")
    assert here.scaler.started == []


async def test_what_is_offered_by_a_running_replica_is_what_it_loaded() -> None:
    async with TritonWorld() as triton, elastic(triton) as here:
        await here.served_by()
        offered = [here.throttler.offers("digits", version) for version in ("", "1", "3", "2")]
        assert offered == [True, True, True, False]
        assert not here.throttler.offers("absent", "")
