"""Conditions over the control API: what is told of them, that nobody widens their own, and what a leaked text leads to."""

import json
from typing import Any

import pytest

from tenants.acts import Act
from tenants.keys import PREFIX, checksum
from tests.tenants.api.worlds import World
from tests.tenants.conftest import BY, NOW

HOURS = {"windows": [{"days": ["tue"], "from": "22:00", "to": "23:00"}], "zone": "UTC"}
TERMS: dict[str, Any] = {
    "networks": ["127.0.0.0/8"],
    "hours": HOURS,
    "limits": {"requests_per_second": {"rate": 5.0, "burst": 10}, "concurrent_requests": 2},
}
DAY = 86_400
_BODY = PREFIX + "0" * 32
NOBODYS = _BODY + checksum(_BODY)
KEYS = "/tenants/acme/keys"


async def made(world: World, by: str = "operator", path: str = KEYS, **body: Any) -> dict[str, Any]:
    answer = await world.ask("POST", path, body, by=by)
    assert answer.status == 201, answer.body
    told: dict[str, Any] = answer.json
    return told


async def caller(world: World, name: str, **body: Any) -> str:
    """A bound key of acme's admin account, as a caller; its id."""
    key = await made(world, account=world.ids["admin account"], **body)
    world.keys[name] = key["api_key"]
    return str(key["id"])


async def test_what_a_key_is_bound_to_is_told_and_kept_by_its_successor(world: World) -> None:
    maker = await caller(world, "maker")
    key = await made(world, "maker", **TERMS)
    for path in (f"{KEYS}/{key['id']}", f"{KEYS}/{key['id']}/rotate"):
        method, body = ("POST", b"{}") if path.endswith("rotate") else ("GET", None)
        told = (await world.ask(method, path, body, by="maker")).json
        assert {name: told[name] for name in TERMS} == TERMS
        assert told["made_by"] == maker
        assert told["last_used_at"] is None


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"networks": ["127.0.0.1/8"]}, "networks[0]"),
        ({"networks": []}, "networks"),
        ({"networks": ["10.0.0.0/8"] * 51}, "networks"),
        ({"hours": {"windows": []}}, "hours.windows"),
        ({"hours": {**HOURS, "zone": "Mars"}}, "hours.zone"),
        ({"hours": {**HOURS, "later": 1}}, "hours"),
        ({"limits": {}}, "limits"),
        ({"limits": {"tokens_per_minute": 1}}, "limits"),
        ({"limits": {"concurrent_requests": 0}}, "limits.concurrent_requests"),
    ],
)
async def test_conditions_that_make_no_sense_make_no_key(world: World, body: Any, path: str) -> None:
    before = dict(world.table.rows)
    answer = await world.ask("POST", KEYS, body)
    assert answer.code == "invalid"
    assert path in answer.body.decode()
    assert world.table.rows == before


@pytest.mark.parametrize("lacking", TERMS)
async def test_a_bound_key_makes_and_renews_none_that_is_bound_to_less(world: World, lacking: str) -> None:
    await caller(world, "maker", **TERMS)
    await made(world, "maker", **TERMS)
    less = {name: value for name, value in TERMS.items() if name != lacking}
    loose = await made(world, **less)
    for path, body in ((KEYS, less), (f"{KEYS}/{loose['id']}/rotate", {})):
        answer = await world.ask("POST", path, body, by="maker")
        assert answer.code == "forbidden"
        assert "bound to less" in answer.json["detail"]
    assert (await world.ask("POST", f"{KEYS}/{loose['id']}/revoke", by="maker")).status == 200


async def test_a_key_that_ends_makes_none_that_lasts_longer_but_a_successor_of_its_own(world: World) -> None:
    own = await caller(world, "maker", expires_seconds=DAY)
    await made(world, "maker", expires_seconds=DAY)
    for body in ({}, {"expires_seconds": DAY + 1}):
        assert (await world.ask("POST", KEYS, body, by="maker")).code == "forbidden"
    other = await made(world)
    assert (await world.ask("POST", f"{KEYS}/{other['id']}/rotate", {}, by="maker")).code == "forbidden"
    again = await world.ask("POST", f"{KEYS}/{own}/rotate", {"overlap_seconds": 60}, by="maker")
    assert again.status == 201
    once_more = await world.ask("POST", f"{KEYS}/{own}/rotate", {"overlap_seconds": 60}, by="maker")
    assert once_more.json["expires_at"] == again.json["expires_at"]


async def test_an_operators_bound_key_makes_no_operators_key_that_is_not_and_tenants_keys_as_ever(
    world: World,
) -> None:
    bound = await made(world, path="/operator/keys", networks=["127.0.0.0/8"], expires_seconds=DAY)
    world.keys["bound"] = bound["api_key"]
    body = {"networks": ["127.0.0.1/32"], "expires_seconds": 60}
    assert (await world.ask("POST", "/operator/keys", body, by="bound", at="operator")).status == 201
    for loose in ({}, {"networks": ["127.0.0.1/32"]}, {"expires_seconds": 60}):
        assert (
            await world.ask("POST", "/operator/keys", loose, by="bound", at="operator")
        ).code == "forbidden"
    assert (await world.ask("POST", KEYS, {}, by="bound", at="operator")).status == 201


