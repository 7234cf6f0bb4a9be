"""Who holds a token, what a warm one costs, and what is refused before anything is asked for it."""

import asyncio
import base64
import json
import re
from typing import Any

import jwt
import pytest

from gateway.auth.claims import SKEW_SECONDS
from gateway.auth.conditions import ELSEWHERE
from gateway.auth.jose import read
from gateway.auth.tokens import subject_id
from gateway.errors import Code, GatewayError
from tenants.keys import Secret
from tenants.plans import Rate
from tenants.restrictions import Restrictions
from tests.gateway.auth.token_world import ACME, GLOBEX, OPERATORS, SHARED, Fetching, TokenWorld, own, shared
from tests.gateway.auth.world import ACT, HERE, NOW_US, Held, settled
from tests.worlds.issuer import NOW_S, IssuerWorld

SECOND_US = 1_000_000


def head(algorithm: str) -> str:
    return (
        base64.urlsafe_b64encode(json.dumps({"alg": algorithm, "typ": "JWT"}, separators=(",", ":")).encode())
        .rstrip(b"=")
        .decode()
    )


HEADS = head("HS256"), head("RS256")


@pytest.fixture
async def world() -> TokenWorld:
    return await TokenWorld().open()


# What it costs


async def test_a_warm_token_waits_for_nothing(world: TokenWorld) -> None:
    token = await world.met()
    world.table.gone = True
    world.issuers[ACME].is_down = True
    with pytest.raises(StopIteration):
        world.keys.authenticate(token, HERE).send(None)


async def test_issuer_tenant_and_keys_are_asked_for_once_however_many_tokens_come(world: TokenWorld) -> None:
    tokens = [world.token(sub=f"user {number}") for number in range(30)]
    found = await asyncio.gather(*(world.called(token) for token in tokens))
    assert len({it.id for it in found}) == 30
    assert world.fetched == [f"{ACME}/jwks"]
    assert len([it for it in world.table.reads if it.startswith("issuer")]) <= 2
    assert [it for it in world.table.reads if it.startswith("tenant/")].count(
        f"tenant/{found[0].tenant_id}"
    ) <= 3
    world.table.reads.clear()
    await world.called(world.token(sub="another"))
    assert world.table.reads == []


async def test_what_was_waited_for_with_another_is_once_more_when_that_one_leaves(world: TokenWorld) -> None:
    held = Held(world.table, "issuer")
    first, second = (asyncio.create_task(world.called(world.token(sub=sub))) for sub in ("ada", "bob"))
    await held.reached.wait()
    await settled()
    first.cancel()
    await settled()
    held.released.set()
    assert (await second).tenant_name == "acme"


async def test_who_leaves_while_keys_are_fetched_leaves_the_fetch_to_the_others(world: TokenWorld) -> None:
    held = Fetching(world)
    first, second = (asyncio.create_task(world.called(world.token(sub=sub))) for sub in ("ada", "bob"))
    await held.reached.wait()
    first.cancel()
    await settled()
    held.released.set()
    await second
    assert world.fetched == [f"{ACME}/jwks"]


# What is refused


def altered(token: Secret) -> Secret:
    head, claims, signature = token.reveal().split(".")
    return Secret(f"{head}.{claims}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}")


@pytest.mark.parametrize(
    "text",
    ["", "a.b.c", "ey.jwt.x", "gw-live-x", "e30.e30.", "x" * 20_000, "e30." * 5, "\N{KELVIN SIGN}.a.b"],
)
async def test_what_is_no_token_is_refused_and_nothing_is_asked_for_it(world: TokenWorld, text: str) -> None:
    world.table.gone = True
    assert await world.refused(Secret(text)) is Code.UNAUTHENTICATED
    assert (world.table.reads, world.fetched) == ([], [])


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": NOW_S - SKEW_SECONDS},
        {"exp": None},
        {"exp": True},
        {"nbf": NOW_S + SKEW_SECONDS + 1},
        {"iat": NOW_S + SKEW_SECONDS + 1},
        {"sub": None},
        {"sub": ""},
        {"iss": None},
        {"aud": None},
        {"aud": []},
    ],
)
async def test_a_token_of_another_time_or_of_nobody_is_refused_and_nothing_is_asked_for_it(
    world: TokenWorld, claims: dict[str, Any]
) -> None:
    token = Secret(world.issuers[ACME].token(**claims)) if "iss" not in claims else unsigned_of(world)
    world.table.gone = True
    assert await world.refused(token) is Code.UNAUTHENTICATED
    assert (world.table.reads, world.fetched) == ([], [])


