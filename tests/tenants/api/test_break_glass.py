"""The key for emergencies: it opens where others do not, to whoever says why, and never unseen."""

import asyncio
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest

import policies
from gateway.authz.control import ControlAuthorizer
from tenants.acts import Act
from tenants.api.application import MOST_AT_ONCE
from tenants.api.routes import OPERATIONS, Operation
from tenants.events import Event
from tests.tenants.api.holders import glass
from tests.tenants.api.test_who import ROWS, meant, path_of
from tests.tenants.api.worlds import Told, World, peopled
from tests.tenants.conftest import BY, NOW, events
from tests.worlds.table import Fault

WHY = "nobody+else+is+awake"
UNCHANGED = ("resumeTenant", "reopenTenant", "deleteTenantRestrictions", "keepDataKey", "putModel")
"""What their rows ask for is so already."""


async def asked(world: World, operation: Operation, query: str, by: str = "glass") -> Told:
    """The right request of its row."""
    path, body = path_of(world, operation), ROWS[operation.id].body
    if isinstance(body, dict):
        body = {name: meant(world, it) if isinstance(it, str) else it for name, it in body.items()}
    tag = {"if_match": await world.etag(path)} if operation.is_guarded else {}
    return await world.ask(operation.method, f"{path}{query}", body, by=by, **tag)


def uses(world: World) -> list[Event]:
    return [event for event in events(world.table) if event.action == "key.used"]


def counted(world: World) -> int:
    return sum(control.uses.total() for control in world.controls)


@pytest.mark.parametrize(
    "operation", [it for it in OPERATIONS if it.action != "reveal"], ids=lambda it: it.id
)  # which is for a tenant's own people alone
async def test_it_may_what_operators_may_with_a_reason_and_nothing_without(
    world: World, operation: Operation, caplog: pytest.LogCaptureFixture
) -> None:
    key_id = await glass(world)
    before = dict(world.table.rows)
    for query in ("", "?reason=", "?reason=+%20"):
        refused = await asked(world, operation, query)
        assert refused.code == "forbidden"
        assert "?reason=" in refused.json["detail"]
    assert world.table.rows == before
    caplog.clear()
    answer = await asked(world, operation, f"?reason={WHY}")
    assert answer.status in operation.successes, answer.body
    (use,) = uses(world)
    names = "".join(f" {meant(world, it)}" for it in ROWS[operation.id].names.values())
    assert (use.actor, use.subject) == (f"break-glass:{key_id}", f"key/{key_id}")
    assert use.reason == f"{operation.id}{names}: nobody else is awake"
    loud = [it for it in caplog.records if it.levelno == logging.CRITICAL]
    assert [use.reason in it.getMessage() and use.actor in it.getMessage() for it in loud] == [True]
    assert counted(world) == 4
    changes = [it for it in events(world.table) if it.actor == use.actor and it != use]
    assert {it.reason for it in changes} <= {"nobody else is awake"}
    assert bool(changes) == (operation.is_change and operation.id not in UNCHANGED)


async def test_it_learns_nothing_before_its_event_is_written(world: World) -> None:
    await glass(world)
    refused = [await world.ask("GET", f"/tenants/{name}", by="glass") for name in ("acme", "nobodys")]
    assert {it.code for it in refused} == {"forbidden"}
    absent = await world.ask("GET", f"/tenants/nobodys?reason={WHY}", by="glass")
    assert absent.code == "not_found"
    faulty = await world.ask("POST", f"/tenants?reason={WHY}", b"{", by="glass")
    assert faulty.code == "malformed"
    told = [event.reason.partition(":")[0] for event in uses(world)]
    assert told == ["showTenant nobodys", "createTenant"]


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("fault", [*Fault, "gone"])
async def test_nothing_is_done_where_its_event_cannot_be_written(
    world: World, method: str, fault: Any
) -> None:
    await glass(world)
    body = {"name": "new", "plan": "team"} if method == "POST" else None

    async def ask() -> Told:
        return await world.ask(method, f"/tenants?reason={WHY}", body, by="glass")

    before = len(events(world.table))
    if fault == "gone":
        world.table.gone = True
    else:
        world.table.write_faults.append(fault)
    lost = await ask()
    assert (lost.status, lost.code) == (503, "table_unavailable")
    assert lost.headers["retry-after"] == "1"
    new = events(world.table)[before:]
    assert [it.action for it in new] == (["key.used"] if fault is Fault.LOST_AFTER else [])
    assert b"globex" not in lost.body
    world.table.gone = False
    assert (await ask()).status == (201 if method == "POST" else 200)