@pytest.mark.parametrize(
    ("terms", "sentence"),
    [
        ({"networks": ["192.0.2.0/24"]}, "this credential may not be used from this address"),
        (
            {"hours": {**HOURS, "windows": [{"days": ["mon"], "from": "00:00", "to": "24:00"}]}},
            "at this hour",
        ),
    ],
)
async def test_the_control_api_is_bound_as_every_door_is(world: World, terms: Any, sentence: str) -> None:
    await caller(world, "bound", **terms)
    answer = await world.ask("GET", "/whoami", by="bound")
    assert (answer.status, answer.code) == (403, "forbidden")
    assert sentence in answer.json["detail"]


async def test_a_key_whose_account_is_gone_is_orphaned(world: World) -> None:
    key = await made(world, account=world.ids["account"])
    path = f"/tenants/acme/accounts/{world.ids['account']}"
    assert (await world.ask("DELETE", path, if_match=await world.etag(path))).status == 204
    assert (await world.ask("GET", f"{KEYS}/{key['id']}")).json["state"] == "orphaned"
    listed = (await world.ask("GET", KEYS)).json["items"]
    assert {it["id"] for it in listed if it["state"] == "orphaned"} == {key["id"]}
    assert (await world.ask("POST", f"{KEYS}/{key['id']}/revoke")).json["state"] == "revoked"


async def test_the_last_use_of_a_key_is_told(world: World) -> None:
    key = await made(world)
    tenant_id = (await world.ask("GET", "/tenants/acme")).json["id"]
    await world.directory.uses.note({key["id"]: (tenant_id, NOW)})
    assert (await world.ask("GET", f"{KEYS}/{key['id']}")).json["last_used_at"] == "2023-11-14T22:13:20Z"


# A text that somebody has who should not


async def family(world: World) -> tuple[str, list[dict[str, Any]]]:
    """A key that made one, which made another, and one that nobody's key made."""
    root = await made(world, account=world.ids["admin account"])
    world.keys["root"] = root["api_key"]
    child = await made(world, "root", account=world.ids["admin account"])
    world.keys["child"] = child["api_key"]
    grandchild = await made(world, "child")
    return root["api_key"], [root, child, grandchild]


@pytest.mark.parametrize("and_made", [False, True])
async def test_a_leaked_text_ends_its_key_and_tells_what_it_made(world: World, *, and_made: bool) -> None:
    text, (root, child, grandchild) = await family(world)
    body = {"api_key": text, "and_made": and_made}
    answer = await world.ask("POST", "/leaks", body, idempotency_key="leak")
    told = answer.json
    assert (told["id"], told["tenant"], told["was"], told["state"]) == (
        root["id"],
        "acme",
        "active",
        "revoked",
    )
    assert [it["id"] for it in told["made"]] == [child["id"], grandchild["id"]]
    assert {it["state"] for it in told["made"]} == {"revoked" if and_made else "active"}
    assert (await world.ask("GET", "/whoami", by="root")).status == 401
    assert (await world.ask("GET", "/whoami", by="child")).status == (401 if and_made else 200)
    events = (await world.ask("GET", "/tenants/acme/audit")).json["items"]
    ended = [it for it in events if it["action"] == "key.revoked"]
    assert len(ended) == (3 if and_made else 1)
    assert {it["reason"] for it in ended} == {"its text has leaked"}
    again = await world.ask("POST", "/leaks", body)
    assert again.json == told
    assert text.encode() not in world.everything + answer.body + again.body


async def test_the_text_of_a_key_that_has_ended_or_is_an_operators_is_found_too(world: World) -> None:
    ended = await made(world, expires_seconds=1)
    world.now_us += 2_000_000
    told = (await world.ask("POST", "/leaks", {"api_key": ended["api_key"]})).json
    assert (told["was"], told["state"]) == ("expired", "revoked")
    spare = await world.directory.keys.create(None, Act(BY, NOW), name="s")
    world.keys["spare"] = spare.secret.reveal()
    made_by_it = await world.ask("POST", "/tenants/globex/keys", {}, by="spare", at="operator")
    told = (await world.ask("POST", "/leaks", {"api_key": spare.secret.reveal()})).json
    assert (told["id"], told["tenant"]) == (spare.key.id, None)
    assert [(it["tenant"], it["id"]) for it in told["made"]] == [("globex", made_by_it.json["id"])]


async def test_a_leaked_key_for_emergencies_takes_what_was_made_with_it_along(world: World) -> None:
    """Whoever had it would make themselves a key that nobody looks at twice."""
    glass = await world.directory.keys.create(None, Act(BY, NOW), name="fire", break_glass=True)
    world.keys["glass"] = glass.secret.reveal()
    hidden = await world.ask("POST", "/operator/keys?reason=fire", {}, by="glass", at="operator")
    world.keys["hidden"] = hidden.json["api_key"]
    body = {"api_key": glass.secret.reveal(), "and_made": True}
    told = (await world.ask("POST", "/leaks", body)).json
    assert [(it["id"], it["state"]) for it in told["made"]] == [(hidden.json["id"], "revoked")]
    assert (await world.ask("GET", "/whoami", by="hidden", at="operator")).status == 401


@pytest.mark.parametrize(("text", "code"), [(NOBODYS[:-1] + "_", "invalid"), (NOBODYS, "not_found")])
async def test_a_text_that_is_no_key_of_ours_is_refused_and_not_repeated(
    world: World, caplog: pytest.LogCaptureFixture, text: str, code: str
) -> None:
    answer = await world.ask("POST", "/leaks", {"api_key": text}, idempotency_key="x")
    assert answer.code == code
    assert text not in json.dumps(answer.json) + caplog.text
    assert text.encode() not in world.everything
