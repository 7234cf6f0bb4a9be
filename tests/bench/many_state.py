"""A state directory of many tenants and keys, in the stored format: what a directory would have written, row for row, but for the events.

It goes straight through sqlite3, a million times faster than one change after the other would.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random

from gateway.stores import schema
from gateway.stores.backup import TABLE
from tenants import keys
from tenants.directory import formats
from tenants.directory.tenants import created
from tenants.ids import ID_RANDOM_BYTES, new_id
from tenants.keys import ApiKey, Secret
from tenants.plans import Limits, Plan
from tenants.ports import Put
from tenants.rows import KeyPointer, digest_at, key_at, new_row, plan_at
from tenants.tenant import Tenant

PLAN = Plan("many", 1, Limits(body_bytes=2**20))
NOW_US = 1_700_000_000_000_000


def build(state: Path, tenants: int, keys_each: int, *, samples: int, random: Random) -> list[Secret]:
    """So many tenants with so many keys each. Returns keys of distinct random tenants."""
    state.mkdir(mode=0o700)
    path = state / TABLE
    schema.create(path)
    chosen = set(random.sample(range(tenants), samples))
    found: list[Secret] = []

    def rows() -> Iterator[tuple[str, str, bytes, int]]:
        for put in _puts(tenants, keys_each, chosen, found, random):
            yield *put.key, put.value, 1

    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -2000000"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO rows VALUES (?, ?, ?, ?)", rows())
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode = WAL")
    path.chmod(0o600)
    random.shuffle(found)
    return found


def _puts(
    tenants: int, keys_each: int, chosen: set[int], found: list[Secret], random: Random
) -> Iterator[Put]:
    yield new_row(formats.AT, formats.Format(formats.NUMBER))
    yield new_row(plan_at(PLAN.name), PLAN)
    for number in range(tenants):
        owner = Tenant(_id("t", random), f"tenant-{number:06d}", PLAN.name, "active", NOW_US)
        creation = created(owner)
        yield from (item for item in (creation.item, *creation.also) if isinstance(item, Put))
        for which in range(keys_each):
            secret = keys.mint(random.randbytes(keys.RANDOM_BYTES))
            key = ApiKey(
                _id("k", random), owner.id, f"key {which}", keys.hint(secret), None, NOW_US, None, None
            )
            yield new_row(digest_at(keys.hashed(secret)), KeyPointer(owner.id, key.id))
            yield new_row(key_at(owner.id, key.id), key)
            if which == 0 and number in chosen:
                found.append(secret)


def _id(prefix: str, random: Random) -> str:
    return new_id(prefix, random.randbytes(ID_RANDOM_BYTES))
