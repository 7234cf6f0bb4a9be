"""Limits of a model, and limits that cannot be told, on the real path."""

from dataclasses import dataclass, field

import pytest
from msgspec import structs

from gateway.call import InferenceCall
from gateway.errors import Code, GatewayError
from tenants.plans import Part, Rate
from tests.gateway.house import LIMITS, Client, House, house
from tests.worlds.table import MemoryTable
from tests.worlds.triton import TritonWorld

OF_DIGITS = structs.replace(LIMITS, per_model={"digits": Part(Rate(0.001, 2))})


@dataclass(slots=True)
class Naming:
    """As a body of OpenAI's would."""

    model: str
    read: list[str] = field(default_factory=list)

    async def name(self, call: InferenceCall, limit_bytes: int, tenant_id: str) -> InferenceCall:
        self.read.append(tenant_id)
        return structs.replace(call, model=self.model, naming=None)


def remaining(client: Client) -> dict[str, int]:
    return {quota.name: quota.remaining for quota in client.standing}


async def refused(it: House, call: InferenceCall) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        await it.pipeline.serve(call, Client())
    return caught.value


async def test_a_models_limit_counts_what_is_sent_to_it_and_not_what_asks_of_it() -> None:
    async with TritonWorld() as triton, house(triton, limits=OF_DIGITS) as it:
        for left in (1, 0):
            await it.pipeline.examine(it.call(endpoint="metadata"), "describe")
            await it.pipeline.serve(it.call(), client := Client())
            assert remaining(client)["model-requests"] == left
        assert (await refused(it, it.call())).code is Code.RATE_LIMITED
        await it.pipeline.examine(it.call(endpoint="metadata"), "describe")
        assert it.pipeline.limiter.at_once == 0


async def test_a_model_that_its_body_names_is_judged_by_its_limits_once_it_is_named() -> None:
    async with TritonWorld() as triton, house(triton, limits=OF_DIGITS) as it:
        naming = Naming("digits")
        for left in (1, 0):
            await it.pipeline.serve(structs.replace(it.call(""), naming=naming), client := Client())
            assert remaining(client)["model-requests"] == left
        error = await refused(it, structs.replace(it.call(""), naming=naming))
        assert error.code is Code.RATE_LIMITED
        assert error.retry_after_seconds is not None
        assert error.retry_after_seconds > 900
        assert it.denials() == [] or set(it.denials()) == {"rate_limited"}
        assert it.pipeline.limiter.at_once == 0


async def test_who_cannot_be_told_its_limits_is_refused_and_nothing_is_sent() -> None:
    async with TritonWorld() as triton, house(triton) as it:
        table = it.pipeline.limiter.sharing.table
        assert isinstance(table, MemoryTable)
        table.gone = True
        error = await refused(it, it.call())
        assert (error.code, error.rendering.http, error.retry_after_seconds) == (
            Code.LIMITS_UNAVAILABLE,
            503,
            1,
        )
        assert it.pipeline.limiter.at_once == 0
        assert it.records("intent") == []
