"""Who may ask for what: every operation of the table by every sort of caller, and what those are told who may not."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from tenants.acts import Act
from tenants.api.application import MOST_AT_ONCE
from tenants.api.openapi import document
from tenants.api.routes import BASE, OPERATIONS, Operation
from tenants.issuers import id_of
from tenants.model import Model
from tests.tenants.api.worlds import CALLERS, Told, World

OPERATORS = ("operator",)
ADMINS = ("operator", "admin")
KEEPERS = ("operator", "admin", "developer")
READERS = (*KEEPERS, "viewer")
ROLES = (*READERS, "billing")
EVERYBODY = tuple(caller for caller in CALLERS if caller != "nobody")


@dataclass(frozen=True, slots=True)
class Row:
    """Who may, and one request that is right. In its path and body @x stands for the id of x."""

    may: tuple[str, ...]
    names: dict[str, str] = field(default_factory=dict)
    body: Any = None


OF_ACME = {"tenant": "acme"}
MEMBER, ACCOUNT = {**OF_ACME, "member": "@member"}, {**OF_ACME, "account": "@account"}
KEY, OPERATORS_KEY = {**OF_ACME, "key": "@plain key"}, {"key": "@spare key"}
DATA_KEY = {**OF_ACME, "data_key": "@data key"}
PLAN = {"weight": 3, "limits": {"body_bytes": 10}}
ISSUER = {"name": id_of("https://login.example")}
SHARED_ISSUER = {
    "issuer": "https://login.example",
    "audience": "gateway",
    "operators": True,
    "roles_claim": "groups",
}
OWN_CERTIFICATE = {"name": "ingest", "uri": "spiffe://acme.example/ingest"}
OWN_ISSUER = {
    "issuer": "https://login.acme.example",
    "audience": "gateway",
    "roles": {"a": "admin"},
    "roles_claim": "g",
}
MODEL = {"repository": "/models", "tenants": ["acme"]}
DOCUMENT = document()

ROWS = {
    "whoami": Row(EVERYBODY),
    "listTenants": Row(OPERATORS),
    "createTenant": Row(OPERATORS, body={"name": "new", "plan": "team"}),
    "showTenant": Row(ROLES, OF_ACME),
    "changeTenant": Row(OPERATORS, OF_ACME, {"plan": "spare"}),
    "suspendTenant": Row(OPERATORS, OF_ACME),
    "resumeTenant": Row(OPERATORS, OF_ACME),
    "closeTenant": Row(OPERATORS, OF_ACME, {"after_seconds": 60}),
    "reopenTenant": Row(OPERATORS, OF_ACME),
    "showTenantPlan": Row(ROLES, OF_ACME),
    "showTenantPrivacy": Row(ROLES, OF_ACME),
    "listTenantModels": Row(READERS, OF_ACME),
    "listTenantAudit": Row(READERS, OF_ACME),
    "listTenantUsage": Row(ROLES, OF_ACME),
    "showTenantIssuers": Row(READERS, OF_ACME),
    "changeTenantIssuers": Row(OPERATORS, OF_ACME, {"issuers": [OWN_ISSUER]}),
    "showTenantCertificates": Row(READERS, OF_ACME),
    "changeTenantCertificates": Row(OPERATORS, OF_ACME, {"certificates": [OWN_CERTIFICATE]}),
    "showTenantRestrictions": Row(READERS, OF_ACME),
    "putTenantRestrictions": Row(ADMINS, OF_ACME, {"regions": ["eu-west"], "networks": ["192.0.2.0/24"]}),
    "deleteTenantRestrictions": Row(ADMINS, OF_ACME),
    "listMembers": Row(READERS, OF_ACME),
    "inviteMember": Row(ADMINS, OF_ACME, {"email": "bob@acme.example", "role": "admin"}),
    "showMember": Row(READERS, MEMBER),
    "changeMember": Row(ADMINS, MEMBER, {"role": "billing"}),
    "removeMember": Row(ADMINS, MEMBER),
    "listAccounts": Row(READERS, OF_ACME),
    "createAccount": Row(ADMINS, OF_ACME, {"name": "new", "role": "admin"}),
    "showAccount": Row(READERS, ACCOUNT),
    "changeAccount": Row(ADMINS, ACCOUNT, {"role": "billing"}),
    "removeAccount": Row(ADMINS, ACCOUNT),
    "listKeys": Row(READERS, OF_ACME),
    "createKey": Row(KEEPERS, OF_ACME, {"models": ["digits"], "account": "@account"}),
    "showKey": Row(READERS, KEY),
    "rotateKey": Row(KEEPERS, KEY),
    "revokeKey": Row(KEEPERS, KEY),
    "listDataKeys": Row(READERS, OF_ACME),
    "showDataKey": Row(READERS, DATA_KEY),
    "rotateDataKey": Row(ADMINS, OF_ACME, {"purpose": "replies"}),
    "rewrapDataKey": Row(ADMINS, DATA_KEY),
    "destroyDataKey": Row(ADMINS, DATA_KEY, {"wait_seconds": 86_400}),
    "keepDataKey": Row(ADMINS, DATA_KEY),
    "listOperatorKeys": Row(OPERATORS),
    "createOperatorKey": Row(OPERATORS, body={"name": "second"}),
    "showOperatorKey": Row(OPERATORS, OPERATORS_KEY),
    "rotateOperatorKey": Row(OPERATORS, OPERATORS_KEY),
    "revokeOperatorKey": Row(OPERATORS, OPERATORS_KEY),
    "reportLeak": Row(OPERATORS, body={"api_key": "@leaked text"}),
    "listPlans": Row(OPERATORS),
    "showPlan": Row(OPERATORS, {"name": "spare"}),
    "putPlan": Row(OPERATORS, {"name": "spare"}, PLAN),
    "deletePlan": Row(OPERATORS, {"name": "spare"}),
    "listPrivacies": Row(OPERATORS),
    "showPrivacy": Row(OPERATORS, {"name": "unused"}),
    "putPrivacy": Row(OPERATORS, {"name": "unused"}, {"mask": ["email"]}),
    "deletePrivacy": Row(OPERATORS, {"name": "unused"}),
    "listModels": Row(OPERATORS),
    "showModel": Row(OPERATORS, {"name": "digits"}),
    "putModel": Row(OPERATORS, {"name": "digits"}, MODEL),
    "deleteModel": Row(OPERATORS, {"name": "digits"}),
    "listFleets": Row(OPERATORS),
    "showFleet": Row(OPERATORS, {"name": "idle"}),
    "putFleet": Row(OPERATORS, {"name": "idle"}, {"idle_seconds": 5}),
    "deleteFleet": Row(OPERATORS, {"name": "idle"}),
    "listIssuers": Row(OPERATORS),
    "showIssuer": Row(OPERATORS, ISSUER),
    "putIssuer": Row(OPERATORS, ISSUER, SHARED_ISSUER),
    "deleteIssuer": Row(OPERATORS, ISSUER),
    "listAudit": Row(OPERATORS),
    "showAuditKeys": Row(("admin", "stranger")),
}


def meant(world: World, text: str) -> str:
    return world.ids[text[1:]] if text.startswith("@") else text


def path_of(world: World, operation: Operation) -> str:
    names = ROWS[operation.id].names
    found = operation.path if operation.base == BASE else operation.full_path
    return found.format(**{name: meant(world, value) for name, value in names.items()})


async def asked(world: World, operation: Operation, by: str) -> Told:
    """The right request of its row, with the ETag that there is."""
    row, path = ROWS[operation.id], path_of(world, operation)
    body = row.body
    if isinstance(body, dict):
        body = {name: meant(world, it) if isinstance(it, str) else it for name, it in body.items()}
    tag = {"if_match": await world.etag(path)} if operation.is_guarded else {}
    return await world.ask(operation.method, path, body, by=by, **tag)


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda it: it.id)
async def test_an_operation_is_for_those_in_its_row_alone(
    world: World, operation: Operation, caller: str
) -> None:
    row = ROWS[operation.id]
    before = dict(world.table.rows)
    answer = await asked(world, operation, caller)
    if caller in row.may:
        assert answer.status in operation.successes, answer.body
        assert "304" not in str(answer.status)
        told = DOCUMENT["paths"][operation.full_path][operation.method.lower()]["responses"]
        assert ("etag" in answer.headers) == ("etag" in told[str(answer.status)]["headers"])
        return
    foreign = caller == "stranger" and operation.names[:1] == ("tenant",)
    code = "unauthenticated" if caller == "nobody" else "not_found" if foreign else "forbidden"
    assert answer.code == code
    assert world.table.rows == before


def test_every_operation_has_a_row() -> None:
    assert list(ROWS) == [operation.id for operation in OPERATIONS]


@pytest.mark.parametrize("caller", CALLERS)
async def test_a_key_works_at_its_own_listener_alone(world: World, caller: str) -> None:
    other = "public" if caller == "operator" else "operator"
    answer = await world.ask("GET", "/whoami", by=caller, at=other)
    assert answer.code == "unauthenticated"
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("operation", [it for it in OPERATIONS if "tenant" in it.names], ids=lambda it: it.id)
async def test_another_tenant_reads_as_one_that_is_not_there(world: World, operation: Operation) -> None:
    told = []
    for tenant in ("acme", "nobodys"):
        path = path_of(world, operation).replace("/acme", f"/{tenant}", 1)
        answer = await world.ask(operation.method, path, ROWS[operation.id].body, by="stranger")
        told.append(answer.body.replace(tenant.encode(), b"?").replace(answer.json["instance"].encode(), b""))
    assert told[0] == told[1]
    assert b"not_found" in told[0]


async def test_ids_of_another_tenants_things_lead_nowhere(world: World) -> None:
    for sort, one in (
        ("members", "member"),
        ("accounts", "account"),
        ("keys", "plain key"),
        ("data-keys", "data key"),
    ):
        answer = await world.ask("GET", f"/tenants/globex/{sort}/{world.ids[one]}", by="stranger")
        assert answer.code == "not_found"
    body = {"account": world.ids["admin account"]}
    assert (await world.ask("POST", "/tenants/globex/keys", body, by="stranger")).code == "not_found"
    assert (
        await world.ask("POST", "/tenants/acme/keys", {"models": ["hidden"]}, by="admin")
    ).code == "not_found"


@pytest.mark.parametrize("verb", ["rotate", "revoke"])
async def test_a_developer_renews_and_ends_no_key_of_an_admin(world: World, verb: str) -> None:
    for role, status in (("admin", 403), ("viewer", 201 if verb == "rotate" else 200)):
        key = world.ids[f"{role} key"]
        answer = await world.ask("POST", f"/tenants/acme/keys/{key}/{verb}", by="developer")
        assert answer.status == status


async def test_a_developer_makes_no_key_of_an_admin_and_nobody_makes_an_operator(world: World) -> None:
    before = dict(world.table.rows)
    wanted = {"account": world.ids["admin account"]}
    assert (await world.ask("POST", "/tenants/acme/keys", wanted, by="developer")).code == "forbidden"
    operator = {"name": "mallory", "role": "operator"}
    assert (await world.ask("POST", "/tenants/acme/accounts", operator, by="admin")).code == "invalid"
    for tenant in ("operator", "operators"):
        assert (await world.ask("POST", f"/tenants/{tenant}/keys", {}, by="admin")).code == "not_found"
        assert (await world.ask("POST", f"/tenants/{tenant}/keys", {})).code == "not_found"
    assert world.table.rows == before


async def test_a_key_for_some_models_makes_renews_and_ends_none_for_others(world: World) -> None:
    await world.directory.values.put(Model("", "story", "/m", ("acme",)), act=Act("test", 1))
    for role in ("admin", "developer"):
        limited = {"models": ["digits"], "account": world.ids[f"{role} account"]}
        made = await world.ask("POST", "/tenants/acme/keys", limited, by="admin")
        world.keys["limited"], own = made.json["api_key"], made.json["id"]
        before = dict(world.table.rows)
        for wider in ({}, {"models": ["story"]}, {"models": ["digits", "story"]}):
            assert (await world.ask("POST", "/tenants/acme/keys", wider, by="limited")).code == "forbidden"
        for verb in ("rotate", "revoke"):
            path = f"/tenants/acme/keys/{world.ids['plain key']}/{verb}"
            assert (await world.ask("POST", path, by="limited")).code == "forbidden"
        assert world.table.rows == before
        assert (
            await world.ask("POST", "/tenants/acme/keys", {"models": ["digits"]}, by="limited")
        ).status == 201
        assert (await world.ask("POST", f"/tenants/acme/keys/{own}/rotate", by="limited")).status == 201


async def test_a_tenant_sees_of_its_models_what_they_are_for_and_of_others_nothing(world: World) -> None:
    seen = await world.ask("GET", "/tenants/acme/models", by="viewer")
    assert [it["name"] for it in seen.json["items"]] == ["digits"]
    assert [set(it) for it in seen.json["items"]] == [
        {"id", "name", "description", "tags", "inputs", "outputs", "region"}
    ]


@pytest.mark.parametrize(("deed", "state"), [("suspend", "suspended"), ("close", "closing")])
async def test_of_a_tenant_that_is_not_served_its_admin_may_read(world: World, deed: str, state: str) -> None:
    body = {"after_seconds": 60} if deed == "close" else None
    assert (await world.ask("POST", f"/tenants/acme/{deed}", body)).json["state"] == state
    assert (await world.ask("GET", "/tenants/acme", by="admin")).json["state"] == state
    assert (await world.ask("GET", "/tenants/acme/keys", by="admin")).status == 200
    assert (await world.ask("POST", "/tenants/acme/keys", by="admin")).code == "forbidden"
    world.now_us += 60_000_000
    ended = await world.ask("GET", "/tenants/acme", by="admin")
    assert ended.status == (200 if deed == "suspend" else 401)


async def test_a_key_stops_with_its_account_its_end_and_its_revocation(world: World) -> None:
    path = f"/tenants/acme/accounts/{world.ids['viewer account']}"
    await world.ask("DELETE", path, if_match=await world.etag(path))
    assert (await world.ask("GET", "/whoami", by="viewer")).code == "unauthenticated"
    await world.ask("POST", f"/tenants/acme/keys/{world.ids['billing key']}/revoke")
    assert (await world.ask("GET", "/whoami", by="billing")).code == "unauthenticated"
    made = await world.ask("POST", "/tenants/acme/keys", {"expires_seconds": 1})
    world.keys["brief"] = made.json["api_key"]
    assert (await world.ask("GET", "/whoami", by="brief")).status == 200
    world.now_us += 1_000_000
    assert (await world.ask("GET", "/whoami", by="brief")).code == "unauthenticated"


@pytest.mark.parametrize(
    "credential",
    [
        {"x_api_key": "gw_live_x"},
        {"authorization": "Basic Zm9v"},
        {"authorization": "Bearer "},
        {"authorization": "Bearer ey.jwt.like"},
        {"x_api_key": "gw_live_" + "a" * 38},
    ],
)
async def test_what_cannot_be_a_key_is_refused_before_anything_is_looked_up(
    world: World, credential: dict[str, str]
) -> None:
    world.table.gone = True
    assert (await world.ask("GET", "/whoami", by="nobody", **credential)).code == "unauthenticated"


async def test_two_credentials_are_one_too_many_and_the_same_twice_is_one(world: World) -> None:
    other = f"Bearer {world.keys['admin']}"
    assert (await world.ask("GET", "/whoami", authorization=other)).code == "two_credentials"
    same = f"Bearer {world.keys['operator']}"
    assert (await world.ask("GET", "/whoami", authorization=same)).status == 200


async def test_a_path_that_is_not_here_is_told_to_callers_alone(world: World) -> None:
    for path in ("/nowhere", "/tenants/", "/tenants/acme/keys/", "//whoami", "/whoami/../whoami"):
        assert (await world.ask("GET", path, by="nobody")).code == "unauthenticated"
        assert (await world.ask("GET", path)).code == "no_such_path"
    refused = await world.ask("DELETE", "/tenants")
    assert (refused.code, refused.headers["allow"]) == ("method_not_allowed", "GET, HEAD, POST")
    assert (await world.ask("DELETE", "/tenants", by="nobody")).code == "unauthenticated"


async def test_without_its_table_the_api_says_when_to_come_again(world: World) -> None:
    world.table.gone = True
    answer = await world.ask("GET", "/tenants")
    assert (answer.code, answer.status, answer.headers["retry-after"]) == ("table_unavailable", 503, "1")
    assert (await world.ask("GET", "/control/openapi.json", by="nobody")).status == 200


async def test_what_takes_too_long_ends_and_says_so(world: World) -> None:
    hasty = World(world.table, seconds=0, keys=world.keys)
    answer = await hasty.ask("GET", "/tenants/acme")
    assert (answer.status, answer.code) == (504, "deadline_exceeded")


async def test_who_was_denied_and_by_which_policy_is_in_the_log(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "tenants.api")
    account = {"account": world.ids["admin account"]}
    await world.ask("POST", "/tenants/acme/keys", account, by="developer")
    await world.ask("POST", "/tenants/acme/keys", by="developer")
    denied, allowed = caplog.messages
    assert f"issue by key:{world.ids['developer key']}: key-is-above-ones-role" in denied
    assert f"createKey by key:{world.ids['developer key']}: 201, allowed by role-keeps-its" in allowed


async def test_one_tenant_that_asks_too_much_at_once_hears_so_and_others_do_not(world: World) -> None:
    asks = [world.ask("GET", "/tenants/acme", by="admin") for _ in range(4 * MOST_AT_ONCE)]
    answers, other = await asyncio.gather(
        asyncio.gather(*asks), world.ask("GET", "/tenants/globex", by="stranger")
    )
    assert {answer.status for answer in answers} == {200, 429}
    refused = next(answer for answer in answers if answer.status == 429)
    assert (refused.code, refused.headers["retry-after"]) == ("too_many_at_once", "1")
    assert sum(answer.status == 200 for answer in answers) >= 2 * MOST_AT_ONCE  # of two gateways
    assert other.status == 200
    assert (await world.ask("GET", "/tenants/acme", by="admin")).status == 200
