"""The issuers of the tenants, and what a gateway asks of them when a token comes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from tenants import issuers, names
from tenants.directory.holdings import Holdings
from tenants.events import Action
from tenants.issuers import Issuer, TenantIssuer, TenantIssuers
from tenants.members import Member
from tenants.plans import Plan
from tenants.ports import Key
from tenants.privacy import Privacy
from tenants.rows import (
    OwnerPointer,
    TenantPointer,
    held_at,
    issuer_at,
    issuer_owners,
    name_at,
    plan_at,
    privacy_at,
    readable,
    tenant_at,
)
from tenants.tenant import Tenant

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Trusted:
    """An issuer, and whose it is: a tenant's, or with None the platform's, where `issuer` says of whom its tokens are."""

    issuer: TenantIssuer | Issuer
    tenant_id: str | None


@dataclass(frozen=True, slots=True)
class Belonging:
    """A tenant, its plan, its privacy, and its members by their address in lower case. Whether it is served now is for the caller to
    judge.
    """

    tenant: Tenant
    plan: Plan
    members: Mapping[str, Member]
    privacy: Privacy | None = None

    def member(self, email: str) -> Member | None:
        """Whose address that is, in whatever case. Only ASCII has one here: lower-cased, another letter may become one of ASCII's (the
        sign for kelvin is a k then), and its owner somebody else.
        """
        return self.members.get(email.lower() if email.isascii() else email)


class Issuers(Holdings[TenantIssuer]):
    many, _kind, _assigned = "issuers", TenantIssuers, Action.ISSUER_ASSIGNED
    _faults = staticmethod(issuers.list_faults)

    # What a gateway asks

    async def trusted(self, url: str) -> tuple[Trusted, ...]:
        """Every issuer of this URL: none, one, or one for each audience there. Two reads, and one more for each hundred owners.

        Fails closed: what is absent, dangling, unreadable or claimed by another is not among them.
        """
        if len(url) > issuers.MOST_URL_CHARACTERS or not url.isascii():
            return ()
        partition = issuer_owners(url)
        rows = {row.key: row for row in await self.journal.partition(partition)}
        pointers = readable(rows, OwnerPointer)
        shared_at = issuer_at(issuers.id_of(url))
        at = {key: self.at(it.tenant_id) if it.tenant_id else shared_at for key, it in pointers.items()}
        stored = await self.journal.many(at.values())
        shared = readable({key: row for key, row in stored.items() if key == shared_at}, Issuer)
        own = readable({key: row for key, row in stored.items() if key != shared_at}, TenantIssuers)
        found: list[Trusted] = []
        for key, pointer in pointers.items():
            known: Iterable[TenantIssuer | Issuer] = ()
            if pointer.tenant_id is None:
                known = shared.values()
            elif at[key] in own and own[at[key]].tenant_id == pointer.tenant_id:
                known = own[at[key]].entries
            found += (Trusted(it, pointer.tenant_id) for it in known if held_at(it.held) == key)
        return tuple(found)

    async def belonging(self, *, tenant_id: str | None = None, name: str | None = None) -> Belonging | None:
        """Who belongs to the tenant of this id, or of this name. Fails closed as `Keys.find`: None where it, its plan or its
        privacy is absent or unreadable, or it has a limit that nobody keeps; a member who cannot be read is none.
        """
        if name is not None:
            tenant_id = await self._named(name)
        if tenant_id is None:
            return None
        owner = await self._one(tenant_at(tenant_id), Tenant)
        if owner is None:
            return None
        plan = await self._one(plan_at(owner.plan), Plan)
        if plan is None:
            return None
        private = await self._one(privacy_at(owner.privacy), Privacy) if owner.privacy is not None else None
        if private is None and owner.privacy is not None:
            return None
        rows = await self.journal.partition(f"tenant/{owner.id}", "member/")
        members = readable({row.key: row for row in rows}, Member)
        return Belonging(owner, plan, {it.email: it for it in members.values()}, private)

    async def _named(self, name: str) -> str | None:
        if any(names.TENANT.faults(name, "")):
            return None
        pointer = await self._one(name_at(name), TenantPointer)
        return pointer.tenant_id if pointer else None

    async def _one(self, at: Key, kind: type[_Value]) -> _Value | None:
        row = await self.journal.table.get(at)
        return readable({at: row}, kind).get(at) if row else None