@pytest.mark.parametrize(
    "query",
    [
        f"?reason={'a' * 501}",
        "?reason=a%0Ab",
        f"?reason={WHY}&reason=",
        "?reason=&reason=x",
        f"?reason={WHY}&x=1",
        "?Reason=why",
    ],
)
async def test_a_reason_that_is_none_opens_nothing(world: World, query: str) -> None:
    await glass(world)
    before = dict(world.table.rows)
    assert (await world.ask("GET", f"/whoami{query}", by="glass")).status in (403, 422)
    assert world.table.rows == before


async def test_a_long_reason_is_kept_as_far_as_an_event_keeps_it(world: World) -> None:
    await glass(world)
    assert (await world.ask("GET", f"/whoami?reason={'a' * 500}", by="glass")).status == 200
    assert len(uses(world)[0].reason) == 500


async def test_it_is_told_from_other_keys_wherever_keys_are_shown(world: World) -> None:
    key_id = await glass(world)
    told = (await world.ask("GET", f"/whoami?reason={WHY}", by="glass")).json
    assert told == {"id": key_id, "key": key_id, "role": "break-glass", "tenant": None, "account": None}
    listed = (await world.ask("GET", "/operator/keys")).json["items"]
    assert {it["id"]: it["break_glass"] for it in listed}[key_id] is True
    assert sum(it["break_glass"] for it in listed) == 1
    turned = await world.ask("POST", f"/operator/keys/{key_id}/rotate")
    assert turned.json["break_glass"] is True
    world.keys["glass again"] = turned.json["api_key"]
    assert (await world.ask("GET", "/whoami", by="glass again")).code == "forbidden"
    assert (await world.ask("GET", f"/whoami?reason={WHY}", by="glass again")).status == 200
    tenants = (await world.ask("GET", "/tenants/acme/keys")).json["items"]
    assert not any(it["break_glass"] for it in tenants)


async def test_no_other_key_is_one_and_none_becomes_one_unseen(world: World) -> None:
    mine = await world.ask("GET", f"/whoami?reason={WHY}")
    assert mine.json["role"] == "operator"
    assert not uses(world)
    made = await world.ask("POST", "/operator/keys", {"name": "vault", "break_glass": True})
    assert made.status == 201
    (event,) = [it for it in events(world.table) if it.subject == f"key/{made.json['id']}"]
    assert (event.actor, event.action) == (f"key:{world.ids['operator key']}", "key.created")
    assert b'"break_glass":true' in bytes(event.after)
    for body in ({"break_glass": True}, {"breakglass": True}):
        assert (await world.ask("POST", "/tenants/acme/keys", body, by="admin")).code == "invalid"
    assert (await world.ask("POST", "/tenants/acme/keys", {"break_glass": True})).code == "invalid"


async def test_it_works_at_the_operators_listener_alone_and_ends_as_others_do(world: World) -> None:
    key_id = await glass(world, expires_us=NOW + 1_000_000)
    why = f"/whoami?reason={WHY}"
    assert (await world.ask("GET", why, by="glass", at="public")).code == "unauthenticated"
    assert not uses(world)
    world.now_us += 1_000_000
    assert (await world.ask("GET", why, by="glass")).code == "unauthenticated"
    key_id = await glass(world)
    await world.ask("POST", f"/operator/keys/{key_id}/revoke")
    assert (await world.ask("GET", why, by="glass")).code == "unauthenticated"
    assert not uses(world)