def unsigned_of(world: TokenWorld) -> Secret:
    return Secret(IssuerWorld(ACME, keys=world.issuers[ACME].keys).token(iss=None))


@pytest.mark.parametrize("audience", ["another", "gateway ", "GATEWAY", ["another", "gate"]])
async def test_a_token_for_another_audience_is_refused_and_no_key_is_fetched(
    world: TokenWorld, audience: str | list[str]
) -> None:
    assert await world.refused(world.token(aud=audience)) is Code.UNAUTHENTICATED
    assert world.fetched == []


async def test_one_of_several_audiences_is_enough(world: TokenWorld) -> None:
    assert (await world.called(world.token(aud=["another", "gateway"]))).tenant_name == "acme"


async def test_a_token_that_two_owners_could_claim_is_nobodys_and_no_key_is_fetched(
    world: TokenWorld,
) -> None:
    await world.trust("globex", own(GLOBEX), own(ACME, audience="theirs"))
    await world.seen()
    assert (await world.called(world.token(aud="theirs"))).tenant_name == "globex"
    world.fetched.clear()
    assert await world.refused(world.token(aud=["gateway", "theirs"])) is Code.UNAUTHENTICATED
    assert (await world.called(world.token())).tenant_name == "acme"
    assert world.fetched == []


async def test_an_unknown_issuer_is_looked_up_once_in_five_seconds_and_none_of_its_keys_is_fetched(
    world: TokenWorld,
) -> None:
    stranger = IssuerWorld("https://login.stranger.example")
    tokens = [Secret(stranger.token(sub=f"{number}")) for number in range(9)]
    assert await world.refused(tokens[0]) is Code.UNAUTHENTICATED
    assert world.table.reads
    world.table.reads.clear()
    for token in tokens[1:8]:
        assert await world.refused(token) is Code.UNAUTHENTICATED
    world.clock.now += 2.9
    await world.refused(tokens[0])
    assert world.table.reads == []
    world.clock.now += 2.2
    assert await world.refused(tokens[8]) is Code.UNAUTHENTICATED
    assert [it for it in world.table.reads if it != "head"] != []
    assert world.fetched == []


async def test_who_names_many_unknown_issuers_drives_out_none_that_is_known(world: TokenWorld) -> None:
    await world.met()
    for number in range(1_000):
        await world.refused(Secret(fake(f"https://login.s{number}.example")))
    world.table.gone = True
    await world.called(world.token(sub="another"))


def fake(issuer: str) -> str:
    """In the form of a token, which nobody signed."""
    claims = {"iss": issuer, "aud": "gateway", "sub": "eve", "exp": NOW_S + 60}
    return jwt.encode(claims, "x" * 32, "HS256").replace(*HEADS)


async def test_a_network_may_name_so_many_unknown_issuers_and_then_hears_429_without_a_look_up() -> None:
    world = await TokenWorld(limit=Rate(0.001, 3)).open()
    known = await world.met()
    tokens = [Secret(IssuerWorld(f"https://login.s{number}.example").token()) for number in range(4)]
    assert [await world.refused(token) for token in tokens[:3]] == [Code.UNAUTHENTICATED] * 3
    world.table.reads.clear()
    assert await world.refused(tokens[3]) is Code.RATE_LIMITED
    assert world.table.reads == []
    await world.called(known)
    await world.called(world.token(sub="another of a known issuer"))
    assert await world.refused(tokens[3], "198.51.100.7") is Code.UNAUTHENTICATED


async def test_a_known_issuer_and_tenant_cost_their_network_nothing() -> None:
    world = await TokenWorld(limit=Rate(0.001, 1)).open()
    for number in range(5):
        await world.called(world.token(sub=f"{number}"))
        await world.called(world.token(SHARED, sub=f"{number}", tenant="globex"))


async def test_an_altered_token_and_one_by_another_key_of_that_name_are_refused(world: TokenWorld) -> None:
    theirs = IssuerWorld("https://login.forger.example").token(iss=ACME)
    await world.met()
    world.clock.now += world.key_sets.cooldown_seconds
    for token in (altered(world.token()), Secret(theirs)):
        assert await world.refused(token) is Code.UNAUTHENTICATED
        assert not world.is_known(token)
    assert world.fetched == [f"{ACME}/jwks"]  # they name a key that is there


