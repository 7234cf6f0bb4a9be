"""Tenants as documents declare them: what is stored of one, as a document, and what makes it as one says."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from tenants import tenant
from tenants.customer import DeclaredState, TenantDocument
from tenants.customer import Member as DeclaredMember
from tenants.directory.certificates import Certificates
from tenants.directory.issuers import Issuers
from tenants.directory.tenants import changed, created
from tenants.events import Action
from tenants.members import Member
from tenants.ports import Row
from tenants.rows import (
    Change,
    TenantPointer,
    encoded,
    member_at,
    name_at,
    read,
    tenant_at,
)
from tenants.tenant import Tenant

if TYPE_CHECKING:
    from tenants.directory.journal import Journal

GRACE_SECONDS: Final = 30 * 86_400
"""A tenant that is declared no more is not served any more; for so long it can be reopened."""


@dataclass(frozen=True, slots=True)
class Customer:
    """A tenant that is there, its members by their address, and its issuers and certificates, if it ever had any."""

    row: Row
    tenant: Tenant
    members: Mapping[str, Row]
    issuers_row: Row | None = None
    certificates_row: Row | None = None

    @property
    def document(self) -> TenantDocument | None:
        """What a document would say of it; none says anything of one that is closed or about to be."""
        if self.tenant.state in ("closing", "closed"):
            return None
        people = (read(row, Member) for row in self.members.values())
        members = tuple(DeclaredMember(it.email, it.role) for it in people)
        state: DeclaredState = "suspended" if self.tenant.state == "suspended" else "active"
        return TenantDocument(
            self.tenant.name,
            self.tenant.plan,
            members,
            state,
            Issuers.stored(self.tenant.id, self.issuers_row).entries,
            self.tenant.restrictions,
            self.tenant.privacy,
            Certificates.stored(self.tenant.id, self.certificates_row).entries,
            self.tenant.kms_key,
        )


async def read_all(journal: "Journal", names: Iterable[str]) -> dict[str, Customer]:
    """Those of these names that are there. Raises Unreadable for one that cannot be judged."""
    pointers = [read(row, TenantPointer) for row in (await journal.many(map(name_at, names))).values()]
    rows = await journal.many(tenant_at(pointer.tenant_id) for pointer in pointers)
    sorts = (Issuers, Certificates)
    held = await journal.many(sort.at(pointer.tenant_id) for pointer in pointers for sort in sorts)
    found: dict[str, Customer] = {}
    for row in rows.values():
        owner = read(row, Tenant)
        members = await journal.partition(f"tenant/{owner.id}", "member/")
        people = {read(it, Member).email: it for it in members}
        found[owner.name] = Customer(row, owner, people, *(held.get(sort.at(owner.id)) for sort in sorts))
    return found


def changes(
    wanted: TenantDocument, before: Customer | None, new_id: Callable[[str], str], at_us: int
) -> Iterator[Change]:
    """What makes it as wanted, with just these members, issuers, certificates, restrictions, privacy and KMS key; its state is said
    (`outline.as_declared`). That nobody else has the issuers or the names in certificates is for the caller to know.
    """
    if before is None:
        state = wanted.state or "active"
        owner = Tenant(
            new_id("t"),
            wanted.name,
            wanted.plan,
            state,
            at_us,
            restrictions=wanted.restrictions,
            kms_key=wanted.kms_key,
            privacy=wanted.privacy,
        )
        yield created(owner)
    else:
        owner = replace(
            before.tenant,
            plan=wanted.plan,
            state=wanted.state or before.tenant.state,
            restrictions=wanted.restrictions,
            kms_key=wanted.kms_key,
            privacy=wanted.privacy,
        )
        if owner != before.tenant:
            yield changed(_action(before.tenant, owner), before.row, before.tenant, owner)
    there = dict(before.members) if before else {}
    for member in wanted.members or ():
        row = there.pop(member.key, None)
        if row is None:
            made = Member(new_id("u"), owner.id, member.key, member.role, at_us)
            at = member_at(owner.id, made.id)
            yield Change(Action.MEMBER_INVITED, made.id, at, None, encoded(made), owner.id)
            continue
        known = read(row, Member)
        if known.role != member.role:
            after = encoded(replace(known, role=member.role))
            yield Change(Action.MEMBER_CHANGED, known.id, row.key, row, after, owner.id)
    for row in there.values():
        yield Change(Action.MEMBER_REMOVED, read(row, Member).id, row.key, row, None, owner.id)
    if wanted.issuers is not None:
        yield from Issuers.changes(owner.id, before.issuers_row if before else None, wanted.issuers)
    if wanted.certificates is not None:
        row = before.certificates_row if before else None
        yield from Certificates.changes(owner.id, row, wanted.certificates)


def closing(before: Customer, at_us: int) -> Change:
    """Serves it no more, and closes it after the grace."""
    after = tenant.done(before.tenant, "close", at_us, at_us + GRACE_SECONDS * 1_000_000)
    return changed(Action.TENANT_CLOSING, before.row, before.tenant, after)


def _action(before: Tenant, after: Tenant) -> Action:
    """A change of the state is told before one of the plan, the privacy or the KMS key, and that before one of the restrictions; the
    images tell all.
    """
    if before.state == after.state:
        has_other = replace(before, restrictions=after.restrictions) != after
        return Action.TENANT_CHANGED if has_other else Action.TENANT_RESTRICTED
    return Action.TENANT_SUSPENDED if after.state == "suspended" else Action.TENANT_RESUMED
