"""Once something that a token is judged by changes, it is judged anew, also where it is being judged just then; no other is dropped."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from gateway.auth.known import FRESH_SECONDS
from gateway.errors import Code
from tenants.issuers import Issuer, id_of
from tenants.keys import Secret
from tenants.plans import Limits, Plan
from tenants.restrictions import Restrictions
from tests.gateway.auth.token_world import ACME, GLOBEX, OPERATORS, SHARED, Fetching, TokenWorld, own, shared
from tests.gateway.auth.world import ACT, HERE, NOW_US, Held, at_once, settled

EMAIL = "ada@acme.example"
Told = Code | tuple[str, str | None, str, str]
"""A refusal, or the tenant's state, the role, the plan and the first letter of the id."""


@pytest.fixture
async def world() -> TokenWorld:
    return await TokenWorld().open()


async def told(world: TokenWorld, token: Secret) -> Told:
    if (code := await world.outcome(token)) is not None:
        return code
    it = await world.called(token)
    return it.subject.tenant_state, it.subject.role, it.plan.name, it.id[0]


GONE = Code.UNAUTHENTICATED
AS_EVER = ("active", None, "team", "p")


@dataclass(frozen=True, slots=True)
class Case:
    """What is done, and what is told to a token of acme's issuer then, and to one of the shared issuer that names acme."""

    do: Callable[[TokenWorld], Awaitable[object]]
    own: Told = AS_EVER
    shared: Told = AS_EVER
    between: frozenset[Told] = frozenset()
    """Where it takes two changes: what acme's token may be told while they are made."""


async def _closed(world: TokenWorld) -> None:
    await world.directory.tenants.do("acme", "close", act=ACT, closes_us=NOW_US + 1)
    world.now_us = NOW_US + 1


async def _member(world: TokenWorld) -> None:
    await world.directory.members.invite("acme", EMAIL, "viewer", act=ACT)


async def _another(world: TokenWorld, issuer: Issuer) -> None:
    await world.directory.values.remove(Issuer, id_of(SHARED), act=ACT)
    await world.share(issuer)


async def _moved(world: TokenWorld) -> None:
    await world.trust("acme")
    await world.trust("globex", own(GLOBEX), own(ACME))


CASES = {
    "its issuer is removed": Case(lambda w: w.trust("acme"), own=GONE),
    "its issuer is for another audience": Case(lambda w: w.trust("acme", own(ACME, audience="x")), own=GONE),
    "its issuer's keys are elsewhere": Case(
        lambda w: w.trust("acme", own(ACME, jwks_url=f"{GLOBEX}/jwks")), own=GONE
    ),
    "its issuer gives roles": Case(
        lambda w: w.trust("acme", own(ACME, roles_claim="r")), own=("active", "none", "team", "p")
    ),
    "its issuer is another tenant's": Case(
        _moved, own=("active", None, "big", "p"), between=frozenset({GONE})
    ),
    "the shared issuer is removed": Case(
        lambda w: w.directory.values.remove(Issuer, id_of(SHARED), act=ACT), shared=GONE
    ),
    "the shared issuer is for another audience": Case(
        lambda w: _another(w, shared(audience="x")), shared=GONE
    ),
    "the shared issuer has its tenants elsewhere": Case(
        lambda w: w.share(shared(tenant_claim="t")), shared=GONE
    ),
    "the shared issuer's keys are elsewhere": Case(
        lambda w: w.share(shared(jwks_url=f"{GLOBEX}/jwks")), shared=GONE
    ),
    "the shared issuer becomes the operators'": Case(
        lambda w: w.share(shared(tenant_claim=None, roles_claim="r", operators=True)), shared=GONE
    ),
    "its tenant is suspended": Case(
        lambda w: w.directory.tenants.do("acme", "suspend", act=ACT),
        ("suspended", None, "team", "p"),
        ("suspended", None, "team", "p"),
    ),
    "its tenant is closed at a time that has come": Case(_closed, GONE, GONE),
    "its tenant is closed": Case(lambda w: w.directory.tenants.do("acme", "close", act=ACT), GONE, GONE),
    "its tenant is on another plan": Case(
        lambda w: w.directory.tenants.move("acme", "big", act=ACT),
        ("active", None, "big", "p"),
        ("active", None, "big", "p"),
    ),
    "its tenant restricts itself": Case(
        lambda w: w.directory.tenants.restrict("acme", Restrictions(networks=("198.51.100.0/24",)), ACT),
        Code.FORBIDDEN,
        Code.FORBIDDEN,
    ),
    "its holder is invited": Case(
        _member, ("active", "viewer", "team", "u"), ("active", "viewer", "team", "u")
    ),
}


