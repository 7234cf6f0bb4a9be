"""A request that was refused, or broke off, is freed at once: no error keeps it until the garbage collector comes by."""

import gc
from collections.abc import Iterator
from dataclasses import replace

import pytest

from gateway.frontends.http import HttpDoor, Readiness, other_paths
from gateway.frontends.http_body import Collected, JsonMemory
from gateway.frontends.oip_rest import OipRest
from tests.gateway.frontends import test_oip_rest as rest
from tests.gateway.frontends import test_openai as openai
from tests.gateway.frontends.worlds import door
from tests.gateway.house import house
from tests.worlds.triton import TritonWorld

INFER = "/v2/models/digits/infer"


@pytest.fixture
def _no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def kept() -> list[object]:
    """The bodies that are still here."""
    return [it for it in gc.get_objects() if isinstance(it, Collected)]


@pytest.mark.usefixtures("_no_collector")
@pytest.mark.parametrize(
    ("target", "body"),
    [(INFER, b"{"), (INFER, b"x" * 1001), ("/v2/models/private/infer", rest.BODY), (INFER, rest.BODY)],
)
async def test_a_request_over_rest_leaves_nothing(target: str, body: bytes) -> None:
    async with rest.opened(TritonWorld()) as (here, world):
        await world.ask(rest.request(here, "POST", target, body))
        assert kept() == []


@pytest.mark.usefixtures("_no_collector")
async def test_a_stream_that_stands_still_and_is_cut_leaves_nothing() -> None:
    async with TritonWorld(mood="stops within") as triton, house(triton) as here:
        pipeline = replace(here.pipeline, stream_idle_seconds=0.05)
        oip = OipRest(pipeline, JsonMemory(10**6, 10**6), 60.0)
        others = other_paths(oip, lambda: Readiness(ready=True, state="ok"))
        async with door(HttpDoor(oip, others, rest.ids())) as world:
            wire = await world.connect()
            await wire.send(
                rest.request(here, "POST", "/v2/models/digits/generate_stream", b'{"text_input":""}')
            )
            assert b"stood still" in await wire.rest()
            assert kept() == []


@pytest.mark.usefixtures("_no_collector")
@pytest.mark.parametrize("body", [b"{", {"model": "absent"}, {"model": "digits", "messages": "x"}])
async def test_a_request_of_openai_s_leaves_nothing(body: object) -> None:
    async with openai.opened() as (_, here, world):
        await world.ask(openai.request(here, "/v1/chat/completions", body))
        assert kept() == []
