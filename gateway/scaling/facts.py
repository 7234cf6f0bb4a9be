"""What does a member need to call one load of a model? A row of its own, as a configuration can be large; written before it is READY."""

import msgspec
from msgspec import Struct

from gateway.triton.control import Deployment, ModelConfig
from tenants.errors import Unreadable
from tenants.ports import Row


class Facts(Struct, frozen=True, tag_field="v", tag=1):
    """`versions` that are served, the newest last.

    Stored as JSON, version 1. A field may be added with a default that means what its absence meant before; any other change is version 2.
    Readers refuse versions that they do not know: they send nothing there.
    """

    versions: tuple[str, ...]
    config: ModelConfig
    deployment: Deployment


def encoded(facts: Facts) -> bytes:
    return msgspec.json.encode(facts)


def read(row: Row) -> Facts:
    """Raises Unreadable: fails closed."""
    try:
        return msgspec.json.decode(row.value, type=Facts)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
        raise Unreadable(f"{row.key}: {fault}") from fault
