"""What the throttler promises to calls that come while nothing runs."""

import asyncio
import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.errors import Code, GatewayError
from gateway.loops import running
from gateway.scaling.throttler import Throttler
from gateway.triton.client import NotSent
from tests.conftest import ROOT
from tests.worlds.triton import ScalerWorld, TritonWorld

REPOSITORY = ROOT / "infra" / "models"


@asynccontextmanager
async def throttling(scaler: ScalerWorld, **given: int | float) -> AsyncIterator[Throttler]:
    loop = asyncio.get_running_loop()
    throttler = Throttler(scaler, loop.time, lambda: dict.fromkeys(("digits", "absent"), REPOSITORY), **given)  # type: ignore[arg-type]
    async with running(throttler=throttler.run()):
        yield throttler


async def refused(throttler: Throttler, model: str = "digits") -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        await throttler.acquire(model)
    return caught.value


async def test_two_hundred_first_calls_start_one_server_and_none_is_lost() -> None:
    async with TritonWorld() as triton, throttling(scaler := ScalerWorld([triton])) as throttler:
        slots = await asyncio.gather(*(throttler.acquire("digits") for _ in range(200)))
    assert len(scaler.started) == 1
    assert {slot.replica.id for slot in slots} == {"replica-0"}


async def test_nothing_starts_while_nobody_calls() -> None:
    async with TritonWorld() as triton, throttling(scaler := ScalerWorld([triton])):
        await asyncio.sleep(0)
    assert scaler.started == []


async def test_every_server_that_was_started_is_stopped_at_the_end() -> None:
    async with TritonWorld() as triton, throttling(scaler := ScalerWorld([triton])) as throttler:
        await throttler.acquire("digits")
    assert scaler.stopped == scaler.started


async def test_a_server_that_cannot_start_refuses_all_who_wait_and_says_when_to_come_back() -> None:
    async with TritonWorld() as triton, throttling(ScalerWorld([triton], fails="no memory")) as throttler:
        errors = await asyncio.gather(*(refused(throttler) for _ in range(5)))
    assert {error.code for error in errors} == {Code.MODEL_UNAVAILABLE}
    assert all(error.retry_after_seconds for error in errors)
    assert all("no memory" in error.private and "no memory" not in error.sentence for error in errors)


async def test_calls_beyond_the_bound_are_refused_at_once() -> None:
    async with TritonWorld() as triton, throttling(ScalerWorld([triton]), most_waiting=2) as throttler:
        async with asyncio.TaskGroup() as group:
            held = [group.create_task(throttler.acquire("digits")) for _ in range(2)]
            await asyncio.sleep(0)
            error = await refused(throttler)
        assert error.code is Code.OVERLOADED
        assert error.retry_after_seconds
        assert all(task.result().replica.id == "replica-0" for task in held)


async def test_a_caller_that_leaves_gives_its_place_in_the_queue_back() -> None:
    async with TritonWorld() as triton, throttling(ScalerWorld([triton]), most_waiting=1) as throttler:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await throttler.acquire("digits")
        assert (await throttler.acquire("digits")).replica.id == "replica-0"


async def test_after_a_replica_was_lost_the_next_call_has_another_one_started_and_the_old_one_stopped() -> (
    None
):
    async with (
        TritonWorld() as one,
        TritonWorld() as two,
        throttling(scaler := ScalerWorld([one, two])) as throttler,
    ):
        slot = await throttler.acquire("digits")
        refusal = NotSent("cannot connect")
        refusal.__cause__ = ConnectionRefusedError()
        throttler.lost(slot, refusal)
        throttler.lost(slot, refusal)
        assert (await throttler.acquire("digits")).replica.id == "replica-1"
        assert scaler.stopped == ["replica-0"]


async def test_a_replica_whose_process_ended_gets_no_more_calls() -> None:
    async with (
        TritonWorld() as one,
        TritonWorld() as two,
        throttling(scaler := ScalerWorld([one, two])) as throttler,
    ):
        await throttler.acquire("digits")
        scaler.gone["replica-0"] = "ended with 11"
        assert (await throttler.acquire("digits")).replica.id == "replica-1"


async def test_another_server_on_the_port_gets_no_calls_and_a_server_that_is_late_is_stopped() -> None:
    async with TritonWorld() as triton:
        scaler = ScalerWorld([triton], impostor="somebody else's")
        async with throttling(scaler, start_seconds=0.1) as throttler:
            assert "not ready within" in (await refused(throttler)).private
            while scaler.stopped != scaler.started:
                await asyncio.sleep(0.001)


@pytest.mark.parametrize("cause", [TimeoutError(), OSError(errno.EMFILE, "too many open files")])
async def test_a_fault_of_our_own_side_costs_no_living_replica(cause: OSError) -> None:
    ours = NotSent("cannot connect")
    ours.__cause__ = cause
    async with TritonWorld() as one, TritonWorld() as two, throttling(ScalerWorld([one, two])) as throttler:
        slot = await throttler.acquire("digits")
        throttler.lost(slot, ours)
        assert await throttler.acquire("digits") is slot


async def test_a_server_that_dies_while_it_starts_is_not_waited_for() -> None:
    async with TritonWorld(models=()) as triton:
        port = triton.port
    scaler = ScalerWorld([TritonWorld(port=port)], gone={"replica-0": "ended with 1"})
    async with throttling(scaler, start_seconds=1e6) as throttler:
        assert "ended with 1" in (await refused(throttler)).private


async def test_a_model_that_the_server_could_not_load_is_unavailable_and_the_others_are_not() -> None:
    async with TritonWorld() as triton, throttling(ScalerWorld([triton])) as throttler:
        assert (await refused(throttler, "absent")).code is Code.MODEL_UNAVAILABLE
        assert (await throttler.acquire("digits")).version_of("digits") == "3"


async def test_what_is_offered_at_zero_is_what_the_repository_holds_and_asking_starts_nothing() -> None:
    async with TritonWorld() as triton, throttling(scaler := ScalerWorld([triton])) as throttler:
        offered = [throttler.offers("digits", version) for version in ("", "1", "3", "x")]
        assert offered == [True, True, False, False]
        assert not throttler.offers("absent", "")
        assert scaler.started == []


async def test_what_is_offered_by_a_running_replica_is_what_it_loaded() -> None:
    async with TritonWorld() as triton, throttling(ScalerWorld([triton])) as throttler:
        await throttler.acquire("digits")
        assert [throttler.offers("digits", version) for version in ("", "1", "3", "2")] == [
            True,
            True,
            True,
            False,
        ]
        assert not throttler.offers("absent", "")
