"""Under one idempotency key a thing is done once, whoever is faster and whatever answer is lost; and a key's text is told once."""

import asyncio
from typing import Any

import pytest

from tenants.api.routes import OPERATIONS
from tenants.api.shapes import MintedKey, Rotation
from tests.tenants.api.test_who import ROWS, meant, path_of
from tests.tenants.api.worlds import Told, World
from tests.tenants.conftest import actions
from tests.worlds.table import Fault

DAY_US = 86_400 * 1_000_000
UNCHANGED = {"resumeTenant", "reopenTenant", "keepDataKey"}
"""Which find it as they would have it."""
POSTS = [operation for operation in OPERATIONS if operation.is_once]
posts = pytest.mark.parametrize("operation", POSTS, ids=lambda it: it.id)


def essence(answer: Told) -> Any:
    """What does not differ between a first answer and its repetition."""
    body = answer.json
    return answer.status, {name: value for name, value in body.items() if name != "api_key"}


async def post(world: World, operation: Any, key: str = "once", **more: str) -> Told:
    body = ROWS[operation.id].body
    if isinstance(body, dict):
        body = {name: meant(world, it) if isinstance(it, str) else it for name, it in body.items()}
    return await world.ask("POST", path_of(world, operation), body, idempotency_key=key, **more)


@posts
async def test_fifty_at_once_do_it_once_and_all_hear_the_same(world: World, operation: Any) -> None:
    before = len(actions(world.table))
    answers = await asyncio.gather(*(post(world, operation) for _ in range(50)))
    assert len({repr(essence(answer)) for answer in answers}) == 1
    assert answers[0].status == operation.status
    assert sum("idempotency-replayed" not in answer.headers for answer in answers) == 1
    once = (
        2
        if operation.answer is MintedKey and operation.body is Rotation
        else int(operation.id not in UNCHANGED)
    )
    assert len(actions(world.table)) - before == once
    told = [answer.json["api_key"] for answer in answers if answer.json.get("api_key")]
    assert len(told) == ("api_key" in answers[0].json)


@posts
@pytest.mark.parametrize("fault", Fault)
async def test_a_lost_answer_is_had_again_by_asking_again(world: World, operation: Any, fault: Fault) -> None:
    before = len(actions(world.table))
    world.table.write_faults.append(fault)
    lost = await post(world, operation)
    assert (lost.code, lost.headers["retry-after"]) == ("table_unavailable", "1")
    first = await post(world, operation)
    assert first.status == operation.status
    assert ("idempotency-replayed" in first.headers) == (fault is Fault.LOST_AFTER)
    events = len(actions(world.table)) - before
    again = await post(world, operation)
    assert again.headers["idempotency-replayed"] == "true"
    assert essence(again) == essence(first)
    assert again.json.get("api_key") is None
    assert len(actions(world.table)) - before == events


@pytest.mark.parametrize("first", Fault)
@pytest.mark.parametrize("second", Fault)
async def test_two_lost_answers_make_no_second_key(world: World, first: Fault, second: Fault) -> None:
    before = actions(world.table).count("key.created")
    world.table.write_faults.extend([first, second])
    answers = [
        await world.ask("POST", "/tenants/acme/keys", {"name": "x"}, idempotency_key="k") for _ in range(4)
    ]
    assert answers[-1].status == 201
    assert len({answer.json["id"] for answer in answers if answer.status == 201}) == 1
    assert actions(world.table).count("key.created") == before + 1


async def test_the_same_key_for_something_else_is_refused(world: World) -> None:
    asks: list[tuple[str, Any]] = [
        ("/tenants/acme/keys", {"name": "a"}),
        ("/tenants/acme/keys", {"name": "b"}),
        ("/tenants/globex/keys", {"name": "a"}),
        ("/tenants/acme/keys?reason=other", {"name": "a"}),
        ("/operator/keys", {"name": "a"}),
        ("/tenants/acme/suspend", None),
    ]
    answers = [await world.ask("POST", path, body, idempotency_key="same") for path, body in asks]
    assert answers[0].status == 201
    assert {answer.code for answer in answers[1:]} == {"idempotency_key_reused"}
    assert {answer.status for answer in answers[1:]} == {422}


async def test_a_body_that_says_the_same_in_other_bytes_is_the_same(world: World) -> None:
    path = "/tenants/acme/keys"
    first = await world.ask("POST", path, b'{"name":"a","models":null}', idempotency_key="k")
    again = await world.ask("POST", path, b' { "name" : "\\u0061" } ', idempotency_key="k")
    assert again.json == {**first.json, "api_key": None}


