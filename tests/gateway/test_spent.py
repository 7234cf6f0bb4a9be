"""What a call costs its tenant's budgets, however it ends: what was reserved and not used is there again."""

import asyncio
import dataclasses
from itertools import count

import pytest

from gateway.admission.budget import Budget, read
from gateway.admission.budgets import Budgets
from gateway.errors import Code, GatewayError
from gateway.pipeline import Cut
from gateway.wire.tokens import REPLY_TOKENS, most_of_generate, most_of_infer, of_bytes, of_pieces
from tenants.plans import Limits, Part
from tests.gateway.house import Body, Client, House, house
from tests.worlds.table import MemoryTable
from tests.worlds.triton import TritonWorld

LIMITS = Limits(
    1000, requests_per_day=1000, tokens_per_minute=10**6, compute_seconds_per_day=10**6, per_key=Part(None, 5)
)
PROMPT = Body(b'{"text_input":"once upon a time","max_tokens":50}')


async def used(here: House, kind: str) -> int:
    """Of the tenant's budget of that kind, once nobody holds any of it."""
    budgets = here.pipeline.spending.budgets
    assert isinstance(budgets, Budgets)
    await budgets.close()
    assert isinstance(budgets.table, MemoryTable)
    (row,) = (it for key, it in budgets.table.rows.items() if key.partition.endswith(kind))
    budget: Budget = read(row)
    assert not budget.holders, "all that was reserved was settled"
    return budget.used


async def test_a_call_that_is_answered_costs_a_request_and_the_time_it_took() -> None:
    async with TritonWorld() as triton, house(triton, limits=LIMITS) as here:
        client, seconds = Client(), count(here.pipeline.clock())  # each look at the clock is a second later
        pipeline = dataclasses.replace(here.pipeline, clock=lambda: next(seconds))
        await pipeline.serve(here.call(), client)
        assert await used(here, "requests-day") == 1
        assert await used(here, "compute-day") == 1_000_000
        assert await used(here, "tokens-minute") == 0, "tensors without a text have none"
    assert {it.name: it.remaining for it in client.standing}["requests-day"] == 999


@pytest.mark.parametrize("mood", ["closes before", "no server"])
async def test_what_we_fail_costs_nothing(mood: str) -> None:
    async with TritonWorld(mood="closes before") as triton, house(triton, limits=LIMITS) as here:
        if mood == "no server":
            here.scaler.fails = "no memory"
        seconds = count(here.pipeline.clock())  # each look at the clock is a second later
        pipeline = dataclasses.replace(here.pipeline, clock=lambda: next(seconds))
        with pytest.raises(GatewayError):
            await pipeline.serve(here.call(), Client())
        for kind in ("requests-day", "compute-day", "tokens-minute"):
            assert await used(here, kind) == 0


async def test_a_client_that_leaves_pays_for_what_triton_was_given() -> None:
    async with TritonWorld(mood="holds") as triton, house(triton, limits=LIMITS) as here:
        task = asyncio.get_running_loop().create_task(here.pipeline.serve(here.call(), Client()))
        await triton.arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await used(here, "requests-day") == 1


@pytest.mark.parametrize(("mood", "pieces"), [("answers", 2), ("closes within", 1)])
async def test_a_stream_costs_its_prompt_and_the_pieces_that_came_also_when_it_is_cut(
    mood: str, pieces: int
) -> None:
    cut = mood == "closes within"
    async with (
        TritonWorld(mood="closes within" if cut else "answers") as triton,
        house(triton, limits=LIMITS) as here,
    ):
        call = here.call(endpoint="generate_stream", payload=PROMPT)
        client = Client(pieces=pieces)
        if cut:
            with pytest.raises(Cut):
                await here.pipeline.serve(call, client)
        else:
            await here.pipeline.serve(call, client)
        assert await used(here, "tokens-minute") == of_bytes(len(PROMPT.content)) + pieces


async def test_a_body_that_is_refused_costs_nothing_and_a_spent_budget_is_a_denial() -> None:
    limits = Limits(1000, tokens_per_minute=60)
    async with TritonWorld() as triton, house(triton, limits=limits) as here:
        with pytest.raises(GatewayError) as caught:
            await here.pipeline.serve(here.call(endpoint="generate", payload=PROMPT), Client())
        await here.settled()
        (denied,) = here.records("denial")
    assert caught.value.code is Code.RATE_LIMITED
    assert not triton.asked
    assert denied.entry.request == "request-1"


async def test_a_budget_that_is_spent_refuses_before_the_body_is_read() -> None:
    async with TritonWorld() as triton, house(triton, limits=Limits(1000, requests_per_day=1)) as here:
        await here.pipeline.serve(here.call(), Client())
        for payload in (Body(), Body(held=asyncio.Event())):
            with pytest.raises(GatewayError) as caught:
                await here.pipeline.serve(here.call(payload=payload), Client())
            assert caught.value.code is Code.BUDGET_SPENT


async def test_what_describes_a_model_costs_no_budget() -> None:
    async with TritonWorld() as triton, house(triton, limits=Limits(1000, requests_per_day=1)) as here:
        for _ in range(3):
            await here.pipeline.examine(here.call(endpoint="metadata"), "describe")
        await here.pipeline.serve(here.call(), Client())


@pytest.mark.parametrize(
    ("head", "reply"),
    [
        (b'{"text_input":"abc","max_tokens":7}', 7),
        (b'{"text_input":"abc","parameters":{"max_tokens":9}}', 9),
        (b'{"text_input":"abc"}', REPLY_TOKENS),
        (b'{"text_input":"abc","max_tokens":-5}', 0),
        (b'{"text_input":"abc","max_tokens":"many"}', REPLY_TOKENS),
        (b'{"text_input":"abc","max_tokens":true}', REPLY_TOKENS),
        (b'{"text_input":"abc","max_tokens":[[3]]}', REPLY_TOKENS),
        (b'{"text_input":"abc","max_tokens":[3,20000,4]}', 20_000),
        (b'{"text_input":"abc","max_tokens":2e4}', 20_000),
        (b'{"text_input":"abc","max_tokens":1,"parameters":{"max_tokens":20000}}', 20_000),
        (b'{"text_input":"abc","max_tokens":20000,"parameters":{"max_tokens":1}}', 20_000),
    ],
)
def test_a_generate_request_may_take_its_prompt_and_what_it_allows_its_reply(head: bytes, reply: int) -> None:
    assert most_of_generate(head) == of_bytes(len(head)) + reply


def test_tensors_have_tokens_where_there_are_texts_among_them() -> None:
    assert most_of_infer(b'{"inputs":[{"datatype":"FP32"}]}', 10**6) == 0
    head = b'{"inputs":[{"datatype":"BYTES"}]}'
    assert most_of_infer(head, 400) == of_bytes(len(head) + 400) + REPLY_TOKENS


def test_a_piece_is_a_token_and_a_long_one_is_as_long_as_it_is() -> None:
    assert of_pieces(10, 700) == 10
    assert of_pieces(1, 4100) == 1000
