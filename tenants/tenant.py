"""A tenant: a customer, with a name that people use and a pseudonymous id that the audit log keeps. Pure."""

from typing import Final, Literal

from msgspec import Struct

from tenants import names
from tenants.ids import Reference

State = Literal["active", "suspended", "closed"]

# Only an active tenant is served. Closing is for ever, and the name is never given to another.
NEXT: Final[dict[State, frozenset[State]]] = {
    "active": frozenset({"suspended", "closed"}),
    "suspended": frozenset({"active", "closed"}),
    "closed": frozenset(),
}


class Tenant(Struct, frozen=True, tag_field="v", tag=1):
    """A customer on a plan, since `created_us` (microseconds since 1970, UTC).

    Stored as JSON, version 1. A field may be added with a default that means what its absence meant before;
    any other change is version 2. Readers refuse versions they do not know.
    """

    id: str
    name: str
    plan: Reference
    state: State
    created_us: int


def check_name(name: str, path: str) -> None:
    """Invalid unless the text can name a tenant, a plan or a fleet."""
    names.TENANT.check(name, path)
