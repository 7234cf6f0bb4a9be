"""The class that a call declares decides when it is its turn, at every door; the model's server hears nothing of it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import msgspec
import pytest

from gateway.admission.fair_queueing import Ticket
from gateway.frontends.http import HttpDoor, Readiness, other_paths
from gateway.frontends.http_body import JsonMemory
from gateway.frontends.oip_rest import OipRest
from gateway.scaling.registry import Resident
from gateway.scaling.throttler import Throttler
from gateway.triton.control import Deployment
from tests.gateway.frontends import grpc_worlds
from tests.gateway.frontends.grpc_worlds import ended, infer
from tests.gateway.frontends.test_oip_rest import BODY, ids, request
from tests.gateway.frontends.worlds import door
from tests.gateway.house import house
from tests.worlds.triton import TritonWorld

INFER = "/v2/models/digits/infer"
ONE = msgspec.convert({"instance_group": [{"count": 1}]}, Deployment)


@dataclass(slots=True)
class Busy:
    """A model of one instance that somebody's call holds until `free`."""

    throttler: Throttler
    place: Resident
    ticket: Ticket

    async def waiting(self, count: int) -> list[str]:
        """The classes of those that wait, once there are so many."""
        async with asyncio.timeout(5):
            while len(self.place.demand.waiting) < count:
                await asyncio.sleep(0.001)
        return [ticket.service_class for ticket in self.place.demand.waiting]

    def free(self) -> None:
        self.throttler.release(self.place, "none", self.ticket)


async def busy(throttler: Throttler) -> Busy:
    place = await throttler.acquire("digits")
    throttler.release(place, "none")
    place.deployment, place.at_once = ONE, 1
    place.demand.order.costs.held_seconds = 1.0
    throttler.admit(place)  # of which it is known now how many calls it takes
    await throttler.acquire("digits", ticket := Ticket("other", 1.0))
    return Busy(throttler, place, ticket)


@asynccontextmanager
async def taking(done: list[str]) -> AsyncIterator[Callable[[str, Awaitable[object]], object]]:
    """Notes the name of each call as it is over."""
    async with asyncio.TaskGroup() as group:

        async def noted(name: str, call: Awaitable[object]) -> None:
            await call
            done.append(name)

        yield lambda name, call: group.create_task(noted(name, call))


async def test_over_rest_an_interactive_call_goes_before_a_batch_call_that_came_first() -> None:
    async with TritonWorld() as triton, house(triton) as here:
        oip = OipRest(here.pipeline, JsonMemory(10**6, 10**6), 60.0)
        app = HttpDoor(oip, other_paths(oip, lambda: Readiness(ready=True, state="ok")), ids())
        async with door(app) as world:
            done: list[str] = []
            model = await busy(here.pipeline.throttler)
            async with taking(done) as take:
                take("batch", world.ask(request(here, "POST", INFER, BODY, "X-Gateway-Class: batch")))
                await model.waiting(1)
                take("interactive", world.ask(request(here, "POST", INFER, BODY)))
                assert await model.waiting(2) == ["batch", "interactive"]
                model.free()
            assert done == ["interactive", "batch"]
            refused = await world.ask(request(here, "POST", INFER, BODY, "X-Gateway-Class: flex"))
            assert (refused.status, "x-gateway-class" in refused.error) == (400, True)


@pytest.mark.usefixtures("grpc_loop")
async def test_over_grpc_an_interactive_call_goes_before_a_batch_call_that_came_first() -> None:
    async with grpc_worlds.door() as here:
        done: list[str] = []
        model = await busy(here.here.pipeline.throttler)
        async with taking(done) as take:
            take("batch", here.call("ModelInfer", infer(), ("x-gateway-class", "batch")))
            await model.waiting(1)
            take("interactive", here.call("ModelInfer", infer()))
            assert await model.waiting(2) == ["batch", "interactive"]
            model.free()
        assert done == ["interactive", "batch"]
        assert not any("x-gateway-class" in told for told in here.upstream.told)
        assert (await ended(here.call("ModelInfer", infer(), ("x-gateway-class", "flex"))))[
            0
        ] == "INVALID_ARGUMENT"


async def test_who_sends_a_body_slowly_keeps_nobody_waiting_and_its_call_is_not_run_out_of_turn() -> None:
    head = b'{"inputs":[{"name":"i","datatype":"UINT8","shape":[200],"parameters":{"binary_data_size":200}}]}'
    more = (f"Inference-Header-Content-Length: {len(head)}", f"Content-Length: {len(head) + 200}")
    async with TritonWorld() as triton, house(triton) as here:
        oip = OipRest(here.pipeline, JsonMemory(10**6, 10**6), 60.0)
        app = HttpDoor(oip, other_paths(oip, lambda: Readiness(ready=True, state="ok")), ids())
        async with door(app) as world:
            model = await busy(here.pipeline.throttler)
            model.free()
            slow = await world.connect()
            await slow.send(request(here, "POST", INFER, None, *more) + head + bytes(50))
            async with asyncio.timeout(5):
                while not model.place.in_flight:
                    await asyncio.sleep(0.001)
            assert (await world.ask(request(here, "POST", INFER, BODY))).status == 200
            await here.pipeline.throttler.acquire("digits", other := Ticket("other", 1.0))
            model.place.demand.order.costs.held_seconds = 1.0
            here.pipeline.throttler.admit(model.place)
            await slow.send(bytes(150))
            assert await model.waiting(1) == ["interactive"]
            assert len(triton.asked) == 1
            here.pipeline.throttler.release(model.place, "none", other)
            assert (await slow.answer()).status == 200
        assert len(triton.asked) == 2
