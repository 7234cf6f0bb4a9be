"""Where a call goes, and where it goes on when it cannot have run."""

from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from msgspec import json
from msgspec.structs import replace

from gateway.audit.record import OutcomeBody
from gateway.call import Outgoing
from gateway.errors import Code, GatewayError
from gateway.privacy.mask import Screen
from tests.gateway.house import Body, Client, House, house
from tests.worlds.bodies import Pieces
from tests.worlds.triton import NOTHING_FOUND, TritonWorld


class Streaming(Body):
    """A payload whose tensors are still on their way: they can be sent once."""

    async def judge(self, limit_bytes: int, tenant_id: str, screen: Screen | None) -> Outgoing:
        async def rest() -> AsyncIterator[bytes]:
            yield b"1234"

        return Outgoing(head=b"{}", rest=Pieces(rest()), tensor_bytes=4, binary=True)


async def unloaded_behind_our_back(here: House, triton: TritonWorld) -> None:
    """The model has been used, and is not there any more."""
    await here.pipeline.serve(here.call(), Client())
    triton.asked.clear()
    triton.unload("digits")


async def test_a_call_that_finds_the_model_gone_runs_once_where_it_is_loaded_again() -> None:
    async with TritonWorld() as triton, house(triton) as here:
        await unloaded_behind_our_back(here, triton)
        client = Client()
        await here.pipeline.serve(here.call(), client)
        assert (client.status, len(triton.asked)) == (200, 1)
        assert triton.loads == ["digits", "digits"]


async def test_a_streamed_body_that_finds_the_model_gone_is_refused_and_never_sent_in_part() -> None:
    async with TritonWorld() as triton, house(triton) as here:
        await unloaded_behind_our_back(here, triton)
        with pytest.raises(GatewayError) as caught:
            await here.pipeline.serve(here.call(payload=Streaming()), Client())
        assert (caught.value.code, triton.asked) == (Code.MODEL_UNAVAILABLE, [])


async def test_a_version_that_the_model_has_not_is_not_found_and_nothing_is_sent() -> None:
    async with TritonWorld() as triton, house(triton) as here:
        with pytest.raises(GatewayError) as caught:
            await here.pipeline.serve(replace(here.call(), version="9"), Client())
        assert (caught.value.code, triton.asked) == (Code.MODEL_NOT_FOUND, [])
        await here.settled()
        (outcome,) = here.records("outcome")
        assert outcome.entry.interval_us is None  # it was on no replica
        took = json.decode(outcome.present, type=OutcomeBody).durations
        assert 0 < took["wait_us"] == took["total_us"]
        client = Client()
        await here.pipeline.serve(replace(here.call(), version="1"), client)
        assert client.status == 200


async def test_a_models_own_404_is_its_answer_and_moves_nothing() -> None:
    async with TritonWorld() as triton, house(triton) as here:
        await here.pipeline.serve(here.call(), Client())
        triton.mood = "finds nothing"
        client = Client()
        await here.pipeline.serve(here.call(), client)
        (place,) = here.pipeline.throttler.registry.residents()
        assert (client.status, client.body, len(triton.asked)) == (404, NOTHING_FOUND, 2)
        assert place in place.demand.rotation


@pytest.mark.parametrize(
    ("mood", "failures"),
    [("closes before", 1), ("crashes", 1), ("raises", 0), ("cannot read", 0), ("answers", 0)],
)
async def test_what_is_the_models_fault_counts_against_its_place_and_what_is_the_clients_does_not(
    mood: str, failures: int
) -> None:
    async with TritonWorld() as triton, house(triton) as here:
        await here.pipeline.serve(here.call(), Client())
        (place,) = here.pipeline.throttler.registry.residents()
        triton.mood = mood  # type: ignore[assignment]
        with suppress(GatewayError):
            await here.pipeline.serve(here.call(), Client())
        assert (place.failures, place.in_flight) == (failures, 0)
