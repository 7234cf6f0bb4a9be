"""A look-up and a start do as much work however many tenants and keys there are: counted, not timed."""

import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest

from gateway.auth.known import Known
from gateway.cluster.feed import Feed
from gateway.stores.backup import TABLE
from gateway.stores.sqlite import SqliteTable
from tenants import keys
from tenants.directory import Directory
from tenants.ports import MOST_ROWS
from tenants.rows import name_at
from tests.bench.many import spread_of
from tests.bench.many_state import NOW_US, PLAN, build
from tests.bench.report import Bar

FEW, MANY = 20, 1000
KEYS_EACH = 10


class Work(NamedTuple):
    statements: int
    steps: int
    """Of SQLite's virtual machine: a scan would need some for each row."""


class State(NamedTuple):
    path: Path
    secrets: list[keys.Secret]


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> list[State]:
    found = []
    for tenants in (FEW, MANY):
        path = tmp_path_factory.mktemp("many") / "state"
        found.append(State(path, build(path, tenants, KEYS_EACH, samples=5, random=Random(1))))
    return found


async def work_of(state: State, ask: Callable[[Directory], Awaitable[object]]) -> Work:
    statements: list[str] = []
    steps: list[None] = []
    async with SqliteTable(state.path / TABLE) as table:
        await table.get(name_at("warm"))  # SQLite reads the schema with its first question

        def watch(connection: sqlite3.Connection) -> None:
            connection.set_trace_callback(statements.append)
            connection.set_progress_handler(lambda: steps.append(None), 1)

        for worker in (table._reads, table._writes):
            await worker.run(watch)
        await ask(Directory(table, bytes))
    return Work(len(statements), len(steps))


async def test_a_look_up_reads_four_rows_whatever_the_number_of_keys(states: list[State]) -> None:
    few, many = [
        [
            await work_of(state, lambda directory, secret=secret: directory.keys.find(keys.hashed(secret)))  # type: ignore[misc]
            for secret in state.secrets
        ]
        for state in states
    ]
    assert {work.statements for work in (*few, *many)} == {4}
    assert set(few) == set(many)


async def test_a_key_that_is_unknown_costs_one_row(states: list[State]) -> None:
    for state in states:
        assert (await work_of(state, lambda directory: directory.keys.find("0" * 64))).statements == 1


async def test_a_gateway_reads_no_tenant_and_no_key_when_it_starts(states: list[State]) -> None:
    few, many = [
        await work_of(state, lambda directory: Feed(directory, Known(lambda: 0.0, 60.0)).look())
        for state in states
    ]
    assert few == many


async def test_the_first_page_of_tenants_costs_a_page_whatever_the_number_of_tenants(
    states: list[State],
) -> None:
    few, many = [await work_of(state, lambda directory: directory.tenants.list(limit=10)) for state in states]
    assert few == many
    assert many.statements == 1 + 10  # the page of names, and each tenant's row


async def test_the_state_is_what_a_directory_finds_tenants_keys_and_plans_in(states: list[State]) -> None:
    async with SqliteTable(states[1].path / TABLE) as table:
        directory = Directory(table, bytes)
        tenants = (await directory.tenants.list(limit=MOST_ROWS)).values
        assert len(tenants) == MANY == MOST_ROWS
        assert len((await directory.keys.list(tenants[-1].name)).values) == KEYS_EACH
        for secret in states[1].secrets:
            found = await directory.keys.find(keys.hashed(secret))
            assert found is not None
            assert found.plan == PLAN
            assert keys.state(found.key, NOW_US + 1) == "active"


def test_the_ninety_ninth_of_a_hundred_is_the_p99() -> None:
    spread = spread_of([number / 1000 for number in range(1, 102)])
    assert (round(spread.median, 6), round(spread.p99, 6)) == (51, 100)
    assert not Bar(what="", figure=5.1, most=5).holds
