"""What becomes of wrapped keys beside the requests: those of destroyed keys are removed, others are wrapped anew where that is asked for,
and what belongs to no data key goes after a day.

Each step can be cut off anywhere and taken again, and any number of gateways may take it at once: a wrapped key is replaced or removed as
it was found, and what was done is said in the directory when it is durable.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from gateway.envelope import wrapped
from gateway.envelope.keys import Context
from gateway.envelope.ports import KeyRefused, KeyService, KeysUnavailable
from gateway.envelope.wrapped import Wrapped, of_tenant, wrapped_at
from gateway.loops import at_once
from tenants import data_keys
from tenants.acts import Act
from tenants.data_keys import DataKeyRecord
from tenants.directory.data_keys import DataKeys
from tenants.errors import Conflict, TableUnavailable, TenantsError
from tenants.ports import MOST_ROWS, Delete, Put, Row, Table

ACTOR: Final = "gateway:caretaker"
SWEEP_SECONDS: Final = 3600.0
"""How often this process looks through all wrapped keys."""
ORPHAN_SECONDS: Final = 86_400.0
"""So long a wrapped key stays after it was first found to belong to no data key: a directory that was restored too old can be restored
again meanwhile, and nothing is lost.
"""
MOST_AT_ONCE: Final = 8
"""Keys that are tended to at a time: a KeyService that is slow holds up the others so much less."""

_log: Final = logging.getLogger(__name__)


@dataclass(slots=True)
class Caretaker:
    """`now_us` is the time in microseconds since 1970. `failures` counts steps that are to be taken again with the next look; the other
    counters say what was done by this process.
    """

    directory: DataKeys
    table: Table
    service: KeyService
    now_us: Callable[[], int]
    destroyed: int = 0
    rewrapped: int = 0
    swept: int = 0
    failures: int = 0
    _sweep_us: int = 0

    async def look(self) -> None:
        """One look at all that is due. What fails is logged and counted, and holds up nothing else."""
        try:
            due = await self.directory.due()
            if owners := [tenant_id for key_id, tenant_id in due.items() if key_id == tenant_id]:
                for tenant_id in owners:
                    act = Act(ACTOR, self.now_us(), "the tenant's KMS key is another")
                    await self._step(f"the data keys of {tenant_id}", self.directory.follow(tenant_id, act))
                due = await self.directory.due()
        except TenantsError as fault:
            self._note("what is due", fault)
            return
        await at_once(
            MOST_AT_ONCE,
            (
                self._step(f"the data key {key_id} of {tenant_id}", self._tend(tenant_id, key_id))
                for key_id, tenant_id in due.items()
                if key_id != tenant_id
            ),
        )
        if self.now_us() >= self._sweep_us:
            await self._step("the sweep of wrapped keys", self._sweep())

    async def _step(self, what: str, step: Awaitable[None]) -> None:
        try:
            await step
        except Conflict:
            _log.info("%s: another gateway was faster", what)
        except (TenantsError, KeysUnavailable, KeyRefused) as fault:
            self._note(what, fault)

    def _note(self, what: str, fault: Exception) -> None:
        self.failures += 1
        _log.warning("%s: tried again with the next look: %s", what, fault)

    async def _tend(self, tenant_id: str, key_id: str) -> None:
        key = await self.directory.one(tenant_id, key_id)
        if data_keys.state(key, self.now_us()) == "destroyed":
            await self._destroy(key)
        elif key.rewrap_us is not None:
            await self._rewrap(key)

    async def _destroy(self, key: DataKeyRecord) -> None:
        """Its bytes first: what the directory says to be destroyed is so."""
        await self.table.transact(Delete(wrapped_at(key.tenant_id, key.id), None))
        await self.directory.destroyed(key.tenant_id, key.id, Act(ACTOR, self.now_us()))
        self.destroyed += 1

    async def _rewrap(self, key: DataKeyRecord) -> None:
        row = await self.table.get(wrapped_at(key.tenant_id, key.id))
        if row is None:
            raise KeyRefused("there is no wrapped key to wrap anew")
        found, asked_us = wrapped.read(row), key.rewrap_us or 0
        with_key = (await self.directory.owner(key.tenant_id)).kms_key
        at_us = max(self.now_us(), asked_us)  # clocks differ, and it was asked for before it is done
        if found.at_us < asked_us or found.with_key != with_key:
            context = Context(key.tenant_id, key.purpose, key.id)
            material = await self.service.unwrap(found.wrapped, context, found.with_key)
            value = Wrapped(await self.service.wrap(material, context, with_key), at_us, with_key)
            await self.table.transact(Put(row.key, wrapped.encoded(value), row.version))
        await self.directory.rewrapped(key.tenant_id, key.id, with_key, Act(ACTOR, at_us))
        self.rewrapped += 1

    async def _sweep(self) -> None:
        """Through all tenants. Where the table gives no answer it ends, and begins anew with the next look."""
        for tenant_id in await self.directory.tenant_ids():
            try:
                await self._sweep_tenant(tenant_id)
            except TableUnavailable:
                raise
            except (TenantsError, KeyRefused) as fault:
                self._note(f"the wrapped keys of {tenant_id}", fault)
        self._sweep_us = self.now_us() + round(SWEEP_SECONDS * 1_000_000)

    async def _sweep_tenant(self, tenant_id: str) -> None:
        """The rows first: a key that is made meanwhile has its row before the directory knows of it."""
        rows = [row async for row in _rows(self.table, tenant_id)]
        keys = await self.directory.of(tenant_id) if rows else {}
        for row in rows:
            await self._step(f"the wrapped key {row.key.sort} of {tenant_id}", self._judge(row, keys))

    async def _judge(self, row: Row, keys: Mapping[str, DataKeyRecord]) -> None:
        """A destroyed key's is removed at once: it came back with an old copy of the table. One that came back wrapped with a KMS key that
        the tenant has no more is wrapped anew. An unknown one's is marked, then removed.
        """
        key, now_us = keys.get(row.key.sort), self.now_us()
        if key is not None and key.state == "destroyed":
            await self._remove(row)
            return
        found = wrapped.read(row)
        if key is not None and found.orphan_us is not None:
            await self._mark(row, found, None)
        elif key is None and found.orphan_us is None:
            _log.warning("a wrapped key of no data key, %s, is removed in a day", row.key)
            await self._mark(row, found, now_us)
        elif (
            key is None
            and found.orphan_us is not None
            and now_us - found.orphan_us >= ORPHAN_SECONDS * 1_000_000
        ):
            await self._remove(row)
        elif (
            key is not None
            and key.rewrap_us is None
            and found.with_key != key.wrapped_with
            and await self.table.get(row.key) == row  # else it was wrapped anew meanwhile
        ):
            act = Act(ACTOR, now_us, "it is wrapped with another KMS key than it should be")
            await self.directory.anew(key.tenant_id, key.id, act)

    async def _mark(self, row: Row, found: Wrapped, orphan_us: int | None) -> None:
        after = replace(found, orphan_us=orphan_us)
        await self.table.transact(Put(row.key, wrapped.encoded(after), row.version))

    async def _remove(self, row: Row) -> None:
        await self.table.transact(Delete(row.key, row.version))
        self.swept += 1


async def missing(directory: DataKeys, table: Table) -> int:
    """How many data keys have no wrapped key, though they are not destroyed, as after a restore of the directory alone: what those sealed
    cannot be read. For a line of the log at start; it hinders nobody. Raises TenantsError.
    """
    count = 0
    for tenant_id in await directory.tenant_ids():
        keys = await directory.of(tenant_id)
        if keys:
            there = {row.key.sort async for row in _rows(table, tenant_id)}
            count += sum(key.state != "destroyed" and key.id not in there for key in keys.values())
    return count


async def _rows(table: Table, tenant_id: str) -> AsyncIterator[Row]:
    """All of a tenant's, page by page."""
    after: str | None = None
    while True:
        page = await table.list(of_tenant(tenant_id), after=after, limit=MOST_ROWS)
        for row in page.rows:
            yield row
        after = page.next_after
        if after is None:
            return
