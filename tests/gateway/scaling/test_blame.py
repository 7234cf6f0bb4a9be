"""Who answers for what goes wrong: a model for itself, a server for all, a caller for nothing; and nobody for ever."""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress

import pytest

from gateway.errors import GatewayError
from gateway.scaling.residency import Life, Phase, Place
from gateway.triton.canary import ID as CANARY_ID
from tenants.fleet import Fleet, Replicas
from tests.gateway.scaling.elastic import Elastic, elastic, model
from tests.worlds.loading import Refused
from tests.worlds.triton import CRASHED, Exchange, TritonWorld

FOUR = ("a", "b", "c", "d")
ONE_FITS = Fleet("local", replicas=Replicas(0, 1), memory_bytes=10)


class Odd(TritonWorld):
    """Does as told with a canary, and with a question of control; the rest as ever."""

    canary: Callable[[], None] = staticmethod(lambda: None)
    question: Callable[[Exchange], None] = staticmethod(lambda _: None)

    async def _infer(self, model: str, exchange: Exchange) -> None:
        if b'"id":"%s"' % CANARY_ID.encode() in exchange.body:
            self.canary()
        await super()._infer(model, exchange)

    async def _control(self, exchange: Exchange) -> bytes:
        self.question(exchange)
        return await super()._control(exchange)


def crash() -> None:
    raise Refused(500, CRASHED, "text/plain")


def not_taken() -> None:
    raise Refused(400, b'{"error":"unexpected shape"}')


async def test_a_model_whose_first_inference_ends_its_server_backs_off() -> None:
    async with Odd() as triton, elastic(triton) as here:
        triton.canary = lambda: here.scaler.end(triton.server_id)
        await here.refused()
        assert 1 <= len(here.scaler.started) <= 2
        assert (await here.refused()).retry_after_seconds
        assert 1 <= len(here.scaler.started) <= 2


async def test_a_model_that_ends_its_server_while_another_one_loads_too_is_found_out() -> None:
    async with TritonWorld(models=FOUR) as triton, elastic(triton, models=tuple(map(model, FOUR))) as here:
        triton.gates = {"load a": asyncio.Event(), "load b": asyncio.Event()}
        async with asyncio.TaskGroup() as group:
            culprit, innocent = group.create_task(here.refused("a")), group.create_task(here.served_by("b"))
            await here.until(lambda: {"a", "b"} <= set(triton.loads))
            triton.gates["load b"].set()
            for number in range(2):
                await here.until(lambda number=number: triton.loads.count("a") > number)  # type: ignore[misc]
                here.scaler.end(here.scaler.started[-1])
        assert "could not be loaded" in culprit.result().private
        assert innocent.result()
        assert await here.served_by("b")


async def test_a_new_repository_whose_model_takes_no_zeros_is_served_as_a_first_one_is() -> None:
    async with Odd() as triton, elastic(triton, fleet=ONE_FITS) as here:
        await here.served_by()
        (before,) = here.places("digits")
        triton.canary = crash
        here.change("digits", repository="/elsewhere")
        await here.until(lambda: before.phase is Phase.UNLOADING)
        assert await here.served_by() == "replica-0"


async def test_who_waits_while_a_repair_has_the_model_back_off_is_told_at_once() -> None:
    async with TritonWorld() as triton, elastic(triton) as here:
        place = await here.throttler.acquire("digits")
        here.kept(place).asked.loads.failed("before", asyncio.get_running_loop().time())
        await here.rests(place)
        async with asyncio.TaskGroup() as group:
            waits = group.create_task(here.refused())
            await asyncio.sleep(0)
            triton.moods["digits"] = "crashes"
            here.throttler.suspect(place)
        assert "does not work" in waits.result().private
        here.throttler.release(place, "none")


async def test_a_flood_of_failures_is_no_flood_of_canaries() -> None:
    async with TritonWorld() as triton, elastic(triton) as here:
        for _ in range(300):
            place = await here.throttler.acquire("digits")
            await asyncio.sleep(0.001)
            here.throttler.release(place, "failed")
        assert 2 <= len(triton.canaries) < 30


async def test_a_canary_that_the_model_does_not_take_any_more_moves_nothing() -> None:
    async with Odd() as triton, elastic(triton) as here:
        place = await here.throttler.acquire("digits")
        triton.canary = not_taken
        here.throttler.suspect(place)
        kept = here.kept(place)
        await here.until(lambda: kept.judged_at > 0)
        assert place in place.demand.rotation
        here.throttler.release(place, "none")
    assert triton.unloads == []


async def test_a_busy_model_takes_calls_again_when_nobody_wants_its_room_any_more() -> None:
    async with (
        TritonWorld(models=FOUR) as triton,
        elastic(triton, models=tuple(map(model, FOUR)), fleet=ONE_FITS) as here,
    ):
        slow = await here.throttler.acquire("a")
        with suppress(TimeoutError):
            async with asyncio.timeout(2):
                await here.throttler.acquire("b")
        assert await here.served_by("a") == "replica-0"
        here.throttler.release(slow, "well")
    assert triton.unloads == []


