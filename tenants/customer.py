"""A tenant as its document declares it: what it is called, what it bought, and who belongs to it. Pure.

kind: Tenant
name: acme
plan: team
members: [{email: admin@acme.example, role: admin}]
issuers: [{issuer: "https://login.acme.example", audience: gateway, roles_claim: roles}]
certificates: [{name: ingest, uri: "spiffe://acme.example/ingest"}]
"""

from collections.abc import Iterator
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from tenants import certificates, issuers, kms, names, restrictions
from tenants.certificates import MOST_CERTIFICATES, TenantCertificate
from tenants.errors import Invalid
from tenants.issuers import MOST_ISSUERS, TenantIssuer
from tenants.members import Role
from tenants.names import MemberName, PlanName, PrivacyName, TenantName
from tenants.restrictions import Restrictions

MOST_MEMBERS: Final = 1000

NO_PRIVACY: Final = "none"
"""What a document says that takes its privacy from a tenant; no privacy is called so."""

DeclaredState = Literal["active", "suspended"]  # closing is for ever, and not for a file to say


class Member(Struct, frozen=True):
    """A person, and what they are to the tenant. Two spellings of an address that differ in case alone are one person."""

    email: MemberName
    role: Role

    @property
    def key(self) -> str:
        """What is compared."""
        return self.email.lower()


class TenantDocument(Struct, frozen=True):
    """Read from documents and never stored as it is: a stored tenant has an id and a time beside it (`tenant.py`)."""

    name: TenantName
    plan: PlanName
    members: Annotated[tuple[Member, ...], Meta(max_length=MOST_MEMBERS)] | None = None
    """None: the document does not say, and they stay as they are."""
    state: DeclaredState | None = None
    """None: as it is; a new one is active."""
    issuers: Annotated[tuple[TenantIssuer, ...], Meta(max_length=MOST_ISSUERS)] | None = None
    """None: as `members`."""
    restrictions: Restrictions | None = None
    """None: the document does not say, and they stay as they are; a new one has none. `{}` lifts them."""
    privacy: PrivacyName | None = None
    """None: as `restrictions`. `none` takes it away."""
    certificates: Annotated[tuple[TenantCertificate, ...], Meta(max_length=MOST_CERTIFICATES)] | None = None
    """None: as `members`."""
    kms_key: kms.OwnKey | None = None
    """None: as `restrictions`. `none` takes it away, and the deployment's wrapping key wraps."""


def faults(document: TenantDocument) -> Iterator[Invalid]:
    """What is wrong with it beyond the types of its fields, each with the path to it. Whether a new tenant may have the name: `outline`."""
    yield from names.TENANT.faults(document.name, "name")
    yield from names.PLAN.faults(document.plan, "plan")
    if document.privacy is not None:
        yield from names.PRIVACY.faults(document.privacy, "privacy")
    if document.kms_key not in (None, kms.NONE):
        yield from kms.faults(document.kms_key, "kms_key")
    if document.restrictions is not None:
        yield from restrictions.faults(document.restrictions, "restrictions.")
    first: dict[str, int] = {}
    for position, member in enumerate(document.members or ()):
        path = f"members[{position}].email"
        yield from names.MEMBER.faults(member.email, path)
        before = first.setdefault(member.key, position)
        if before != position:
            yield Invalid(path, f"is that of members[{before}] already")
    yield from issuers.list_faults(document.issuers or ())
    yield from certificates.list_faults(document.certificates or ())