async def tokens(world: TokenWorld) -> tuple[Secret, Secret, list[Secret]]:
    """Warm ones: of acme's issuer, of the shared one for acme, and of others."""
    claims: dict[str, Any] = {"email": EMAIL, "email_verified": True}
    first, second = await world.met(**claims), await world.met(SHARED, **claims)
    return first, second, [await world.met(GLOBEX, **claims), await world.met(SHARED, tenant="globex")]


@pytest.mark.parametrize("name", CASES)
async def test_each_change_is_true_of_warm_tokens_with_the_next_look(world: TokenWorld, name: str) -> None:
    case = CASES[name]
    own_token, shared_token, _ = await tokens(world)
    before = await told(world, own_token), await told(world, shared_token)
    assert before == (AS_EVER, AS_EVER)
    await case.do(world)
    await world.feed.look()
    assert (await told(world, own_token), await told(world, shared_token)) == (case.own, case.shared)


@pytest.mark.parametrize("name", CASES)
async def test_each_change_is_true_of_warm_tokens_within_three_seconds_if_nobody_looks(
    world: TokenWorld, name: str
) -> None:
    case = CASES[name]
    own_token, shared_token, _ = await tokens(world)
    await case.do(world)
    world.clock.now += FRESH_SECONDS
    assert (await told(world, own_token), await told(world, shared_token)) == (case.own, case.shared)


@pytest.mark.parametrize("name", [it for it in CASES if "shared" not in it and "another tenant" not in it])
async def test_no_change_of_one_tenant_drops_the_tokens_of_another(world: TokenWorld, name: str) -> None:
    *_, others = await tokens(world)
    await CASES[name].do(world)
    await world.feed.look()
    assert [world.is_known(it) for it in others] == [True, True]


async def test_a_members_role_and_end_reach_the_token(world: TokenWorld) -> None:
    token, *_ = await tokens(world)
    member = await world.directory.members.invite("acme", EMAIL, "viewer", act=ACT)
    await world.seen()
    assert await told(world, token) == ("active", "viewer", "team", "u")
    await world.directory.members.change("acme", member.id, "admin", act=ACT)
    await world.feed.look()
    assert await told(world, token) == ("active", "admin", "team", "u")
    await world.directory.members.remove("acme", member.id, act=ACT)
    await world.feed.look()
    assert await told(world, token) == AS_EVER


async def test_a_changed_plan_reaches_the_tokens_on_it_and_drops_no_others(world: TokenWorld) -> None:
    token, _, others = await tokens(world)
    await world.directory.values.put(Plan("team", 1, Limits(body_bytes=99)), act=ACT)
    await world.feed.look()
    assert (await world.called(token)).plan.limits.body_bytes == 99
    assert all(world.is_known(it) for it in others)


async def test_an_operator_is_none_with_the_next_look_once_the_issuer_is_gone(world: TokenWorld) -> None:
    token, ask = world.token(OPERATORS, roles=["operator"]), world.keys.tokens.operator_id
    assert await ask(token, HERE) is not None
    await world.share(Issuer(OPERATORS, "gateway", f"{OPERATORS}/jwks", "admins", operators=True))
    await world.feed.look()
    assert await ask(token, HERE) is None


# The issuer's keys


async def test_keys_that_were_taken_back_end_the_tokens_of_that_issuer_alone(world: TokenWorld) -> None:
    token, _, others = await tokens(world)
    await world.turned_out(ACME)
    assert await world.refused(token) is Code.UNAUTHENTICATED
    assert await told(world, world.token()) == AS_EVER
    assert all(world.is_known(it) for it in others)