async def test_two_callers_never_meet_in_a_key(world: World) -> None:
    made = {
        (await world.ask("POST", "/tenants/acme/keys", {}, by=caller, idempotency_key="k")).json["id"]
        for caller in ("operator", "admin", "developer")
    }
    made |= {
        (await world.ask("POST", "/tenants/globex/keys", {}, by="stranger", idempotency_key="k")).json["id"]
    }
    assert len(made) == 4


async def test_a_key_holds_for_a_day(world: World) -> None:
    first = await world.ask("POST", "/tenants/acme/keys", {}, idempotency_key="k")
    world.now_us += DAY_US - 1
    assert (await world.ask("POST", "/tenants/acme/keys", {}, idempotency_key="k")).json["id"] == first.json[
        "id"
    ]
    world.now_us += 1
    assert (await world.ask("POST", "/tenants/acme/keys", {}, idempotency_key="k")).json["id"] != first.json[
        "id"
    ]


async def test_what_changed_nothing_is_not_done_later_either(world: World) -> None:
    first = await world.ask("POST", "/tenants/acme/resume", idempotency_key="k")
    await world.ask("POST", "/tenants/acme/suspend")
    again = await world.ask("POST", "/tenants/acme/resume", idempotency_key="k")
    assert (first.json["state"], again.headers["idempotency-replayed"]) == ("active", "true")
    assert (await world.ask("GET", "/tenants/acme")).json["state"] == "suspended"


async def test_the_first_end_of_a_key_is_the_repetitions_too(world: World) -> None:
    body = {"expires_seconds": 60}
    first = await world.ask("POST", "/tenants/acme/keys", body, idempotency_key="k")
    world.now_us += 3_600_000_000
    again = await world.ask("POST", "/tenants/acme/keys", body, idempotency_key="k")
    assert again.json["expires_at"] == first.json["expires_at"]
    at = {"expires_at": "2023-11-15T00:00:00Z"}
    world.now_us = 1_700_000_000_000_000
    first = await world.ask("POST", "/tenants/acme/keys", at, idempotency_key="at")
    world.now_us += 86_000_000_000  # behind that end
    again = await world.ask("POST", "/tenants/acme/keys", at, idempotency_key="at")
    assert (again.json["id"], again.json["state"]) == (first.json["id"], "expired")


@pytest.mark.parametrize("key", ["a" * 256, "tab\there", "caf\xe9", "\x01"])
async def test_a_key_that_is_none_is_refused(world: World, key: str) -> None:
    before = dict(world.table.rows)
    assert (await world.ask("POST", "/tenants/acme/keys", {}, idempotency_key=key)).code == "malformed"
    assert world.table.rows == before


async def test_a_keys_text_is_told_once_and_stored_nowhere(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    made = [await world.ask("POST", "/tenants/acme/keys", {"name": "x"}, idempotency_key="a") for _ in (1, 2)]
    path = f"/tenants/acme/keys/{made[0].json['id']}/rotate"
    made += [await world.ask("POST", path, {"overlap_seconds": 60}, idempotency_key="b") for _ in (1, 2)]
    made += [await world.ask("POST", "/operator/keys", {}, idempotency_key="c") for _ in (1, 2)]
    texts = [answer.json["api_key"] for answer in made]
    assert texts[1::2] == [None, None, None]
    assert all(answer.headers["cache-control"] == "no-store" for answer in made)
    reads = ["/tenants/acme/keys", "/tenants/acme/audit", "/operator/keys", "/audit"]
    read = b"".join([(await world.ask("GET", path)).body for path in reads])
    for text in texts[::2]:
        assert text.startswith("gw_live_")
        for place in (world.everything, read, caplog.text.encode()):
            assert text.encode() not in place
            assert text[12:].encode() not in place


async def test_what_happened_since_does_not_change_the_first_result(world: World) -> None:
    path, body = "/tenants/acme/keys", {"account": world.ids["account"]}
    first = await world.ask("POST", path, body, by="developer", idempotency_key="k")
    account = f"/tenants/acme/accounts/{world.ids['account']}"
    await world.ask("DELETE", account, if_match=await world.etag(account))
    again = await world.ask("POST", path, body, by="developer", idempotency_key="k")
    assert again.json == {**first.json, "api_key": None}
    assert (await world.ask("POST", path, body, by="developer", idempotency_key="new")).code == "not_found"
