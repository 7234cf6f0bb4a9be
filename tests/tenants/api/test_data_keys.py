"""Data keys over HTTP: what becomes of one, how long its destruction can be taken back, and who may not wait."""

from typing import Any

import pytest

from tenants.data_keys import DataKeyRecord
from tests.tenants.api.worlds import Told, World
from tests.tenants.conftest import NOW, actions

DAY = 86_400
KEYS = "/tenants/acme/data-keys"


async def ask(world: World, verb: str, body: Any = None, *, by: str = "admin") -> Told:
    return await world.ask("POST", f"{KEYS}/{world.ids['data key']}/{verb}", body, by=by)


async def test_a_data_key_shows_what_it_is_for_and_nothing_that_opens_anything(world: World) -> None:
    shown = (await world.ask("GET", f"{KEYS}/{world.ids['data key']}", by="viewer")).json
    assert shown == {
        "id": world.ids["data key"],
        "purpose": "replies",
        "state": "active",
        "created_at": "2023-11-14T22:13:20Z",
        "kms_key": None,
        "wrapped_at": "2023-11-14T22:13:20Z",
        "rewrap_asked_at": None,
        "destroys_at": None,
        "backups_end_at": None,
    }
    assert (await world.ask("GET", KEYS, by="viewer")).json["items"] == [shown]


async def test_a_destruction_waits_a_week_unless_told_and_says_when_back_ups_end(world: World) -> None:
    told = (await ask(world, "destroy")).json
    assert (told["state"], told["destroys_at"]) == ("destroying", "2023-11-21T22:13:20Z")
    assert told["backups_end_at"] == "2023-11-28T22:13:20Z"
    world.now_us += 7 * DAY * 1_000_000 - 1
    assert (await world.ask("GET", f"{KEYS}/{told['id']}", by="admin")).json["state"] == "destroying"
    world.now_us += 1
    assert (await world.ask("GET", f"{KEYS}/{told['id']}", by="admin")).json["state"] == "destroyed"
    assert (await ask(world, "keep")).code == "invalid"


async def test_a_key_that_is_kept_opens_and_seals_no_more(world: World) -> None:
    await ask(world, "destroy")
    kept = (await ask(world, "keep")).json
    assert (kept["state"], kept["destroys_at"], kept["backups_end_at"]) == ("retired", None, None)


@pytest.mark.parametrize("seconds", [0, 1, DAY - 1])
async def test_a_tenants_own_people_destroy_nothing_sooner_than_in_a_day(world: World, seconds: int) -> None:
    before = dict(world.table.rows)
    refused = await ask(world, "destroy", {"wait_seconds": seconds})
    assert (refused.code, "in a day" in refused.json["detail"]) == ("forbidden", True)
    assert world.table.rows == before
    assert (await ask(world, "destroy", {"wait_seconds": DAY})).json["state"] == "destroying"
    sooner = await ask(world, "destroy", {"wait_seconds": seconds}, by="operator")
    assert sooner.json["state"] == ("destroying" if seconds else "destroyed")


@pytest.mark.parametrize("by", ["developer", "viewer", "billing", "plain"])
async def test_whoever_is_no_admin_hears_the_same_however_long_they_would_wait(world: World, by: str) -> None:
    for seconds in (0, DAY):
        refused = await ask(world, "destroy", {"wait_seconds": seconds}, by=by)
        assert (refused.code, "in a day" in refused.json["detail"]) == ("forbidden", False)


async def test_destroying_once_more_never_puts_it_off(world: World) -> None:
    first = (await ask(world, "destroy", {"wait_seconds": DAY})).json
    later = (await ask(world, "destroy", {"wait_seconds": 30 * DAY})).json
    assert later["destroys_at"] == first["destroys_at"]
    assert actions(world.table).count("datakey.destroying") == 1


async def test_rotation_retires_the_key_of_that_purpose_alone(world: World) -> None:
    acme = await world.directory.tenants.show("acme")
    other = DataKeyRecord("d_" + "0" * 20, acme.id, "audit", NOW)
    await world.directory.data_keys.add(other, world.act())
    rotated = await world.ask("POST", f"{KEYS}/rotate", {"purpose": "replies"}, by="admin")
    assert (rotated.json["id"], rotated.json["state"]) == (world.ids["data key"], "retired")
    states = {it["purpose"]: it["state"] for it in (await world.ask("GET", KEYS)).json["items"]}
    assert states == {"audit": "active", "replies": "retired"}
    none = await world.ask("POST", f"{KEYS}/rotate", {"purpose": "replies"}, by="admin")
    assert none.code == "not_found"


async def test_a_rewrap_is_said_to_be_asked_for_until_a_gateway_has_done_it(world: World) -> None:
    world.now_us += 1_000_000
    asked = (await ask(world, "rewrap")).json
    assert asked["rewrap_asked_at"] == "2023-11-14T22:13:21Z"
    acme = await world.directory.tenants.show("acme")
    world.now_us += 1_000_000
    await world.directory.data_keys.rewrapped(acme.id, asked["id"], None, world.act())
    done = (await world.ask("GET", f"{KEYS}/{asked['id']}", by="admin")).json
    assert (done["rewrap_asked_at"], done["wrapped_at"]) == (None, "2023-11-14T22:13:22Z")
    assert done["kms_key"] is None


@pytest.mark.parametrize(
    ("path", "body", "fault"),
    [
        ("/rotate", {}, ""),
        ("/rotate", {"purpose": "everything"}, "purpose"),
        ("/{key}/destroy", {"wait_seconds": -1}, "wait_seconds"),
        ("/{key}/destroy", {"wait_seconds": 30 * DAY + 1}, "wait_seconds"),
        ("/{key}/destroy", {"wait_seconds": "7d"}, "wait_seconds"),
        ("/{key}/destroy", {"backup_days": 0}, ""),
        ("/{key}/keep", {"now": True}, ""),
    ],
)
async def test_what_makes_no_sense_of_a_data_key_is_refused(
    world: World, path: str, body: Any, fault: str
) -> None:
    before = dict(world.table.rows)
    refused = await world.ask("POST", KEYS + path.format(key=world.ids["data key"]), body)
    assert (refused.code, refused.json.get("path", "")) == ("invalid", fault)
    assert world.table.rows == before
