"""Bad input, as a client sees it: which answer, and that no answer tells what is not the caller's."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from gateway.state import clock
from tenants.acts import Act
from tenants.directory import Directory
from tenants.keys import digest, mint
from tenants.plans import Limits
from tests.e2e.world import (
    Answer,
    Demo,
    change,
    command,
    entries,
    fp32,
    in_parallel,
    milliseconds,
    new_tenant,
    rated,
    until,
)

pytestmark = pytest.mark.triton

SEEN_SECONDS = 5.0
ECHO = "/v2/models/echo_fp32/infer"
NOWHERE = [
    "/",
    "/v2",
    "/v2/nothing",
    "/metrics",
    "/v2/repository/index",
    "/v2/models/echo_fp32",
    "/v2/models/echo_fp32/config",
    "/v2/models/echo_fp32/infer",
    "/v2/models/nothing/ready",
    "/v2/models/%65cho_fp32",
]


# 401


def test_no_refused_key_can_be_told_from_another(house: Demo) -> None:
    """Missing, malformed, mistyped, never made, made elsewhere, expired, revoked, of a closed tenant, not of the scheme."""
    refused = [house.call(ECHO, fp32(1), headers=headers) for headers in _refused_credentials(house)]
    assert refused[0].status == 401
    assert refused[0].headers["www-authenticate"] == "Bearer"
    assert [answer.lasting for answer in refused] == [refused[0].lasting] * len(refused)


def _refused_credentials(house: Demo) -> Iterator[dict[str, str]]:
    never_made = mint(bytes(range(40))).reveal()
    assert digest(never_made) is not None
    expired, revoked, closed = change(house.state, _ended_keys)
    mistyped = house.key[:-1] + ("1" if house.key[-1] == "0" else "0")
    keys = [
        never_made,
        expired,
        revoked,
        closed,
        mistyped,
        "gw_live_",
        "",
        house.key.upper(),
        house.key + " x",
    ]
    yield {}
    yield {"Authorization": f"Basic {house.key}"}
    yield {"Authorization": house.key}
    for key in keys:
        yield {"Authorization": f"Bearer {key}"}
        yield {"x-api-key": key}


async def _ended_keys(directory: Directory) -> list[str]:
    made = [await directory.keys.create("roomy", expires_us=2, act=Act("test", 1))]
    made.append(await directory.keys.create("roomy", act=Act("test", 1)))
    await directory.keys.revoke("roomy", made[1].key.id, act=Act("test", 2))
    await directory.tenants.create("gone", "roomy", act=Act("test", 1))
    made.append(await directory.keys.create("gone", act=Act("test", 1)))
    await directory.tenants.do("gone", "close", act=Act("test", 2))
    return [minted.secret.reveal() for minted in made]


def test_a_key_of_another_installation_is_refused_like_a_wrong_one(house: Demo, state: Path) -> None:
    foreign = new_tenant(state, "roomy").secret.reveal()
    assert (
        house.infer("echo_fp32", fp32(1), key=foreign).lasting
        == house.call(ECHO, fp32(1), headers={}).lasting
    )


@pytest.mark.parametrize("path", NOWHERE)
def test_without_a_key_there_is_nothing_to_be_seen(house: Demo, path: str) -> None:
    assert house.call(path, headers={}).lasting == house.call(ECHO, fp32(1), headers={}).lasting


# 404 and 403


def test_a_model_of_others_looks_like_none_at_all(house: Demo) -> None:
    theirs = new_tenant(house.state, "other").secret.reveal()
    change(house.state, _give_private_to_other)
    until(lambda: house.call("/v2/models/private/ready").status == 404, SEEN_SECONDS)
    for rest in ("", "/ready", "/versions/1", "/versions/1/ready"):
        path = "/v2/models/{}" + rest
        assert house.call(path.format("private")).lasting == house.call(path.format("unheard-of")).lasting
    assert house.infer("private", fp32(1)).lasting == house.infer("unheard-of", fp32(1)).lasting
    assert house.infer("private", b"no json").lasting == house.infer("unheard-of", b"no json").lasting
    assert house.infer("private", fp32(1)).status == 404
    assert house.infer("private", fp32(1), key=theirs).json["outputs"][0]["data"] == [1.0]


async def _give_private_to_other(directory: Directory) -> None:
    private = (await directory.values.models())["private"]
    await directory.values.put(replace(private, tenants=("other",)), act=Act("test", 1))


def test_a_limited_key_may_use_its_models_and_no_others(house: Demo) -> None:
    limited = new_tenant(house.state, "limited", models=("echo_fp32",)).secret.reveal()
    assert house.infer("echo_fp32", fp32(1), key=limited).status == 200
    for path in ("/v2/models/digits", "/v2/models/digits/ready"):
        assert house.call(path, key=limited).status == 403
    assert house.infer("digits", fp32(1), key=limited).status == 403
    assert house.infer("unheard-of", fp32(1), key=limited).status == 404


# 400


def test_two_different_credentials_are_one_too_many(house: Demo) -> None:
    other = mint(bytes(40)).reveal()
    answer = house.call(ECHO, fp32(1), headers={"Authorization": f"Bearer {house.key}", "x-api-key": other})
    assert (answer.status, answer.json) == (
        400,
        {"error": "two different credentials in one request; send one"},
    )


def test_the_same_credential_twice_is_one(house: Demo) -> None:
    headers = {"Authorization": f"Bearer {house.key}", "x-api-key": house.key}
    assert house.call(ECHO, fp32(1), headers=headers).status == 200


# 413


def test_a_body_over_the_plan_is_refused_before_it_is_sent(house: Demo) -> None:
    key = new_tenant(house.state, "small", Limits(body_bytes=1000)).secret.reveal()
    with contextlib.closing(house.connection()) as connection:
        connection.putrequest("POST", ECHO)
        connection.putheader("Authorization", f"Bearer {key}")
        connection.putheader("Content-Length", "1001")
        connection.endheaders()
        assert connection.getresponse().status == 413
    assert house.call(ECHO, iter([b" " * 600, b" " * 600]), key=key).status == 413
    assert house.call(ECHO, fp32(1), key=key).status == 200


# 429


def test_the_rate_is_told_before_and_when_it_is_spent(house: Demo) -> None:
    key = new_tenant(house.state, "brisk", rated(rate=0.5, burst=3)).secret.reveal()
    assert (
        house.infer("echo_fp32", fp32(1)).status == 200
    )  # the server runs, so that the next calls are quick
    answers = [house.infer("echo_fp32", fp32(1), key=key) for _ in range(4)]
    assert [answer.status for answer in answers] == [200, 200, 200, 429]
    assert {answer.headers["ratelimit-policy"] for answer in answers} == {'"requests";q=3;w=6'}
    assert [_remaining(answer) for answer in answers] == [2, 1, 0, 0]
    wait_seconds = int(answers[3].headers["retry-after"])
    assert wait_seconds in (1, 2)
    ready_at = clock() + wait_seconds
    until(lambda: clock() >= ready_at, wait_seconds + 1)  # as a client does that believes what it was told
    assert house.infer("echo_fp32", fp32(1), key=key).status == 200


def _remaining(answer: Answer) -> int:
    return int(answer.headers["ratelimit"].partition(";r=")[2].partition(";")[0])


def test_calls_at_once_are_limited_and_told(house: Demo) -> None:
    minted = new_tenant(house.state, "narrow", Limits(body_bytes=1000, concurrent_requests=2))
    key = minted.secret.reveal()
    held: list[Answer] = []
    holder = threading.Thread(target=lambda: held.append(house.infer("slow", milliseconds(1500), key=key)))
    holder.start()
    until(lambda: any(entry.key == minted.key.id for entry in entries(house.state)), 5)
    second, third = in_parallel([lambda: house.infer("slow", milliseconds(300), key=key)] * 2)
    holder.join()
    admitted, refused = sorted((second, third), key=lambda answer: answer.status)
    assert (held[0].status, admitted.status, refused.status) == (200, 200, 429)
    assert refused.headers["ratelimit-policy"] == '"concurrency";q=2;qu="concurrent-requests"'
    assert [_remaining(answer) for answer in (held[0], admitted, refused)] == [1, 0, 0]
    assert int(refused.headers["retry-after"]) >= 1
    assert house.infer("echo_fp32", fp32(1), key=key).status == 200


def test_a_limit_is_its_tenants_alone(house: Demo) -> None:
    key = new_tenant(house.state, "spent", rated(rate=0.01, burst=1)).secret.reveal()
    assert [house.infer("echo_fp32", fp32(1), key=key).status for _ in range(2)] == [200, 429]
    assert house.infer("echo_fp32", fp32(1)).status == 200


# What changes while the gateway runs


def test_a_key_works_from_its_creation_to_its_revocation(
    house: Demo, record_property: Callable[[str, object], None]
) -> None:
    """Both by another process, on a gateway that runs."""
    state = str(house.state)
    made = command("keys", "create", "--tenant", "roomy", "--state", state, "--json")
    key_id, key = json.loads(made.stdout)["id"], json.loads(made.stdout)["api_key"]
    assert house.infer("echo_fp32", fp32(1), key=key).status == 200
    assert command("keys", "revoke", key_id, "--tenant", "roomy", "--state", state).returncode == 0
    _expect_refused(house, key, "a revoked key was seen", record_property)


def test_a_closed_tenant_has_no_keys(house: Demo, record_property: Callable[[str, object], None]) -> None:
    key = new_tenant(house.state, "closing").secret.reveal()
    assert house.infer("echo_fp32", fp32(1), key=key).status == 200
    assert command("tenants", "close", "closing", "--state", str(house.state)).returncode == 0
    _expect_refused(house, key, "a closed tenant was seen", record_property)


def _expect_refused(house: Demo, key: str, what: str, record_property: Callable[[str, object], None]) -> None:
    begun = clock()
    until(
        lambda: house.infer("echo_fp32", fp32(1), key=key).status != 200, SEEN_SECONDS, "the key still works"
    )
    record_property(what, f"after {clock() - begun:.2f} s (bar {SEEN_SECONDS:g} s)")
    assert house.infer("echo_fp32", fp32(1), key=key).lasting == house.call(ECHO, fp32(1), headers={}).lasting
