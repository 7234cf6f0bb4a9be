"""A tenant is told what it used, to the last call, and nothing of anybody else's."""

import asyncio

import pytest

from gateway.audit.ledger import IntentBody, Ledger, Outcome
from gateway.usage.fold import Folder
from tenants.acts import Act
from tenants.plans import Limits, Plan, Prices
from tests.gateway.audit.support import QUICK, new_id
from tests.gateway.usage.support import WorldLog
from tests.tenants.api.worlds import World

HOUR_US = 3_600_000_000


async def called(
    world: World, tenant: str, times: int, *, key: str = "k_one", at_us: int | None = None
) -> None:
    """So many calls of digits that cost, and are in the log."""
    owner = await world.directory.tenants.show(tenant)
    model = (await world.directory.values.models())["digits"]
    at_us = at_us or world.now_us
    body = IntentBody(tenant_name="", key_name="", address="", action="infer", protocol="oip")
    async with (
        Ledger.open(world.log, clock=lambda: at_us, new_id=new_id, knobs=QUICK) as ledger,
        asyncio.TaskGroup() as group,
    ):
        committer = group.create_task(ledger.run())
        for _ in range(times):
            intent = ledger.intend(
                request=new_id(),
                tenant=owner.id,
                key=key,
                model=model.id,
                model_version="1",
                now_us=at_us,
                body=body,
            )
            await intent.durable()
            ledger.settle(intent, Outcome(status="done", requests=1, bytes=9, tokens=5), now_us=at_us)
        committer.cancel()


@pytest.mark.parametrize("is_folded", [False, True], ids=["live", "folded"])
async def test_what_was_used_is_told_with_its_cost_whether_it_is_folded_or_not(
    world: World, *, is_folded: bool
) -> None:
    prices = Prices("USD", per_1000_requests="0.10", per_million_tokens="0.40")
    plan = Plan("priced", 1, Limits(body_bytes=10), prices)
    by = Act("cli:test", world.now_us)
    await world.directory.values.put(plan, act=by)
    await world.directory.tenants.change("acme", by, plan="priced")
    await called(world, "acme", 3)
    await called(world, "globex", 5)
    if is_folded:
        await Folder(lambda: WorldLog(world.log), world.counted).look()
    (told,) = (await world.ask("GET", "/tenants/acme/usage?by=day", by="viewer")).json["items"]
    assert (told["key"], told["model"], told["calls"], told["done"]) == ("k_one", "digits", 3, 3)
    assert (told["requests"], told["tokens"], told["bytes"]) == (3, 15, 27)
    assert (told["cost"], told["currency"]) == ("0.0003", "USD")


async def test_pages_and_filters_lose_and_repeat_nothing(world: World) -> None:
    for hour in range(3):
        await called(world, "acme", 1, at_us=world.now_us + hour * HOUR_US)
        await called(world, "acme", 2, key="k_two", at_us=world.now_us + hour * HOUR_US)
    path = "/tenants/acme/usage?by=hour"
    all_of_it = (await world.ask("GET", path, by="admin")).json["items"]
    assert len(all_of_it) == 6
    found, cursor = [], ""
    while cursor is not None:
        page = (await world.ask("GET", f"{path}&limit=2{cursor and f'&cursor={cursor}'}", by="admin")).json
        found += page["items"]
        cursor = page["next_cursor"]
    assert found == all_of_it
    one = (await world.ask("GET", f"{path}&key=k_two&model=digits", by="admin")).json["items"]
    assert [it["calls"] for it in one] == [2, 2, 2]
    second = all_of_it[2]["period"]
    later = (await world.ask("GET", f"{path}&from={second}", by="admin")).json["items"]
    assert [it["period"] for it in later] == [it["period"] for it in all_of_it[2:]]
    before = (await world.ask("GET", f"{path}&to={second}", by="admin")).json["items"]
    assert before == all_of_it[:2]
    (month,) = (await world.ask("GET", "/tenants/acme/usage?key=k_one", by="admin")).json["items"]
    assert month["calls"] == 3


@pytest.mark.parametrize("query", ["by=year", "from=now", "to=2026", "until=2026-11"])
async def test_a_question_that_makes_no_sense_is_refused_with_its_place(world: World, query: str) -> None:
    refused = await world.ask("GET", f"/tenants/acme/usage?{query}", by="admin")
    assert (refused.status, refused.code) == (422, "invalid")


async def test_a_table_that_gives_no_answer_is_said_so(world: World) -> None:
    world.counted.gone = True
    assert (await world.ask("GET", "/tenants/acme/usage", by="admin")).status == 503
