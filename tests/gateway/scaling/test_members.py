"""Several members send to the servers of one that has charge: what each holds is waited for, whoever wants the room."""

import asyncio

from gateway.loops import running
from gateway.scaling.registry import Registry
from gateway.scaling.residency import Phase
from gateway.scaling.throttler import Throttler
from gateway.state import clock
from tenants.fleet import Fleet, Replicas
from tests.gateway.scaling.elastic import elastic, model
from tests.worlds.elastic import follower
from tests.worlds.triton import TritonWorld

ONE_FITS = Fleet("local", replicas=Replicas(0, 1), memory_bytes=10)


async def test_no_model_is_unloaded_under_a_call_of_another_member_however_long_one_waits() -> None:
    models = (model("a"), model("b"))
    async with (
        TritonWorld(models=("a", "b")) as triton,
        elastic(triton, models=models, fleet=ONE_FITS) as here,
    ):
        other = Throttler(Registry(), clock, lambda: here.models, here.notes)
        second = follower(here.parts.follower.table, other, here.parts.calls, "second")
        async with running(second=second.run()):
            place = await other.acquire("a")
            async with asyncio.TaskGroup() as group:
                waits = group.create_task(here.served_by("b"))
                await here.until(lambda: place.phase is Phase.DRAINING)  # b starves
                await asyncio.sleep(0.6)
                assert (triton.unloads, waits.done()) == ([], False)
                other.release(place, "well")
            assert waits.result() == "replica-0"
            assert triton.unloads == ["a"]
            assert place.phase is Phase.UNLOADING