async def test_operators_are_of_no_tenant_and_tenants_tokens_are_no_operators(world: TokenWorld) -> None:
    operator = world.token(OPERATORS, roles=["operator"])
    assert await world.refused(operator) is Code.UNAUTHENTICATED
    tokens = world.keys.tokens
    assert (await tokens.operator_id(operator, HERE) or "").startswith("p_")
    assert await tokens.operator_id(world.token(OPERATORS, roles=["admin"]), HERE) is None
    assert await tokens.operator_id(world.token(OPERATORS), HERE) is None
    assert await tokens.operator_id(world.token(roles=["operator"]), HERE) is None
    assert await tokens.operator_id(world.token(SHARED, roles=["operator"]), HERE) is None
    with pytest.raises(GatewayError):
        await tokens.operator_id(altered(operator), HERE)


async def test_an_operators_token_is_no_look_up_of_a_tenant() -> None:
    world = await TokenWorld(limit=Rate(0.001, 1)).open()
    assert await world.refused(world.token(OPERATORS, roles=["operator"])) is Code.UNAUTHENTICATED
    assert await world.refused(Secret(IssuerWorld("https://login.s.example").token())) is Code.UNAUTHENTICATED


@pytest.mark.parametrize("tenant", [None, "nobody", ["acme"], 7, True, "", "Acme", "acme ", {"name": "acme"}])
async def test_a_shared_issuers_token_is_of_the_tenant_that_it_names_or_of_nobody(
    world: TokenWorld, tenant: object
) -> None:
    assert (await world.called(world.token(SHARED))).tenant_name == "acme"
    assert (await world.called(world.token(SHARED, tenant="globex"))).tenant_name == "globex"
    assert await world.refused(world.token(SHARED, tenant=tenant)) is Code.UNAUTHENTICATED


async def test_a_tenants_own_issuer_speaks_for_that_tenant_alone(world: TokenWorld) -> None:
    assert (await world.called(world.token(tenant="globex"))).tenant_name == "acme"


async def test_a_tenant_claim_may_be_within_another(world: TokenWorld) -> None:
    await world.share(shared(tenant_claim="org.name"))
    await world.seen()
    assert (await world.called(world.token(SHARED, org={"name": "globex"}))).tenant_name == "globex"


# Who it is


@pytest.mark.parametrize(
    ("claims", "role"),
    [
        ({"roles": ["viewer"]}, "viewer"),
        ({"roles": "developer"}, "developer"),
        ({"roles": ["billing", "viewer", "admin"]}, "admin"),
        ({"roles": ["viewer", "nothing here"]}, "viewer"),
        ({"roles": ["operator"]}, "none"),
        ({"roles": ["Admin"]}, "none"),
        ({"roles": [["admin"]]}, "none"),
        ({"roles": {"admin": True}}, "none"),
        ({}, "none"),
        ({"email": "ada@acme.example", "email_verified": True}, "billing"),
        ({"email": "ADA@Acme.example", "email_verified": True}, "billing"),
        ({"email": "ada@acme.example", "email_verified": True, "roles": ["viewer"]}, "viewer"),
        ({"email": "ada@acme.example", "email_verified": True, "roles": ["operator"]}, "billing"),
        ({"email": "ada@acme.example", "email_verified": False}, "none"),
        ({"email": "ada@acme.example", "email_verified": "true"}, "none"),
        ({"email": "ada@acme.example", "email_verified": 1}, "none"),
        ({"email": "ada@acme.example"}, "none"),
        ({"email": ["ada@acme.example"], "email_verified": True}, "none"),
        ({"email": "ada@acme.example\0", "email_verified": True}, "none"),
        ({"email": "eve@acme.example", "email_verified": True}, "none"),
    ],
)
async def test_the_role_is_what_the_issuer_says_or_else_the_members(
    world: TokenWorld, claims: dict[str, Any], role: str
) -> None:
    await world.directory.members.invite("acme", "ada@acme.example", "billing", act=ACT)
    await world.trust("acme", own(ACME, roles_claim="roles"))
    await world.seen()
    assert (await world.called(world.token(**claims))).subject.role == role


