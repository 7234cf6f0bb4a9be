"""What nobody should send is refused with a problem that says what is wrong; nothing is written, and nothing falls over."""

import json
from typing import Any

import pytest

from tenants.api import problems
from tenants.api.bodies import MOST_BYTES, MOST_DEPTH
from tenants.errors import Conflict, TableUnavailable, TenantsError, UnknownFormat
from tenants.keys import mint
from tests.tenants.api.worlds import World

A_KEY = mint(bytes(40)).reveal()
KEYS, TENANTS = "/tenants/acme/keys", "/tenants"
PLAN, MODEL, FLEET = "/plans/new", "/models/new", "/fleets/new"
ROOMY = {"body_bytes": 1}


def nested(depth: int) -> bytes:
    return b'{"name":' + b"[" * depth + b"]" * depth + b"}"


def tensor(**changes: Any) -> dict[str, Any]:
    usual = {"name": "in", "datatype": "FP32", "shape": [1], "data": [1]}
    return {"repository": "/m", "tenants": "*", "canary": {"inputs": [usual | changes]}}


MALFORMED: list[tuple[str, bytes]] = [
    ("a text that has no end", b'{"name": "acme'),
    ("no JSON", b"name=acme&plan=team"),
    ("something behind the end", b'{"name":"a","plan":"team"} {}'),
    ("equal keys", b'{"name":"a","name":"b","plan":"team"}'),
    ("equal keys in other letters", b'{"name":"a","\\u006eame":"b","plan":"team"}'),
    ("equal keys deep down", b'{"name":"a","plan":{"x":1,"x":2}}'),
    ("NaN", b'{"name":NaN,"plan":"team"}'),
    ("Infinity", b'{"name":-Infinity,"plan":"team"}'),
    ("half of a surrogate pair", b'{"name":"\\ud800","plan":"team"}'),
    ("bytes that are no UTF-8", b'{"name":"\xff\xfe","plan":"team"}'),
    ("UTF-16", '{"name":"a","plan":"team"}'.encode("utf-16")),
    ("a byte order mark", b'\xef\xbb\xbf{"name":"a","plan":"team"}'),
    ("a NUL that is not escaped", b'{"name":"a\x00","plan":"team"}'),
    ("a comment", b'{"name":"a"/* */,"plan":"team"}'),
    ("a comma too many", b'{"name":"a","plan":"team",}'),
    ("single quotes", b"{'name':'a','plan':'team'}"),
    ("depth beyond the bound", nested(MOST_DEPTH + 1)),
    ("depth beyond any stack", nested(20_000)),
    ("a number with more digits than anybody reads", b'{"name":' + b"1" * 50_000 + b"}"),
    ("an octal number", b'{"name":0777,"plan":"team"}'),
]

