"""The HTTP door over the real request path: which path leads where, what is refused, and what every answer carries."""

import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import msgspec
import pytest

from gateway.audit.record import OutcomeBody
from gateway.frontends.http import HttpDoor, Readiness, other_paths
from gateway.frontends.http_body import JsonMemory
from gateway.frontends.http_exchange import EXTENSION
from gateway.frontends.oip_rest import OipRest
from tests.gateway.frontends.worlds import Asked
from tests.gateway.house import House, house
from tests.worlds.triton import ANSWER, Mood, TritonWorld

INFER = "/v2/models/digits/infer"
BODY = b'{"inputs":[]}'

# Triton's doors that are closed here, and what nobody has.
NEVER = [
    "/v2/repository/index",
    "/v2/repository/models/digits/load",
    "/v2/repository/models/digits/unload",
    "/v2/systemsharedmemory/status",
    "/v2/systemsharedmemory/region/x/register",
    "/v2/cudasharedmemory/status",
    "/v2/trace/setting",
    "/v2/models/digits/trace/setting",
    "/v2/logging",
    "/v2/models/stats",
    "/v2/models/digits/config",
    "/metrics",
    "/invocations",
    "/ping",
    "/predict",
    "/v2/",
    "//v2/models/digits/infer",
    "/nothing",
]


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def header(self, name: bytes) -> bytes:
        (value,) = [value for key, value in self.headers if key == name]
        return value

    @property
    def error(self) -> str:
        (sentence,) = json.loads(self.body).values()
        return str(sentence)


