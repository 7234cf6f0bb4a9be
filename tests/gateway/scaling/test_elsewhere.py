"""What callers of a model may build on whose server somebody else runs: when it takes calls, and that nothing is started for it."""

import asyncio
import ssl
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gateway.call import Endpoint
from gateway.errors import Code, GatewayError
from gateway.scaling.elsewhere import LOOK_SECONDS, Elsewhere
from gateway.scaling.registry import Registry, Resident
from gateway.scaling.throttler import Throttler
from gateway.triton.client import NotSent
from gateway.triton.reach import LOOPBACK, Reach
from tenants.model import Model, Scaling
from tenants.openai import Generate, PassThrough
from tests.gateway.scaling.elastic import Notes, elastic, model
from tests.gateway.triton.worlds import call
from tests.worlds.certificates import Authority
from tests.worlds.openai import OpenAiWorld
from tests.worlds.triton import TritonWorld

GONE = NotSent("nobody listens")
DECLARED = Reach.of(("127.0.0.0/8",))


def far(address: str, seconds: float = 30.0) -> Model:
    scaling = Scaling(start_deadline_seconds=seconds)
    return Model("m_far", "far", "", "*", "", scaling=scaling, openai=PassThrough(address))


@dataclass(slots=True)
class Clockwork:
    """The room with a clock that the test moves: what it spawns is run by `passes`, to its end."""

    rows: dict[str, Model]
    now: float = 1_000.0
    reach: Reach = LOOPBACK
    trust: Callable[[], ssl.SSLContext] = ssl.create_default_context
    notes: Notes = field(default_factory=Notes)
    registry: Registry = field(default_factory=Registry)
    spawned: list[Coroutine[Any, Any, None]] = field(default_factory=list)
    throttler: Throttler = field(init=False)
    room: Elsewhere = field(init=False)

    def __post_init__(self) -> None:
        self.throttler = Throttler(self.registry, lambda: self.now, lambda: self.rows, self.notes)
        self.room = Elsewhere(
            self.registry,
            self.throttler,
            lambda: self.now,
            lambda: self.rows,
            lambda _, job: self.spawned.append(job),
            self.reach,
            self.trust,
        )

    async def passes(self, seconds: float = 0.0) -> int:
        """So much time; how many looks that brought."""
        self.now += seconds
        self.room.tick(self.now)
        jobs, self.spawned = self.spawned, []
        await asyncio.gather(*jobs)
        return len(jobs)

    async def acquired(self) -> Resident:
        async with asyncio.timeout(0.1):  # a place is there, or it is not
            return await self.throttler.acquire("far")

    async def refused(self) -> GatewayError:
        with pytest.raises(GatewayError) as caught:
            await self.acquired()
        return caught.value

    async def loses(self) -> None:
        """A call that could not be sent."""
        place = await self.acquired()
        self.throttler.lost(place, GONE)
        self.throttler.release(place, "none")


async def test_a_model_takes_calls_from_the_moment_in_which_its_document_is_read() -> None:
    here = Clockwork({"far": far("127.0.0.1:9")})
    assert await here.passes() == 0
    place = await here.acquired()
    assert (place.replica.id, place.replica.host, place.replica.port) == ("127.0.0.1:9", "127.0.0.1", 9)
    here.rows = {}
    await here.passes()
    assert (await here.refused()).code is Code.MODEL_NOT_FOUND


async def test_who_is_not_used_is_not_asked_and_who_is_used_is_asked_every_two_seconds() -> None:
    async with OpenAiWorld() as server:
        here = Clockwork({"far": far(server.address)})
        assert [await here.passes(LOOK_SECONDS) for _ in range(3)] == [0, 0, 0]
        assert not here.room.is_watching
        place = await here.acquired()
        assert [await here.passes(LOOK_SECONDS / 2) for _ in range(4)] == [1, 0, 1, 0]
        here.throttler.release(place, "well")
        await here.passes(LOOK_SECONDS)
        assert (await here.passes(LOOK_SECONDS), here.room.is_watching) == (0, False)
        here.room.close()


async def test_a_call_that_could_not_be_sent_has_the_server_looked_at_at_once() -> None:
    async with OpenAiWorld() as server:
        here = Clockwork({"far": far(server.address)})
        await here.passes()
        await here.loses()
        with pytest.raises(TimeoutError):  # held
            await here.acquired()
        assert await here.passes(0.01) == 1
        assert await here.acquired()
        here.room.close()


async def test_a_server_that_is_down_is_waited_for_once_and_then_refused_at_once_until_it_is_back() -> None:
    async with OpenAiWorld() as server:
        here = Clockwork({"far": far(server.address)})
        await here.passes()
        await server.down()
        await here.loses()
        await here.passes(0.01)
        held = asyncio.ensure_future(here.throttler.acquire("far"))
        await asyncio.sleep(0)
        assert not held.done()
        await here.passes(LOOK_SECONDS)
        with pytest.raises(GatewayError) as caught:
            await held
        for error in (caught.value, await here.refused()):
            assert error.code is Code.MODEL_UNAVAILABLE
            assert 0 < (error.retry_after_seconds or 0) < 10
        assert (await here.passes(LOOK_SECONDS), (await here.refused()).code) == (1, Code.MODEL_UNAVAILABLE)
        await server.up()
        assert await here.passes(LOOK_SECONDS) == 1
        assert await here.acquired()
        here.room.close()


