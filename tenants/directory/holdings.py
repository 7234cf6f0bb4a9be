"""What a tenant has for itself and nobody else has: how all of one sort is changed, and whose each is."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

from msgspec.structs import replace

from tenants.acts import Act
from tenants.certificates import TenantCertificate
from tenants.directory.journal import Journal, Judged
from tenants.directory.members import check_open
from tenants.directory.tenants import Found, Tenants, check_version
from tenants.errors import InUse, Invalid
from tenants.events import Action
from tenants.holdings import Held, Holding
from tenants.issuers import TenantIssuer
from tenants.ports import Key, Row
from tenants.rows import (
    Change,
    OwnerPointer,
    encoded,
    handed_over,
    held_at,
    holding_at,
    read,
    readable,
    tenant_at,
)
from tenants.tenant import Tenant

_One = TypeVar("_One", TenantIssuer, TenantCertificate)


class Holdings(Generic[_One]):
    """All that a tenant has of one sort are one thing: all of them are read and put."""

    many: ClassVar[str]
    """As places have it, and paths and documents."""
    _kind: type[Holding[_One]]
    _assigned: Action
    _faults: Callable[[Sequence[_One]], Iterator[Invalid]]

    def __init__(self, journal: Journal, tenants: Tenants) -> None:
        self.journal = journal
        self.tenants = tenants

    async def put(
        self, tenant_name: str, wanted: Sequence[_One], act: Act, *, expected: int | None = None
    ) -> Holding[_One]:
        """These are all that the tenant has. Repeated: the same, without another event.

        Raises InUse for what another tenant or the platform has, Stale for another version than `expected` (0: it never had any). A tenant
        that is closing or closed gets no new one, and keeps the others until they are taken from it.
        """
        for fault in self._faults(wanted):
            raise fault

        async def judge() -> Judged[Holding[_One]]:
            owner = await self.tenants.show(tenant_name)
            at = self.at(owner.id)
            row = await self.journal.table.get(at)
            check_version(row or Row(at, b"", 0), expected, f"{self.many} of tenant", tenant_name)
            before = self.stored(owner.id, row)
            after = self._with(before, wanted)
            if after == before:
                return Judged(before, stored=before)
            if any(it not in before.entries for it in after.entries):
                check_open(owner, act.at_us)
            await check_free(self.journal, (it.held for it in after.entries), owner.id)
            return Judged(after, tuple(self.changes(owner.id, row, wanted)), after)

        return await self.journal.change(act, judge)

    async def find(self, tenant_name: str) -> Found[Holding[_One]]:
        """All that the tenant has; one that never had any has none, in version 0."""
        owner = await self.tenants.show(tenant_name)
        row = await self.journal.table.get(self.at(owner.id))
        return Found(self.stored(owner.id, row), row.version if row else 0)

    @classmethod
    def at(cls, tenant_id: str) -> Key:
        return holding_at(tenant_id, cls.many)

    @classmethod
    def stored(cls, tenant_id: str, row: Row | None) -> Holding[_One]:
        """As that row says. Raises Unreadable."""
        return read(row, cls._kind) if row else cls._kind(tenant_id)

    @classmethod
    def changes(cls, tenant_id: str, row: Row | None, wanted: Sequence[_One]) -> Iterator[Change]:
        """What makes the row as wanted. That nobody else has any of it is for the caller to know."""
        before = cls.stored(tenant_id, row)
        after = cls._with(before, wanted)
        if after != before:
            also = handed_over(
                (it.held for it in before.entries), (it.held for it in after.entries), tenant_id
            )
            yield Change(cls._assigned, tenant_id, cls.at(tenant_id), row, encoded(after), tenant_id, also)

    @classmethod
    def _with(cls, before: Holding[_One], wanted: Sequence[_One]) -> Holding[_One]:
        """In which order they are given means nothing."""
        return replace(before, entries=tuple(sorted(wanted, key=lambda it: it.key)))


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose something is: a tenant's, under its name (its id where it cannot be read), or with None the platform's."""

    tenant_id: str | None
    tenant_name: str | None

    def __str__(self) -> str:
        return "the platform" if self.tenant_id is None else f"the tenant {self.tenant_name!r}"


async def owners(journal: Journal, wanted: Iterable[Held]) -> dict[Held, Owner]:
    """Whose each is; those of nobody are missing. Raises Unreadable."""
    places = {held_at(it): it for it in wanted}
    rows = await journal.many(places)
    ids = {places[key]: read(row, OwnerPointer).tenant_id for key, row in rows.items()}
    tenants = await journal.many(tenant_at(it) for it in ids.values() if it)
    named = {it.id: it.name for it in readable(tenants, Tenant).values()}
    return {held: Owner(it, it and named.get(it, it)) for held, it in ids.items()}


async def check_free(journal: Journal, wanted: Iterable[Held], tenant_id: str | None) -> None:
    """Raises InUse for what another than this owner has. It says who that is: operators alone may be told."""
    for held, owner in (await owners(journal, wanted)).items():
        if owner.tenant_id != tenant_id:
            raise InUse(held.sort, held.name, f"{owner}, {held.detail}")
