"""The client certificates of the tenants, and what a gateway asks when one is shown."""

from collections.abc import Sequence
from dataclasses import dataclass

from tenants.certificates import Identity, TenantCertificate, TenantCertificates, held, list_faults
from tenants.directory.holdings import Holdings
from tenants.events import Action
from tenants.rows import OwnerPointer, held_at, readable


@dataclass(frozen=True, slots=True)
class Mapped:
    """A certificate's name, and whose it is."""

    certificate: TenantCertificate
    tenant_id: str


class Certificates(Holdings[TenantCertificate]):
    many, _kind, _assigned = "certificates", TenantCertificates, Action.CERTIFICATE_ASSIGNED
    _faults = staticmethod(list_faults)

    # What a gateway asks

    async def mapped(self, identities: Sequence[Identity]) -> tuple[Mapped, ...]:
        """Whose these names are, each of them that is somebody's. Two reads for each hundred names.

        Fails closed: what is absent, dangling, unreadable or claimed by another is not among them.
        """
        places = {held_at(held(it)): it for it in identities}
        pointers = readable(await self.journal.many(places), OwnerPointer)
        ids = {key: it.tenant_id for key, it in pointers.items() if it.tenant_id is not None}
        stored = readable(await self.journal.many(map(self.at, ids.values())), TenantCertificates)
        found: list[Mapped] = []
        for key, owner_id in ids.items():
            own = stored.get(self.at(owner_id))
            if own is not None and own.tenant_id == owner_id:
                found += (Mapped(it, owner_id) for it in own.entries if places[key] in it.identities)
        return tuple(found)
