"""No edit is lost: what is changed is as its editor has read it, or nothing is written."""

import asyncio
from typing import Any

import pytest

from tenants.api.routes import OPERATIONS
from tests.tenants.api.test_who import ROWS, asked, path_of
from tests.tenants.api.worlds import World

EDITS = [operation for operation in OPERATIONS if operation.is_guarded]
edits = pytest.mark.parametrize("operation", EDITS, ids=lambda it: it.id)


@edits
async def test_an_edit_without_its_etag_is_refused(world: World, operation: Any) -> None:
    before, path = dict(world.table.rows), path_of(world, operation)
    for tag in ("", "*"):
        answer = await world.ask(operation.method, path, ROWS[operation.id].body, if_match=tag)
        assert (answer.status, answer.code) == (428, "precondition_required")
    assert world.table.rows == before


@edits
async def test_an_edit_of_what_was_changed_meanwhile_is_refused(world: World, operation: Any) -> None:
    path, body = path_of(world, operation), ROWS[operation.id].body
    for tag in ('"0-0"', '"1-0123456789abcdef"', '"nonsense"'):
        before = dict(world.table.rows)
        answer = await world.ask(operation.method, path, body, if_match=tag)
        assert (answer.status, answer.code) == (412, "stale")
        assert world.table.rows == before


@edits
@pytest.mark.parametrize("tag", ['W/"1"', "1", '"1", "2"', '""', '"a b"'])
async def test_an_etag_that_is_none_is_refused(world: World, operation: Any, tag: str) -> None:
    answer = await world.ask(
        operation.method, path_of(world, operation), ROWS[operation.id].body, if_match=tag
    )
    assert answer.code == "malformed"


async def test_of_many_edits_of_the_same_reading_one_is_made(world: World) -> None:
    tag = await world.etag("/plans/spare")
    bodies = [{"weight": weight, "limits": {"body_bytes": 1}} for weight in range(1, 21)]
    answers = await asyncio.gather(*(world.ask("PUT", "/plans/spare", body, if_match=tag) for body in bodies))
    assert sorted(answer.status for answer in answers) == [200] + [412] * 19
    (made,) = [answer for answer in answers if answer.status == 200]
    assert (await world.ask("GET", "/plans/spare")).json == made.json


@edits
async def test_the_etag_of_an_answer_is_the_next_edits(world: World, operation: Any) -> None:
    answer = await asked(world, operation, "operator")
    path = path_of(world, operation)
    if operation.method == "DELETE":
        assert (answer.status, answer.body) == (204, b"")
        left = await world.ask("GET", path)
        if operation.id == "deleteTenantRestrictions":  # a tenant without any has an empty set of them
            assert (left.status, left.json) == (200, {})
        else:
            assert left.code == "not_found"
        return
    assert answer.headers["etag"] == await world.etag(path)
    again = await world.ask(operation.method, path, ROWS[operation.id].body, if_match=answer.headers["etag"])
    assert again.status == 200
    assert again.headers["etag"] == answer.headers["etag"]  # nothing was to be changed


async def test_a_created_things_etag_edits_it(world: World) -> None:
    made = await world.ask("POST", "/tenants", {"name": "new", "plan": "team"})
    moved = await world.ask("PATCH", "/tenants/new", {"plan": "spare"}, if_match=made.headers["etag"])
    assert (moved.status, moved.json["plan"]) == (200, "spare")
    for path, body in (
        ("/tenants/new/members", {"email": "eve@new.example", "role": "viewer"}),
        ("/tenants/new/accounts", {"name": "ci", "role": "viewer"}),
    ):
        one = await world.ask("POST", path, body)
        target = f"{path}/{one.json['id']}"
        given = await world.ask("PATCH", target, {"role": "billing"}, if_match=one.headers["etag"])
        assert given.json["role"] == "billing"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/plans/new", {"weight": 1, "limits": {"body_bytes": 1}}),
        ("/models/new", {"repository": "/models/./x/..", "tenants": "*"}),
        ("/fleets/new", {}),
    ],
)
async def test_what_is_there_is_not_created_and_what_is_not_there_not_replaced(
    world: World, path: str, body: Any
) -> None:
    assert (await world.ask("PUT", path, body, if_match='"1-0"')).code == "stale"
    assert (await world.ask("PUT", path, body)).code == "precondition_required"
    assert (await world.ask("PUT", path, body, if_match='"1"', if_none_match="*")).code == "malformed"
    assert (await world.ask("PUT", path, body, if_none_match='"1"')).code == "malformed"
    made = await world.ask("PUT", path, body, if_none_match="*")
    assert (made.status, made.headers["etag"]) == (201, await world.etag(path))
    assert (await world.ask("PUT", path, body, if_none_match="*")).code == "stale"
    # What was read can be put again as it is, and changes nothing.
    read = await world.ask("GET", path)
    assert (await world.ask("PUT", path, read.json, if_match=read.headers["etag"])).json == read.json
    assert (await world.ask("GET", path)).headers["etag"] == read.headers["etag"]


async def test_a_thing_that_was_deleted_and_made_anew_is_another(world: World) -> None:
    tag = await world.etag("/plans/spare")
    await world.ask("DELETE", "/plans/spare", if_match=tag)
    other = {"weight": 9, "limits": {"body_bytes": 9}}
    await world.ask("PUT", "/plans/spare", other, if_none_match="*")
    assert (await world.ask("PUT", "/plans/spare", {**other, "weight": 1}, if_match=tag)).code == "stale"


@pytest.mark.parametrize("operation", [it for it in OPERATIONS if it.is_tagged], ids=lambda it: it.id)
async def test_who_has_it_already_is_not_sent_it_again(world: World, operation: Any) -> None:
    path = path_of(world, operation)
    tag = await world.etag(path)
    for known in (tag, f"W/{tag}", f'"x", {tag}', "*"):
        answer = await world.ask("GET", path, if_none_match=known)
        assert (answer.status, answer.body, answer.headers["etag"]) == (304, b"", tag)
    assert (await world.ask("GET", path, if_none_match='"x"')).status == 200


async def test_a_state_that_changes_by_itself_changes_the_etag(world: World) -> None:
    await world.ask("POST", "/tenants/acme/close", {"after_seconds": 60})
    tag = await world.etag("/tenants/acme")
    world.now_us += 60_000_000
    answer = await world.ask("GET", "/tenants/acme", if_none_match=tag)
    assert (answer.status, answer.json["state"]) == (200, "closed")


async def test_what_others_need_stays(world: World) -> None:
    for path in ("/plans/team", "/fleets/local"):
        answer = await world.ask("DELETE", path, if_match=await world.etag(path))
        assert (answer.status, answer.code) == (409, "in_use")


async def test_a_model_elsewhere_has_no_folder_and_no_fleet(world: World) -> None:
    section = {"backend": "pass-through", "address": "127.0.0.1:9000"}
    made = await world.ask("PUT", "/models/far", {"tenants": "*", "openai": section}, if_none_match="*")
    assert (made.status, made.json["repository"], made.json["fleet"]) == (201, "", "")
    again = await world.ask("PUT", "/models/far", made.json, if_match=made.headers["etag"])
    assert again.json == made.json
