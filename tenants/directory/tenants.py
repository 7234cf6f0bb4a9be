"""The tenants of the directory."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from tenants import kms, names, restrictions, tenant
from tenants.acts import Act
from tenants.directory.journal import Journal, Judged, Page
from tenants.errors import AlreadyExists, NotFound, Stale
from tenants.events import Action, Event
from tenants.ports import MOST_KEYS, Delete, Item, Key, Row
from tenants.ports import Put as PutItem
from tenants.restrictions import Restrictions
from tenants.rows import (
    Change,
    KeyPointer,
    TenantPointer,
    due_at,
    encoded,
    name_at,
    new_row,
    on_plan_at,
    plan_at,
    privacy_at,
    read,
    readable,
    tenant_at,
    with_privacy_at,
)
from tenants.tenant import Deed, State, Tenant

_Value = TypeVar("_Value")

_ACTIONS: Final[dict[State, Action]] = {
    "suspended": Action.TENANT_SUSPENDED,
    "closing": Action.TENANT_CLOSING,
    "closed": Action.TENANT_CLOSED,
}


@dataclass(frozen=True, slots=True)
class Found(Generic[_Value]):
    """What is there, and the version of its row: a change may ask that it is still that."""

    value: _Value
    version: int


@dataclass(frozen=True, slots=True)
class Tenants:
    """`has_kms`: the gateway wraps data keys with AWS KMS, so that a tenant may bring a key of its own there."""

    journal: Journal
    has_kms: bool = False

    async def create(
        self, name: str, plan: str, act: Act, *, privacy: str | None = None, kms_key: str | None = None
    ) -> Tenant:
        """The new tenant. Repeated: AlreadyExists."""
        names.TENANT.check_new(name, "name")
        self._check_key(kms_key, None)

        async def judge() -> Judged[Tenant]:
            await self._check(plan, privacy)
            if await self.journal.table.get(name_at(name)) is not None:
                raise AlreadyExists("tenant", name)
            new_id = self.journal.new_id("t")
            made = Tenant(new_id, name, plan, "active", act.at_us, kms_key=kms_key, privacy=privacy)
            return Judged(made, (created(made),), made)

        return await self.journal.change(act, judge)

    async def move(self, name: str, plan: str, act: Act, *, expected: int | None = None) -> Tenant:
        """The tenant, on that plan; as `change`."""
        return await self.change(name, act, plan=plan, expected=expected)

    async def change(
        self,
        name: str,
        act: Act,
        *,
        plan: str | UnsetType = UNSET,
        privacy: str | UnsetType | None = UNSET,
        kms_key: str | UnsetType | None = UNSET,
        expected: int | None = None,
    ) -> Tenant:
        """The tenant, on that plan, with that privacy and that KMS key of its own, None for none; what is not given stays. With another
        key its data keys are soon wrapped anew (`data_keys.follow`). Repeated: the same, without another event. Raises Stale for another
        version than `expected`.
        """

        async def judge() -> Judged[Tenant]:
            row = await self.row(name)
            before = read(row, Tenant)
            check_version(row, expected, "tenant", name)
            await self._check(plan, privacy)
            own = before.kms_key if kms_key is UNSET else kms_key
            self._check_key(own, before.kms_key)
            after = replace(
                before,
                kms_key=own,
                plan=before.plan if plan is UNSET else plan,
                privacy=before.privacy if privacy is UNSET else privacy,
            )
            if after == before:
                return Judged(before, stored=before)
            return Judged(after, (changed(Action.TENANT_CHANGED, row, before, after),), after)

        return await self.journal.change(act, judge)

    async def restrict(
        self, name: str, wanted: Restrictions, act: Act, *, expected: int | None = None, new: bool = False
    ) -> Tenant:
        """The tenant with these restrictions and no others. Repeated: the same, without another event.

        Raises Stale for another version than `expected`, and where they are to be `new`, AlreadyExists over others.
        """
        for fault in restrictions.faults(wanted):
            raise fault

        async def judge() -> Judged[Tenant]:
            row = await self.row(name)
            before = read(row, Tenant)
            check_version(row, expected, "tenant", name)
            if new and before.restrictions is not None:
                raise AlreadyExists("restrictions", name)
            after = replace(before, restrictions=restrictions.kept(wanted))
            if after == before:
                return Judged(before, stored=before)
            return Judged(after, (changed(Action.TENANT_RESTRICTED, row, before, after),), after)

        return await self.journal.change(act, judge)

    async def do(self, name: str, deed: Deed, act: Act, *, closes_us: int | None = None) -> Tenant:
        """The tenant after the deed (`tenant.done`). Repeated: the same, without another event."""

        async def judge() -> Judged[Tenant]:
            row = await self.row(name)
            before = read(row, Tenant)
            after = tenant.done(before, deed, act.at_us, closes_us)
            if after == before:
                return Judged(before, stored=before)
            was_closing = before.state == "closing" and after.state == "active"
            back = Action.TENANT_REOPENED if was_closing else Action.TENANT_RESUMED
            return Judged(after, (changed(_ACTIONS.get(after.state, back), row, before, after),), after)

        return await self.journal.change(act, judge)

    async def find(self, name: str) -> Found[Tenant]:
        row = await self.row(name)
        return Found(read(row, Tenant), row.version)

    async def show(self, name: str) -> Tenant:
        return (await self.find(name)).value

    async def list(self, after: str | None = None, limit: int = MOST_KEYS) -> Page[Tenant]:
        """Also the closed ones, by name, behind the name `after`."""
        page = await self.journal.table.list("tenants", after=after, limit=limit)
        pointers = [read(row, TenantPointer) for row in page.rows]
        rows = await self.journal.many(tenant_at(pointer.tenant_id) for pointer in pointers)
        return Page(tuple(read(row, Tenant) for row in rows.values()), page.next_after)

    async def events(self, name: str, after: str | None = None, limit: int = MOST_KEYS) -> Page[Event]:
        """What happened to the tenant, oldest first."""
        owner = await self.show(name)
        page = await self.journal.table.list(f"tenant/{owner.id}", "event/", after, limit)
        return Page(tuple(read(row, Event) for row in page.rows), page.next_after)

    async def states(self, among: Iterable[str]) -> dict[str, State]:
        """Those of the names that a tenant has, or had, and how it is stored. Fails closed: one that cannot be read is not there."""
        pointers = readable(await self.journal.many(map(name_at, among)), TenantPointer)
        rows = await self.journal.many(tenant_at(pointer.tenant_id) for pointer in pointers.values())
        return {it.name: it.state for it in readable(rows, Tenant).values()}

    async def on_plan(self, plan: str) -> dict[str, State]:
        """Who is on the plan, also a closed one."""
        return await self.having("Plan", plan)

    async def having(self, kind: str, name: str) -> dict[str, State]:
        """Who has this `Plan` or `Privacy`, also a closed one."""
        places = await self.journal.partition(f"{kind.lower()}/{name}")
        rows = await self.journal.many(tenant_at(place.key.sort) for place in places)
        return {it.name: it.state for it in readable(rows, Tenant).values()}

    async def _check(self, plan: str | UnsetType, privacy: str | UnsetType | None) -> None:
        """That what a tenant is to have is there."""
        if plan is not UNSET:
            names.PLAN.check(plan, "plan")
            if await self.journal.table.get(plan_at(plan)) is None:
                raise NotFound("plan", plan)
        if privacy is not UNSET and privacy is not None:
            names.PRIVACY.check(privacy, "privacy")
            if await self.journal.table.get(privacy_at(privacy)) is None:
                raise NotFound("privacy", privacy)

    def _check_key(self, kms_key: str | None, before: str | None) -> None:
        for fault in kms.own_faults(kms_key, before, "kms_key", has_kms=self.has_kms):
            raise fault

    async def row(self, name: str) -> Row:
        names.TENANT.check(name, "tenant")
        pointer = await self.journal.table.get(name_at(name))
        row = pointer and await self.journal.table.get(tenant_at(read(pointer, TenantPointer).tenant_id))
        if row is None:
            raise NotFound("tenant", name)
        return row


def created(made: Tenant) -> Change:
    """A new tenant, with its name and its places."""
    also = (
        new_row(name_at(made.name), TenantPointer(made.id)),
        *(PutItem(at, b"{}", None) for at in _places(made)),
    )
    return Change(Action.TENANT_CREATED, made.id, tenant_at(made.id), None, encoded(made), made.id, also)


def changed(action: Action, row: Row, before: Tenant, after: Tenant) -> Change:
    """A tenant that is another; who has moved is found under its new plan alone, and so with its privacy. To the data keys of one whose
    KMS key is another something is to be done.
    """
    old, new = _places(before), _places(after)
    also: tuple[Item, ...] = (
        *(Delete(at, None) for at in old if at not in new),
        *(PutItem(at, b"{}", None) for at in new if at not in old),
    )
    if after.kms_key != before.kms_key:
        also = (*also, PutItem(due_at(after.id), encoded(KeyPointer(after.id, after.id)), None))
    return Change(action, after.id, row.key, row, encoded(after), after.id, also)


def _places(owner: Tenant) -> tuple[Key, ...]:
    """Where it is found by what it has."""
    private = () if owner.privacy is None else (with_privacy_at(owner.privacy, owner.id),)
    return (on_plan_at(owner.plan, owner.id), *private)


def check_version(row: Row, expected: int | None, kind: str, name: str) -> None:
    if expected not in (None, row.version):
        raise Stale(kind, name)
