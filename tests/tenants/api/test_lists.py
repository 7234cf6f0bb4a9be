"""Lists are given out in pages, whole and in order; what was done is told there, with who did it and why."""

import pytest

from tenants.acts import Act
from tenants.api.asked import cursor as cursor_of
from tenants.model import Model
from tests.tenants.api.worlds import World
from tests.tenants.conftest import TEAM


async def pages(world: World, path: str, limit: int) -> list[list[str]]:
    """The ids, page by page."""
    found, cursor = [], ""
    while True:
        more = f"&cursor={cursor}" if cursor else ""
        page = (await world.ask("GET", f"{path}?limit={limit}{more}")).json
        found.append([it.get("id") or it["name"] for it in page["items"]])
        cursor = page["next_cursor"]
        if cursor is None:
            return found


async def test_250_tenants_are_three_pages(world: World) -> None:
    for number in range(248):
        await world.directory.tenants.create(f"t{number:03d}", TEAM.name, Act("test", 1))
    first = await pages(world, "/tenants", 100)
    assert [len(page) for page in first] == [100, 100, 50]
    ids = [one for page in first for one in page]
    assert len(set(ids)) == 250
    names = [it["name"] for it in (await world.ask("GET", "/tenants")).json["items"]]
    assert names == sorted(names)
    assert [one for page in await pages(world, "/tenants", 7) for one in page] == ids


@pytest.mark.parametrize(
    "path",
    [
        "/tenants/acme/keys",
        "/tenants/acme/accounts",
        "/tenants/acme/members",
        "/tenants/acme/data-keys",
        "/tenants/acme/audit",
        "/operator/keys",
        "/audit",
        "/plans",
        "/models",
        "/fleets",
    ],
)
async def test_a_list_is_the_same_in_small_pages(world: World, path: str) -> None:
    (whole,) = await pages(world, path, 100)
    assert whole
    assert [one for page in await pages(world, path, 1) for one in page] == whole


async def test_what_was_done_is_told_with_who_and_why(world: World) -> None:
    await world.ask("POST", "/tenants/acme/suspend?reason=unpaid%20bills")
    *_, event = (await world.ask("GET", "/tenants/acme/audit", by="admin")).json["items"]
    assert (event["action"], event["reason"]) == ("tenant.suspended", "unpaid bills")
    assert event["actor"] == f"key:{world.ids['operator key']}"
    assert (event["before"]["state"], event["after"]["state"]) == ("active", "suspended")
    assert event["at"].endswith("Z")


async def test_what_is_of_no_tenant_is_told_to_operators(world: World) -> None:
    tag = await world.etag("/plans/spare")
    await world.ask("DELETE", "/plans/spare?reason=tidy", if_match=tag)
    *_, event = (await world.ask("GET", "/audit")).json["items"]
    assert (event["action"], event["subject"], event["reason"]) == ("plan.removed", "plan/spare", "tidy")
    of_tenants = {it["id"] for it in (await world.ask("GET", "/tenants/acme/audit")).json["items"]}
    assert of_tenants.isdisjoint(it["id"] for it in (await world.ask("GET", "/audit")).json["items"])


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
async def test_a_tenants_pages_of_models_are_full_and_no_cursor_names_a_model_of_others(
    world: World, limit: int
) -> None:
    models = [
        Model("", f"{owner}-{n:03d}", "/m", (owner,)) for n in range(60) for owner in ("acme", "globex")
    ]
    for model in models:
        await world.directory.values.put(model, act=Act("test", 1))
    found, cursor = [], ""
    while True:
        page = (await world.ask("GET", f"/tenants/acme/models?limit={limit}{cursor}", by="viewer")).json
        found += [it["name"] for it in page["items"]]
        if page["next_cursor"] is None:
            break
        assert len(page["items"]) == limit
        assert page["next_cursor"] == cursor_of(found[-1])
        cursor = f"&cursor={page['next_cursor']}"
    assert found == sorted(["digits", *(f"acme-{n:03d}" for n in range(60))])