async def test_one_lost_answer_retires_no_server() -> None:
    lost: list[str] = []

    def lose(exchange: Exchange) -> None:
        if exchange.path.endswith("/unload") and not lost:
            lost.append(exchange.path)
            raise ConnectionError

    async with (
        Odd(models=FOUR) as triton,
        elastic(triton, models=(model("a", idle_seconds=0.1), model("b"))) as here,
    ):
        triton.question = lose
        await here.served_by("b")
        await here.served_by("a")
        (neighbour,) = here.places("b")
        await here.until(lambda: triton.unloads == ["a"])
        assert (neighbour.server.life, len(lost)) == (Life.READY, 1)


async def test_a_server_that_ends_while_a_model_unloads_is_not_asked_any_more() -> None:
    async with TritonWorld() as triton, elastic(triton, models=(model("digits", idle_seconds=0.05),)) as here:
        triton.gates["unload digits"] = asyncio.Event()
        await here.served_by()
        (place,) = here.places("digits")
        await here.until(lambda: triton.unloads == ["digits"])
        here.scaler.end("replica-0")
        await here.until(lambda: not here.board.servers)
        await here.until(lambda: not place.server.places)


async def test_a_model_that_may_work_on_for_a_caller_who_left_is_given_time() -> None:
    async with TritonWorld() as triton, elastic(triton) as here:
        place = await here.throttler.acquire("digits")
        triton.moods["digits"] = "silent"
        here.throttler.release(place, "left")
        here.throttler.suspect(place)
        kept = here.kept(place)
        await here.until(lambda: kept.silent_since is not None)
        assert (triton.unloads, place.phase) == ([], Phase.READY)
        del triton.moods["digits"]
        assert await here.served_by() == "replica-0"
    assert triton.loads == ["digits"]


async def test_after_a_rest_a_model_begins_with_one_replica_again() -> None:
    wide = model("digits", max_replicas=2, target_concurrency=2, idle_seconds=0.1)
    fleet = Fleet("local", replicas=Replicas(0, 2), memory_bytes=20, idle_seconds=0.1)
    async with (
        TritonWorld() as one,
        TritonWorld() as two,
        elastic(one, two, models=(wide,), fleet=fleet) as here,
    ):
        calls = [await here.throttler.acquire("digits") for _ in range(4)]
        await here.until(lambda: len(calls[0].demand.rotation) == 2)
        for call in calls:
            here.throttler.release(call, "well")
        await here.until(lambda: not here.board.servers)
        await here.until(lambda: here.board.asked("digits").wanted == 1)
        assert await here.served_by() == "replica-2"


@pytest.mark.parametrize("_turn", range(2))
async def test_whatever_crashes_and_whoever_leaves_nothing_is_held_for_ever(_turn: int) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    worlds = [TritonWorld(models=FOUR, load_seconds=0.01, unload_seconds=0.02) for _ in range(3)]
    fleet = Fleet("local", replicas=Replicas(0, 3), memory_bytes=20, idle_seconds=0.05)
    short = {"max_replicas": 2, "target_concurrency": 2, "idle_seconds": 0.1, "start_deadline_seconds": 1.0}
    async with elastic(*worlds, models=tuple(model(name, **short) for name in FOUR), fleet=fleet) as here:
        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(_calls(here, chance))
            for _ in range(20):
                await asyncio.sleep(0.05)
                _harm(here, chance)
        assert here.throttler.held == 0
        assert all(demand.in_flight == 0 for demand in here.registry.demands.values())
        assert not any(demand.waiting for demand in here.registry.demands.values())
        await here.until(lambda: not here.board.servers)
        assert not any(demand.rotation for demand in here.registry.demands.values())


async def _calls(here: Elastic, chance: random.Random) -> None:
    for _ in range(100):
        with suppress(TimeoutError, GatewayError):
            async with asyncio.timeout(chance.choice([0.001, 0.01, 0.05, 1])):
                place = await here.throttler.acquire(chance.choice(FOUR))
                try:
                    assert _is(place, Phase.READY)
                    kept = next((it for it in here.places(place.model) if it.loaded == place.loaded), None)
                    await asyncio.sleep(chance.random() * 0.05)
                    is_gone = kept is None or kept.is_broken or kept.server.life is Life.STOPPING
                    assert _is(place, Phase.READY, Phase.DRAINING) or is_gone
                finally:
                    here.throttler.release(place, chance.choice(["well", "failed", "dead", "none"]))


def _is(place: Place, *phases: Phase) -> bool:
    return place.phase in phases


def _harm(here: Elastic, chance: random.Random) -> None:
    running = list(here.scaler.host.running)
    if running and chance.random() < 0.3:
        here.scaler.end(chance.choice(running))
    elif running:
        here.scaler.world(chance.choice(running)).moods[chance.choice(FOUR)] = "crashes"
