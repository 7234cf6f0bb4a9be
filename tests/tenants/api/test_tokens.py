"""Callers that hold tokens: what a role may, it may by a token as by a key; whose it is, and for how long, is judged anew."""

import asyncio
from typing import Any

import pytest

from gateway.auth.known import FRESH_SECONDS
from tenants.api.application import MOST_AT_ONCE
from tenants.api.routes import OPERATIONS, Operation
from tenants.plans import Rate
from tests.tenants.api.holders import ACME, MAY, PEOPLE, SHARED, STAFF, member_token, trusting
from tests.tenants.api.test_who import ROWS, asked
from tests.tenants.api.worlds import Told, World, peopled

KEYS = "/tenants/acme/keys"
A_LOOK_US = round(FRESH_SECONDS * 1_000_000)


async def whoami(world: World, token: str, at: str = "public") -> Told:
    return await world.ask("GET", "/whoami", by="nobody", at=at, authorization=f"Bearer {token}")


async def last_event(world: World) -> Any:
    path, found = "/tenants/acme/audit", None
    after = ""
    while after is not None:
        page = (await world.ask("GET", f"{path}?cursor={after}" if after else path)).json
        found, after = (page["items"] or [found])[-1], page["next_cursor"]
    return found


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda it: it.id)
async def test_a_token_of_a_role_may_what_a_key_of_it_may_and_no_more(
    world: World, operation: Operation
) -> None:
    await trusting(world)
    may = [holder for holder, like in MAY.items() if like in ROWS[operation.id].may]
    before = dict(world.table.rows)
    for holder in MAY.keys() - set(may):
        foreign = holder == "stranger" and operation.names[:1] == ("tenant",)
        refused = await asked(world, operation, f"{holder} token")
        assert refused.code == ("not_found" if foreign else "forbidden"), holder
    assert world.table.rows == before
    for holder in may:
        async with peopled() as anew:
            await trusting(anew)
            answer = await asked(anew, operation, f"{holder} token")
            assert answer.status in operation.successes, (holder, answer.body)


@pytest.mark.parametrize("holder", MAY)
async def test_a_token_works_at_its_own_listener_alone(world: World, holder: str) -> None:
    await trusting(world)
    other = "public" if holder == "operator" else "operator"
    assert (await world.ask("GET", "/whoami", by=f"{holder} token")).status == 200
    refused = await world.ask("GET", "/whoami", by=f"{holder} token", at=other)
    assert (refused.code, refused.headers["www-authenticate"]) == ("unauthenticated", "Bearer")


async def test_an_operators_issuer_makes_no_operator_of_whom_it_does_not_call_one(world: World) -> None:
    await trusting(world)
    for claims in ({}, {"roles": "admin"}, {"roles": ["Operator"]}, {"roles": "operator", "aud": "other"}):
        token = world.issuer.token(iss=STAFF, **claims)
        for listener in ("operator", "public"):
            assert (await whoami(world, token, listener)).code == "unauthenticated"
    for url in (ACME, SHARED):
        token = world.issuer.token(iss=url, roles=["operator"], tenant="acme")
        assert (await whoami(world, token, "operator")).code == "unauthenticated"
        assert (await whoami(world, token)).json["role"] == "none"


async def test_who_holds_a_token_is_told_as_whom(world: World) -> None:
    await trusting(world)
    told = (await world.ask("GET", "/whoami", by="admin token")).json
    assert told == {"id": told["id"], "key": None, "role": "admin", "tenant": "acme", "account": None}
    assert told["id"].startswith("p_")
    operator = (await world.ask("GET", "/whoami", by="operator token")).json
    assert operator == {
        "id": operator["id"],
        "key": None,
        "role": "operator",
        "tenant": None,
        "account": None,
    }
    member = (await whoami(world, member_token(world))).json
    assert (member["id"], member["role"], member["key"]) == (world.ids["member"], "viewer", None)
    nobody = (await whoami(world, world.issuer.token(iss=PEOPLE))).json
    assert (nobody["role"], nobody["tenant"]) == ("none", "acme")
    shared = (await whoami(world, world.issuer.token(iss=SHARED, tenant="globex", roles="viewer"))).json
    assert (shared["role"], shared["tenant"]) == ("viewer", "globex")


