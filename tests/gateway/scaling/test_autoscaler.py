"""What the autoscaler promises: servers and models come and go with demand, and what fails is replaced without harm to the rest."""

import asyncio

import pytest

from gateway.errors import Code, GatewayError
from gateway.scaling.registry import Resident
from gateway.scaling.residency import Phase
from gateway.triton.client import UpstreamFailed
from tenants.fleet import Fleet, Replicas
from tenants.model import Canary, CanaryInput, TensorMetadata
from tenants.ports import VALUE_BYTES
from tests.gateway.scaling.elastic import elastic, model
from tests.worlds.triton import CONFIG, TritonWorld

FOUR = ("a", "b", "c", "d")
ONE_FITS = Fleet("local", replicas=Replicas(0, 1), memory_bytes=10)


async def fails(place: Resident) -> None:
    with pytest.raises(UpstreamFailed):
        await place.client.ask("GET", "/v2/models/digits")


# Demand


async def test_a_model_that_nobody_calls_is_unloaded_and_its_server_stopped_when_both_were_idle() -> None:
    fleet = Fleet("local", replicas=Replicas(0, 1), memory_bytes=20, idle_seconds=0.05)
    async with (
        TritonWorld() as triton,
        elastic(triton, models=(model("digits", idle_seconds=0.05),), fleet=fleet) as here,
    ):
        await here.served_by()
        await here.until(lambda: not here.board.servers)
        assert triton.unloads == ["digits"]
        assert here.scaler.stopped == ["replica-0"]
        assert ("idle_unload", "digits") in here.notes.events
        assert await here.served_by() == "replica-1"


async def test_the_floor_of_a_fleet_runs_while_nobody_calls() -> None:
    fleet = Fleet("local", replicas=Replicas(1, 1), memory_bytes=20, idle_seconds=0.01)
    async with TritonWorld() as triton, elastic(triton, fleet=fleet) as here:
        await here.until(lambda: "boot" in here.notes.phases)
        await here.until(lambda: len(here.scaler.started) == 1)
        assert here.scaler.stopped == []


async def test_models_share_a_replica_while_there_is_room_and_another_one_starts_when_there_is_none() -> None:
    async with (
        TritonWorld(models=FOUR) as one,
        TritonWorld(models=FOUR) as two,
        elastic(one, two, models=tuple(map(model, FOUR))) as here,
    ):
        served = [await here.served_by(name) for name in FOUR]
    assert served == ["replica-0", "replica-0", "replica-1", "replica-1"]
    assert one.unloads == two.unloads == []


async def test_a_model_that_waits_takes_the_room_of_the_one_that_was_used_longest_ago() -> None:
    async with TritonWorld(models=FOUR, unload_seconds=0.02) as triton:
        triton.sizes = dict.fromkeys(FOUR, 10)
        async with elastic(triton, models=tuple(map(model, FOUR))) as here:
            for name in ("a", "b", "a", "c"):
                await here.served_by(name)
            assert triton.unloads == ["b"]
            await here.served_by("a")
            await here.served_by("b")
        assert triton.unloads == ["b", "c"]
        assert triton.peak_bytes <= 20
        assert ("eviction", "b") in here.notes.events


async def test_no_model_is_unloaded_with_a_call_under_way_however_long_another_waits() -> None:
    async with (
        TritonWorld(models=FOUR) as triton,
        elastic(triton, models=tuple(map(model, FOUR)), fleet=ONE_FITS) as here,
    ):
        place = await here.throttler.acquire("a")
        async with asyncio.TaskGroup() as group:
            waits = group.create_task(here.served_by("b"))
            await here.until(lambda: place.phase is Phase.DRAINING)  # b starves
            assert triton.unloads == []
            assert not waits.done()
            here.throttler.release(place, "well")
        assert waits.result() == "replica-0"
    assert triton.unloads == ["a"]


async def test_a_model_with_more_calls_than_its_target_gets_more_replicas() -> None:
    wide = model("digits", max_replicas=2, target_concurrency=2)
    async with TritonWorld() as one, TritonWorld() as two, elastic(one, two, models=(wide,)) as here:
        calls = [await here.throttler.acquire("digits") for _ in range(4)]
        await here.until(lambda: len(calls[0].demand.rotation) == 2)
    assert here.scaler.started == ["replica-0", "replica-1"]


# Faults


async def test_a_server_that_cannot_start_refuses_who_waits_and_says_why_to_the_operator_alone() -> None:
    async with TritonWorld() as triton, elastic(triton) as here:
        here.scaler.fails = "no memory"
        errors = await asyncio.gather(*(here.refused() for _ in range(5)))
    assert {error.code for error in errors} == {Code.MODEL_UNAVAILABLE}
    assert all(error.retry_after_seconds for error in errors)
    assert all("no memory" in error.private and "no memory" not in error.sentence for error in errors)


