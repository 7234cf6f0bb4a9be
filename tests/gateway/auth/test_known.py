"""What a process knows of the directory, how old that may be when it serves by it, and what it does when it cannot ask."""

import asyncio
import secrets

import pytest

from gateway.audit.ledger import Ledger
from gateway.auth.known import FRESH_SECONDS, principal_of
from gateway.errors import Code, GatewayError
from gateway.roles.worker import readiness
from tenants.directory import Credentials
from tenants.fleet import Fleet
from tenants.keys import Secret, hashed, mint
from tenants.model import Model
from tenants.plans import Limits, Plan
from tests.gateway.auth.world import ACT, HERE, NOW_US, Held, World, settled
from tests.gateway.house import house


def stranger() -> Secret:
    return mint(secrets.token_bytes(40))


async def test_a_warm_key_waits_for_nothing() -> None:
    world = await World().open()
    key = (await world.warm()).secret
    world.table.gone = True
    with pytest.raises(StopIteration):
        world.keys.authenticate(key, HERE).send(None)


async def test_what_cannot_be_a_key_is_refused_before_any_look_up() -> None:
    world = await World().open()
    world.table.gone = True
    good = stranger().reveal()
    for text in (
        "",
        "gw_live_",
        good[:-1],
        good[:-1] + ("0" if good[-1] != "0" else "1"),
        good + "0",
        f" {good}",
        "ey.jwt.x",
    ):
        assert await world.refused(Secret(text)) is Code.UNAUTHENTICATED
    assert await world.refused(None) is Code.UNAUTHENTICATED


async def test_a_key_expires_to_the_microsecond_without_any_look() -> None:
    world = await World().open()
    key = (await world.key(expires_us=NOW_US + 10)).secret
    world.now_us = NOW_US + 9
    await world.called(key)
    world.now_us = NOW_US + 10
    assert await world.refused(key) is Code.UNAUTHENTICATED


@pytest.mark.parametrize("expires", [None, 5, 20])
async def test_from_the_microsecond_a_closing_tenant_is_closed_its_keys_are_unknown(
    expires: int | None,
) -> None:
    world = await World().open()
    minted = await world.key(expires_us=None if expires is None else NOW_US + expires)
    await world.directory.tenants.do("acme", "close", act=ACT, closes_us=NOW_US + 10)
    await world.feed.look()
    end_us = NOW_US + min(10, expires or 10)
    world.now_us = end_us - 1
    assert (await world.called(minted.secret)).subject.tenant_state == "closing"
    world.now_us = end_us
    assert await world.refused(minted.secret) is Code.UNAUTHENTICATED


async def test_a_reopened_tenant_has_its_keys_again() -> None:
    world = await World().open()
    minted = await world.warm()
    await world.directory.tenants.do("acme", "close", act=ACT, closes_us=NOW_US + 10)
    await world.directory.tenants.do("acme", "reopen", act=ACT)
    await world.feed.look()
    world.now_us = NOW_US + 10
    assert (await world.called(minted.secret)).expires_us is None


async def test_a_key_of_a_service_account_has_its_role_and_one_of_none_has_none() -> None:
    world = await World().open()
    account = await world.directory.accounts.create("acme", "ci", "viewer", act=ACT)
    theirs, plain = await world.warm(account_id=account.id), await world.warm()
    assert (await world.called(theirs.secret)).subject.role == "viewer"
    assert (await world.called(plain.secret)).subject.role is None


# Its age


async def test_a_process_that_stood_still_looks_before_it_serves() -> None:
    world = await World().open()
    revoked, kept = await world.warm(), await world.warm()
    await world.revoke(revoked)
    world.clock.now += 20
    assert await world.refused(revoked.secret) is Code.UNAUTHENTICATED
    assert (await world.called(kept.secret)).id == kept.key.id


async def test_what_is_served_is_never_older_than_three_seconds_also_if_nobody_polls() -> None:
    world = await World().open()
    minted = await world.warm()
    await world.revoke(minted)
    world.clock.now += FRESH_SECONDS - 0.01
    await world.called(minted.secret)
    world.clock.now += 0.01
    assert await world.refused(minted.secret) is Code.UNAUTHENTICATED


async def test_the_age_counts_from_the_start_of_the_look() -> None:
    world = await World().open()
    held = Held(world.table, "head")
    look = asyncio.create_task(world.feed.look())
    await held.reached.wait()
    began = world.clock.now
    world.clock.now += 2
    held.released.set()
    await look
    assert world.known.confirmed_at == began
    assert world.known.age_seconds == 2


async def test_all_who_wait_for_a_look_wait_for_the_same_one() -> None:
    world = await World().open()
    minted = await world.warm()
    world.clock.now += 20
    world.table.looked_up()
    await asyncio.gather(*(world.called(minted.secret) for _ in range(100)))
    assert world.table.reads == ["head"]


