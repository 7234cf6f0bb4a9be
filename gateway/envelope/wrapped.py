"""Wrapped data keys, in a table of their own: whoever copies the directory copies no key, and what is removed here is nowhere else.

partition            sort        value
wrapped/<tenant id>  <key id>    Wrapped
"""

import msgspec
from msgspec import Struct

from gateway.envelope.ports import KeyRefused
from tenants.ports import Key, Row
from tenants.rows import decoded


class Wrapped(Struct, frozen=True, tag_field="v", tag=1):
    """A data key as its KeyService wrapped it, with which key (None: the deployment's), and when (microseconds since 1970, UTC).

    Stored as JSON, version 1. A field may be added with a default that means what its absence meant before; any other change is
    version 2. Readers refuse versions they do not know.
    """

    wrapped: bytes
    at_us: int
    with_key: str | None = None
    orphan_us: int | None = None
    """When it was first found to be of no data key that the directory knows; None: it was not."""


def of_tenant(tenant_id: str) -> str:
    """The partition of a tenant's."""
    return f"wrapped/{tenant_id}"


def tenant_of(at: Key) -> str:
    """Whose a wrapped key is."""
    return at.partition.removeprefix("wrapped/")


def wrapped_at(tenant_id: str, key_id: str) -> Key:
    return Key(of_tenant(tenant_id), key_id)


def encoded(value: Wrapped) -> bytes:
    return msgspec.json.encode(value)


def read(row: Row) -> Wrapped:
    """Raises KeyRefused for a damaged row and a version that is not known: fails closed."""
    return decoded(row, Wrapped, KeyRefused)
