"""What a tenant has for itself and nobody else has: issuers whose tokens are taken, names in client certificates. Pure."""

from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from msgspec import Struct

_One = TypeVar("_One")


@dataclass(frozen=True, slots=True)
class Held:
    """What has one owner: an issuer with one audience, or a name in certificates."""

    sort: Literal["issuer", "certificate"]
    name: str
    within: str
    """The audience; or where in a certificate the name is."""

    @property
    def detail(self) -> str:
        return f"with the audience {self.within!r}" if self.sort == "issuer" else f"as {self.within}"

    def __str__(self) -> str:
        return f"the issuer {self.name!r} {self.detail}" if self.sort == "issuer" else repr(self.name)


class Holding(Struct, Generic[_One], frozen=True, forbid_unknown_fields=True, tag_field="v", tag=1):
    """All that a tenant has of one sort, none twice.

    Stored as JSON, version 1. A row with a field that the reader does not know is refused: a new one reaches every reader before the
    first row that has it. What changes a meaning is version 2.
    """

    tenant_id: str
    entries: tuple[_One, ...] = ()
    """Stored under a name that each sort gives it."""
