"""A sequence stays where its state is, holds its place until it is over, and is nobody else's."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from gateway.admission.fair_queueing import Ticket
from gateway.call import Sequence
from gateway.errors import Code, GatewayError
from gateway.scaling import sequences
from gateway.scaling.registry import Resident
from gateway.scaling.residency import Phase
from gateway.scaling.sequences import Key, Open, Sequences
from tests.gateway.scaling.elastic import Elastic, elastic, model
from tests.worlds.triton import CONFIG, TritonWorld

IDLE_SECONDS = 2.0


def a_call(named: int | str, *, starts: bool = False, ends: bool = False) -> Sequence:
    return Sequence(id=named, starts=starts, ends=ends, head=lambda _: b"")


@dataclass(slots=True)
class World:
    sequences: Sequences
    here: Elastic
    now: float = 100.0

    async def call(
        self, named: int | str = 1, tenant: str = "t", model: str = "digits", *, starts: bool = False
    ) -> tuple[Resident, Open]:
        key = Key(tenant, model, "", named)
        place, found = await self.sequences.acquire(key, a_call(named, starts=starts), Ticket(tenant, 1.0))
        assert found is not None
        return place, found

    async def called(
        self,
        named: int | str = 1,
        tenant: str = "t",
        *,
        starts: bool = False,
        ends: bool = False,
        answered: bool = True,
    ) -> Open:
        """One whole call."""
        place, found = await self.call(named, tenant, starts=starts)
        self.here.throttler.release(place, "well")
        self.sequences.left(found, a_call(named, ends=ends), answered=answered)
        return found

    async def refused(self, named: int | str = 1) -> GatewayError:
        with pytest.raises(GatewayError) as caught:
            await self.call(named)
        return caught.value


def keeping(kind: str = "TYPE_UINT64") -> TritonWorld:
    """A Triton whose model keeps sequences that it knows by ids of this type."""
    control = [{"name": "CORRID", "control": [{"kind": "CONTROL_SEQUENCE_CORRID", "data_type": kind}]}]
    batching = {"max_sequence_idle_microseconds": int(IDLE_SECONDS * 1e6), "control_input": control}
    return TritonWorld(configs={"digits": {**CONFIG, "sequence_batching": batching}})


@asynccontextmanager
async def opened(*worlds: TritonWorld, target: int = 8) -> AsyncIterator[World]:
    digits = model("digits", max_replicas=len(worlds), target_concurrency=target)
    async with worlds[0], elastic(*worlds, models=(digits,)) as here:
        world = World(Sequences(here.throttler, lambda: 0.0, random.Random(3).randrange), here)
        world.sequences.clock = lambda: world.now
        yield world


async def test_every_call_of_a_sequence_goes_where_the_first_one_went() -> None:
    first, second = keeping(), keeping()
    async with second, opened(first, second, target=1) as world:
        begun = [await world.call(number, starts=True) for number in range(1, 7)]
        await world.here.until(lambda: len(world.here.residents("digits")) == 2)
        await world.here.until(lambda: all(p.phase is Phase.READY for p in world.here.residents("digits")))
        begun += [await world.call(number, starts=True) for number in range(7, 13)]
        assert len({place.replica.id for place, _ in begun}) == 2
        for place, found in begun:
            again, same = await world.call(found.key.id)
            assert (again, same) == (place, found)


async def test_two_tenants_with_one_id_are_two_sequences_and_neither_id_is_the_clients() -> None:
    async with opened(keeping()) as world:
        found = [await world.called(7, tenant, starts=True) for tenant in ("a", "b")]
        assert len({it.ours for it in found}) == 2
        assert 7 not in {it.ours for it in found}
        assert all(isinstance(it.ours, int) and 0 < it.ours < 2**63 for it in found)


@pytest.mark.parametrize(("kind", "largest"), [("TYPE_UINT32", 2**31), ("TYPE_INT64", 2**63)])
async def test_an_id_fits_the_models_type_and_is_given_once(kind: str, largest: int) -> None:
    async with opened(keeping(kind)) as world:
        drawn = iter([4, 4, 4, 5])
        world.sequences.draw = lambda below: next(drawn) if below < largest else -1
        ours = [(await world.called(number, starts=True)).ours for number in (1, 2)]
        assert ours == [5, 6]


async def test_a_model_that_knows_texts_is_given_a_text() -> None:
    async with opened(keeping("TYPE_STRING")) as world:
        found = await world.called("mine", starts=True)
        assert isinstance(found.ours, str)
        assert found.ours != "mine"


@pytest.mark.parametrize(("kind", "named"), [("TYPE_UINT64", "text"), ("TYPE_STRING", 7)])
async def test_an_id_of_the_wrong_type_never_reaches_the_server(kind: str, named: int | str) -> None:
    async with opened(keeping(kind)) as world:
        error = await world.refused(named)
        assert (error.code, "are known by" in error.sentence) == (Code.BAD_REQUEST, True)
        assert [place.in_flight for place in world.here.residents("digits")] == [0]


async def test_a_model_without_sequences_has_none() -> None:
    async with opened(TritonWorld()) as world:
        key = Key("t", "digits", "", 1)
        place, found = await world.sequences.acquire(key, a_call(1, starts=True), Ticket("t", 1.0))
        assert found is None
        assert place.in_flight == 1


async def test_an_open_sequence_holds_its_place_until_it_ends() -> None:
    async with opened(keeping()) as world:
        found = await world.called(starts=True)
        place = found.place
        assert (place.in_flight, place.demand.in_flight) == (1, 1)
        place.phase = Phase.DRAINING
        assert await world.called(ends=True) is found
        assert (place.in_flight, place.demand.in_flight) == (0, 0)
        place.phase = Phase.READY
        assert await world.called(starts=True) is not found


async def test_an_idle_sequence_lets_go_when_triton_has_forgotten_it_and_no_sooner() -> None:
    async with opened(keeping()) as world:
        found = await world.called(starts=True)
        world.now += IDLE_SECONDS
        await world.sequences.sweep()
        assert found.place.in_flight == 1
        await world.called()
        world.now += IDLE_SECONDS
        await world.sequences.sweep()
        assert found.place.in_flight == 1
        world.now += 1
        await world.sequences.sweep()
        assert found.place.in_flight == 0
        assert (world.sequences._open, dict(world.sequences._of_tenant), world.sequences._taken) == (
            {},
            {},
            set(),
        )


async def test_a_call_that_nobody_answered_leaves_no_sequence_behind() -> None:
    async with opened(keeping()) as world:
        found = await world.called(starts=True, answered=False)
        assert (found.place.in_flight, world.sequences._open) == (0, {})
        begun = await world.called(starts=True)
        assert await world.called(answered=False) is begun
        assert begun.place.in_flight == 1


async def test_a_sequence_that_goes_on_and_on_does_not_keep_a_draining_place_for_ever() -> None:
    async with opened(keeping()) as world:
        found = await world.called(starts=True)
        found.place.phase = Phase.DRAINING
        waited = 0.0
        while found.place.in_flight:
            await world.sequences.sweep()
            if found.place.in_flight:
                await world.called()
            world.now += 1
            waited += 1
            assert waited < 60
        assert waited > 10
        assert (await world.refused()).code is Code.SEQUENCE_LOST


async def test_a_sequence_with_a_call_under_way_is_not_idle() -> None:
    async with opened(keeping()) as world:
        place, found = await world.call(starts=True)
        world.now += 100
        await world.sequences.sweep()
        assert (place.in_flight, found.is_lost) == (2, False)


@pytest.mark.parametrize("swept", [True, False])
async def test_a_sequence_whose_place_is_gone_is_told_so_once_and_can_start_anew(*, swept: bool) -> None:
    async with opened(keeping()) as world:
        found = await world.called(starts=True)
        place = found.place
        place.server.places.pop("digits")
        if swept:
            await world.sequences.sweep()
            assert place.in_flight == 0
        error = await world.refused()
        assert error.code is Code.SEQUENCE_LOST
        assert (place.in_flight, place.demand.in_flight) == (0, 0)
        place.server.places["digits"] = place
        assert await world.called(starts=True) is not found


async def test_a_lost_sequence_that_starts_anew_is_not_refused() -> None:
    async with opened(keeping()) as world:
        found = await world.called(starts=True)
        found.place.phase = Phase.UNLOADING
        await world.sequences.sweep()
        found.place.phase = Phase.READY
        assert await world.called(starts=True) is not found


async def test_two_first_calls_at_once_are_one_sequence() -> None:
    async with opened(keeping()) as world:
        (first, one), (second, other) = await asyncio.gather(world.call(), world.call())
        assert (one, first) == (other, second)
        assert (one.calls, first.in_flight) == (2, 3)


async def test_a_tenant_has_a_bound_and_no_part_in_anothers() -> None:
    async with opened(keeping()) as world:
        for number in range(1, sequences._MOST + 1):
            await world.called(number, starts=True)
        error = await world.refused(sequences._MOST + 1)
        assert (error.code, error.retry_after_seconds) == (Code.TOO_MANY_AT_ONCE, 1)
        await world.called(1, ends=True)
        await world.called(sequences._MOST + 1, starts=True)
        await world.called(1, "other", starts=True)


async def test_whatever_calls_do_every_place_is_free_when_all_is_over() -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    async with opened(keeping()) as world:
        under_way: list[tuple[Resident, Open]] = []
        for _ in range(400):
            act = rng.choice(["call", "leave", "end", "sweep", "wait"])
            if act == "call":
                under_way.append(
                    await world.call(rng.randrange(1, 4), rng.choice("ab"), starts=rng.random() < 0.5)
                )
            elif act in ("leave", "end") and under_way:
                place, found = under_way.pop(rng.randrange(len(under_way)))
                world.here.throttler.release(place, "well")
                world.sequences.left(
                    found, a_call(found.key.id, ends=act == "end"), answered=rng.random() < 0.9
                )
            elif act == "sweep":
                await world.sequences.sweep()
            else:
                world.now += rng.random()
            held = sum(not found.is_lost for found in world.sequences._open.values())
            taken = [place.in_flight for place in world.here.residents("digits")]
            assert sum(taken) == len(under_way) + held
        for place, found in under_way:
            world.here.throttler.release(place, "well")
            world.sequences.left(found, a_call(found.key.id), answered=True)
        world.now += 100
        await world.sequences.sweep()
        assert [place.in_flight for place in world.here.residents("digits")] == [0]