async def test_a_look_whose_client_has_left_is_taken_over_by_the_next() -> None:
    world = await World().open()
    minted = await world.warm()
    world.clock.now += 20
    held = Held(world.table, "head")
    first = asyncio.create_task(world.called(minted.secret))
    await held.reached.wait()
    second = asyncio.create_task(world.called(minted.secret))
    await settled()
    first.cancel()
    await settled()
    held.released.set()
    assert (await second).id == minted.key.id


async def test_a_look_that_the_machine_slept_through_does_not_count() -> None:
    world = await World().open()
    minted = await world.warm()
    held = Held(world.table, "head")
    look = asyncio.create_task(world.feed.look())
    await held.reached.wait()  # its answer is made, and then the machine sleeps
    await world.revoke_unseen(minted)
    world.clock.now += 20
    call = asyncio.create_task(world.refused(minted.secret))
    await settled()
    held.released.set()
    await look
    assert await call is Code.UNAUTHENTICATED


# Out of reach


async def test_known_keys_go_on_while_the_table_is_gone_until_they_are_stale_and_then_the_door_closes() -> (
    None
):
    world = await World().open()
    key = (await world.warm()).secret
    world.table.gone = True
    world.clock.now += 59.9
    await world.feed.look()
    await world.called(key)
    world.clock.now += 0.1
    assert await world.refused(key) is Code.DIRECTORY_UNAVAILABLE
    world.table.gone = False
    assert await world.refused(key) is Code.DIRECTORY_UNAVAILABLE  # until somebody looks
    await world.feed.look()
    await world.called(key)


async def test_a_table_that_throttles_one_look_is_asked_again_by_the_next() -> None:
    world = await World().open()
    minted = await world.warm()
    await world.revoke(minted)
    world.table.throttled = 1
    await world.feed.look()
    await world.called(minted.secret)
    await world.feed.look()
    assert await world.refused(minted.secret) is Code.UNAUTHENTICATED


async def test_a_table_that_never_answers_is_as_good_as_none_and_holds_nobody_twice() -> None:
    world = await World(answer_seconds=0.02).open()
    known = await world.warm()
    cold = await world.key()
    Held(world.table, "")
    world.clock.now += 20
    await world.called(known.secret)  # after one look that had no answer
    world.table.looked_up()
    await world.called(known.secret)
    assert world.table.reads == []
    assert await world.refused(cold.secret) is Code.DIRECTORY_UNAVAILABLE
    world.clock.now += 60
    assert await world.refused(known.secret) is Code.DIRECTORY_UNAVAILABLE


async def test_a_start_without_a_table_serves_nobody_until_there_is_one() -> None:
    world = World()
    world.table.gone = True
    await world.feed.look()
    assert await world.refused(stranger()) is Code.DIRECTORY_UNAVAILABLE
    world.table.gone = False
    await world.open()
    await world.warm()


async def test_readiness_is_degraded_while_known_keys_go_on_and_then_none() -> None:
    async with house() as here:
        ledger: Ledger = here.pipeline.ledger
        world = World()
        assert not readiness(ledger, world.known).ready
        await world.open()
        for seconds, expected in ((0, (True, "ok")), (3, (True, "degraded")), (56.9, (True, "degraded"))):
            world.clock.now += seconds
            assert (readiness(ledger, world.known).ready, readiness(ledger, world.known).state) == expected
        world.clock.now += 0.1
        assert not readiness(ledger, world.known).ready
        await world.feed.look()
        assert readiness(ledger, world.known).state == "ok"


# Keys that are not warm


async def test_a_key_is_looked_up_once_however_many_ask_for_it() -> None:
    world = await World().open()
    minted, unknown = await world.key(), stranger()
    await world.feed.look()
    world.table.looked_up()
    calls = [world.called(minted.secret) for _ in range(50)]
    refusals = [world.refused(unknown) for _ in range(50)]
    principals, codes = await asyncio.gather(asyncio.gather(*calls), asyncio.gather(*refusals))
    assert {it.id for it in principals} == {minted.key.id}
    assert set(codes) == {Code.UNAUTHENTICATED}
    assert world.table.looked_up() == sorted([hashed(minted.secret), hashed(unknown)])


async def test_a_look_up_whose_client_has_left_is_made_by_the_next_who_waits() -> None:
    world = await World().open()
    minted = await world.key()
    held = Held(world.table, "digest/")
    first, *others = [asyncio.create_task(world.called(minted.secret)) for _ in range(4)]
    await held.reached.wait()
    await settled()
    first.cancel()
    await settled()
    held.released.set()
    assert {it.id for it in await asyncio.gather(*others)} == {minted.key.id}


async def test_what_was_looked_up_before_the_machine_slept_is_looked_up_again() -> None:
    world = await World().open()
    minted = await world.key()
    held = Held(world.table, "tenant/")
    call = asyncio.create_task(world.refused(minted.secret))
    await held.reached.wait()
    await world.revoke_unseen(minted)
    world.clock.now += 20
    held.released.set()
    assert await call is Code.UNAUTHENTICATED


