"""What comes back of a back-up of wrapped keys: all but the destroyed ones."""

from collections.abc import Iterable
from itertools import groupby
from typing import NamedTuple

from gateway.envelope.wrapped import tenant_of
from tenants import data_keys
from tenants.directory.data_keys import DataKeys
from tenants.ports import Put, Row, Table


class PutBack(NamedTuple):
    """How many wrapped keys came back, were there already, and stay away as they are destroyed."""

    restored: int
    there: int
    destroyed: int


async def put_back(directory: DataKeys, table: Table, found: Iterable[Row], now_us: int) -> PutBack:
    """`found` are rows of a table of wrapped keys, by tenant. One that is there is not replaced: it may be wrapped anew since. One that the
    directory does not know comes back too, for the day that an older directory may take to be replaced (`caretaker`). Cut off, the same
    again does the rest. Raises TableUnavailable, Unreadable, Conflict.
    """
    restored = there = destroyed = 0
    for tenant_id, rows in groupby(found, key=lambda row: tenant_of(row.key)):
        keys = await directory.of(tenant_id)
        for row in rows:
            key = keys.get(row.key.sort)
            if key is not None and data_keys.state(key, now_us) == "destroyed":
                destroyed += 1
            elif await table.get(row.key) is not None:
                there += 1
            else:
                await table.transact(Put(row.key, row.value, 0))
                restored += 1
    return PutBack(restored, there, destroyed)
