"""The issuers of the tenants, whose each issuer is, and what a gateway asks of them when a token comes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from msgspec.structs import replace

from tenants import issuers, names
from tenants.acts import Act
from tenants.directory.journal import Journal, Judged
from tenants.directory.members import check_open
from tenants.directory.tenants import Found, Tenants, check_version
from tenants.errors import InUse
from tenants.events import Action
from tenants.issuers import Issuer, Pair, TenantIssuer, TenantIssuers
from tenants.members import Member
from tenants.plans import Plan, unenforced
from tenants.ports import Key, Row
from tenants.privacy import Privacy
from tenants.rows import (
    Change,
    IssuerPointer,
    TenantPointer,
    encoded,
    handed_over,
    issuer_at,
    issuer_owners,
    issuers_at,
    name_at,
    pair_at,
    plan_at,
    privacy_at,
    read,
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


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose an issuer is with one audience: a tenant's, under its name (its id where it cannot be read), or with None the platform's."""

    tenant_id: str | None
    tenant_name: str | None

    def __str__(self) -> str:
        return "the platform" if self.tenant_id is None else f"the tenant {self.tenant_name!r}"


@dataclass(frozen=True, slots=True)
class Issuers:
    """A tenant's issuers are one thing: all of them are read and put."""

    journal: Journal
    tenants: Tenants

    async def put(
        self, tenant_name: str, wanted: Sequence[TenantIssuer], act: Act, *, expected: int | None = None
    ) -> TenantIssuers:
        """These are all that the tenant has. Repeated: the same, without another event.

        Raises InUse for a pair of issuer and audience that another tenant or the platform has, Stale for another version than `expected`
        (0: it never had any). A tenant that is closing or closed gets no new one, and keeps the others until they are taken from it.
        """
        for fault in issuers.list_faults(wanted):
            raise fault

        async def judge() -> Judged[TenantIssuers]:
            owner = await self.tenants.show(tenant_name)
            row = await self.journal.table.get(issuers_at(owner.id))
            check_version(
                row or Row(issuers_at(owner.id), b"", 0), expected, "issuers of tenant", tenant_name
            )
            before = read(row, TenantIssuers) if row else TenantIssuers(owner.id)
            after = replace(before, issuers=in_order(wanted))
            if after == before:
                return Judged(before, stored=before)
            if any(it not in before.issuers for it in after.issuers):
                check_open(owner, act.at_us)
            await check_free(self.journal, (it.pair for it in after.issuers), owner.id)
            return Judged(after, (assigned(row, before, after),), after)

        return await self.journal.change(act, judge)

    async def find(self, tenant_name: str) -> Found[TenantIssuers]:
        """All that the tenant has; one that never had any has none, in version 0."""
        owner = await self.tenants.show(tenant_name)
        row = await self.journal.table.get(issuers_at(owner.id))
        return Found(read(row, TenantIssuers), row.version) if row else Found(TenantIssuers(owner.id), 0)

    # What a gateway asks

    async def trusted(self, url: str) -> tuple[Trusted, ...]:
        """Every issuer of this URL: none, one, or one for each audience there. Two reads, and one more for each hundred owners.

        Fails closed: what is absent, dangling, unreadable or claimed by another is not among them.
        """
        if len(url) > issuers.MOST_URL_CHARACTERS or not url.isascii():
            return ()
        partition = issuer_owners(url)
        rows = {row.key: row for row in await self.journal.partition(partition)}
        pointers = readable(rows, IssuerPointer)
        shared_at = issuer_at(issuers.id_of(url))
        at = {key: issuers_at(it.tenant_id) if it.tenant_id else shared_at for key, it in pointers.items()}
        stored = await self.journal.many(at.values())
        shared = readable({key: row for key, row in stored.items() if key == shared_at}, Issuer)
        own = readable({key: row for key, row in stored.items() if key != shared_at}, TenantIssuers)
        found: list[Trusted] = []
        for key, pointer in pointers.items():
            known: Iterable[TenantIssuer | Issuer] = ()
            if pointer.tenant_id is None:
                known = shared.values()
            elif at[key] in own and own[at[key]].tenant_id == pointer.tenant_id:
                known = own[at[key]].issuers
            found += (Trusted(it, pointer.tenant_id) for it in known if pair_at(it.pair) == key)
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
        if plan is None or unenforced(plan.limits):
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


def in_order(wanted: Iterable[TenantIssuer]) -> tuple[TenantIssuer, ...]:
    """As they are stored: in which order they were given means nothing."""
    return tuple(sorted(wanted, key=lambda it: it.pair))


def assigned(row: Row | None, before: TenantIssuers, after: TenantIssuers) -> Change:
    """A tenant has other issuers. That none of them is somebody else's is for the caller to know."""
    owner_id = after.tenant_id
    also = handed_over((it.pair for it in before.issuers), (it.pair for it in after.issuers), owner_id)
    return Change(Action.ISSUER_ASSIGNED, owner_id, issuers_at(owner_id), row, encoded(after), owner_id, also)


async def owners(journal: Journal, pairs: Iterable[Pair]) -> dict[Pair, Owner]:
    """Whose each pair is; those of nobody are missing. Raises Unreadable."""
    places = {pair_at(pair): pair for pair in pairs}
    rows = await journal.many(places)
    ids = {places[key]: read(row, IssuerPointer).tenant_id for key, row in rows.items()}
    tenants = await journal.many(tenant_at(tenant_id) for tenant_id in ids.values() if tenant_id)
    named = {it.id: it.name for it in readable(tenants, Tenant).values()}
    return {pair: Owner(it, it and named.get(it, it)) for pair, it in ids.items()}


async def check_free(journal: Journal, pairs: Iterable[Pair], tenant_id: str | None) -> None:
    """Raises InUse for a pair that another than this owner has. It says who that is: operators alone may be told."""
    for (url, audience), owner in (await owners(journal, pairs)).items():
        if owner.tenant_id != tenant_id:
            raise InUse("issuer", url, f"{owner}, with the audience {audience!r}")
