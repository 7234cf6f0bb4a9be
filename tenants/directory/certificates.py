"""The client certificates of the tenants, whose each name in one is, and what a gateway asks when one is shown."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from tenants import certificates
from tenants.acts import Act
from tenants.certificates import Identity, TenantCertificate, TenantCertificates
from tenants.directory.issuers import Owner
from tenants.directory.journal import Journal, Judged
from tenants.directory.members import check_open
from tenants.directory.tenants import Found, Tenants, check_version
from tenants.errors import InUse
from tenants.events import Action
from tenants.ports import Row
from tenants.rows import (
    CertificatePointer,
    Change,
    certificates_at,
    encoded,
    identities_handed_over,
    identity_at,
    read,
    readable,
    tenant_at,
)
from tenants.tenant import Tenant


@dataclass(frozen=True, slots=True)
class Mapped:
    """A certificate's name, and whose it is."""

    certificate: TenantCertificate
    tenant_id: str


@dataclass(frozen=True, slots=True)
class Certificates:
    """A tenant's certificates are one thing, as its issuers are: all of them are read and put."""

    journal: Journal
    tenants: Tenants

    async def put(
        self,
        tenant_name: str,
        wanted: Sequence[TenantCertificate],
        act: Act,
        *,
        expected: int | None = None,
    ) -> TenantCertificates:
        """These are all that the tenant has. Repeated: the same, without another event.

        Raises InUse for a name that another tenant has, Stale for another version than `expected` (0: it never had any). A tenant that is
        closing or closed gets no new one, and keeps the others until they are taken from it.
        """
        for fault in certificates.list_faults(wanted):
            raise fault

        async def judge() -> Judged[TenantCertificates]:
            owner = await self.tenants.show(tenant_name)
            row = await self.journal.table.get(certificates_at(owner.id))
            check_version(
                row or Row(certificates_at(owner.id), b"", 0), expected, "certificates of tenant", tenant_name
            )
            before = read(row, TenantCertificates) if row else TenantCertificates(owner.id)
            after = replace(before, certificates=in_order(wanted))
            if after == before:
                return Judged(before, stored=before)
            if any(it not in before.certificates for it in after.certificates):
                check_open(owner, act.at_us)
            await check_free(self.journal, (it.identity for it in after.certificates), owner.id)
            return Judged(after, (assigned(row, before, after),), after)

        return await self.journal.change(act, judge)

    async def find(self, tenant_name: str) -> Found[TenantCertificates]:
        """All that the tenant has; one that never had any has none, in version 0."""
        owner = await self.tenants.show(tenant_name)
        row = await self.journal.table.get(certificates_at(owner.id))
        return (
            Found(read(row, TenantCertificates), row.version)
            if row
            else Found(TenantCertificates(owner.id), 0)
        )

    # What a gateway asks

    async def mapped(self, identities: Sequence[Identity]) -> tuple[Mapped, ...]:
        """Whose these names are, each of them that is somebody's. Two reads for each hundred names.

        Fails closed: what is absent, dangling, unreadable or claimed by another is not among them.
        """
        places = {identity_at(it): it for it in identities}
        pointers = readable(await self.journal.many(places), CertificatePointer)
        rows = await self.journal.many(certificates_at(it.tenant_id) for it in pointers.values())
        stored = readable(rows, TenantCertificates)
        found: list[Mapped] = []
        for key, pointer in pointers.items():
            own = stored.get(certificates_at(pointer.tenant_id))
            if own is not None and own.tenant_id == pointer.tenant_id:
                these = (it for it in own.certificates if places[key] in it.identities)
                found += (Mapped(it, own.tenant_id) for it in these)
        return tuple(found)


def in_order(wanted: Iterable[TenantCertificate]) -> tuple[TenantCertificate, ...]:
    """As they are stored: in which order they were given means nothing."""
    return tuple(sorted(wanted, key=lambda it: it.name))


def assigned(row: Row | None, before: TenantCertificates, after: TenantCertificates) -> Change:
    """A tenant has other certificates. That no name of them is somebody else's is for the caller to know."""
    owner_id = after.tenant_id
    old, new = ((it.identity for it in these.certificates) for these in (before, after))
    also = identities_handed_over(old, new, owner_id)
    return Change(
        Action.CERTIFICATE_ASSIGNED, owner_id, certificates_at(owner_id), row, encoded(after), owner_id, also
    )


async def owners(journal: Journal, identities: Iterable[Identity]) -> dict[Identity, Owner]:
    """Whose each name is; those of nobody are missing. Raises Unreadable."""
    places = {identity_at(it): it for it in identities}
    rows = await journal.many(places)
    ids = {places[key]: read(row, CertificatePointer).tenant_id for key, row in rows.items()}
    tenants = await journal.many(map(tenant_at, ids.values()))
    named = {it.id: it.name for it in readable(tenants, Tenant).values()}
    return {identity: Owner(it, named.get(it, it)) for identity, it in ids.items()}


async def check_free(journal: Journal, identities: Iterable[Identity], tenant_id: str) -> None:
    """Raises InUse for a name that another tenant has. It says who that is: operators alone may be told."""
    for (sort, text), owner in (await owners(journal, identities)).items():
        if owner.tenant_id != tenant_id:
            raise InUse("certificate", text, f"{owner}, as {sort}")
