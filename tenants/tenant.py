"""A tenant: a customer, with a name that people use and a pseudonymous id that the audit log keeps. Pure."""

from typing import Final, Literal

from msgspec import Struct
from msgspec.structs import replace

from tenants.errors import Invalid
from tenants.ids import Reference
from tenants.restrictions import Restrictions

State = Literal["active", "suspended", "closing", "closed"]
Deed = Literal["suspend", "resume", "close", "reopen"]

# What a deed makes of a tenant; what is not here cannot be done. Only an active tenant is served.
# `closing` becomes `closed` when `closes_us` has come. Closed is for ever, and the name is never given to another.
NEXT: Final[dict[tuple[State, Deed], State]] = {
    ("active", "suspend"): "suspended",
    ("suspended", "suspend"): "suspended",
    ("suspended", "resume"): "active",
    ("active", "resume"): "active",
    ("active", "close"): "closing",
    ("suspended", "close"): "closing",
    ("closing", "close"): "closing",
    ("closed", "close"): "closed",
    ("closing", "reopen"): "active",
    ("active", "reopen"): "active",
}


class Tenant(Struct, frozen=True, tag_field="v", tag=1):
    """A customer on a plan, since `created_us` (microseconds since 1970, UTC).

    Stored as JSON, version 1. A field may be added with a default that means what its absence meant before, and a
    state: who does not know it cannot read the row, and serves nobody. Any other change is version 2. Readers refuse
    versions they do not know.
    """

    id: str
    name: str
    plan: Reference
    state: State
    """As stored; where it stands now is for `state` to say."""
    created_us: int
    closes_us: int | None = None
    """From when on it is closed, of one that is closing."""
    restrictions: Restrictions | None = None
    """What it restricts itself to; None: to nothing."""
    kms_key: str | None = None
    """The ARN of the KMS key of its own that wraps its data keys; None: the deployment's wrapping key does."""
    privacy: Reference | None = None
    """The name of its `Privacy`; None: nothing is masked or captured, and bodies are kept."""


def state(tenant: Tenant, now_us: int) -> State:
    """Where the tenant stands. It is closed from the very microsecond `closes_us` on."""
    if tenant.state == "closing" and tenant.closes_us is not None and now_us >= tenant.closes_us:
        return "closed"
    return tenant.state


def done(tenant: Tenant, deed: Deed, now_us: int, closes_us: int | None = None) -> Tenant:
    """The tenant after the deed; the same one where it is as wanted already. Invalid for what cannot be done.

    `closes_us` is when a closing one is closed. Closing once more never puts that off: `reopen` is for that.
    """
    now = state(tenant, now_us)
    after = NEXT.get((now, deed))
    if after is None:
        raise Invalid("state", f"it is {now}, and cannot {deed}")
    if after == now != "closing":
        return tenant
    if after != "closing":
        return replace(tenant, state=after, closes_us=None)
    end = now_us if closes_us is None else closes_us
    if tenant.state == "closing" and tenant.closes_us is not None and tenant.closes_us <= end:
        return tenant
    return replace(tenant, state="closing" if end > now_us else "closed", closes_us=end)
