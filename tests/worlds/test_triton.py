"""The small Triton keeps the contracts that it stands for: the port's, and what the real server does with a model."""

import asyncio
from dataclasses import dataclass, field

import pytest

from gateway.scaling.scaler import Replica, StartFailed
from gateway.triton.canary import Health
from gateway.triton.canary import answer as ask_canary
from gateway.triton.canary import request as canary_of
from gateway.triton.client import Client, NotSent, UpstreamFailed
from gateway.triton.control import LoadFailed, config, load, state, unload, versions
from gateway.triton.probe import is_ready
from tenants.model import Model
from tests.contracts.scaler import Running, ScalerContract, Stage, started
from tests.worlds.triton import Mood, ScalerWorld, TritonWorld

DIGITS = Model(id="m_1", name="digits", repository="/models", tenants="*")


@dataclass(slots=True)
class Worlds:
    scaler: ScalerWorld = field(default_factory=lambda: ScalerWorld([TritonWorld(), TritonWorld()]))
    model: Model = DIGITS

    def world(self, replica: Replica) -> TritonWorld:
        return self.scaler.world(replica.id)

    def kill(self, replica: Replica) -> None:
        self.scaler.end(replica.id)

    def freeze(self, replica: Replica) -> None:
        self.world(replica).freeze()

    def left(self, replica: Replica) -> list[str]:
        return [replica.id] if replica.id in self.scaler.host.running else []

    def heir(self) -> ScalerWorld:
        return self.scaler.heir()

    async def slow_call(self, client: Client) -> "asyncio.Task[int]":
        world = next(world for world in self.scaler.worlds if world.port == client.port)
        world.moods["digits"] = "holds"
        task = asyncio.create_task(call(client))
        await world.arrived.wait()
        asyncio.get_running_loop().call_later(0.05, world.released.set)
        return task


async def call(client: Client) -> int:
    return (await client.ask("POST", "/v2/models/digits/infer", b'{"inputs":[]}')).status


class TestScalerWorld(ScalerContract):
    @pytest.fixture
    def stage(self) -> Stage:
        return Worlds()


@pytest.fixture
def worlds() -> Worlds:
    return Worlds()


async def health(worlds: Worlds, one: Running) -> Health:
    body = canary_of(DIGITS, (await config(one.client, one.replica, "digits"))[0])
    assert body is not None
    return await ask_canary(one.client, "digits", body, seconds=0.2)


async def test_a_model_that_is_unloaded_finishes_what_it_has_takes_nothing_more_and_then_frees_its_memory(
    worlds: Worlds,
) -> None:
    async with started(worlds, DIGITS) as one, asyncio.timeout(5):
        world = worlds.world(one.replica)
        world.sizes["digits"] = 7
        held = await worlds.slow_call(one.client)
        await unload(one.client, one.replica, "digits")
        assert await state(one.client, one.replica, "digits") == "UNLOADING"
        assert await call(one.client) == 404
        assert world.taken_bytes == 7
        assert await held == 200
        await world.reached("digits", "UNAVAILABLE")
        assert (world.taken_bytes, await versions(one.client, "digits")) == (0, ())


@pytest.mark.parametrize(("mood", "seen"), [("crashes", Health.DEAD), ("silent", Health.SILENT)])
async def test_a_model_that_fails_stays_ready_never_ends_its_unload_and_is_repaired_by_a_load_behind_it(
    worlds: Worlds, mood: Mood, seen: Health
) -> None:
    async with started(worlds, DIGITS) as one:
        world = worlds.world(one.replica)
        assert await health(worlds, one) is Health.WELL
        world.moods["digits"] = mood
        assert await health(worlds, one) is seen
        await load(one.client, one.replica, "digits", seconds=1)
        assert await health(worlds, one) is seen
        await unload(one.client, one.replica, "digits")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await world.reached("digits", "UNAVAILABLE")
        await load(one.client, one.replica, "digits", seconds=1)
        assert await health(worlds, one) is Health.WELL
        assert world.misuses == []
    assert (world.asked, len(world.canaries)) == ([], 4)


async def test_a_load_waits_for_its_gate_and_goes_on_when_its_caller_has_left(worlds: Worlds) -> None:
    async with started(worlds) as one:
        world = worlds.world(one.replica)
        world.gates["load digits"] = asyncio.Event()
        await worlds.scaler.provide(one.replica, DIGITS)
        with pytest.raises(TimeoutError):
            await load(one.client, one.replica, "digits", seconds=0.05)
        assert await state(one.client, one.replica, "digits") == "LOADING"
        world.gates["load digits"].set()
        await world.reached("digits", "READY")


async def test_a_load_while_the_memory_is_still_taken_is_a_misuse(worlds: Worlds) -> None:
    async with started(worlds, DIGITS) as one:
        world = worlds.world(one.replica)
        world.gates["unload digits"] = asyncio.Event()
        await unload(one.client, one.replica, "digits")
        await load(one.client, one.replica, "digits", seconds=1)
        assert world.misuses == ["digits was loaded while UNLOADING"]


async def test_a_model_that_cannot_be_loaded_says_why(worlds: Worlds) -> None:
    async with started(worlds) as one:
        worlds.world(one.replica).broken["digits"] = "no such file"
        await worlds.scaler.provide(one.replica, DIGITS)
        with pytest.raises(LoadFailed, match="no such file"):
            await load(one.client, one.replica, "digits", seconds=1)
        with pytest.raises(LoadFailed, match="failed to poll"):
            await load(one.client, one.replica, "absent", seconds=1)
        assert await state(one.client, one.replica, "digits") == "UNAVAILABLE"


async def test_a_server_that_boots_refuses_connections_and_one_that_died_too() -> None:
    world = TritonWorld(boots=asyncio.Event())
    scaler = ScalerWorld([world])
    replica = await scaler.start("local")
    client = Client(replica.host, replica.port)
    with pytest.raises(NotSent):
        await client.ask("GET", "/v2")
    assert world.boots is not None
    world.boots.set()
    while not await is_ready(client, replica.id):
        await asyncio.sleep(0)
    scaler.end(replica.id)
    with pytest.raises((NotSent, UpstreamFailed)):
        await client.ask("GET", "/v2")
    await scaler.stop(replica, 0)
    client.close()


async def test_a_host_is_full_until_a_server_was_stopped_and_no_server_is_stopped_twice() -> None:
    scaler = ScalerWorld([TritonWorld()])
    replica = await scaler.start("local")
    with pytest.raises(StartFailed, match="room for 1"):
        await scaler.start("local")
    await scaler.stop(replica, 0)
    with pytest.raises(AssertionError):
        await scaler.stop(replica, 0)
    await scaler.stop(await scaler.start("local"), 0)
