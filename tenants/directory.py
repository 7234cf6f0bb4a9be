"""Every change to a tenant passes here: one transaction writes the change, its conditions and its event, or
nothing.

Every method raises TableUnavailable when the table gave no answer and Unreadable for a damaged row, every
change also Conflict when somebody else was faster. Then call again: what a repeated change ends in is said at
each.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

from msgspec.structs import replace

from tenants import catalogue, keys, model, tenant
from tenants.catalogue import PARTITIONS, Value
from tenants.errors import AlreadyExists, Conflict, Invalid, NotFound
from tenants.events import Action
from tenants.fleet import Fleet
from tenants.ids import ID_RANDOM_BYTES, is_id, new_id
from tenants.keys import ApiKey, Secret
from tenants.model import Model
from tenants.plans import Plan
from tenants.ports import MOST_KEYS, Check, Key, Row, Table
from tenants.rows import (
    Change,
    KeyPointer,
    TenantPointer,
    changed,
    created,
    digest_at,
    items,
    key_at,
    model_at,
    name_at,
    new_row,
    plan_at,
    read,
    readable,
    tenant_at,
)
from tenants.tenant import Tenant

MOST_MODELS = 100
KEY_NAME_CHARACTERS = 64

_Value = TypeVar("_Value", Fleet, Model, Plan)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the directory knows of a key. Whether it works now is for the caller to judge."""

    key: ApiKey
    tenant: Tenant
    plan: Plan


@dataclass(frozen=True, slots=True)
class Minted:
    """A new key, and its text: nobody can get that again."""

    key: ApiKey
    secret: Secret


