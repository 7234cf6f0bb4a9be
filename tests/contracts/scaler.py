"""What every adapter of the Scaler port must do. A subclass gives it a `stage` fixture: a scaler, and hands on the servers it starts."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Protocol

import pytest
from msgspec import structs

from gateway.scaling.scaler import Replica, Scaler, StartFailed
from gateway.triton.client import Client, UpstreamFailed
from gateway.triton.control import load, state, versions
from gateway.triton.probe import is_ready
from tenants.model import Model
from tests.worlds.host import eventually


class Stage(Protocol):
    @property
    def scaler(self) -> Scaler: ...

    @property
    def model(self) -> Model:
        """One that can be served."""

    def kill(self, replica: Replica) -> None:
        """Its process ends by itself."""

    def freeze(self, replica: Replica) -> None:
        """Its process goes on, and does nothing."""

    def heir(self) -> Scaler:
        """That of another process on this host."""

    def left(self, replica: Replica) -> list[str]:
        """What there is of it on this host: processes, shared memory, files but for its log."""

    async def slow_call(self, client: Client) -> "asyncio.Task[int]":
        """A call that is under way when this returns, and soon ends with this status."""


@dataclass(frozen=True, slots=True)
class Running:
    replica: Replica
    client: Client


@asynccontextmanager
async def started(stage: Stage, *models: Model) -> AsyncIterator[Running]:
    """A server that answers and has loaded these; it is stopped at the end, if it was not before."""
    replica = await stage.scaler.start("local")
    client = Client(replica.host, replica.port)
    try:
        await eventually(lambda: is_ready(client, replica.id), seconds=20)
        for model in models:
            await stage.scaler.provide(replica, model)
            await load(client, replica, model.name, seconds=20)
        yield Running(replica, client)
    finally:
        client.close()
        if stage.left(replica):
            async with asyncio.timeout(20):
                await stage.scaler.stop(replica, grace_seconds=0)


class ScalerContract:
    async def test_a_started_server_answers_under_its_id_and_has_no_model(self, stage: Stage) -> None:
        async with started(stage) as one:
            assert await versions(one.client, stage.model.name) == ()
            assert await state(one.client, one.replica, stage.model.name) == ""

    async def test_every_start_gives_another_server(self, stage: Stage) -> None:
        async with started(stage) as one, started(stage) as two:
            assert one.replica.id != two.replica.id
            assert one.replica.port != two.replica.port
            assert one.replica.control != two.replica.control

    async def test_what_is_provided_can_be_loaded_by_that_server_alone(self, stage: Stage) -> None:
        async with started(stage, stage.model) as one, started(stage) as two:
            assert await versions(one.client, stage.model.name) != ()
            assert await state(two.client, two.replica, stage.model.name) == ""

    async def test_what_cannot_be_provided_is_said_and_harms_nothing(self, stage: Stage) -> None:
        async with started(stage, stage.model) as one:
            with pytest.raises(StartFailed, match="nowhere"):
                await stage.scaler.provide(one.replica, structs.replace(stage.model, name="nowhere"))
            assert await versions(one.client, stage.model.name) != ()

    async def test_what_was_provided_may_be_provided_again(self, stage: Stage) -> None:
        async with started(stage, stage.model) as one:
            await stage.scaler.provide(one.replica, stage.model)
            assert await versions(one.client, stage.model.name) != ()

    @pytest.mark.parametrize("control", [(), (("x-gateway-control", "guessed"),)])
    async def test_model_control_is_for_who_has_the_replicas_headers(
        self, stage: Stage, control: tuple[tuple[str, str], ...]
    ) -> None:
        async with started(stage, stage.model) as one:
            with pytest.raises(UpstreamFailed, match="403"):
                await state(one.client, replace(one.replica, control=control), stage.model.name)

    async def test_who_waits_for_its_end_learns_how_it_ended_and_nothing_is_left(self, stage: Stage) -> None:
        async with started(stage, stage.model) as one:
            async with asyncio.timeout(20), asyncio.TaskGroup() as group:
                waiters = [group.create_task(stage.scaler.gone(one.replica)) for _ in range(2)]
                await asyncio.sleep(0)
                stage.kill(one.replica)
            first, second = (waiter.result() for waiter in waiters)
            assert first == second
            assert one.replica.id in first
            await stage.scaler.stop(one.replica, grace_seconds=0)
            assert stage.left(one.replica) == []

    async def test_waiting_for_the_end_can_be_given_up(self, stage: Stage) -> None:
        async with started(stage) as one:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await stage.scaler.gone(one.replica)
            assert await is_ready(one.client, one.replica.id)

    @pytest.mark.parametrize("grace_seconds", [0.0, 20.0])
    async def test_after_a_stop_nothing_is_left_and_who_waited_knows(
        self, stage: Stage, grace_seconds: float
    ) -> None:
        async with started(stage, stage.model) as one, asyncio.timeout(20), asyncio.TaskGroup() as group:
            waiter = group.create_task(stage.scaler.gone(one.replica))
            await asyncio.sleep(0)
            one.client.close()
            await stage.scaler.stop(one.replica, grace_seconds)
            assert stage.left(one.replica) == []
            assert not await is_ready(one.client, one.replica.id)
            await waiter

    async def test_a_call_under_way_ends_within_the_grace(self, stage: Stage) -> None:
        async with started(stage, stage.model) as one, asyncio.timeout(20):
            call = await stage.slow_call(one.client)
            one.client.close()  # Triton waits for idle connections too
            await stage.scaler.stop(one.replica, grace_seconds=15)
            assert await call == 200

    @pytest.mark.parametrize("grace_seconds", [0.0, 0.2])
    async def test_a_server_that_does_nothing_any_more_is_stopped_all_the_same(
        self, stage: Stage, grace_seconds: float
    ) -> None:
        async with started(stage, stage.model) as one, asyncio.timeout(10):
            stage.freeze(one.replica)
            await stage.scaler.stop(one.replica, grace_seconds)
            assert stage.left(one.replica) == []

    # In whose hand

    async def test_what_was_left_runs_on_as_it_was_and_who_adopts_it_learns_of_its_end_and_can_stop_it(
        self, stage: Stage
    ) -> None:
        heir = stage.heir()
        async with started(stage, stage.model) as one, asyncio.timeout(20):
            assert one.replica.fleet == "local"
            await stage.scaler.leave(one.replica)
            assert await heir.adopt() == [one.replica]
            assert await state(one.client, one.replica, stage.model.name) == "READY"
            await heir.provide(one.replica, stage.model)
            await heir.tidy(one.replica)
            async with asyncio.TaskGroup() as group:
                waiter = group.create_task(heir.gone(one.replica))
                await asyncio.sleep(0)
                assert not waiter.done()
                one.client.close()
                await heir.stop(one.replica, grace_seconds=0)
                assert one.replica.id in await waiter
            assert stage.left(one.replica) == []

    async def test_what_is_in_somebodys_hand_is_adopted_by_nobody_else(self, stage: Stage) -> None:
        heir = stage.heir()
        async with started(stage) as one, asyncio.timeout(20):
            assert await heir.adopt() == []
            assert await stage.scaler.adopt() == []
            await stage.scaler.leave(one.replica)
            assert await heir.adopt() == [one.replica]
            assert await stage.scaler.adopt() == []
            assert await heir.adopt() == []
            await heir.leave(one.replica)
            assert await stage.scaler.adopt() == [one.replica]

    async def test_an_adopted_server_that_ends_by_itself_is_told_of_and_nothing_is_left(
        self, stage: Stage
    ) -> None:
        heir = stage.heir()
        async with started(stage, stage.model) as one, asyncio.timeout(20):
            await stage.scaler.leave(one.replica)
            await heir.adopt()
            async with asyncio.TaskGroup() as group:
                waiter = group.create_task(heir.gone(one.replica))
                await asyncio.sleep(0)
                stage.kill(one.replica)
            assert one.replica.id in waiter.result()
            await heir.stop(one.replica, grace_seconds=0)
            assert stage.left(one.replica) == []

    async def test_what_ended_in_nobodys_hand_is_cleared_away(self, stage: Stage) -> None:
        heir = stage.heir()
        async with started(stage, stage.model) as one, asyncio.timeout(20):
            await stage.scaler.leave(one.replica)
            stage.kill(one.replica)

            async def nothing_left() -> bool:
                adopted = await heir.adopt()
                assert adopted in ([], [one.replica])  # it may be about to end
                for replica in adopted:
                    await heir.gone(replica)
                    await heir.stop(replica, grace_seconds=0)
                return stage.left(one.replica) == []

            await eventually(nothing_left, seconds=10)

    @pytest.mark.parametrize("grace_seconds", [0.0, 0.2])
    async def test_an_adopted_server_that_does_nothing_any_more_is_stopped_all_the_same(
        self, stage: Stage, grace_seconds: float
    ) -> None:
        heir = stage.heir()
        async with started(stage, stage.model) as one, asyncio.timeout(10):
            await stage.scaler.leave(one.replica)
            await heir.adopt()
            stage.freeze(one.replica)
            await heir.stop(one.replica, grace_seconds)
            assert stage.left(one.replica) == []