async def test_events_name_the_member_or_what_stands_for_the_tokens_subject(world: World) -> None:
    await trusting(world)
    member = (
        await world.ask("POST", "/tenants/acme/members", {"email": "o@acme.example", "role": "admin"})
    ).json
    world.keys["member"] = member_token(world, "o@acme.example")
    for by, kind in (("member", "member"), ("admin token", "token")):
        made = await world.ask("POST", f"{KEYS}?reason=ci", by=by)
        assert made.json["made_by"] is None  # what leak response knows of is made by keys
        event = await last_event(world)
        own_id = (await world.ask("GET", "/whoami", by=by)).json["id"]
        assert (event["actor"], event["reason"]) == (f"{kind}:{own_id}", "ci")
        assert event["subject"] == f"key/{made.json['id']}"
    assert member["id"] in (await world.ask("GET", "/whoami", by="member")).json["id"]
    await world.ask("POST", "/tenants/acme/suspend?reason=unpaid", by="operator token")
    operator = (await world.ask("GET", "/whoami", by="operator token")).json["id"]
    assert (await last_event(world))["actor"] == f"token:{operator}"


async def test_a_members_two_tokens_are_one_caller_and_two_members_are_two(world: World) -> None:
    await trusting(world)
    for name in ("ada", "bob"):
        invited = {"email": f"{name}@new.example", "role": "developer"}
        await world.ask("POST", "/tenants/acme/members", invited)
        world.keys[name] = member_token(world, invited["email"], sub=name)
    world.keys["ada again"] = member_token(world, "ada@new.example", sub="another", jti="2")
    made = [
        await world.ask("POST", KEYS, {"name": "ci"}, by=by, idempotency_key="one")
        for by in ("ada", "ada again", "bob")
    ]
    assert [it.status for it in made] == [201, 201, 201]
    first, again, other = (it.json for it in made)
    assert (again["id"], again["api_key"]) == (first["id"], None)
    assert other["id"] != first["id"]
    assert other["api_key"]
    reused = await world.ask("POST", KEYS, {"name": "cd"}, by="ada again", idempotency_key="one")
    assert reused.code == "idempotency_key_reused"


async def test_a_member_that_is_removed_or_gets_another_role_is_that_within_a_look(world: World) -> None:
    await trusting(world)
    world.keys["ada"] = member_token(world)
    for _ in range(2):  # both gateways have met the token
        assert (await world.ask("GET", KEYS, by="ada")).status == 200
    path = f"/tenants/acme/members/{world.ids['member']}"
    await world.ask("PATCH", path, {"role": "billing"}, if_match=await world.etag(path))
    world.now_us += A_LOOK_US
    for _ in range(2):
        assert (await world.ask("GET", "/whoami", by="ada")).json["role"] == "billing"
        assert (await world.ask("GET", KEYS, by="ada")).code == "forbidden"
    await world.ask("DELETE", path, if_match=await world.etag(path))
    world.now_us += A_LOOK_US
    for _ in range(2):
        told = (await world.ask("GET", "/whoami", by="ada")).json
        assert told["role"] == "none"
        assert told["id"].startswith("p_")


