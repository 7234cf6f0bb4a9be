"""The data keys of the tenants, as the directory knows them: what they are for and what becomes of them. Their bytes are elsewhere
(`gateway/envelope`): a row here says nothing that opens anything.
"""

from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from msgspec.structs import replace

from tenants import data_keys
from tenants.acts import Act, Once
from tenants.data_keys import DataKeyRecord, Deed, Purpose
from tenants.directory.journal import Journal, Judged, Page
from tenants.directory.tenants import Tenants
from tenants.errors import NotFound, Repeated
from tenants.events import Action
from tenants.ids import is_id
from tenants.ports import MOST_KEYS, Check, Delete, Item, Key, Row
from tenants.ports import Put as PutItem
from tenants.rows import (
    DUE,
    TENANTS,
    Change,
    KeyPointer,
    TenantPointer,
    data_key_at,
    due_at,
    encoded,
    read,
    tenant_at,
)
from tenants.tenant import Tenant

TOLD_SECONDS: Final = 3600
"""That somebody is told keys is an event once in so long."""
_ACTIONS: Final[dict[Deed, Action]] = {
    "rotate": Action.DATAKEY_ROTATED,
    "destroy": Action.DATAKEY_DESTROYING,
    "keep": Action.DATAKEY_KEPT,
}


