"""A tenant's admin restricts it over the API: whole sets, guarded by what was read, and nothing that is wrong."""

import pytest

from tests.tenants.api.worlds import World

PATH = "/tenants/acme/restrictions"


async def test_restrictions_are_put_whole_read_again_and_lifted_by_the_tenants_own_admin(
    world: World,
) -> None:
    assert (await world.ask("GET", PATH, by="admin")).json == {}
    first = {"regions": ["eu-west"], "models": ["digits"]}
    made = await world.ask("PUT", PATH, first, by="admin", if_none_match="*")
    assert (made.status, made.json) == (201, first)
    assert made.headers["etag"] == await world.etag(PATH, "admin")
    again = await world.ask("PUT", PATH, first, by="admin", if_none_match="*")
    assert (again.status, again.json["type"]) == (409, "urn:gateway:problem:already_exists")
    second = {"networks": ["127.0.0.0/8"]}
    put = await world.ask("PUT", PATH, second, by="admin", if_match=made.headers["etag"])
    assert (put.status, put.json) == (200, second)
    stale = await world.ask("PUT", PATH, first, by="admin", if_match=made.headers["etag"])
    assert stale.status == 412
    assert (await world.ask("GET", PATH, by="admin")).json == second
    gone = await world.ask("DELETE", PATH, by="admin", if_match=put.headers["etag"])
    assert gone.status == 204
    assert (await world.ask("GET", PATH, by="admin")).json == {}
    told = (await world.ask("GET", "/tenants/acme/audit", by="admin")).json["items"]
    assert [it["action"] for it in told].count("tenant.restricted") == 3


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"regions": ["EU"]}, "regions[0]"),
        ({"regions": []}, "regions"),
        ({"networks": ["10.0.0.1/8"]}, "networks[0]"),
        ({"models": ["a b"]}, "models[0]"),
        ({"hours": [9]}, ""),
    ],
)
async def test_what_is_no_restriction_is_refused_with_its_path(
    world: World, body: dict[str, list[object]], path: str
) -> None:
    told = await world.ask("PUT", PATH, body, by="admin", if_none_match="*")
    assert told.status == 422
    assert told.json.get("path", "") == path
    assert (await world.directory.tenants.show("acme")).restrictions is None