async def test_an_issuer_that_is_trusted_no_more_lets_nobody_in_after_a_look(world: World) -> None:
    await trusting(world)
    for by in ("admin token", "operator token"):
        assert [(await world.ask("GET", "/whoami", by=by)).status for _ in range(2)] == [200, 200]
    own = "/tenants/acme/issuers"
    await world.ask("PATCH", own, {"issuers": []}, if_match=await world.etag(own))
    for issuer in (await world.ask("GET", "/issuers")).json["items"]:
        path = f"/issuers/{issuer['id']}"
        await world.ask("DELETE", path, if_match=await world.etag(path))
    world.now_us += A_LOOK_US
    for by in ("admin token", "operator token"):
        assert (await world.ask("GET", "/whoami", by=by)).code == "unauthenticated"


@pytest.mark.parametrize(("deed", "state"), [("suspend", "suspended"), ("close", "closing")])
async def test_of_a_tenant_that_is_not_served_a_token_may_read_until_it_is_closed(
    world: World, deed: str, state: str
) -> None:
    await trusting(world)
    assert (await world.ask("GET", "/tenants/acme", by="admin token")).status == 200
    body = {"after_seconds": 60} if deed == "close" else None
    await world.ask("POST", f"/tenants/acme/{deed}", body)
    # Read anew with each request, so at once, whatever is remembered of the token.
    assert (await world.ask("GET", "/tenants/acme", by="admin token")).json["state"] == state
    assert (await world.ask("POST", KEYS, by="admin token")).code == "forbidden"
    world.now_us += 60_000_000
    ended = await world.ask("GET", "/tenants/acme", by="admin token")
    assert ended.status == (200 if deed == "suspend" else 401)


async def test_a_closed_tenants_token_is_nobodys_at_once(world: World) -> None:
    await trusting(world)
    for _ in range(2):
        assert (await world.ask("GET", "/tenants/acme", by="admin token")).status == 200
    await world.ask("POST", "/tenants/acme/close")
    for _ in range(2):
        assert (await world.ask("GET", "/tenants/acme", by="admin token")).code == "unauthenticated"


async def test_while_its_issuer_is_down_a_new_token_is_told_to_come_again_and_keys_work(world: World) -> None:
    await trusting(world)
    world.issuer.is_down = True
    for by in ("admin token", "operator token"):
        refused = await world.ask("GET", "/whoami", by=by)
        assert (refused.status, refused.code) == (503, "issuer_unavailable")
        assert refused.headers["retry-after"] == "1"
        assert "issuer" in refused.json["detail"]
        assert b"nobody listens" not in refused.body  # which is for the log
    for by in ("admin", "operator"):
        assert (await world.ask("GET", "/whoami", by=by)).status == 200


@pytest.mark.parametrize("by", ["admin token", "operator token"])
async def test_while_the_table_is_gone_a_token_is_told_to_come_again(world: World, by: str) -> None:
    await trusting(world)
    world.table.gone = True
    refused = await world.ask("GET", "/whoami", by=by)
    assert (refused.status, refused.code, refused.headers["retry-after"]) == (503, "table_unavailable", "1")


async def test_a_token_in_any_place_is_one_and_two_of_them_are_refused(world: World) -> None:
    await trusting(world)
    admin, viewer, operator = (world.keys[f"{it} token"] for it in ("admin", "viewer", "operator"))
    for sent in ({"x_api_key": admin}, {"authorization": f"Bearer {admin}"}):
        assert (await world.ask("GET", "/whoami", by="nobody", at="public", **sent)).json["role"] == "admin"
    same = {"x_api_key": admin, "authorization": f"bearer {admin}"}
    assert (await world.ask("GET", "/whoami", by="nobody", at="public", **same)).status == 200
    for other in (viewer, operator, world.keys["admin"]):
        two = {"x_api_key": admin, "authorization": f"Bearer {other}"}
        assert (await world.ask("GET", "/whoami", at="public", **two)).code == "two_credentials"