async def test_an_unknown_key_while_the_table_is_gone_is_503_and_not_401() -> None:
    world = await World().open()
    world.table.gone = True
    assert await world.refused(stranger()) is Code.DIRECTORY_UNAVAILABLE


async def test_an_unknown_key_is_looked_up_at_most_once_in_five_seconds() -> None:
    world = await World().open()
    unknown = stranger()
    assert await world.refused(unknown) is Code.UNAUTHENTICATED
    world.table.gone = True
    world.clock.now += 4.9
    assert await world.refused(unknown) is Code.UNAUTHENTICATED
    world.clock.now += 0.2
    assert await world.refused(unknown) is Code.DIRECTORY_UNAVAILABLE


async def test_a_key_that_was_tried_before_it_existed_works_with_the_next_look_or_after_five_seconds() -> (
    None
):
    for seconds in (0.0, 5.1):
        world = await World().open()
        minted = await world.key()
        rows = dict(world.table.rows)
        world.table.rows.pop(next(key for key in rows if key.partition == f"digest/{hashed(minted.secret)}"))
        assert await world.refused(minted.secret) is Code.UNAUTHENTICATED
        world.table.rows.update(rows)
        world.clock.now += seconds
        if not seconds:
            await world.feed.look()
        assert (await world.called(minted.secret)).id == minted.key.id


# Its size


async def test_what_is_known_is_bounded_and_the_longest_unused_goes_first() -> None:
    world = await World(most_keys=3).open()
    keys = [await world.key() for _ in range(4)]
    await world.feed.look()
    for minted in (*keys[:3], keys[0], keys[3]):
        await world.called(minted.secret)
    assert [world.is_warm(minted) for minted in keys] == [True, False, True, True]


async def test_what_is_unknown_is_bounded_and_the_oldest_goes_first() -> None:
    world = await World(most_keys=3).open()
    unknown = [stranger() for _ in range(4)]
    for key in unknown:
        await world.refused(key)
    assert [world.known.is_unknown(hashed(key)) for key in unknown] == [False, True, True, True]


# Models and fleets


async def test_a_model_that_was_taken_from_all_tenants_is_not_known() -> None:
    world = await World().open()
    await world.directory.values.put(Model("", "digits", "/models", "*"), act=ACT)
    await world.feed.look()
    assert world.known.model("digits") is not None
    await world.directory.values.put(Model("", "digits", "/models", ()), act=ACT)
    await world.feed.look()
    assert world.known.model("digits") is None


async def test_the_models_that_somebody_has_and_all_fleets_are_as_they_were_and_the_same_mappings_until_they_change() -> (
    None
):
    world = await World().open()
    (mine,) = await world.directory.values.put(Model("", "digits", "/models", "*"), act=ACT)
    await world.directory.values.put(Model("", "nobodys", "/models", ()), act=ACT)
    assert world.known.models() == {}
    await world.feed.look()
    assert world.known.models() == {"digits": mine}
    assert world.known.fleets() == {"local": Fleet("local")}
    models, fleets = world.known.models(), world.known.fleets()
    await world.directory.values.put(Model("", "nobodys", "/others", ()), act=ACT)
    await world.feed.look()
    assert (world.known.models() is models, world.known.fleets() is fleets) == (True, True)
    await world.directory.values.put(Fleet("local", idle_seconds=5), act=ACT)
    await world.feed.look()
    assert world.known.fleets() == {"local": Fleet("local", idle_seconds=5)}
    assert world.known.models() is models


async def test_a_changed_plan_reaches_a_known_key_with_the_next_look() -> None:
    world = await World().open()
    key = (await world.warm()).secret
    await world.directory.values.put(Plan("team", 1, Limits(body_bytes=99)), act=ACT)
    await world.feed.look()
    assert (await world.called(key)).plan.limits.body_bytes == 99


async def test_nobody_is_served_by_what_ended_for_ever() -> None:
    world = await World().open()
    minted = await world.warm()
    found = await world.directory.keys.find(hashed(minted.secret))
    assert isinstance(found, Credentials)
    assert principal_of(found) is not None
    await world.directory.tenants.do("acme", "close", act=ACT)
    assert principal_of(await world.directory.keys.find(hashed(minted.secret))) is None
    assert principal_of(None) is None


async def test_a_refusal_of_a_shared_look_up_is_each_callers_own() -> None:
    world = await World().open()
    world.table.gone = True
    unknown = stranger()
    outcomes = await asyncio.gather(
        *(world.keys.authenticate(unknown, HERE) for _ in range(3)), return_exceptions=True
    )
    assert len({id(it) for it in outcomes}) == 3
    assert all(isinstance(it, GatewayError) for it in outcomes)
