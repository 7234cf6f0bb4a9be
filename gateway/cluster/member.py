"""What does a member's row say? Pure.

partition    sort           value
members      <its name>     Member
"""

import re
from collections.abc import Mapping
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from gateway.cluster.certificates import Certificate, Process, is_proof
from gateway.cluster.stillness import MOST_SECONDS
from tenants.errors import Unreadable
from tenants.ports import Key, Row
from tenants.rows import decoded

MEMBERS: Final = "members"
"""The partition of their rows."""
MOST_MEMBERS: Final = 256
"""Rows, of the dead too, that there may be for one more to join."""
ROW_BYTES: Final = 8192
_NAME: Final = re.compile(r"[0-9A-Za-z_.-]{1,64}")

Lasts = Annotated[float, Meta(gt=0, le=MOST_SECONDS)]


class Says(Struct, frozen=True):
    """What a member tells others of itself. `draining`: it takes nothing new. `acknowledged` is others' to fill and to read: what this
    member has done of what it was asked to. `serves`: it takes calls at all, as a process that only does what one of a host does for all
    never does, so that nothing of a limit is kept for it.
    """

    version: str = ""
    draining: bool = False
    acknowledged: Mapping[str, str] = {}
    serves: bool = True


class Member(Struct, frozen=True, tag_field="v", tag=1):
    """One that is here, or was. `beat` is another number in each attempt to write the row, `lasts_seconds` how long it is here by it.

    Stored as JSON, version 1. A field may be added with a default that means what its absence meant before; any other change, also another
    cause of a certificate, is version 2. Readers refuse versions that they do not know: such a member is live while its row changes and
    silent when it does not, but never dead.
    """

    process: Process
    beat: int
    lasts_seconds: Lasts
    says: Says = Says()
    certificate: Certificate | None = None

    def is_dead(self, name: str) -> bool:
        return self.certificate is not None and is_proof(self.certificate, name, self.process)


def member_at(name: str) -> Key:
    """ValueError for what is no name of a member."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"a member's name is of 1 to 64 letters, digits and _ . -, not {name!r}")
    return Key(MEMBERS, name)


def encoded(member: Member) -> bytes:
    """ValueError for one that says more than fits in a row."""
    found = msgspec.json.encode(member)
    if len(found) > ROW_BYTES:
        raise ValueError(f"a member's row has {len(found)} bytes, at most {ROW_BYTES}")
    return found


def read(row: Row) -> Member:
    """Raises Unreadable: fails closed, as nothing that it may say is taken for granted."""
    return decoded(row, Member, Unreadable)