async def test_no_text_of_a_token_is_stored_or_said_again(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await trusting(world)
    caplog.set_level("DEBUG")
    said = []
    for by in ("admin token", "operator token", "stranger token"):
        said += [
            (await world.ask("POST", KEYS, by=by)).body,
            (await world.ask("GET", "/nowhere", by=by)).body,
        ]
        parts = world.keys[by].encode().split(b".")
        places = [world.everything, *said, caplog.text.encode()]
        assert not [part for part in parts[1:] if any(part in place for place in places)]


async def test_all_who_hold_tokens_of_a_tenant_have_one_bound_of_requests_at_once(world: World) -> None:
    await trusting(world)
    for by in (
        "viewer token",
        "admin token",
        "stranger token",
    ):  # met, so that none waits for the issuer's keys
        assert [(await world.ask("GET", "/whoami", by=by)).status for _ in range(2)] == [200, 200]
    asks = [world.ask("GET", "/tenants/acme", by="viewer token") for _ in range(4 * MOST_AT_ONCE)]
    answers, colleague, other = await asyncio.gather(
        asyncio.gather(*asks),
        asyncio.gather(*(world.ask("GET", "/tenants/acme", by="admin token") for _ in range(50))),
        world.ask("GET", "/tenants/globex", by="stranger token"),
    )
    assert {it.status for it in answers} == {200, 429}
    assert 429 in {it.status for it in colleague}
    assert other.status == 200
    refused = next(it for it in answers if it.status == 429)
    assert (refused.code, refused.headers["retry-after"]) == ("too_many_at_once", "1")


async def flood(world: World, tokens: list[str]) -> list[int]:
    return [(await whoami(world, token)).status for token in tokens]


async def test_made_up_issuers_are_held_back_by_network_and_who_was_met_is_not() -> None:
    async with peopled() as first:
        world = World(first.table, keys=first.keys, unknown=Rate(rate=0.001, burst=5))
        await trusting(world)
        met = ("admin", "admin token")
        for by in met:
            assert [(await world.ask("GET", "/whoami", by=by)).status for _ in range(2)] == [200, 200]
        made_up = [world.issuer.token(iss=f"https://{n}.example") for n in range(40)]
        assert await flood(world, made_up) == [401] * 10 + [429] * 30  # of two gateways
        assert await flood(world, made_up[:4]) == [401] * 4  # nobody's a moment ago: nothing is looked up
        refused = await whoami(world, made_up[-1])
        assert (refused.code, refused.headers["retry-after"]) == ("rate_limited", "1000")
        for by in met:
            assert [(await world.ask("GET", "/whoami", by=by)).status for _ in range(2)] == [200, 200]
        # A stranger of the same network waits, as for a key that was not met.
        assert (await world.ask("GET", "/whoami", by="stranger token")).code == "rate_limited"


async def test_bad_signatures_of_a_known_issuer_hold_back_nobody_and_ask_its_issuer_seldom() -> None:
    async with peopled() as first:
        world = World(first.table, keys=first.keys, unknown=Rate(rate=0.001, burst=5))
        await trusting(world)
        good = [(await world.ask("GET", "/whoami", by="admin token")).status for _ in range(2)]
        forged = [world.keys["admin token"].rpartition(".")[0] + "." + "A" * n for n in range(300, 340)]
        unknown_key = [world.issuer.token(iss=ACME, headers={"kid": f"k{n}"}) for n in range(40)]
        assert {*await flood(world, forged), *await flood(world, unknown_key)} == {401}
        assert world.issuer.reads <= 4  # each gateway's first, and once more for a key that is not there
        assert good == [200, 200]
        assert (await world.ask("GET", "/whoami", by="admin token")).status == 200


@pytest.mark.parametrize("text", ["a" * 20_000, "e30." * 3, "e30.e30.e30", "." * 5_000, "a.b.c\x00"])
async def test_what_is_no_token_is_refused_before_anything_is_looked_up(world: World, text: str) -> None:
    await trusting(world)
    world.table.gone = True
    for listener in ("public", "operator"):
        assert (await whoami(world, text, listener)).code == "unauthenticated"
    assert world.issuer.reads == 0
