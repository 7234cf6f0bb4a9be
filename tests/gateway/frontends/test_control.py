"""The control API behind the doors: what is true of every answer there is true of its answers too."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.frontends.control import Callers, control_credential
from gateway.frontends.http_exchange import EXTENSION
from gateway.frontends.operator import OperatorDoor, operator_paths
from tenants.acts import Act
from tenants.api.application import Control
from tenants.api.problems import Problem
from tenants.errors import TableUnavailable
from tenants.keys import Secret, mint
from tenants.plans import Rate
from tests.gateway.frontends.worlds import Answer, Asked, Door, door, nothing, post, ready
from tests.tenants.api.worlds import AUTHORIZER, World, callers, peopled

FIGURES = operator_paths(nothing, ready)
REQUEST_ID = "1" * 32


@asynccontextmanager
async def operators() -> AsyncIterator[tuple[Door, World]]:
    async with peopled() as world:
        control = Control(
            world.directory, AUTHORIZER, control_credential, callers(world).identify, lambda: world.now_us
        )
        app = OperatorDoor(FIGURES, lambda: REQUEST_ID, control.paths("operator"))
        async with door(app) as listening:
            yield listening, world


def request(world: World, line: str, *headers: str) -> bytes:
    head = [f"{line} HTTP/1.1", "Host: a", f"x-api-key: {world.keys['operator']}", *headers]
    return "\r\n".join([*head, "", ""]).encode()


def problem(answer: Answer) -> dict[str, Any]:
    assert answer.headers["content-type"] == "application/problem+json"
    said: dict[str, Any] = json.loads(answer.body)
    assert said["instance"] == answer.headers["x-request-id"] == REQUEST_ID
    assert said["status"] == answer.status
    return said


async def test_every_answer_carries_its_id_and_every_problem_says_it() -> None:
    async with operators() as (listening, world):
        found = await listening.ask(request(world, "GET /control/v1/tenants/acme"))
        assert (found.status, found.headers["x-request-id"]) == (200, REQUEST_ID)
        for line, status in (
            ("GET /control/v1/tenants/nobody", 404),
            ("GET /control/", 404),
            ("GET /control/v1", 404),
            ("DELETE /control/v1/tenants", 405),
            ("PATCH /control/v1/tenants", 405),
            ("GET /control/v1/tenants/acme?x", 422),
        ):
            answer = await listening.ask(request(world, line))
            assert problem(answer)["status"] == status, line


async def test_head_is_get_without_a_body() -> None:
    async with operators() as (listening, world):
        wire = await listening.connect()
        await wire.send(request(world, "HEAD /control/v1/tenants/acme"))
        head = await wire.answer(of="HEAD")
        got = await wire.ask(request(world, "GET /control/v1/tenants/acme"))
        assert (head.status, head.headers["etag"]) == (200, got.headers["etag"])
        assert head.headers["content-length"] == str(len(got.body))


async def test_a_path_is_matched_as_it_was_sent() -> None:
    async with operators() as (listening, world):
        for path in (
            "/control/v1/tenants/%61cme",
            "/control/v1/%74enants",
            "/control/v1/tenants/acme%2Fkeys",
        ):
            answer = await listening.ask(request(world, f"GET {path}"))
            assert problem(answer)["status"] in (404, 422)


async def test_a_body_that_is_too_large_is_refused_while_it_comes() -> None:
    async with operators() as (listening, world):
        key = f"x-api-key: {world.keys['operator']}".encode()
        sent = post(b"[" * (2 * 1024 * 1024), key, b"Content-Type: application/json")
        sent = sent.replace(b"POST / ", b"POST /control/v1/tenants ", 1)
        assert problem(await listening.ask(sent))["type"].endswith("body_too_large")


async def test_a_fault_of_ours_is_a_problem_and_says_nothing_of_itself() -> None:
    async with operators() as (listening, world):
        world.directory.journal.table = object()  # type: ignore[assignment]
        answer = await listening.ask(request(world, "GET /control/v1/tenants"))
        assert problem(answer)["type"].endswith("internal")
        assert b"attribute" not in answer.body


async def test_who_is_cut_off_by_a_stop_hears_a_problem() -> None:
    reached = asyncio.Event()

    async def waits(*_: Any) -> None:
        reached.set()
        await asyncio.Event().wait()

    exchange = Asked()
    scope = {"raw_path": b"/control/v1/tenants", "state": {}, "extensions": {EXTENSION: exchange}}
    app = OperatorDoor(FIGURES, lambda: REQUEST_ID, waits)
    asked = asyncio.ensure_future(app(scope, exchange.receive, exchange.send))
    await reached.wait()
    asked.cancel()
    await asked
    assert exchange.status == 503
    assert exchange.headers[b"content-type"] == b"application/problem+json"
    assert exchange.headers[b"retry-after"] == b"1"
    said = json.loads(b"".join(message["body"] for message in exchange.messages[1:]))
    assert (said["type"], said["instance"]) == ("urn:gateway:problem:stopping", REQUEST_ID)


def unknown() -> Secret:
    return mint(secrets.token_bytes(40))


async def refused(callers: Callers, key: Secret, world: World, address: str = "192.0.2.1") -> Problem:
    with pytest.raises(Problem) as problem:
        await callers.identify(key, address, world.now_us, "public")
    return problem.value


async def test_a_network_that_guesses_keys_is_refused_without_a_look_up_until_it_has_waited() -> None:
    async with peopled() as world:
        door = callers(world, Rate(rate=0.5, burst=3))
        for host in range(3):
            assert await door.identify(unknown(), f"192.0.2.{host}", world.now_us, "public") is None
        world.table.gone = True  # nothing is asked of it
        problem = await refused(door, unknown(), world)
        assert (problem.kind.status, problem.headers["retry-after"]) == (429, "2")
        world.table.gone = False
        assert await door.identify(unknown(), "192.0.3.1", world.now_us, "public") is None
        world.now_us += 2_000_000
        assert await door.identify(unknown(), "192.0.2.1", world.now_us, "public") is None


async def test_guesses_lock_out_no_key_that_was_met_and_one_that_was_revoked_is_a_stranger_again() -> None:
    async with peopled() as world:
        door = callers(world, Rate(rate=0.5, burst=2))
        ours, other = (Secret(world.keys[it]) for it in ("admin", "operator"))
        for _ in range(9):
            assert await door.identify(ours, "192.0.2.1", world.now_us, "public")
        for _ in range(2):
            assert await door.identify(unknown(), "192.0.2.1", world.now_us, "public") is None
        assert await door.identify(ours, "192.0.2.1", world.now_us, "public")
        await refused(door, other, world)
        await world.directory.keys.revoke("acme", world.ids["admin key"], Act("test", world.now_us))
        assert await door.identify(ours, "192.0.2.1", world.now_us, "public") is None
        await refused(door, ours, world)


async def test_a_look_up_of_a_key_without_an_answer_costs_its_network_nothing() -> None:
    async with peopled() as world:
        door = callers(world, Rate(rate=0.5, burst=1))
        world.table.gone = True
        for _ in range(3):
            with pytest.raises(TableUnavailable):
                await door.identify(unknown(), "192.0.2.1", world.now_us, "public")
        world.table.gone = False
        assert await door.identify(unknown(), "192.0.2.1", world.now_us, "public") is None


async def test_who_guesses_keys_at_the_control_api_is_told_so_by_every_path_of_it() -> None:
    async with peopled() as world:
        identify = callers(world, Rate(rate=0.5, burst=1)).identify
        control = Control(world.directory, AUTHORIZER, control_credential, identify, lambda: world.now_us)
        async with door(OperatorDoor(FIGURES, lambda: REQUEST_ID, control.paths("operator"))) as listening:
            for line, status in (("whoami", 401), ("whoami", 429), ("nowhere", 429)):
                world.keys["operator"] = mint(secrets.token_bytes(40)).reveal()
                answer = await listening.ask(request(world, f"GET /control/v1/{line}"))
                assert problem(answer)["status"] == status