async def test_a_fleet_that_does_not_start_is_not_asked_again_at_once_and_is_after_a_while() -> None:
    async with TritonWorld() as triton, elastic(triton) as here:
        here.scaler.fails = "no memory"
        await here.refused()
        failed = here.notes.events.count(("start_failed", "local"))
        assert (await here.refused()).retry_after_seconds
        assert here.notes.events.count(("start_failed", "local")) == failed
        here.scaler.fails = ""
        starts = here.board.fleet("local").starts
        loop = asyncio.get_running_loop()
        await here.until(lambda: starts.state(loop.time()) != "open")
        assert await here.served_by() == "replica-0"


async def test_another_server_on_the_port_gets_no_calls() -> None:
    async with TritonWorld() as triton, elastic(triton, start_seconds=0.05) as here:
        here.scaler.impostor = "somebody else's"
        assert "did not answer within" in (await here.refused()).private
        await here.until(lambda: here.scaler.stopped == here.scaler.started)


async def test_a_server_that_ends_is_replaced_and_who_waits_is_served() -> None:
    async with TritonWorld() as one, TritonWorld() as two, elastic(one, two) as here:
        assert await here.served_by() == "replica-0"
        await here.until(lambda: not here.board.asked("digits").waiting)
        here.scaler.end("replica-0")
        await here.until(lambda: not here.board.servers)
        assert ("crash", "local") in here.notes.events
        assert await here.served_by() == "replica-1"


async def test_a_server_that_dies_while_it_starts_is_not_waited_for() -> None:
    triton = TritonWorld(boots=asyncio.Event())
    async with triton, elastic(triton, start_seconds=1e6) as here, asyncio.TaskGroup() as group:
        waits = group.create_task(here.refused())
        for number in range(2):  # the first failure is tried again at once
            await here.until(lambda number=number: len(here.scaler.started) == number + 1)  # type: ignore[misc]
            here.scaler.end(f"replica-{number}", "ended with 1")
        assert "ended with 1" in (await waits).private


async def test_a_frozen_server_is_killed_and_replaced_and_the_calls_on_it_fail() -> None:
    async with (
        TritonWorld() as one,
        TritonWorld() as two,
        elastic(one, two) as here,
        asyncio.TaskGroup() as group,
    ):
        place = await here.throttler.acquire("digits")
        one.freeze()
        call = group.create_task(fails(place))
        await call
        assert await here.served_by() == "replica-1"
        assert here.scaler.graces == [0]


async def test_a_crashed_model_is_loaded_again_and_its_neighbours_stay() -> None:
    async with TritonWorld(models=FOUR) as triton, elastic(triton, models=tuple(map(model, FOUR))) as here:
        neighbour = await here.throttler.acquire("b")
        place = await here.throttler.acquire("a")
        triton.moods["a"] = "crashes"
        here.throttler.release(place, "failed")
        await here.until(lambda: "a" in triton.unloads)
        assert await here.served_by("a") == "replica-0"
        assert triton.loads.count("a") == 2
        assert here.residents("b") == [neighbour]
        assert ("canary_failed", "a") in here.notes.events
    assert here.scaler.started == ["replica-0"]


async def test_a_clients_fault_moves_nothing() -> None:
    async with TritonWorld() as triton, elastic(triton) as here:
        for _ in range(20):
            place = await here.throttler.acquire("digits")
            here.throttler.release(place, "failed")  # the model answers its canary well
        kept = here.kept(place)
        await here.until(lambda: kept.uses == 20 and not kept.is_suspect and not kept.is_checked)
        assert await here.served_by() == "replica-0"
    assert triton.loads == ["digits"]


async def test_what_a_tenant_can_bring_about_by_its_data_takes_no_model_without_a_canary_from_the_others() -> (
    None
):
    dynamic = CONFIG | {"input": [{"name": "x", "data_type": "TYPE_FP32", "dims": [-1]}]}
    async with TritonWorld(configs={"digits": dynamic}) as triton, elastic(triton) as here:
        place = await here.throttler.acquire("digits")
        kept = here.kept(place)
        assert kept.canary is None
        for _ in range(50):
            here.throttler.release(await here.throttler.acquire("digits"), "failed")
        await here.until(lambda: kept.uses == 51 and not kept.is_suspect and not kept.is_checked)
        assert triton.unloads == []
        for _ in range(5):
            here.throttler.release(await here.throttler.acquire("digits"), "dead")
        await here.until(lambda: triton.unloads == ["digits"])


async def test_a_fleet_that_gets_a_floor_while_nothing_runs_is_started() -> None:
    async with TritonWorld() as triton, elastic(triton) as here:
        here.fleets["local"] = Fleet("local", replicas=Replicas(1, 1))
        here.board.wake.set()  # as each reread of the documents does
        await here.until(lambda: here.scaler.started == ["replica-0"])


async def test_a_model_that_backs_off_is_not_ready_and_says_when_to_ask_again() -> None:
    async with TritonWorld(models=FOUR) as triton, elastic(triton) as here:
        here.models["digits"] = model("digits")
        await here.refused("digits")
        with pytest.raises(GatewayError) as caught:
            here.throttler.offers("digits", "")
        assert caught.value.retry_after_seconds