@dataclass(frozen=True, slots=True)
class Directory:
    """`entropy` gives that many random bytes, fit for secrets."""

    table: Table
    entropy: Callable[[int], bytes]

    # Tenants

    async def create_tenant(self, name: str, plan: str, *, actor: str, now_us: int) -> Tenant:
        """The new tenant. Repeated: AlreadyExists."""
        tenant.check_name(name, "name")
        tenant.check_name(plan, "plan")
        if await self.table.get(plan_at(plan)) is None:
            raise NotFound("plan", plan)
        made = Tenant(self._id("t"), name, plan, "active", now_us)
        pointer = new_row(name_at(name), TenantPointer(made.id))
        change = created(Action.TENANT_CREATED, made.id, new_row(tenant_at(made.id), made), pointer)
        try:
            await self._commit(change, actor=actor, now_us=now_us)
        except Conflict as conflict:
            raise AlreadyExists("tenant", name) from conflict
        return made

    async def close_tenant(self, name: str, *, actor: str, now_us: int) -> Tenant:
        """The closed tenant; none of its keys works any more. Repeated: the same, without another event."""
        row = await self._tenant_row(name)
        before = read(row, Tenant)
        if "closed" not in tenant.NEXT[before.state]:
            return before
        closed = replace(before, state="closed")
        await self._commit(changed(Action.TENANT_CLOSED, before.id, row, closed), actor=actor, now_us=now_us)
        return closed

    async def show_tenant(self, name: str) -> Tenant:
        return read(await self._tenant_row(name), Tenant)

    async def list_tenants(self) -> tuple[Tenant, ...]:
        """All, also the closed ones, by name."""
        pointers = [read(row, TenantPointer) for row in await self._partition("tenants")]
        rows = await self._many(tenant_at(pointer.tenant_id) for pointer in pointers)
        return tuple(read(row, Tenant) for row in rows.values())

    # Keys

    async def create_key(
        self,
        tenant_name: str,
        *,
        name: str = "",
        models: tuple[str, ...] | None = None,
        expires_us: int | None = None,
        actor: str,
        now_us: int,
    ) -> Minted:
        """A new key for some models, or with None for all that the tenant has.

        Repeated: another key; a first one whose text was lost shows in the list and can be revoked.
        """
        if len(name) > KEY_NAME_CHARACTERS or not name.isprintable():
            raise Invalid("name", f"must be at most {KEY_NAME_CHARACTERS} printable characters")
        if expires_us is not None and expires_us <= now_us:
            raise Invalid("expires_us", "is in the past")
        owner = await self._tenant_row(tenant_name)
        if models is not None:
            await self._check_models(tenant_name, models)
        minted, change = self._mint(owner, name, models, expires_us, now_us)
        await self._commit(change, actor=actor, now_us=now_us)
        return minted

    async def list_keys(self, tenant_name: str) -> tuple[ApiKey, ...]:
        """All keys of the tenant, in whatever state, oldest first."""
        owner = await self.show_tenant(tenant_name)
        found = [read(row, ApiKey) for row in await self._partition(f"tenant/{owner.id}", "key/")]
        return tuple(sorted(found, key=lambda key: (key.created_us, key.id)))

    async def revoke_key(self, tenant_name: str, key_id: str, *, actor: str, now_us: int) -> ApiKey:
        """The revoked key. Repeated: the same, with the first time and without another event."""
        row = await self._key_row(await self.show_tenant(tenant_name), key_id)
        before = read(row, ApiKey)
        if before.revoked_us is not None:
            return before
        revoked = replace(before, revoked_us=now_us)
        await self._commit(changed(Action.KEY_REVOKED, key_id, row, revoked), actor=actor, now_us=now_us)
        return revoked

    async def rotate_key(
        self, tenant_name: str, key_id: str, *, overlap_seconds: float, actor: str, now_us: int
    ) -> Minted:
        """A new key with the same rights and end; the old one ends after the overlap, if not earlier.

        Repeated: another new key while the old one is active, Invalid after.
        """
        if overlap_seconds < 0:
            raise Invalid("overlap_seconds", "is negative")
        owner = await self._tenant_row(tenant_name)
        row = await self._key_row(read(owner, Tenant), key_id)
        old = read(row, ApiKey)
        if (state := keys.state(old, now_us)) != "active":
            raise Invalid("key", f"is {state}")
        minted, creation = self._mint(owner, old.name, old.models, old.expires_us, now_us)
        end_us = now_us + round(overlap_seconds * 1_000_000)
        ending = replace(old, expires_us=end_us if old.expires_us is None else min(old.expires_us, end_us))
        rotation = changed(Action.KEY_ROTATED, key_id, row, ending)
        await self._commit(creation, rotation, actor=actor, now_us=now_us)
        return minted

    # Plans and models

    async def put_plan(self, plan: Plan, *, actor: str, now_us: int) -> None:
        """The plan is as given, for all its tenants. Repeated: nothing more is written."""
        await self.put(plan, actor=actor, now_us=now_us)

    async def put_fleet(self, fleet: Fleet, *, actor: str, now_us: int) -> None:
        """The fleet is as given, and all its models fit it. Repeated: nothing more is written."""
        await self.put(fleet, actor=actor, now_us=now_us)

    async def put_model(self, wanted: Model, *, actor: str, now_us: int) -> Model:
        """The model is as given, but for its id, which it keeps or gets now. Repeated: the same, and nothing more is written."""
        (made,) = await self.put(wanted, actor=actor, now_us=now_us)
        return cast("Model", made)

    async def put(self, *wanted: Value, actor: str, now_us: int) -> tuple[Value, ...]:
        """All are as given and fit one another and what is there, or nothing is changed. Repeated: nothing more is written.

        For more than `catalogue.batches` would put in one, ValueError.
        """
        rows = {row.key: row for partition in PARTITIONS for row in await self._partition(partition)}
        found = catalogue.changes(wanted, rows, lambda: self._id("m"))
        if found.changes:
            await self._commit(*found.changes, checks=found.checks, actor=actor, now_us=now_us)
        return found.values

    # What a gateway asks

    async def find_key(self, digest: str) -> Credentials | None:
        """What the directory knows of the key with this digest (`keys.digest`)."""
        return (await self.reread([digest]))[digest]

    async def reread(self, digests: Sequence[str]) -> dict[str, Credentials | None]:
        """`find_key` for many at once. Fails closed: what is absent, dangling or unreadable is None."""
        pointers = readable(await self._many(map(digest_at, digests)), KeyPointer)
        at = pointers.values()
        known = readable(await self._many(key_at(p.tenant_id, p.key_id) for p in at), ApiKey)
        owners = readable(await self._many(tenant_at(p.tenant_id) for p in at), Tenant)
        plans = readable(await self._many(plan_at(owner.plan) for owner in owners.values()), Plan)

        def credentials(pointer: KeyPointer | None) -> Credentials | None:
            key = pointer and known.get(key_at(pointer.tenant_id, pointer.key_id))
            owner = pointer and owners.get(tenant_at(pointer.tenant_id))
            plan = owner and plans.get(plan_at(owner.plan))
            return Credentials(key, owner, plan) if key and owner and plan else None

        return {digest: credentials(pointers.get(digest_at(digest))) for digest in digests}

    async def models(self) -> dict[str, Model]:
        """All models by name. Fails closed: one that cannot be read is not there."""
        return {found.name: found for found in await self._all("models", Model)}

    async def fleets(self) -> dict[str, Fleet]:
        """All fleets by name. Fails closed: one that cannot be read is not there."""
        return {found.name: found for found in await self._all("fleets", Fleet)}

    async def plans(self) -> dict[str, Plan]:
        """All plans by name. Fails closed: one that cannot be read is not there."""
        return {found.name: found for found in await self._all("plans", Plan)}

    async def tenant_names(self, among: Iterable[str]) -> frozenset[str]:
        """Those of the names that a tenant has, or had."""
        return frozenset(key.sort for key in await self._many(map(name_at, among)))

    # How it is done

    def _id(self, prefix: str) -> str:
        return new_id(prefix, self.entropy(ID_RANDOM_BYTES))

    def _mint(
        self, owner_row: Row, name: str, models: tuple[str, ...] | None, expires_us: int | None, now_us: int
    ) -> tuple[Minted, Change]:
        """A key of an active tenant, and its creation, which holds only while the tenant stays as it is."""
        owner = read(owner_row, Tenant)
        if owner.state != "active":
            raise Invalid("tenant", f"is {owner.state}")
        secret = keys.mint(self.entropy(keys.RANDOM_BYTES))
        key = ApiKey(self._id("k"), owner.id, name, keys.hint(secret), models, now_us, expires_us, None)
        pointer = new_row(digest_at(keys.hashed(secret)), KeyPointer(owner.id, key.id))
        unchanged = Check(owner_row.key, owner_row.version)
        put = new_row(key_at(owner.id, key.id), key)
        return Minted(key, secret), created(Action.KEY_CREATED, key.id, put, pointer, unchanged)

    async def _commit(
        self, *changes: Change, checks: tuple[Check, ...] = (), actor: str, now_us: int
    ) -> None:
        written = (item for change in changes for item in items(change, self._id("e"), actor, now_us))
        await self.table.transact(*written, *checks)

    async def _tenant_row(self, name: str) -> Row:
        tenant.check_name(name, "tenant")
        pointer = await self.table.get(name_at(name))
        row = pointer and await self.table.get(tenant_at(read(pointer, TenantPointer).tenant_id))
        if row is None:
            raise NotFound("tenant", name)
        return row

    async def _key_row(self, owner: Tenant, key_id: str) -> Row:
        row = await self.table.get(key_at(owner.id, key_id)) if is_id(key_id) else None
        if row is None:
            raise NotFound("key", key_id)
        return row

    async def _check_models(self, tenant_name: str, names: tuple[str, ...]) -> None:
        """A key names models that its tenant has: a typing error shows now and not at the first call."""
        if not 1 <= len(names) <= MOST_MODELS:
            raise Invalid("models", f"must name 1 to {MOST_MODELS}")
        for position, name in enumerate(names):
            model.check_name(name, f"models[{position}]")
        found = readable(await self._many(map(model_at, names)), Model)
        for name in names:
            known = found.get(model_at(name))
            if known is None or not known.serves(tenant_name):
                raise NotFound("model", name)

    async def _all(self, partition: str, kind: type[_Value]) -> Iterable[_Value]:
        rows = {row.key: row for row in await self._partition(partition)}
        return readable(rows, kind).values()

    async def _partition(self, partition: str, prefix: str = "") -> list[Row]:
        page = await self.table.list(partition, prefix)
        rows = [*page.rows]
        while page.next_after is not None:
            page = await self.table.list(partition, prefix, page.next_after)
            rows += page.rows
        return rows

    async def _many(self, at: Iterable[Key]) -> dict[Key, Row]:
        """Those that are there, in the order asked for."""
        distinct = list(dict.fromkeys(at))
        found: dict[Key, Row] = {}
        for start in range(0, len(distinct), MOST_KEYS):
            found |= await self.table.get_many(distinct[start : start + MOST_KEYS])
        return {key: found[key] for key in distinct if key in found}