async def test_a_new_key_is_taken_at_once_and_the_old_one_goes_on(world: TokenWorld) -> None:
    token, *_ = await tokens(world)
    world.clock.now += world.key_sets.cooldown_seconds
    await world.feed.look()
    world.issuers[ACME].rotate("second", "ES256")
    assert await told(world, world.token()) == AS_EVER
    assert await told(world, token) == AS_EVER


async def test_a_key_that_no_set_has_is_401_while_the_issuer_answers_and_503_while_it_does_not(
    world: TokenWorld,
) -> None:
    await tokens(world)
    stranger = world.token(headers={"kid": "nobody's"})
    assert await world.refused(stranger) is Code.UNAUTHENTICATED  # within the cool-down of the first fetch
    world.clock.now += world.key_sets.cooldown_seconds
    assert await world.refused(stranger) is Code.UNAUTHENTICATED
    world.issuers[ACME].is_down = True
    world.clock.now += world.key_sets.cooldown_seconds
    fetched = len(world.fetched)
    for _ in range(3):
        assert await world.refused(stranger) is Code.ISSUER_UNAVAILABLE
    assert len(world.fetched) == fetched + 1
    assert await told(world, world.token(sub="of a known key")) == AS_EVER


async def test_known_keys_serve_while_their_issuer_is_down_until_the_outage_is_too_long(
    world: TokenWorld,
) -> None:
    token, *_ = await tokens(world)
    world.issuers[ACME].is_down = True
    sets = world.key_sets
    for _ in range(round(sets.outage_seconds / sets.refresh_seconds)):
        assert await told(world, token) == AS_EVER
        world.clock.now += sets.refresh_seconds - 0.1
        await world.feed.look()
        await sets.refresh()
        await settled()
    world.clock.now += sets.outage_seconds / sets.refresh_seconds * 0.1 - 0.01
    assert await told(world, token) == AS_EVER
    world.clock.now += 0.01
    assert await world.refused(token) is Code.ISSUER_UNAVAILABLE
    world.issuers[ACME].is_down = False
    world.clock.now += sets.cooldown_seconds
    assert await told(world, token) == AS_EVER


async def test_an_issuer_that_is_down_at_first_is_503_for_its_tokens_alone(world: TokenWorld) -> None:
    world.issuers[ACME].is_down = True
    assert await world.refused(world.token()) is Code.ISSUER_UNAVAILABLE
    assert await world.outcome(world.token(GLOBEX)) is None


# While it is judged


async def unseen(world: TokenWorld, do: Callable[[TokenWorld], Awaitable[object]]) -> None:
    """Done by somebody whose own reads are not held back, and seen."""
    answer, world.table.answer = world.table.answer, at_once
    try:
        await do(world)
        await world.seen()
    finally:
        world.table.answer = answer


@pytest.mark.parametrize("held_back", ["issuer", "tenant/", "plan", "keys"])
@pytest.mark.parametrize("name", CASES)
async def test_no_change_that_is_seen_meanwhile_is_overwritten_by_an_older_answer(
    world: TokenWorld, name: str, held_back: str
) -> None:
    case = CASES[name]
    claims: dict[str, Any] = {"email": EMAIL, "email_verified": True}
    if held_back != "keys":
        for url in (ACME, SHARED):  # their keys are known, and nothing else
            await world.met(url)
        world.known.trust.empty()
    cold = world.token(**claims), world.token(SHARED, **claims)
    held = Fetching(world) if held_back == "keys" else Held(world.table, held_back)
    calls = [asyncio.create_task(told(world, it)) for it in cold]
    await held.reached.wait()
    await settled()
    await unseen(world, case.do)
    held.released.set()
    of_own, of_shared = await asyncio.gather(*calls)
    assert of_own == case.own or of_own in case.between
    assert of_shared == case.shared
    assert (await told(world, cold[0]), await told(world, cold[1])) == (case.own, case.shared)


