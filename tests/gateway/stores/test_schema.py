"""A file of an older version becomes one of the newest, or stays as it was; what is newer or not ours is refused in words."""

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gateway.stores import schema
from gateway.stores.sqlite import SqliteTable, copy
from tenants.errors import TableUnavailable, UnknownFormat
from tenants.ports import Key, Put, Row

# Version 1, byte for byte as it was released: never to be changed.
VERSION_1 = (
    "PRAGMA journal_mode = WAL",
    """CREATE TABLE rows (partition TEXT NOT NULL, sort TEXT NOT NULL,
       value BLOB NOT NULL, version INTEGER NOT NULL, PRIMARY KEY (partition, sort)) STRICT, WITHOUT ROWID""",
    """CREATE TABLE counters (partition TEXT NOT NULL, sort TEXT NOT NULL, total INTEGER NOT NULL,
       PRIMARY KEY (partition, sort)) STRICT, WITHOUT ROWID""",
    "PRAGMA application_id = 1735873602",
    "PRAGMA user_version = 1",
    "INSERT INTO rows VALUES ('p', 's', X'6f6e65', 3)",
    "INSERT INTO counters VALUES ('p', 's', 5)",
)
# Two steps as they may come. `pause` is a function of the program that the test kills.
STEPS = (
    (
        "ALTER TABLE rows ADD COLUMN changed INTEGER NOT NULL DEFAULT 0",
        "SELECT pause()",
        "UPDATE rows SET changed = 7",
        "SELECT pause()",
    ),
    ("CREATE TABLE more (name TEXT NOT NULL PRIMARY KEY) STRICT, WITHOUT ROWID", "SELECT pause()"),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "table.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in VERSION_1:
            connection.execute(statement)
    return path


def opened(path: Path) -> "closing[sqlite3.Connection]":
    connection = sqlite3.connect(path, isolation_level=None)
    connection.create_function("pause", 0, lambda: 0)
    return closing(connection)


def contents(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        return [f"version {version}", *connection.iterdump()]


def versions_before(path: Path) -> Iterator[list[str]]:
    """What the file may hold once a migration was killed: it was begun or it is done."""
    yield contents(path)
    done = path.with_name("done.sqlite")
    copy(path, done)
    with opened(done) as connection:
        schema.migrate(connection, done, STEPS)
    yield contents(done)


async def test_a_file_of_version_1_is_read_as_it_was_written(path: Path) -> None:
    async with SqliteTable(path) as table:
        assert await table.get(Key("p", "s")) == Row(Key("p", "s"), b"one", 3)
        assert await table.take(Key("p", "s"), 1, 10) == 6


def test_a_new_file_is_what_an_old_one_becomes(path: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.sqlite"
    steps = [[it for it in step if "pause" not in it] for step in STEPS]
    schema.create(new, steps)
    with opened(path) as connection:
        schema.migrate(connection, path, steps)
    with closing(sqlite3.connect(path, isolation_level=None)) as old:
        old.execute("DELETE FROM rows")
        old.execute("DELETE FROM counters")
    assert contents(path) == contents(new)
    assert contents(path)[0] == "version 3"


def test_an_older_file_goes_all_the_steps_that_it_lacks_and_each_once(path: Path) -> None:
    with opened(path) as connection:
        schema.migrate(connection, path, STEPS[:1])
        assert schema.version_of(connection, path, newest=2) == 2
        schema.migrate(connection, path, STEPS)
        schema.migrate(connection, path, STEPS)
        assert connection.execute("SELECT * FROM rows").fetchall() == [("p", "s", b"one", 3, 7)]
        assert connection.execute("SELECT count(*) FROM more").fetchone() == (0,)


def test_a_step_that_fails_leaves_the_file_as_it_was(path: Path) -> None:
    before = contents(path)
    with opened(path) as connection, pytest.raises(sqlite3.OperationalError):
        schema.migrate(connection, path, (STEPS[0], ("CREATE TABLE rows (a)",)))
    assert contents(path) == before


MIGRATION = """
import pathlib, sqlite3, sys
from gateway.stores import schema
from tests.gateway.stores.test_schema import STEPS

path = pathlib.Path(sys.argv[1])
connection = sqlite3.connect(path, isolation_level=None)
connection.execute("PRAGMA cache_size = 1")
connection.create_function("pause", 0, lambda: print("here", flush=True) or len(sys.stdin.readline()))
schema.migrate(connection, path, STEPS)
print("done", flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("pauses", [1, 2, 3, 4])
def test_a_migration_that_is_killed_leaves_the_old_or_the_new(path: Path, pauses: int) -> None:
    old, new = versions_before(path)
    with subprocess.Popen(
        [sys.executable, "-c", MIGRATION, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdin
        assert program.stdout
        for _ in range(pauses - 1):
            assert program.stdout.readline() == "here\n"
            program.stdin.write("\n")
            program.stdin.flush()
        told = program.stdout.readline()
        program.kill()
    assert told == ("done\n" if pauses == 4 else "here\n")
    assert contents(path) == (new if pauses == 4 else old)
    with opened(path) as connection:
        schema.migrate(connection, path, STEPS)
    assert contents(path) == new


@pytest.mark.parametrize(
    ("pragma", "sentence"),
    [
        ("user_version = 9", "schema version 9, and this program knows versions up to 1: run the program"),
        ("application_id = 7", "not a table of the gateway: name another --state"),
        ("user_version = 0", "not a table of the gateway"),
    ],
)
async def test_a_newer_file_and_another_programs_are_refused_in_words_and_left_alone(
    path: Path, pragma: str, sentence: str
) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as foreign:
        foreign.execute(f"PRAGMA {pragma}")
    before = contents(path)
    with pytest.raises(UnknownFormat) as refused:
        async with SqliteTable(path):
            pass
    with pytest.raises(UnknownFormat):
        copy(path, path.with_name("copy.sqlite"))
    assert sentence in refused.value.sentence
    assert str(path) in refused.value.sentence
    assert contents(path) == before


async def test_a_file_that_a_newer_program_changed_meanwhile_is_written_no_more(path: Path) -> None:
    async with SqliteTable(path) as table:
        await table.transact(Put(Key("p"), b"", 0))
        with opened(path) as newer:
            schema.migrate(newer, path, STEPS)
        with pytest.raises(TableUnavailable):
            await table.transact(Put(Key("p"), b"", 1))
        with pytest.raises(TableUnavailable):
            await table.take(Key("p"), 1, 1)
        assert await table.get(Key("p")) == Row(Key("p"), b"", 1)