# Method, path, body, and the path to the fault.
INVALID: list[tuple[str, str, Any, str]] = [
    ("POST", TENANTS, {}, ""),
    ("POST", TENANTS, None, ""),
    ("POST", TENANTS, [], ""),
    ("POST", TENANTS, "acme", ""),
    ("POST", TENANTS, {"name": "a", "plan": "team", "x": 1}, ""),
    ("POST", TENANTS, {"name": 1, "plan": "team"}, "name"),
    ("POST", TENANTS, {"name": None, "plan": "team"}, "name"),
    ("POST", TENANTS, {"name": "a", "plan": ["team"]}, "plan"),
    ("POST", TENANTS, {"name": "", "plan": "team"}, "name"),
    ("POST", TENANTS, {"name": "Acme", "plan": "team"}, "name"),
    ("POST", TENANTS, {"name": "a\0", "plan": "team"}, "name"),
    ("POST", TENANTS, {"name": "a" * 64, "plan": "team"}, "name"),
    ("POST", TENANTS, {"name": "a" * 60_000, "plan": "team"}, "name"),
    ("POST", TENANTS, {"name": "acme\n", "plan": "team"}, "name"),
    ("POST", TENANTS, {"name": "../x", "plan": "team"}, "name"),
    ("POST", TENANTS, {"name": "\u0430cme", "plan": "team"}, "name"),
    ("POST", TENANTS, {"name": "a", "plan": "../../team"}, "plan"),
    ("POST", f"{TENANTS}/acme/close", {"after_seconds": -1}, "after_seconds"),
    ("POST", f"{TENANTS}/acme/close", {"after_seconds": 1e300}, "after_seconds"),
    ("POST", f"{TENANTS}/acme/close", b'{"after_seconds": 1e999}', "after_seconds"),
    ("POST", f"{TENANTS}/acme/close", {"after_seconds": "60"}, "after_seconds"),
    ("POST", f"{TENANTS}/acme/close", {"after_seconds": True}, "after_seconds"),
    ("POST", f"{TENANTS}/acme/suspend", {"now": True}, ""),
    ("POST", f"{TENANTS}/acme/members", {"email": "ada", "role": "admin"}, "email"),
    ("POST", f"{TENANTS}/acme/members", {"email": "a@b\r\nBcc: c@d", "role": "admin"}, "email"),
    ("POST", f"{TENANTS}/acme/members", {"email": "a@b.example", "role": "operator"}, "role"),
    ("POST", f"{TENANTS}/acme/members", {"email": "a@b.example", "role": "none"}, "role"),
    ("POST", f"{TENANTS}/acme/accounts", {"name": "a b", "role": "admin"}, "name"),
    ("POST", KEYS, {"name": "x" * 65}, "name"),
    ("POST", KEYS, {"name": A_KEY}, "name"),
    ("POST", f"{KEYS}?reason=it%20leaked:%20{A_KEY}.", {}, "reason"),
    ("POST", KEYS, {"expires_at": "9999-12-31T23:59:59-23:59"}, "expires_at"),  # a year that has no name
    ("POST", KEYS, {"expires_at": "9999-12-31T23:59:59Z"}, "expires_at"),
    ("POST", "/control/v1/operator/keys", {"expires_at": "0001-01-01T00:00:00+23:59"}, "expires_at"),
    ("POST", KEYS, {"name": "a\x00b"}, "name"),
    ("POST", KEYS, {"models": []}, "models"),
    ("POST", KEYS, {"models": ["digits"] * 101}, "models"),
    ("POST", KEYS, {"models": ["../secret"]}, "models[0]"),
    ("POST", KEYS, {"models": "digits"}, "models"),
    ("POST", KEYS, {"expires_seconds": 0}, "expires_seconds"),
    ("POST", KEYS, {"expires_seconds": 1e12}, "expires_seconds"),
    ("POST", KEYS, {"expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
    ("POST", KEYS, {"expires_at": "2040-01-01T00:00:00"}, "expires_at"),
    ("POST", KEYS, {"expires_at": "tomorrow"}, "expires_at"),
    ("POST", KEYS, {"expires_at": 4_000_000_000}, "expires_at"),
    ("POST", KEYS, {"expires_at": "2040-01-01T00:00:00Z", "expires_seconds": 5}, "expires_at"),
    ("POST", "/operator/keys", {"models": ["digits"]}, ""),
    ("POST", "/operator/keys", {"account": "s_1"}, ""),
    ("PUT", PLAN, {"weight": 0, "limits": ROOMY}, "weight"),
    ("PUT", PLAN, {"weight": 1.5, "limits": ROOMY}, "weight"),
    ("PUT", PLAN, {"weight": 10**30, "limits": ROOMY}, "weight"),
    ("PUT", PLAN, {"weight": 1, "limits": {}}, "limits"),
    ("PUT", PLAN, {"weight": 1, "limits": {**ROOMY, "money": 5}}, "limits"),
    ("PUT", PLAN, {"weight": 1, "limits": {**ROOMY, "concurrent_requests": 0}}, "limits.concurrent_requests"),
    ("PUT", PLAN, {"weight": 1, "limits": {**ROOMY, "requests_per_day": 0}}, "limits.requests_per_day"),
    ("PUT", PLAN, {"weight": 1, "limits": {**ROOMY, "money_per_month": 500.0}}, "limits.money_per_month"),
    ("PUT", PLAN, {"weight": 1, "limits": {**ROOMY, "per_model": {"a b": {}}}}, "limits.per_model.a b"),
    ("PUT", PLAN, {"name": "other", "weight": 1, "limits": ROOMY}, "name"),
    ("PUT", "/plans/New", {"weight": 1, "limits": ROOMY}, "name"),
    ("PUT", "/plans/a%00b", {"weight": 1, "limits": ROOMY}, "name"),
    ("PUT", MODEL, {"tenants": "*"}, "repository"),
    ("PUT", MODEL, {"repository": "models", "tenants": "*"}, "repository"),
    ("PUT", MODEL, {"repository": "../models", "tenants": "*"}, "repository"),
    ("PUT", MODEL, {"repository": "s3://models", "tenants": "*"}, "repository"),
    ("PUT", MODEL, {"repository": "/a\0b", "tenants": "*"}, "repository"),
    ("PUT", MODEL, {"repository": "/m", "tenants": "all"}, "tenants"),
    ("PUT", MODEL, {"repository": "/m", "tenants": ["a b"]}, "tenants[0]"),
    ("PUT", MODEL, {"repository": "/m", "tenants": "*", "scaling": {"min": 1}}, "scaling"),
    ("PUT", MODEL, {"repository": "/m", "tenants": "*", "fleet": "nowhere"}, "fleet"),
    ("PUT", MODEL, {"repository": "/m", "tenants": "*", "memory_bytes": 2**50}, "memory_bytes"),
    ("PUT", MODEL, {"repository": "/m", "tenants": "*", "v": 1}, ""),
    ("PUT", MODEL, {"repository": "/m", "tenants": "*", "openai": {"backend": "magic"}}, "openai.backend"),
    ("PUT", MODEL, tensor(datatype="FP8"), "canary.inputs[0].datatype"),
    ("PUT", MODEL, tensor(data=["x"]), "canary.inputs[0].data[0]"),
    ("PUT", MODEL, tensor(shape=[2]), "canary.inputs[0].data"),
    ("PUT", "/models/.hidden", {"repository": "/m", "tenants": "*"}, "name"),
    ("PUT", "/models/%2e%2e", {"repository": "/m", "tenants": "*"}, "name"),
    ("PUT", FLEET, {"replicas": {"min": 3, "max": 1}}, "replicas.min"),
    ("PUT", FLEET, {"scaler": {"type": "rm"}}, "scaler.type"),
    ("PUT", FLEET, {"idle_seconds": 0}, "idle_seconds"),
]

PLACES: list[tuple[str, str]] = [
    ("/tenants?limit=0", "limit"),
    ("/tenants?limit=101", "limit"),
    ("/tenants?limit=-1", "limit"),
    ("/tenants?limit=1.0", "limit"),
    ("/tenants?limit=%D9%A1", "limit"),
    ("/tenants?limit=1&limit=2", "limit"),
    ("/tenants?offset=1", "offset"),
    ("/tenants?reason=x&reason=y", "reason"),
    ("/tenants?cursor=", "cursor"),
    ("/tenants?cursor=acm", "cursor"),
    ("/tenants?cursor=!!!", "cursor"),
    ("/tenants?cursor=YWNtZQ==", "cursor"),
    ("/tenants?cursor=AA", "cursor"),
    ("/tenants?cursor=_____w", "cursor"),
    ("/tenants?cursor=" + "YWFh" * 500, "cursor"),
]


@pytest.mark.parametrize(("name", "body"), MALFORMED, ids=[name for name, _ in MALFORMED])
async def test_a_body_with_two_readings_or_none_is_refused(world: World, name: str, body: bytes) -> None:
    before = dict(world.table.rows)
    assert (await world.ask("POST", TENANTS, body)).code == "malformed", name
    assert world.table.rows == before


@pytest.mark.parametrize(("method", "path", "body", "fault"), INVALID)
async def test_a_body_that_breaks_a_rule_is_refused_with_the_path_to_the_fault(
    world: World, method: str, path: str, body: Any, fault: str
) -> None:
    before = dict(world.table.rows)
    create = {"if_none_match": "*"} if method == "PUT" else {}
    answer = await world.ask(method, path, body, **create)
    assert (answer.status, answer.code, answer.json.get("path", "")) == (422, "invalid", fault)
    assert len(answer.body) < 3000
    assert world.table.rows == before


@pytest.mark.parametrize(("path", "fault"), PLACES)
async def test_a_query_that_says_nothing_known_is_refused(world: World, path: str, fault: str) -> None:
    answer = await world.ask("GET", path)
    assert (answer.code, answer.json["path"]) == ("invalid", fault)


@pytest.mark.parametrize("reason", ["x" * 501, "a%0Ab", "%00", "%1b%5b31m"])
async def test_a_reason_is_one_printable_line(world: World, reason: str) -> None:
    answer = await world.ask("POST", f"/tenants/acme/suspend?reason={reason}")
    assert (answer.code, answer.json["path"]) == ("invalid", "reason")


@pytest.mark.parametrize(
    "name",
    [
        "%61cme",
        "acme%00",
        "acme%2Fkeys",
        "%2e%2e",
        "ACME",
        "acme%20",
        "a" * 2000,
        "%ff",
        "'%20OR%201=1--",
        "tenant",
    ],
)
async def test_a_weird_name_in_a_path_is_nobodys(world: World, name: str) -> None:
    for by in ("operator", "admin"):
        for path in (f"/tenants/{name}", f"/tenants/{name}/keys", f"/tenants/acme/keys/{name}"):
            answer = await world.ask("GET", path, by=by)
            assert answer.code in ("not_found", "invalid", "no_such_path")
            assert by == "operator" or answer.status == 404


@pytest.mark.parametrize("sort", ["plans", "models", "fleets"])
@pytest.mark.parametrize("name", ["%61", "..", "a%00", "x" * 3000, "%ff"])
async def test_a_weird_name_of_a_value_is_not_there(world: World, sort: str, name: str) -> None:
    assert (await world.ask("GET", f"/{sort}/{name}")).code == "not_found"
    assert (await world.ask("DELETE", f"/{sort}/{name}", if_match='"1-0"')).code == "not_found"


@pytest.mark.parametrize(
    "headers",
    [
        {"content_type": "text/plain"},
        {"content_type": "application/x-www-form-urlencoded"},
        {"content_type": "application/merge-patch+json"},
        {"content_type": ""},
        {"content_type": "application/json, text/plain"},
        {"content_encoding": "gzip"},
    ],
)
async def test_a_body_that_is_not_json_as_it_is_is_refused(world: World, headers: dict[str, str]) -> None:
    answer = await world.ask("POST", TENANTS, {"name": "a", "plan": "team"}, **headers)
    assert (answer.status, answer.code) == (415, "not_json")


async def test_json_may_say_its_charset(world: World) -> None:
    kind = "Application/JSON; charset=utf-8"
    answer = await world.ask("POST", TENANTS, {"name": "a", "plan": "team"}, content_type=kind)
    assert answer.status == 201


async def test_a_body_has_a_bound_and_nothing_is_read_for_who_may_not_ask(world: World) -> None:
    huge = b'{"name":"' + b"a" * MOST_BYTES + b'"}'
    assert (await world.ask("PUT", PLAN, huge, if_none_match="*")).code == "body_too_large"
    assert (await world.ask("POST", TENANTS, huge[: 64 * 1024 + 1])).code == "body_too_large"
    assert (await world.ask("POST", TENANTS, huge, by="admin")).code == "forbidden"
    assert (await world.ask("POST", TENANTS, huge, by="nobody")).code == "unauthenticated"


async def test_a_delete_takes_no_body(world: World) -> None:
    tag = await world.etag("/plans/spare")
    assert (await world.ask("DELETE", "/plans/spare", {}, if_match=tag)).code == "malformed"


async def test_the_hostile_are_many() -> None:
    assert len(MALFORMED) + len(INVALID) + len(PLACES) >= 40


def test_every_refusal_of_the_directory_has_its_problem() -> None:
    kinds: list[type[TenantsError]] = [TenantsError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    codes = {kind.code for kind in kinds[1:] if not issubclass(kind, TableUnavailable)}
    assert codes - {"repeated"} <= set(problems.TABLE)  # that never leaves the process
    assert problems.of(Conflict()).kind.status == 409
    assert problems.of(UnknownFormat("of another version")).kind.status == 503


def test_a_problem_reads_as_it_always_did() -> None:
    said = problems.Problem("invalid", "is wrong", path="limits.rate").details("7")
    assert json.loads(said) == {
        "type": "urn:gateway:problem:invalid",
        "title": "What was asked for breaks a rule",
        "status": 422,
        "detail": "is wrong",
        "instance": "7",
        "path": "limits.rate",
    }
