"""In what order calls get the slots of a model's places, and what becomes of those that wait when places come and go."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from gateway.admission.fair_queueing import Ticket
from gateway.errors import Code, GatewayError
from gateway.scaling.registry import KnownServer, Registry, Resident
from gateway.scaling.residency import Life, Phase
from gateway.scaling.scaler import Replica
from gateway.scaling.throttler import Throttler
from gateway.triton.client import Client
from gateway.triton.control import Deployment
from gateway.triton.grpc_client import GrpcClient
from tests.gateway.scaling.elastic import Elastic, Notes, elastic, model
from tests.worlds.triton import TritonWorld

SECONDS = 0.05  # of a call: too long for a second one to be sent ahead


@asynccontextmanager
async def opened(instances: int = 1, **scaling: float | int) -> AsyncIterator[tuple[Elastic, Resident]]:
    """A model of so many instances that runs, of which it is known how long its calls take."""
    world = TritonWorld(configs={"digits": {"instance_group": [{"count": instances}]}})
    async with world, elastic(world, models=(model("digits", **scaling),)) as here:
        ticket = Ticket("past", 1.0)
        place = await here.throttler.acquire("digits", ticket)
        over(here, place, ticket)
        costs = place.demand.order.costs
        costs.seconds = costs.call_seconds = costs.held_seconds = SECONDS
        here.throttler._count_slots(place.demand)
        yield here, place


def over(here: Elastic, place: Resident, ticket: Ticket) -> None:
    """It ended, and took as long as all do."""
    ticket.started_at = here.throttler.clock() - SECONDS * ticket.rounds
    here.throttler.ended(place, ticket)
    here.throttler.release(place, "well", ticket)


async def took(here: Elastic, group: asyncio.TaskGroup, tenant: str, done: list[str]) -> Ticket:
    """A call that waits, and says so once it has its turn."""
    ticket = Ticket(tenant, 1.0)

    async def call() -> None:
        await here.throttler.acquire("digits", ticket)
        done.append(tenant)

    group.create_task(call())
    await asyncio.sleep(0)
    return ticket


async def test_so_many_calls_are_under_way_as_the_instances_take_and_the_others_wait() -> None:
    async with opened(instances=2) as (here, place), asyncio.TaskGroup() as group:
        done: list[str] = []
        tickets = [await took(here, group, "t", done) for _ in range(5)]
        assert (len(done), place.in_flight, here.throttler.held) == (2, 2, 3)
        over(here, place, tickets[0])
        await asyncio.sleep(0)
        assert (len(done), place.in_flight, here.throttler.held) == (3, 2, 2)
        for ticket in tickets[1:]:
            await asyncio.sleep(0)
            over(here, place, ticket)
        await asyncio.sleep(0)
        assert (len(done), place.in_flight, here.throttler.held) == (5, 0, 0)


async def test_who_sends_one_call_waits_behind_one_of_a_tenant_that_sends_many() -> None:
    async with opened() as (here, place), asyncio.TaskGroup() as group:
        done: list[str] = []
        tickets = [await took(here, group, "loud", done) for _ in range(4)]
        tickets.append(await took(here, group, "quiet", done))
        while len(done) < 5:
            running = next(it for it in tickets if it.state == "running")
            over(here, place, running)
            await asyncio.sleep(0)
    assert done.index("quiet") <= 2


async def test_a_call_that_could_not_end_before_its_deadline_is_refused_at_once_and_told_when_it_could() -> (
    None
):
    async with opened() as (here, place), asyncio.TaskGroup() as group:
        done: list[str] = []
        tickets = [await took(here, group, "t", done) for _ in range(4)]
        now = here.throttler.clock()
        with pytest.raises(GatewayError) as caught:
            await here.throttler.acquire("digits", Ticket("t", 1.0, deadline=now + SECONDS))
        assert caught.value.code is Code.OVERLOADED
        assert caught.value.retry_after_seconds
        for ticket in tickets:
            over(here, place, ticket)
            await asyncio.sleep(0)


async def test_a_caller_that_leaves_while_it_waits_leaves_nothing_behind() -> None:
    async with opened() as (here, place):
        async with asyncio.TaskGroup() as group:
            done: list[str] = []
            first = await took(here, group, "t", done)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await here.throttler.acquire("digits", Ticket("t", 1.0))
            assert (here.throttler.held, place.demand.order.waiting, len(place.demand.waiting)) == (0, 0, 0)
            over(here, place, first)
        assert (place.demand.order.running, place.in_flight, place.slots_taken) == (0, 0, 0)


async def test_a_slot_that_comes_as_its_caller_leaves_goes_to_the_next_one() -> None:
    async with opened() as (here, place), asyncio.TaskGroup() as group:
        done: list[str] = []
        first = await took(here, group, "t", done)
        leaves = group.create_task(here.throttler.acquire("digits", Ticket("t", 1.0)))
        await asyncio.sleep(0)
        last = await took(here, group, "u", done)
        over(here, place, first)  # whose turn it is now ...
        leaves.cancel()  # ... leaves before it knows
        await asyncio.wait([leaves])
        await asyncio.sleep(0)
        assert (done, place.in_flight) == (["t", "u"], 1)
        over(here, place, last)


async def test_a_call_that_never_ran_costs_its_tenant_nothing_and_teaches_nothing() -> None:
    async with opened() as (here, place):
        known = place.demand.order.costs.seconds
        ticket = Ticket("t", 1.0)
        await here.throttler.acquire("digits", ticket)
        here.throttler.release(place, "none", ticket)
        assert place.demand.order.costs.seconds == known
        assert place.demand.order.running == 0


async def test_calls_at_a_place_that_drains_keep_no_slot_of_another_place() -> None:
    async with opened() as (here, place):
        slow, next_one = Ticket("t", 1.0), Ticket("t", 1.0)
        await here.throttler.acquire("digits", slow)
        here.throttler.withdraw(place)  # it would take a new call only once this one is over
        here.throttler.admit(place)
        assert place.demand.order.slots == 1
        here.throttler.withdraw(place)
        other = Resident(
            **{
                name: getattr(place, name)
                for name in ("model", "memory_bytes", "row", "server", "replica", "client", "grpc", "demand")
            },
            deployment=place.deployment,
        )
        here.throttler.admit(other)
        assert await here.throttler.acquire("digits", next_one) is other
        over(here, place, slow)
        assert place.demand.order.slots == 1
        over(here, other, next_one)
        here.throttler.withdraw(other)
        here.throttler.admit(place)


async def test_who_waits_for_a_turn_is_refused_when_the_last_place_went_and_none_comes_in_time() -> None:
    """Where nobody brings the place back."""
    clock = asyncio.get_running_loop().time
    registry, row = Registry(), model("digits", start_deadline_seconds=0.05)
    throttler = Throttler(registry, clock, lambda: {"digits": row}, Notes())
    place = Resident(
        model="digits",
        memory_bytes=0,
        phase=Phase.READY,
        row=row,
        server=KnownServer(name="s", fleet="local", life=Life.READY, replica=Replica("r", "127.0.0.1", 1)),
        replica=Replica("r", "127.0.0.1", 1),
        client=Client("127.0.0.1", 1),
        grpc=GrpcClient("127.0.0.1", 2, clock=clock),
        demand=registry.demand("digits"),
        deployment=msgspec.convert({"instance_group": [{"count": 1}]}, Deployment),
        at_once=1,
    )
    place.demand.order.costs.held_seconds = SECONDS
    throttler.admit(place)
    first = Ticket("t", 1.0)
    await throttler.acquire("digits", first)
    waits = asyncio.ensure_future(throttler.acquire("digits", Ticket("u", 1.0)))
    await asyncio.sleep(0)
    throttler.withdraw(place)
    with pytest.raises(GatewayError) as caught:
        async with asyncio.timeout(5):
            await waits
    assert (caught.value.code, throttler.held) == (Code.MODEL_UNAVAILABLE, 0)
    throttler.release(place, "none", first)


async def test_a_tenant_that_waits_for_many_models_leaves_room_for_another() -> None:
    names = ("a", "b", "c", "d")
    async with (
        TritonWorld(models=names, boots=asyncio.Event()) as triton,
        elastic(triton, most_waiting=10, models=tuple(map(model, names))) as here,
    ):
        tasks = []
        for name in names * 3:
            tasks.append(asyncio.ensure_future(here.throttler.acquire(name, Ticket("loud", 1.0))))
            await asyncio.sleep(0)
        assert here.throttler.held == 5
        tasks.append(asyncio.ensure_future(here.throttler.acquire("a", Ticket("quiet", 1.0))))
        await asyncio.sleep(0)
        assert here.throttler.held == 6
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert here.throttler.held == 0


async def test_so_much_is_sent_ahead_as_an_instance_works_off_in_a_moment() -> None:
    async with opened() as (here, place):
        costs = place.demand.order.costs
        seen = []
        for costs.held_seconds in (0.03, 0.02, 0.006, 0.0001):
            here.throttler._count_slots(place.demand)
            seen.append(place.demand.order.slots)
        assert seen == [1, 2, 4, 65]


async def test_what_is_sent_ahead_is_not_taken_for_a_longer_batch() -> None:
    async with opened() as (here, place), asyncio.TaskGroup() as group:
        costs = place.demand.order.costs
        costs.held_seconds = 0.006
        here.throttler._count_slots(place.demand)
        done: list[str] = []
        tickets = [await took(here, group, "t", done) for _ in range(4)]
        assert [ticket.rounds for ticket in tickets] == [1, 2, 3, 4]
        for ticket in tickets:
            ticket.started_at = here.throttler.clock() - 0.006 * ticket.rounds
            here.throttler.ended(place, ticket)
            here.throttler.release(place, "well", ticket)
        assert costs.batch_seconds == pytest.approx(0.006, rel=0.1)


async def test_a_reply_that_is_read_slowly_keeps_no_slot() -> None:
    async with opened() as (here, place):
        slow, other = Ticket("t", 1.0), Ticket("u", 1.0)
        await here.throttler.acquire("digits", slow)
        here.throttler.ended(place, slow)
        assert await here.throttler.acquire("digits", other) is place
        assert (place.in_flight, place.slots_taken) == (2, 1)
        here.throttler.release(place, "well", slow)
        assert (place.in_flight, place.slots_taken) == (1, 1)
        over(here, place, other)


async def test_a_call_whose_body_comes_slowly_takes_its_turn_when_it_is_here() -> None:
    async with opened() as (here, place), asyncio.TaskGroup() as group:
        assert await here.throttler.acquire("digits") is place  # its body is still coming
        done: list[str] = []
        quick = await took(here, group, "u", done)
        assert done == ["u"]
        slow = Ticket("t", 1.0)
        turn = group.create_task(here.throttler.turn(place, slow))
        await asyncio.sleep(0)
        assert (turn.done(), place.slots_taken) == (False, 1)
        over(here, place, quick)
        await turn
        assert (slow.state, place.slots_taken, place.in_flight) == ("running", 1, 1)
        here.throttler.release(place, "well", slow)
        assert (place.slots_taken, place.in_flight) == (0, 0)


async def test_who_waits_for_its_turn_at_a_place_that_takes_no_more_goes_on_there() -> None:
    async with opened() as (here, place), asyncio.TaskGroup() as group:
        done: list[str] = []
        first = await took(here, group, "u", done)
        assert await here.throttler.acquire("digits") is place
        slow = Ticket("t", 1.0)
        turn = group.create_task(here.throttler.turn(place, slow))
        await asyncio.sleep(0)
        here.throttler.withdraw(place)
        await turn
        await here.throttler.turn(place, Ticket("t", 1.0))  # nor does who comes then wait
        here.throttler.release(place, "well", slow)
        over(here, place, first)
        assert (place.slots_taken, place.in_flight, place.demand.order.running) == (0, 0, 0)


async def test_who_leaves_as_its_turn_comes_at_its_own_place_gives_the_slot_back_when_it_is_released() -> (
    None
):
    async with opened() as (here, place):
        first, slow = Ticket("u", 1.0), Ticket("t", 1.0)
        await here.throttler.acquire("digits", first)
        await here.throttler.acquire("digits")
        turn = asyncio.ensure_future(here.throttler.turn(place, slow))
        await asyncio.sleep(0)
        over(here, place, first)
        turn.cancel()
        await asyncio.wait([turn])
        here.throttler.release(place, "left", slow)
        assert (place.slots_taken, place.in_flight, place.demand.order.running) == (0, 0, 0)
