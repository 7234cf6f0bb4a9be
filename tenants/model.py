"""A model that tenants may call: its name in Triton, the folder it is in, and whose it is. Pure."""

import re
from typing import Literal

from msgspec import Struct

from tenants.errors import Invalid

# TRITON.md: what ends up in a path of the model repository must not lead out of it.
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")


class Model(Struct, frozen=True, tag_field="v", tag=1):
    """A model; `repository` is the folder that holds `<name>/config.pbtxt`.

    Stored as JSON, version 1. A field may be added with a default that means what its absence meant before;
    any other change is version 2. Readers refuse versions they do not know.
    """

    id: str
    name: str
    repository: str
    tenants: tuple[str, ...] | Literal["*"]
    """The names of the tenants that have it, or "*" for all."""

    def serves(self, tenant: str) -> bool:
        """Whether the tenant of that name has this model."""
        return self.tenants == "*" or tenant in self.tenants


def check_name(name: str, path: str) -> None:
    """Invalid unless the text can name a model."""
    if not _NAME.fullmatch(name):
        raise Invalid(
            path, "must be 1 to 128 characters of A-Z, a-z, 0-9, '.', '_' and '-', not starting with '.'"
        )