async def test_a_hanging_model_with_nothing_under_way_is_loaded_again() -> None:
    async with TritonWorld() as triton, elastic(triton) as here:
        await here.served_by()
        triton.moods["digits"] = "silent"
        here.throttler.suspect(here.residents("digits")[0])
        await here.until(lambda: triton.unloads == ["digits"])
        assert await here.served_by() == "replica-0"


async def test_a_model_that_is_silent_while_it_has_calls_gets_no_new_ones_and_keeps_those_it_has() -> None:
    async with TritonWorld() as triton, elastic(triton) as here:
        place = await here.throttler.acquire("digits")
        triton.moods["digits"] = "silent"
        here.throttler.suspect(place)
        await here.until(lambda: place.demand.rotation == [])
        assert (triton.unloads, place.phase) == ([], Phase.READY)
        del triton.moods["digits"]
        assert await here.served_by() == "replica-0"
    assert triton.loads == ["digits"]


async def test_a_model_that_fails_to_load_is_refused_and_backs_off_and_its_neighbours_are_served() -> None:
    async with TritonWorld(models=FOUR) as triton, elastic(triton, models=tuple(map(model, FOUR))) as here:
        triton.broken["a"] = "no weights"
        error = await here.refused("a")
        assert "no weights" in error.private
        loads = triton.loads.count("a")
        assert (await here.refused("a")).code is Code.MODEL_UNAVAILABLE
        assert triton.loads.count("a") == loads
        assert await here.served_by("b") == "replica-0"


async def test_a_model_that_fails_at_great_length_is_refused_like_any_other() -> None:
    async with TritonWorld(models=FOUR) as triton, elastic(triton, models=tuple(map(model, FOUR))) as here:
        triton.broken["a"] = "no weights" + "!" * VALUE_BYTES
        assert "no weights" in (await here.refused("a")).private
        assert await here.served_by("b") == "replica-0"


async def test_a_model_that_ends_its_server_while_it_loads_backs_off_alone() -> None:
    async with TritonWorld(models=FOUR) as triton, elastic(triton, models=tuple(map(model, FOUR))) as here:
        triton.gates["load a"] = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            refused = group.create_task(here.refused("a"))
            for number in range(2):
                await here.until(lambda number=number: triton.loads.count("a") == number + 1)  # type: ignore[misc]
                here.scaler.end(f"replica-{number}")
        assert (await here.refused("a")).code is refused.result().code is Code.MODEL_UNAVAILABLE
        assert here.board.fleet("local").starts.failures == 0
        assert await here.served_by("b") == "replica-2"


async def test_a_model_whose_files_are_missing_is_refused_with_what_to_do_in_the_log() -> None:
    async with TritonWorld() as triton, elastic(triton, models=(model("absent"),)) as here:
        assert "config.pbtxt" in (await here.refused("absent")).private


async def test_a_canary_of_the_document_is_answered_before_the_first_call_is_let_through() -> None:
    picture = CanaryInput("image", "FP32", (1, 1, 28, 28), (0.5,) * 784)
    async with TritonWorld() as triton, elastic(triton) as here:
        here.change("digits", canary=Canary((picture,)))
        await here.served_by()
        assert len(triton.canaries) == 1
        assert b"0.5" in triton.canaries[0]
        assert {"boot", "load", "first_inference", "queue"} == set(here.notes.phases)


async def test_a_model_whose_canary_is_not_answered_well_gets_no_call() -> None:
    dot = Canary((CanaryInput("image", "FP32", (1,), (0.5,)),))
    async with TritonWorld(mood="crashes") as triton, elastic(triton) as here:
        here.change("digits", canary=dot)
        assert "first inference" in (await here.refused()).private


async def test_a_changed_repository_is_loaded_anew() -> None:
    async with TritonWorld() as one, TritonWorld() as two, elastic(one, two) as here:
        await here.served_by()
        (before,) = here.places("digits")
        here.change("digits", repository="/elsewhere")
        await here.until(lambda: before.phase is Phase.UNLOADING)
        assert await here.served_by() == "replica-1"


async def test_what_the_catalogue_says_of_a_model_is_changed_without_loading_it_anew() -> None:
    told = (TensorMetadata("image", "FP32", (-1, 1, 28, 28), "ink is 1"),)
    async with TritonWorld() as triton, elastic(triton) as here:
        await here.served_by()
        (place,) = here.places("digits")
        here.change("digits", description="Reads digits.", tags=("vision",), inputs=told, outputs=told)
        await here.until(lambda: not here.board.wake.is_set())  # it was looked at
        assert await here.served_by() == "replica-0"
        assert (place.phase, place.outdated) == (Phase.READY, False)
        assert (triton.loads, triton.unloads) == (["digits"], [])


async def test_a_model_that_is_gone_from_the_documents_is_unloaded() -> None:
    async with TritonWorld() as triton, elastic(triton) as here:
        await here.served_by()
        del here.models["digits"]
        await here.until(lambda: triton.unloads == ["digits"])
