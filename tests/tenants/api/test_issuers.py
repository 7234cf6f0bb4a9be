"""A shared issuer is the operators' to say, is at one place, and is no tenant's to hear of."""

import json

from tenants.issuers import id_of
from tests.tenants.api.worlds import World

OWN = {"issuer": "https://login.acme.example", "audience": "gateway"}
SHARED = "https://login.example"


async def test_what_a_tenant_has_is_no_shared_issuer(world: World) -> None:
    of_acme = "/tenants/acme/issuers"
    await world.ask("PATCH", of_acme, {"issuers": [OWN]}, if_match=await world.etag(of_acme))
    before = dict(world.table.rows)
    body, path = {**OWN, "tenant_claim": "tenant"}, f"/issuers/{id_of(OWN['issuer'])}"
    assert (await world.ask("PUT", path, body, if_none_match="*")).code == "in_use"
    assert world.table.rows == before


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