@dataclass(frozen=True, slots=True)
class DataKeys:
    journal: Journal
    tenants: Tenants

    # What people ask

    async def list(
        self, tenant_name: str, after: str | None = None, limit: int = MOST_KEYS
    ) -> Page[DataKeyRecord]:
        """In whatever state, by their ids; `after` is the cursor of the page before."""
        owner = await self.tenants.show(tenant_name)
        page = await self.journal.table.list(f"tenant/{owner.id}", "datakey/", after, limit)
        return Page(tuple(read(row, DataKeyRecord) for row in page.rows), page.next_after)

    async def show(self, tenant_name: str, key_id: str) -> DataKeyRecord:
        return read(await self._row((await self.tenants.show(tenant_name)).id, key_id), DataKeyRecord)

    async def rotate(self, tenant_name: str, act: Act, *, purpose: Purpose) -> DataKeyRecord:
        """The key that seals no more from now on; what is sealed next is so under another, which is made then. Repeated: the next one goes
        too. Raises NotFound where there is none: the first is made when something is to be sealed.
        """

        async def judge() -> Judged[DataKeyRecord]:
            owner = await self.tenants.show(tenant_name)
            found = data_keys.newest((await self.of(owner.id)).values(), purpose)
            if found is None:
                raise NotFound("active data key", purpose)
            return await self._deed(owner.id, found.id, "rotate", act)

        return await self.journal.change(act, judge)

    async def rewrap(self, tenant_name: str, key_id: str, act: Act) -> DataKeyRecord:
        """The key, which a gateway wraps anew within a minute, with the tenant's present KMS key or the deployment's. What it sealed stays
        as it is. Repeated: the same, without another event, until that is done.
        """

        async def judge() -> Judged[DataKeyRecord]:
            row = await self._row((await self.tenants.show(tenant_name)).id, key_id)
            return _rewrapping(row, act)

        return await self.journal.change(act, judge)

    async def destroy(
        self, tenant_name: str, key_id: str, act: Act, *, wait_seconds: float, backup_days: int
    ) -> DataKeyRecord:
        """The key, which is destroyed for everybody once it has waited so long, and all that it sealed cannot be read by anybody. Repeated:
        the same, without another event, unless it waits no longer. Raises Invalid.
        """

        async def judge() -> Judged[DataKeyRecord]:
            owner = await self.tenants.show(tenant_name)
            return await self._deed(
                owner.id, key_id, "destroy", act, wait_seconds=wait_seconds, backup_days=backup_days
            )

        return await self.journal.change(act, judge)

    async def keep(self, tenant_name: str, key_id: str, act: Act) -> DataKeyRecord:
        """The key, which is not destroyed: it opens what it sealed; if the tenant has another KMS key since, it is wrapped anew. Repeated:
        the same. Raises Invalid for one that is destroyed.
        """

        async def judge() -> Judged[DataKeyRecord]:
            owner = await self.tenants.show(tenant_name)
            return await self._deed(owner.id, key_id, "keep", act, owner=owner)

        return await self.journal.change(act, judge)

    async def told(self, tenant_id: str, key_id: str, act: Act) -> None:
        """The actor is about to be told what opens records that this key sealed: that is in the tenant's history, or it is not told. Once
        an hour for each of them, as a program may ask for every series on its own. Raises NotFound.
        """
        window = act.at_us // (TOLD_SECONDS * 1_000_000)
        names = ("datakey.told", act.actor, tenant_id, key_id, str(window))
        digest = sha256("\0".join(names).encode()).hexdigest()
        once = Act(act.actor, act.at_us, act.reason, Once(digest, digest))

        async def judge() -> Judged[None]:
            row = await self._row(tenant_id, key_id)
            change = Change(Action.DATAKEY_TOLD, key_id, row.key, row, row.value, tenant_id)
            return Judged(None, (change,), read(row, DataKeyRecord))

        with suppress(Repeated):  # it is there already
            await self.journal.change(once, judge)

    # What a gateway asks

    async def of(self, tenant_id: str) -> dict[str, DataKeyRecord]:
        """All of the tenant by their ids. Raises Unreadable: what is known in part decides nothing."""
        rows = await self.journal.partition(f"tenant/{tenant_id}", "datakey/")
        return {key.id: key for key in (read(row, DataKeyRecord) for row in rows)}

    async def owner(self, tenant_id: str) -> Tenant:
        """Raises NotFound."""
        return read(await self._owner_row(tenant_id), Tenant)

    async def add(self, made: DataKeyRecord, act: Act) -> DataKeyRecord:
        """The active key of that tenant and purpose: this one, or another that is there already, and then this one is not added.

        That its wrapped bytes are durable is for the caller to know. One that was wrapped with what is not the tenant's KMS key any more
        is to be wrapped anew.
        """

        async def judge() -> Judged[DataKeyRecord]:
            owner = await self.owner(made.tenant_id)
            there = await self.of(made.tenant_id)
            if made.id in there or (found := data_keys.newest(there.values(), made.purpose)) is None:
                found = there.get(made.id)
            if found is not None:
                return Judged(found)
            at = data_key_at(made.tenant_id, made.id)
            new = _following(made, owner, act)
            created = _changed(Action.DATAKEY_CREATED, at, None, new)
            return Judged(new, (created,))

        return await self.journal.change(act, judge)

    async def retire(self, tenant_id: str, key_id: str, act: Act) -> None:
        """The key seals no more. Repeated: nothing more is written."""

        async def judge() -> Judged[DataKeyRecord]:
            return await self._deed(tenant_id, key_id, "rotate", act)

        await self.journal.change(act, judge)

    async def rewrapped(self, tenant_id: str, key_id: str, wrapped_with: str | None, act: Act) -> None:
        """It is wrapped anew, durably. Repeated, or when the tenant has another key of its own by now: nothing is written, and it is still
        asked for.
        """

        async def judge() -> Judged[None]:
            row = await self._row(tenant_id, key_id)
            before = read(row, DataKeyRecord)
            if before.rewrap_us is None or (await self.owner(tenant_id)).kms_key != wrapped_with:
                return Judged(None)
            after = replace(before, wrapped_with=wrapped_with, wrapped_us=act.at_us, rewrap_us=None)
            return Judged(None, (_changed(Action.DATAKEY_REWRAPPED, row.key, row, after),))

        await self.journal.change(act, judge)

    async def destroyed(self, tenant_id: str, key_id: str, act: Act) -> None:
        """Nothing is left of it, durably. Repeated, or for one that is kept or waits still: nothing is written."""

        async def judge() -> Judged[None]:
            row = await self._row(tenant_id, key_id)
            before = read(row, DataKeyRecord)
            if before.state == "destroyed" or data_keys.state(before, act.at_us) != "destroyed":
                return Judged(None)
            after = replace(before, state="destroyed", rewrap_us=None)
            return Judged(None, (_changed(Action.DATAKEY_DESTROYED, row.key, row, after),))

        await self.journal.change(act, judge)

    async def due(self) -> dict[str, str]:
        """The ids of those to which something is still to be done (`data_keys.is_due`), each with its tenant's; a tenant's own, with
        itself, for one whose KMS key is another (`follow`).
        """
        found = [read(row, KeyPointer) for row in await self.journal.partition(DUE)]
        return {it.key_id: it.tenant_id for it in found}

    async def follow(self, tenant_id: str, act: Act) -> None:
        """All data keys of a tenant whose KMS key is another are to be wrapped anew, but for those that are so already or are to be
        destroyed. Repeated, or when it changes meanwhile: the rest is. Raises Conflict for the latter.
        """
        place = await self.journal.table.get(due_at(tenant_id))
        if place is None:
            return
        row = await self._owner_row(tenant_id)
        owner = read(row, Tenant)
        for key_id, key in sorted((await self.of(tenant_id)).items()):
            if key.wrapped_with != owner.kms_key:
                await self.anew(tenant_id, key_id, act)
        # Both: a place that another has removed, and a change has made again, has the version that it had.
        await self.journal.table.transact(Delete(place.key, place.version), Check(row.key, row.version))

    async def anew(self, tenant_id: str, key_id: str, act: Act) -> None:
        """As `rewrap`; a key that is to be destroyed, or is so, stays as it is."""

        async def judge() -> Judged[DataKeyRecord]:
            return _rewrapping(await self._row(tenant_id, key_id), act)

        await self.journal.change(act, judge)

    async def one(self, tenant_id: str, key_id: str) -> DataKeyRecord:
        """Raises NotFound."""
        return read(await self._row(tenant_id, key_id), DataKeyRecord)

    async def tenant_ids(self) -> tuple[str, ...]:
        """Of all tenants, whatever became of them."""
        return tuple(read(row, TenantPointer).tenant_id for row in await self.journal.partition(TENANTS))

    # How it is done

    async def _deed(
        self,
        tenant_id: str,
        key_id: str,
        deed: Deed,
        act: Act,
        *,
        wait_seconds: float = data_keys.WAIT_SECONDS,
        backup_days: int | None = None,
        owner: Tenant | None = None,
    ) -> Judged[DataKeyRecord]:
        row = await self._row(tenant_id, key_id)
        before = read(row, DataKeyRecord)
        after = data_keys.done(before, deed, act.at_us, wait_seconds=wait_seconds, backup_days=backup_days)
        if owner is not None:
            after = _following(after, owner, act)
        if after == before:
            return Judged(before, stored=before)
        return Judged(after, (_changed(_ACTIONS[deed], row.key, row, after),), after)

    async def _owner_row(self, tenant_id: str) -> Row:
        row = await self.journal.table.get(tenant_at(tenant_id))
        if row is None:
            raise NotFound("tenant", tenant_id)
        return row

    async def _row(self, tenant_id: str, key_id: str) -> Row:
        row = await self.journal.table.get(data_key_at(tenant_id, key_id)) if is_id(key_id) else None
        if row is None:
            raise NotFound("data key", key_id)
        return row


def _rewrapping(row: Row, act: Act) -> Judged[DataKeyRecord]:
    before = read(row, DataKeyRecord)
    if before.rewrap_us is not None or before.state in ("destroying", "destroyed"):
        return Judged(before, stored=before)
    after = replace(before, rewrap_us=act.at_us)
    return Judged(after, (_changed(Action.DATAKEY_REWRAPPING, row.key, row, after),), after)


def _following(key: DataKeyRecord, owner: Tenant, act: Act) -> DataKeyRecord:
    """It is to be wrapped anew if that is not with the tenant's present KMS key."""
    if key.wrapped_with == owner.kms_key or key.rewrap_us is not None:
        return key
    return replace(key, rewrap_us=act.at_us)


def _changed(action: Action, at: Key, row: Row | None, after: DataKeyRecord) -> Change:
    """A key that is another, and is found among those with something to be done to while there is."""
    place = due_at(after.id)
    pointer: Item = Delete(place, None)
    if data_keys.is_due(after):
        pointer = PutItem(place, encoded(KeyPointer(after.tenant_id, after.id)), None)
    also = () if row is None and isinstance(pointer, Delete) else (pointer,)
    return Change(action, after.id, at, row, encoded(after), after.tenant_id, also)