@dataclass(slots=True)
class Door:
    here: House
    door: HttpDoor
    state: Readiness

    async def ask(
        self,
        path: str,
        body: bytes | None = None,
        *,
        key: str | None = "",
        method: str = "",
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """One request; `key` None sends no credential, "" the tenant's own."""
        sent = [(b"content-length", str(len(body or b"")).encode())] if body is not None else []
        if key is not None:
            sent.append((b"authorization", f"Bearer {key or self.here.key.reveal()}".encode()))
        sent += [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
        scope: dict[str, Any] = {
            "type": "http",
            "method": method or ("GET" if body is None else "POST"),
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": sent,
            "client": ("192.0.2.1", 4711),
            "state": {},
        }
        exchange = Asked(body=body or b"")
        scope["extensions"] = {EXTENSION: exchange}
        await self.door(scope, exchange.receive, exchange.send)
        said = exchange.messages
        assert [message["type"] for message in said[:1]] == ["http.response.start"]
        return Answer(
            said[0]["status"], said[0]["headers"], b"".join(message["body"] for message in said[1:])
        )


@asynccontextmanager
async def opened(mood: Mood = "answers") -> AsyncIterator[Door]:
    async with TritonWorld(mood=mood) as triton, house(triton) as here:
        ids = count(1)
        oip = OipRest(here.pipeline, JsonMemory(10**6, 10**6), 60.0)
        door = Door(
            here,
            HttpDoor(oip, other_paths(oip, lambda: door.state), lambda: f"{next(ids):032x}"),
            Readiness(ready=True, state="ok"),
        )
        yield door
        assert oip.memory.taken_bytes == 0


async def test_an_infer_request_is_answered_with_what_triton_said_and_where_one_stands() -> None:
    async with opened() as door:
        answer = await door.ask(INFER, BODY)
    assert (answer.status, answer.body) == (200, ANSWER)
    assert answer.header(b"content-length") == str(len(ANSWER)).encode()
    assert (
        answer.header(b"ratelimit-policy")
        == b'"requests";q=1000;w=1, "concurrency";q=5;qu="concurrent-requests"'
    )
    assert answer.header(b"ratelimit") == b'"requests";r=999;t=1, "concurrency";r=4'


@pytest.mark.parametrize("path", NEVER)
async def test_a_closed_door_of_tritons_is_401_without_a_credential_and_404_with_one(path: str) -> None:
    async with opened() as door:
        assert (
            (await door.ask(path, key=None)).status == (await door.ask(path, b"{}", key=None)).status == 401
        )
        assert (await door.ask(path)).status == 404
        # `stats` could be a model's name, and what describes a model takes no POST.
        takes_get = path in ("/v2/models/stats", "/v2/models/digits/config")
        assert (await door.ask(path, b"{}")).status == (405 if takes_get else 404)


@pytest.mark.parametrize("name", ["%64igits", "..", ".digits", "digits%2finfer", "dig its", "x" * 129, ""])
async def test_a_model_name_that_could_lead_elsewhere_is_no_path(name: str) -> None:
    async with opened() as door:
        assert (await door.ask(f"/v2/models/{name}/infer", BODY)).status == 404
        assert door.here.scaler.started == []


@pytest.mark.parametrize(
    ("path", "method"),
    [(INFER, "GET"), (INFER, "PUT"), ("/v2/models/digits", "POST"), ("/v2/models/digits/ready", "DELETE")],
)
async def test_another_method_is_405(path: str, method: str) -> None:
    async with opened() as door:
        assert (await door.ask(path, BODY, method=method)).status == 405


async def test_two_different_credentials_are_400_and_the_same_one_twice_is_fine() -> None:
    async with opened() as door:
        mine = door.here.key.reveal()
        assert (await door.ask(INFER, BODY, headers={"x-api-key": mine})).status == 200
        assert (await door.ask(INFER, BODY, headers={"x-api-key": "other"})).status == 400


@pytest.mark.parametrize("value", ["", "-1", "+1", "1 ", "0x1", "1,1", "9999999999"])
async def test_a_head_length_that_is_no_plain_number_is_400(value: str) -> None:
    async with opened() as door:
        answer = await door.ask(INFER, BODY, headers={"inference-header-content-length": value})
    assert answer.status == 400


@pytest.mark.parametrize(
    ("coding", "body", "status"),
    [
        ("br", BODY, 415),
        ("gzip, gzip", BODY, 415),
        ("identity", BODY, 200),
        ("gzip", gzip.compress(BODY, mtime=0), 200),
        ("gzip", BODY, 400),
    ],
)
async def test_a_body_is_read_as_its_coding_says_or_refused(coding: str, body: bytes, status: int) -> None:
    async with opened() as door:
        assert (await door.ask(INFER, body, headers={"content-encoding": coding})).status == status


async def test_nothing_that_a_client_says_of_itself_is_believed() -> None:
    spoofed = {
        "x-request-id": "mine",
        "x-forwarded-for": "10.0.0.1",
        "x-tenant": "other",
        "forwarded": "for=10.0.0.1",
    }
    async with opened() as door:
        answer = await door.ask("/v2/models/private/infer", BODY, headers=spoofed)
        assert answer.status == 404
        assert answer.header(b"x-request-id") != b"mine"
        await door.here.settled()
        (denial,) = door.here.records("denial")
    assert b"192.0.2.1" in denial.present
    assert b"10.0.0.1" not in denial.present


@pytest.mark.parametrize(
    "path", ["/healthz", "/readyz", "/v2/health/live", "/v2/health/ready", "/v2", "/nothing", INFER]
)
async def test_every_answer_has_one_request_id(path: str) -> None:
    async with opened() as door:
        for key in ("", None):
            assert len((await door.ask(path, key=key)).header(b"x-request-id")) == 32


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"])
async def test_health_needs_no_credential_and_everything_else_does(path: str) -> None:
    async with opened() as door:
        assert (await door.ask(path, key=None)).status == 200
        for other in ("/v2", "/v2/models/digits", "/v2/models/digits/ready"):
            assert (await door.ask(other, key=None)).status == 401


async def test_readiness_tells_the_truth_and_liveness_does_not_hang_on_it() -> None:
    async with opened() as door:
        door.state = Readiness(ready=False, state="the audit log cannot be written")
        assert [(await door.ask(path)).status for path in ("/readyz", "/v2/health/ready", "/healthz")] == [
            503,
            503,
            200,
        ]


async def test_a_model_at_zero_is_ready_and_asking_starts_nothing() -> None:
    async with opened() as door:
        assert (await door.ask("/v2/models/digits/ready")).status == 200
        assert (await door.ask("/v2/models/private/ready")).status == 404
        assert json.loads((await door.ask("/v2")).body)["name"] == "triton"
        assert door.here.scaler.started == []


async def test_metadata_is_tritons_own() -> None:
    async with opened() as door:
        answer = await door.ask("/v2/models/digits/versions/3")
        assert (answer.status, json.loads(answer.body)) == (200, {"versions": ["1", "3"]})
        assert json.loads((await door.ask("/v2/models/digits")).body) == {"versions": ["1", "3"]}


async def test_a_refusal_before_there_is_a_call_is_counted_too() -> None:
    async with opened() as door:
        await door.ask(INFER, BODY, headers={"x-api-key": "other"})
        assert door.here.pipeline.ledger.counters.denials == 1


@pytest.mark.parametrize(
    ("path", "method", "reason"),
    [
        ("/nothing", "GET", "no_such_path"),
        ("/v2/repository/index", "POST", "no_such_path"),
        (INFER, "PUT", "method_not_allowed"),
        ("/v2", "PROPFIND", "method_not_allowed"),
        ("*", "OPTIONS", "no_such_path"),
    ],
)
async def test_what_is_not_here_is_one_denial_of_whoever_asked(path: str, method: str, reason: str) -> None:
    async with opened() as door:
        answer = await door.ask(path, method=method)
        await door.here.settled()
        (denial,) = door.here.records("denial")
        assert door.here.denials() == [reason]
        assert denial.entry.request == answer.header(b"x-request-id").decode()
        assert denial.entry.tenant


@pytest.mark.parametrize("method", ["GET", "POST", "PROPFIND"])
async def test_before_a_caller_is_known_nothing_is_said_of_paths_and_methods(method: str) -> None:
    async with opened() as door:
        for path in ("/nothing", "/v2", "/v2/models/digits/infer"):
            assert (await door.ask(path, method=method, key=None)).status == 401
        assert door.here.pipeline.ledger.counters.denials == 3


async def test_the_outcome_says_the_status_that_the_client_was_told() -> None:
    async with opened("cannot read") as door:
        assert (await door.ask(INFER, BODY)).status == 400
        await door.here.settled()
        (outcome,) = door.here.records("outcome")
    body = msgspec.json.decode(outcome.present, type=OutcomeBody)
    assert (body.status, body.http_status) == ("refused", 400)


async def test_an_error_of_tritons_that_breaks_off_is_an_error_of_ours() -> None:
    async with opened("closes within an error") as door:
        answer = await door.ask(INFER, BODY)
    assert (answer.status, len(answer.header(b"x-request-id"))) == (502, 32)