async def test_what_it_made_is_known_of_when_it_leaks(world: World) -> None:
    key_id = await glass(world)
    made = await world.ask("POST", f"/operator/keys?reason={WHY}", {"name": "thiefs"}, by="glass")
    assert made.json["made_by"] == key_id
    leak = await world.ask("POST", "/leaks", {"api_key": world.keys["glass"], "and_made": True})
    assert [it["id"] for it in leak.json["made"]] == [made.json["id"]]
    assert leak.json["break_glass"] is True
    world.keys["operator thiefs"] = made.json["api_key"]
    assert (await world.ask("GET", "/whoami", by="operator thiefs")).code == "unauthenticated"


async def test_it_opens_where_policies_took_the_rights_of_operators_away(tmp_path: Path) -> None:
    folder = tmp_path / "policies"
    shutil.copytree(Path(policies.__file__).parent, folder)
    text = (folder / "operator.cedar").read_text()
    assert text.count('principal.role == OperatorRole::"operator"') == 1
    locked = text.replace('principal.role == OperatorRole::"operator"', "false")
    (folder / "operator.cedar").write_text(locked)
    async with peopled() as first:
        world = World(first.table, keys=first.keys, authorizer=ControlAuthorizer.load(folder))
        await glass(world)
        assert (await world.ask("GET", "/tenants")).code == "forbidden"
        assert (await world.ask("POST", "/tenants/acme/suspend")).code == "forbidden"
        assert (await world.ask("GET", f"/tenants?reason={WHY}", by="glass")).status == 200
        done = await world.ask("POST", f"/tenants/acme/suspend?reason={WHY}", by="glass")
        assert done.json["state"] == "suspended"


async def test_policies_may_forbid_it_and_the_attempt_has_its_event(tmp_path: Path) -> None:
    folder = tmp_path / "policies"
    shutil.copytree(Path(policies.__file__).parent, folder)
    with (folder / "operator.cedar").open("a") as file:
        file.write('@id("x") @reason("x")\nforbid (principal is Operator, action, resource);\n')
    async with peopled() as first:
        world = World(first.table, keys=first.keys, authorizer=ControlAuthorizer.load(folder))
        await glass(world)
        assert (await world.ask("GET", f"/tenants?reason={WHY}", by="glass")).code == "forbidden"
        assert [it.reason.partition(":")[0] for it in uses(world)] == ["listTenants"]


async def test_operators_that_ask_too_much_at_once_do_not_lock_it_out(world: World) -> None:
    await glass(world)
    asks = [world.ask("GET", "/tenants/acme") for _ in range(4 * MOST_AT_ONCE)]
    ours = [world.ask("GET", f"/tenants?reason={WHY}", by="glass") for _ in range(4)]
    answers, own = await asyncio.gather(asyncio.gather(*asks), asyncio.gather(*ours))
    assert {it.status for it in answers} == {200, 429}
    assert [it.status for it in own] == [200] * 4


async def test_a_request_that_is_repeated_is_done_once_and_told_each_time(world: World) -> None:
    await glass(world)
    ask = ("POST", f"/tenants?reason={WHY}", {"name": "new", "plan": "team"})
    answers = [await world.ask(*ask, by="glass", idempotency_key="one") for _ in range(3)]
    assert [it.status for it in answers] == [201] * 3
    assert len({it.json["id"] for it in answers}) == 1
    assert len(uses(world)) == 3


async def test_a_key_of_operators_for_emergencies_is_no_tenants(world: World) -> None:
    with pytest.raises(Exception, match="break_glass"):
        await world.directory.keys.create("acme", Act(BY, NOW), break_glass=True)
