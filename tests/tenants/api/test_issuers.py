"""Who says which issuers a tenant has, and what is told of whose an issuer is."""

import asyncio
import json

import pytest

from tenants.issuers import MOST_ISSUERS, id_of
from tests.tenants.api.worlds import World

OWN = {"issuer": "https://login.acme.example", "audience": "gateway"}
SHARED = "https://login.example"
OF_ACME, OF_GLOBEX = "/tenants/acme/issuers", "/tenants/globex/issuers"


async def test_a_list_of_issuers_is_read_put_and_put_again_as_it_is_shown(world: World) -> None:
    empty = await world.ask("GET", OF_ACME)
    assert (empty.json, empty.status) == ({"issuers": []}, 200)
    tag = empty.headers["etag"]
    made = await world.ask("PATCH", OF_ACME, {"issuers": [OWN]}, if_match=tag)
    assert made.status == 200
    assert made.json == {
        "issuers": [OWN | {"jwks_url": None, "roles_claim": None, "insecure": False, "roles": None}]
    }
    assert (await world.ask("PATCH", OF_ACME, {"issuers": []}, if_match=tag)).code == "stale"
    shown = await world.ask("GET", OF_ACME, by="viewer")
    assert (shown.json, shown.headers["etag"]) == (made.json, made.headers["etag"])
    again = await world.ask("PATCH", OF_ACME, shown.json, if_match=shown.headers["etag"])
    assert again.headers["etag"] == shown.headers["etag"]
    told = (await world.ask("GET", "/tenants/acme/audit")).json["items"]
    assert [it["action"] for it in told if it["action"].startswith("issuer")] == ["issuer.assigned"]


async def test_an_issuer_of_another_is_not_got_and_operators_hear_whose_it_is(world: World) -> None:
    await world.ask("PATCH", OF_ACME, {"issuers": [OWN]}, if_match=await world.etag(OF_ACME))
    before = dict(world.table.rows)
    refused = await world.ask("PATCH", OF_GLOBEX, {"issuers": [OWN]}, if_match=await world.etag(OF_GLOBEX))
    assert (refused.status, refused.code) == (409, "in_use")
    assert "acme" in refused.json["detail"]
    body = {**OWN, "tenant_claim": "tenant"}
    path = f"/issuers/{id_of(OWN['issuer'])}"
    assert (await world.ask("PUT", path, body, if_none_match="*")).code == "in_use"
    assert world.table.rows == before
    hidden = await world.ask("PATCH", OF_GLOBEX, {"issuers": [OWN]}, by="stranger", if_match='"0-0"')
    assert hidden.code == "forbidden"
    assert b"acme" not in hidden.body


async def test_of_many_tenants_that_are_given_one_issuer_at_once_one_has_it(world: World) -> None:
    tags = {path: await world.etag(path) for path in (OF_ACME, OF_GLOBEX)}
    answers = await asyncio.gather(
        *(world.ask("PATCH", path, {"issuers": [OWN]}, if_match=tags[path]) for path in [*tags] * 5)
    )
    assert sorted({answer.status for answer in answers}) == [200, 409, 412]
    assert sum(answer.status == 200 for answer in answers) == 1
    assert len(await world.directory.issuers.trusted(OWN["issuer"])) == 1


@pytest.mark.parametrize(
    ("issuers", "path"),
    [
        ([{**OWN, "issuer": "http://login.acme.example"}], "issuers[0].issuer"),
        ([{**OWN, "issuer": "https://169.254.169.254"}], "issuers[0].issuer"),
        ([{**OWN, "tenant_claim": "tenant"}], "issuers[0]"),
        ([{**OWN, "operators": True}], "issuers[0]"),
        ([{**OWN, "roles_claim": "r", "roles": {"a": "operator"}}], "issuers[0].roles[...]"),
        ([OWN, OWN], "issuers[1]"),
        ([{**OWN, "audience": f"{number}"} for number in range(MOST_ISSUERS + 1)], "issuers"),
        ([{**OWN, "audience": ""}], "issuers[0].audience"),
        (None, "issuers"),
    ],
)
async def test_what_no_issuer_is_is_refused_at_its_place(world: World, issuers: object, path: str) -> None:
    before = dict(world.table.rows)
    tag = await world.etag(OF_ACME)
    answer = await world.ask("PATCH", OF_ACME, {"issuers": issuers}, if_match=tag)
    assert (answer.code, answer.json["path"]) == ("invalid", path)
    assert world.table.rows == before


async def test_a_change_that_does_not_say_which_issuers_takes_none_away(world: World) -> None:
    await world.ask("PATCH", OF_ACME, {"issuers": [OWN]}, if_match=await world.etag(OF_ACME))
    bodies: tuple[object, ...] = ({}, None)
    for body in bodies:
        answer = await world.ask("PATCH", OF_ACME, body, if_match=await world.etag(OF_ACME))
        assert answer.code == "invalid"
    assert len((await world.ask("GET", OF_ACME)).json["issuers"]) == 1


async def test_a_shared_issuer_is_at_the_id_of_its_url_and_nowhere_else(world: World) -> None:
    path = f"/issuers/{id_of(SHARED)}"
    shown = await world.ask("GET", path)
    assert shown.json["id"] == id_of(SHARED)
    assert [it["id"] for it in (await world.ask("GET", "/issuers")).json["items"]] == [id_of(SHARED)]
    same = await world.ask("PUT", path, shown.json, if_match=shown.headers["etag"])
    assert (same.status, same.headers["etag"]) == (200, shown.headers["etag"])
    body = {name: it for name, it in shown.json.items() if name != "id"}
    for wrong, at in (
        ({**body, "issuer": "https://else.example"}, "issuer"),
        ({**body, "id": id_of("https://else.example")}, "id"),
    ):
        refused = await world.ask("PUT", path, wrong, if_match=shown.headers["etag"])
        assert (refused.code, refused.json["path"]) == ("invalid", at)
    fault = await world.ask("PUT", path, {**body, "tenant_claim": None}, if_match=shown.headers["etag"])
    assert (fault.code, fault.json["path"]) == ("invalid", "tenant_claim")
    for name in ("login.example", id_of(SHARED).upper(), "0" * 20, "a" * 2000):
        assert (await world.ask("GET", f"/issuers/{name}")).code == "not_found"


async def test_a_tenant_hears_nothing_of_shared_issuers(world: World) -> None:
    for by in ("admin", "viewer", "stranger"):
        refused = [await world.ask("GET", path, by=by) for path in ("/issuers", f"/issuers/{id_of(SHARED)}")]
        assert {answer.code for answer in refused} == {"forbidden"}
        assert SHARED not in json.dumps([answer.json for answer in refused])
