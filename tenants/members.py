"""Who acts for a tenant: members, who are people, and service accounts, which are programs; each has a role. Pure."""

from typing import Final, Literal, get_args

from msgspec import Struct

from tenants import names
from tenants.errors import Invalid

Role = Literal["admin", "developer", "viewer", "billing"]
ROLES: Final[tuple[Role, ...]] = get_args(Role)
"""What each may do is for the policies to say. Operators are of no tenant."""


class Member(Struct, frozen=True, tag_field="v", tag=1):
    """A person. `email` is in lower case, and once in a tenant.

    Stored as JSON, version 1. A field may be added with a default that means what its absence meant before;
    any other change is version 2. Readers refuse versions they do not know.
    """

    id: str
    tenant_id: str
    email: str
    role: Role
    created_us: int


class Account(Struct, frozen=True, tag_field="v", tag=1):
    """A service account; its keys have its role. Once it is removed they are nobody's.

    Stored as JSON, version 1. A field may be added with a default that means what its absence meant before;
    any other change is version 2. Readers refuse versions they do not know.
    """

    id: str
    tenant_id: str
    name: str
    role: Role
    created_us: int


def email(text: str, path: str) -> str:
    """The address as it is stored; Invalid for what is none."""
    names.MEMBER.check(text, path)
    return text.lower()


def role(text: str, path: str) -> Role:
    for known in ROLES:
        if text == known:
            return known
    raise Invalid(path, f"must be one of {', '.join(ROLES)}")