async def test_a_server_that_says_that_it_is_not_ready_gets_no_more_calls() -> None:
    async with OpenAiWorld(is_ready=False) as server:
        here = Clockwork({"far": far(server.address)})
        await here.passes()
        first = await here.acquired()
        await here.passes(LOOK_SECONDS)
        assert first not in first.demand.rotation
        assert ("breaker_opened", "far") in here.notes.events
        server.is_ready = True
        await here.passes(LOOK_SECONDS)
        assert await here.acquired() is first
        here.room.close()


async def test_a_server_that_does_not_tell_whether_it_is_ready_is_when_it_answers() -> None:
    async with OpenAiWorld(tells_ready=False) as server:
        here = Clockwork({"far": far(server.address)})
        await here.passes()
        await here.loses()
        await here.passes(0.01)
        assert await here.acquired()
        await server.down()
        await here.passes(LOOK_SECONDS)
        with pytest.raises(TimeoutError):  # held
            await here.acquired()
        here.room.close()


async def test_the_first_call_after_a_rest_has_the_server_looked_at_though_nothing_else_happens() -> None:
    here = Clockwork({"far": far("127.0.0.1:9")})
    await here.passes()
    here.registry.wake.clear()
    here.throttler.release(await here.acquired(), "well")
    assert here.registry.wake.is_set()


async def test_a_host_whose_name_is_none_is_a_server_that_is_down() -> None:
    """A document could have been stored before its address was judged so."""
    here = Clockwork({"far": far(f"{'a' * 64}..b:9")})
    await here.passes()
    await here.acquired()
    await here.passes(LOOK_SECONDS)
    with pytest.raises(TimeoutError):  # held
        await here.acquired()


async def test_a_server_that_does_not_prove_who_it_is_is_not_waited_for_and_who_calls_is_told(
    tmp_path: Path,
) -> None:
    authority = Authority()
    async with OpenAiWorld(certificate=Authority().gives().write(tmp_path)) as server:
        here = Clockwork({"far": far(server.address)}, reach=DECLARED, trust=authority.trusted)
        await here.passes()
        await here.loses()
        held = asyncio.ensure_future(here.throttler.acquire("far"))
        await here.passes(0.01)
        with pytest.raises(GatewayError) as caught:
            await held
        for error in (caught.value, await here.refused()):
            assert (error.code, error.rendering.http) == (Code.UPSTREAM_UNTRUSTED, 502)
            assert "did not prove who it is" in error.private
            assert "127.0.0.1" not in error.sentence
        await server.down()
        server.certificate = authority.gives().write(tmp_path)
        await server.up()
        assert await here.passes(LOOK_SECONDS) == 1
        assert (await here.acquired()).replica.id == server.address
        await server.down()
        await here.loses()
        await here.passes(LOOK_SECONDS)
        await here.passes(LOOK_SECONDS)
        assert (await here.refused()).code is Code.MODEL_UNAVAILABLE
        here.room.close()


async def test_another_address_is_another_place_and_calls_under_way_stay_where_they_are() -> None:
    here = Clockwork({"far": far("127.0.0.1:9")})
    await here.passes()
    old = await here.acquired()
    here.rows = {"far": far("127.0.0.1:10")}
    await here.passes()
    new = await here.acquired()
    assert (old.replica.id, new.replica.id, old.in_flight) == ("127.0.0.1:9", "127.0.0.1:10", 1)
    here.rows = {"far": far("127.0.0.1:10", seconds=5)}
    await here.passes()
    assert here.room.places["far"] is new
    assert new.row.scaling.start_deadline_seconds == 5


@pytest.mark.parametrize("endpoint", ["infer", "metadata", "generate", "generate_stream"])
async def test_nothing_of_tritons_own_protocol_is_ever_sent_to_such_a_server(endpoint: Endpoint) -> None:
    here = Clockwork({"far": far("127.0.0.1:9")})
    await here.passes()
    place = await here.acquired()
    with pytest.raises(GatewayError):
        place.upstream(call(endpoint))
    assert place.upstream(call("chat/completions")) is place.client


async def test_nothing_is_started_for_it_and_it_is_neither_planned_nor_counted_with_the_servers_here() -> (
    None
):
    async with TritonWorld() as triton, OpenAiWorld() as server:
        async with elastic(triton, models=(model("digits"), far(server.address))) as here:
            assert await here.served_by("far") == server.address
            assert (here.scaler.started, list(here.registry.residents())) == ([], [])
            await here.until(lambda: server.looks > 0)
            assert here.scaler.started == []
            assert await here.served_by("digits") == "replica-0"
        assert server.misuses == []


async def test_a_model_that_moves_to_such_a_server_and_back_is_served_where_its_document_says() -> None:
    async with TritonWorld() as triton, OpenAiWorld() as server, elastic(triton) as here:
        assert await here.served_by() == "replica-0"
        passed = PassThrough(server.address)
        here.change("digits", openai=passed, repository="", fleet="")
        await here.until(lambda: not here.places("digits"))
        assert await here.served_by() == server.address
        here.change("digits", openai=Generate(), repository=model("digits").repository, fleet="local")
        await here.until(lambda: not here.registry.demand("digits").rotation)
        assert await here.served_by() == "replica-0"
