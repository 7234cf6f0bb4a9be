"""Data keys: what is known of the keys that a tenant's data is sealed with, and what becomes of them; never a key itself. Pure."""

from collections.abc import Iterable
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct
from msgspec.structs import replace

from tenants.errors import Invalid
from tenants.ids import Reference

Purpose = Literal["audit", "replies", "capture"]
"""What a tenant has a key for. The same words as in `gateway/envelope/keys.py`."""
State = Literal["active", "retired", "destroying", "destroyed"]
Deed = Literal["rotate", "destroy", "keep"]

MOST_WAIT_SECONDS: Final = 30 * 86_400
WAIT_SECONDS: Final = 7 * 86_400
"""How long a destruction can be taken back, unless something else is said."""
LEAST_OWN_WAIT_SECONDS: Final = 86_400
"""A tenant's own people wait so long at least: a stolen credential of theirs destroys nothing before somebody can see it."""
BACKUP_DAYS: Final = 7
"""How long back-ups of the wrapped keys are kept, unless something else is said."""
DAY_US: Final = 86_400_000_000

# What a deed makes of a key; what is not here cannot be done. An active key seals and opens, of each purpose there is one at most; a
# retired one opens, and so does one that is to be destroyed. That is `destroyed` when `destroys_us` has come, for everybody and for ever.
# A key that is kept seals nothing any more: meanwhile another one may be active.
NEXT: Final[dict[tuple[State, Deed], State]] = {
    ("active", "rotate"): "retired",
    ("retired", "rotate"): "retired",
    ("active", "destroy"): "destroying",
    ("retired", "destroy"): "destroying",
    ("destroying", "destroy"): "destroying",
    ("destroyed", "destroy"): "destroyed",
    ("destroying", "keep"): "retired",
    ("retired", "keep"): "retired",
    ("active", "keep"): "active",
}


class DataKeyRecord(Struct, frozen=True, tag_field="v", tag=1):
    """What is known of a data key. Times in microseconds since 1970, UTC.

    Stored as JSON, version 1. A field may be added with a default that means what its absence meant before, and a state: who does not know
    it cannot read the row, and neither seals nor opens with that key. Any other change is version 2. Readers refuse versions they do not
    know.
    """

    id: Reference
    tenant_id: Reference
    purpose: Purpose
    made_us: int
    wrapped_with: str | None = None
    """The KMS key of the tenant's own that wraps it; None: the deployment's wrapping key."""
    state: State = "active"
    """As stored; where it stands now is for `state` to say."""
    destroys_us: int | None = None
    """From when on it is destroyed."""
    backup_days: Annotated[int, Meta(ge=0)] | None = None
    """So many days after that its wrapped bytes are in no back-up of the keys either."""
    wrapped_us: int = 0
    """When it was last wrapped anew; 0: when it was made."""
    rewrap_us: int | None = None
    """When it was asked for to be wrapped anew, until that is done."""


def state(key: DataKeyRecord, now_us: int) -> State:
    """Where the key stands. It is destroyed from the very microsecond `destroys_us` on."""
    if key.state == "destroying" and key.destroys_us is not None and now_us >= key.destroys_us:
        return "destroyed"
    return key.state


def done(
    key: DataKeyRecord,
    deed: Deed,
    now_us: int,
    *,
    wait_seconds: float = WAIT_SECONDS,
    backup_days: int | None = None,
) -> DataKeyRecord:
    """The key after the deed; the same one where it is as wanted already. Invalid for what cannot be done.

    `wait_seconds` is how long a destruction can be taken back. Destroying once more never puts it off: `keep` is for that.
    """
    if not 0 <= wait_seconds <= MOST_WAIT_SECONDS:
        raise Invalid(
            "wait_seconds", f"must be 0 to {MOST_WAIT_SECONDS} ({MOST_WAIT_SECONDS // 86_400} days)"
        )
    now = state(key, now_us)
    after = NEXT.get((now, deed))
    if after is None:
        raise Invalid("state", f"it is {now}, and cannot {deed}")
    if after == now != "destroying":
        return key
    if after != "destroying":
        return replace(key, state=after, destroys_us=None, backup_days=None)
    end = now_us + round(wait_seconds * 1_000_000)
    if key.state == "destroying" and key.destroys_us is not None and key.destroys_us <= end:
        return key
    return replace(key, state=after, destroys_us=end, backup_days=backup_days, rewrap_us=None)


def backups_end_us(key: DataKeyRecord) -> int | None:
    """From when on no back-up has its wrapped bytes; None for one that is not to be destroyed."""
    if key.destroys_us is None or key.backup_days is None:
        return None
    return key.destroys_us + key.backup_days * DAY_US


def newest(keys: Iterable[DataKeyRecord], purpose: Purpose) -> DataKeyRecord | None:
    """The one that seals."""
    active = (key for key in keys if key.purpose == purpose and key.state == "active")
    return max(active, key=lambda key: (key.made_us, key.id), default=None)


def is_due(key: DataKeyRecord) -> bool:
    """Whether somebody is still to do something to it: wrap it anew, or remove what is left of it."""
    return key.state == "destroying" or key.rewrap_us is not None
