"""The stored format of the SQLite table, by version: which file is ours, and how an older one becomes what this program knows.

Compatibility: a program opens files of its own version and of all before it. One of an older version it brings to its own in one
transaction, so that a crash leaves the one or the other; a newer one and another program's it refuses. A step, once released, is never
changed: a new version is a new step at the end.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeAlias

from tenants.errors import UnknownFormat

Step: TypeAlias = Sequence[str]

# "gwTB", so that another program's file is never taken for ours.
APPLICATION_ID: Final = 0x67775442
FIRST: Final[Step] = (
    """CREATE TABLE rows (partition TEXT NOT NULL, sort TEXT NOT NULL,
       value BLOB NOT NULL, version INTEGER NOT NULL, PRIMARY KEY (partition, sort)) STRICT, WITHOUT ROWID""",
    """CREATE TABLE counters (partition TEXT NOT NULL, sort TEXT NOT NULL, total INTEGER NOT NULL,
       PRIMARY KEY (partition, sort)) STRICT, WITHOUT ROWID""",
    f"PRAGMA application_id = {APPLICATION_ID}",
)
# STEPS[0] leads from version 1 to 2, and so on.
STEPS: Final[Sequence[Step]] = ()
VERSION: Final = 1 + len(STEPS)


def create(path: Path, steps: Sequence[Step] = STEPS) -> None:
    """An empty file becomes a table of the newest version, by the way that older files go too."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        with writing(connection):
            _step(connection, FIRST, 1)
        migrate(connection, path, steps)
    finally:
        connection.close()


def migrate(connection: sqlite3.Connection, path: Path, steps: Sequence[Step] = STEPS) -> None:
    """The file is of the newest version. Raises UnknownFormat for one that is not ours or newer, and leaves it as it is."""
    newest = 1 + len(steps)
    if version_of(connection, path, newest) == newest:
        return
    with writing(connection):
        version = version_of(connection, path, newest)  # again: another process may have been faster
        for number, step in enumerate(steps[version - 1 :], start=version + 1):
            _step(connection, step, number)


def version_of(connection: sqlite3.Connection, path: Path, newest: int = VERSION) -> int:
    """1 to the newest that is known. Raises UnknownFormat."""
    try:
        (application_id,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_NOTADB:
            raise
        application_id, version = None, 0
    if application_id != APPLICATION_ID or version < 1:
        raise UnknownFormat(f"{path} is not a table of the gateway: name another --state, or move it away")
    if version > newest:
        raise UnknownFormat(
            f"{path} has schema version {version}, and this program knows versions up to {newest}: "
            "run the program that wrote it or a newer one, or restore a back-up that is older"
        )
    return int(version)


@contextmanager
def writing(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """One transaction: all of it is on the disk afterwards, or, when it raises, nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _step(connection: sqlite3.Connection, step: Step, version: int) -> None:
    for statement in step:
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {version}")