async def test_keys_that_are_taken_back_while_a_token_is_judged_by_them_do_not_leave_it_warm(
    world: TokenWorld,
) -> None:
    await world.met()
    await world.directory.tenants.move("acme", "big", act=ACT)
    await world.seen()  # so that the tenant is looked up once more
    token, held = world.token(sub="cold"), Held(world.table, "tenant/")
    call = asyncio.create_task(world.outcome(token))
    await held.reached.wait()
    await unseen(world, lambda it: it.turned_out(ACME))
    held.released.set()
    assert await call is Code.UNAUTHENTICATED
    assert not world.is_known(token)


@pytest.mark.parametrize("whose", ["a tenant's", "an operator's"])
async def test_what_it_was_judged_by_before_its_issuer_was_slow_is_looked_at_again(
    world: TokenWorld, whose: str
) -> None:
    operator, ask = world.token(OPERATORS, roles=["operator"]), world.keys.tokens.operator_id
    assert await ask(operator, HERE) is not None
    await world.met()
    world.clock.now += (
        2 * world.key_sets.refresh_seconds
    )  # nobody came, and the keys are to be fetched once more
    await world.feed.look()
    held = Fetching(world)
    asked = ask(operator, HERE) if whose == "an operator's" else world.outcome(world.token(sub="cold"))
    call = asyncio.ensure_future(asked)
    await held.reached.wait()
    await world.trust("acme")
    await world.share(Issuer(OPERATORS, "gateway", f"{OPERATORS}/jwks", "admins", operators=True))
    world.clock.now += 4  # and nobody looks meanwhile
    held.released.set()
    assert await call is (None if whose == "an operator's" else Code.UNAUTHENTICATED)


async def test_changes_that_never_stop_are_503_and_nobody_waits_for_ever(world: TokenWorld) -> None:
    async def another_change(partition: str) -> None:
        await asyncio.sleep(0)
        if partition.startswith("tenant/"):
            world.known.concerned({"key": {"k_of_somebody_else"}})

    world.table.answer = another_change
    async with asyncio.timeout(3):
        assert await world.outcome(world.token()) is Code.DIRECTORY_UNAVAILABLE
    world.table.answer = at_once
    assert await world.outcome(world.token()) is None


# Out of reach


async def test_a_process_that_stood_still_looks_before_it_serves_a_token_and_verifies_none_twice(
    world: TokenWorld,
) -> None:
    token, _, (other, _) = await tokens(world)
    before = await world.called(other)
    await world.trust("acme")
    world.clock.now += 20
    assert await world.refused(token) is Code.UNAUTHENTICATED
    for _ in range(2):
        assert await world.called(other) is before
        world.clock.now += 20


async def test_known_tokens_go_on_while_the_table_is_gone_until_they_are_stale_and_then_the_door_closes(
    world: TokenWorld,
) -> None:
    token, *_ = await tokens(world)
    world.known.trust._tenants.clear()  # as where a thousand others have called meanwhile
    world.table.gone = True
    world.clock.now += 59.9
    assert await world.outcome(token) is None  # who waits for the look is served without any other
    assert await world.outcome(token) is None
    world.clock.now += 0.1
    assert await world.refused(token) is Code.DIRECTORY_UNAVAILABLE
    world.table.gone = False
    await world.feed.look()
    assert await world.outcome(token) is None


async def test_a_cold_token_while_the_table_is_gone_is_503_and_not_401(world: TokenWorld) -> None:
    world.table.gone = True
    assert await world.refused(world.token()) is Code.DIRECTORY_UNAVAILABLE
    world.table.gone = False
    assert await world.outcome(world.token()) is None


async def test_a_look_that_is_lost_changes_nothing_and_the_next_one_sees_all(world: TokenWorld) -> None:
    token, *_ = await tokens(world)
    await world.trust("acme")
    world.table.throttled = 1
    await world.feed.look()
    assert await world.outcome(token) is None
    await world.feed.look()
    assert await world.refused(token) is Code.UNAUTHENTICATED


async def test_an_answer_that_was_made_and_never_came_is_asked_for_again() -> None:
    world = await TokenWorld(answer_seconds=0.02).open()
    token = world.token()
    held = Held(world.table, "issuer")
    assert await world.refused(token) is Code.DIRECTORY_UNAVAILABLE
    await unseen(world, lambda it: it.trust("acme"))
    held.released.set()
    assert await world.refused(token) is Code.UNAUTHENTICATED