async def test_an_issuer_without_roles_leaves_them_to_the_members_and_others_are_as_keys(
    world: TokenWorld,
) -> None:
    await world.directory.members.invite("acme", "ada@acme.example", "admin", act=ACT)
    await world.seen()
    ada = await world.called(world.token(email="ada@acme.example", email_verified=True))
    assert ada.subject.role == "admin"
    assert (await world.called(world.token(roles=["admin"]))).subject.role is None
    elsewhere = await world.called(world.token(GLOBEX, email="ada@acme.example", email_verified=True))
    assert (elsewhere.tenant_name, elsewhere.subject.role) == ("globex", None)


async def test_roles_of_other_names_are_mapped_and_nothing_else_is_one(world: TokenWorld) -> None:
    await world.trust(
        "acme", own(ACME, roles_claim="realm_access.roles", roles={"boss": "admin", "dev": "developer"})
    )
    await world.seen()
    for given, role in ((["dev"], "developer"), (["dev", "boss"], "admin"), (["admin"], "none")):
        token = world.token(realm_access={"roles": given})
        assert (await world.called(token)).subject.role == role


async def test_who_is_known_as_a_member_has_the_members_id_and_everybody_else_one_of_their_own(
    world: TokenWorld,
) -> None:
    member = await world.directory.members.invite("acme", "ada@acme.example", "viewer", act=ACT)
    await world.seen()
    ada = await world.called(world.token(email="ada@acme.example", email_verified=True, name="Ada"))
    assert (ada.id, ada.subject.principal_id, ada.name) == (member.id, member.id, "")
    tokens = [
        world.token(),
        world.token(jti="another token of the same"),
        world.token(sub="bob"),
        world.token(SHARED),
        world.token(SHARED, tenant="globex"),
        world.token(GLOBEX),
    ]
    found = [await world.called(token) for token in tokens]
    ids = [it.id for it in found]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 5
    assert all(it.id.startswith("p_") and it.name == "" and it.subject.principal_id == it.id for it in found)
    assert all(re.fullmatch(r"p_[0-9a-z]{20}", it) for it in ids)  # of one form, whatever the subject is


def test_an_id_is_the_same_for_ever_as_the_audit_log_has_it() -> None:
    token = read(IssuerWorld(ACME).token())
    assert subject_id("t_1", token) == "p_eupxg6vohrohvqj5tbpr"


async def test_a_token_ends_with_its_skew_to_the_microsecond_and_without_any_look(world: TokenWorld) -> None:
    token = await world.met(exp=NOW_S + 10)
    world.now_us = NOW_US + (10 + SKEW_SECONDS) * SECOND_US - 1
    await world.called(token)
    world.now_us += 1
    assert await world.refused(token) is Code.UNAUTHENTICATED


async def test_a_token_ends_with_its_tenant_where_that_closes_before(world: TokenWorld) -> None:
    await world.directory.tenants.do("acme", "close", act=ACT, closes_us=NOW_US + 7)
    await world.seen()
    token = await world.met()
    world.now_us = NOW_US + 6
    assert (await world.called(token)).subject.tenant_state == "closing"
    world.now_us = NOW_US + 7
    assert await world.refused(token) is Code.UNAUTHENTICATED
    assert await world.refused(world.token(sub="cold")) is Code.UNAUTHENTICATED


async def test_what_a_tenant_restricts_itself_to_holds_for_its_tokens_as_for_its_keys(
    world: TokenWorld,
) -> None:
    wanted = Restrictions(regions=("eu",), models=("digits",), networks=("192.0.2.0/24",))
    await world.directory.tenants.restrict("acme", wanted, ACT)
    key = (await world.key()).secret
    await world.seen()
    theirs, of_key = await world.called(world.token()), await world.called(key)
    for it in (theirs.subject, of_key.subject):
        assert (it.tenant_regions, it.tenant_models) == (frozenset({"eu"}), frozenset({"digits"}))
    for credential in (world.token(), world.token(sub="cold"), world.token(SHARED), key):
        with pytest.raises(GatewayError) as caught:
            await world.called(credential, "198.51.100.1")
        assert (caught.value.code, caught.value.sentence) == (Code.FORBIDDEN, ELSEWHERE)
        assert caught.value.who is not None
    await world.called(world.token(GLOBEX), "198.51.100.1")


async def test_a_use_of_a_token_is_noted_of_no_key(world: TokenWorld) -> None:
    await world.met()
    assert world.keys.used == {}
