"""What happened to a tenant: one event for each change, written in the change's own transaction. Pure."""

from enum import StrEnum

from msgspec import Raw, Struct


class Action(StrEnum):
    """All that can happen, as `<what>.<done to it>` in a-z. A name is never removed and never means more."""

    TENANT_CREATED = "tenant.created"
    TENANT_CLOSED = "tenant.closed"
    KEY_CREATED = "key.created"
    KEY_ROTATED = "key.rotated"
    KEY_REVOKED = "key.revoked"
    PLAN_CREATED = "plan.created"
    PLAN_CHANGED = "plan.changed"
    MODEL_CREATED = "model.created"
    MODEL_CHANGED = "model.changed"
    FLEET_CREATED = "fleet.created"
    FLEET_CHANGED = "fleet.changed"


class Event(Struct, frozen=True, tag_field="v", tag=1):
    """`actor` did `action` to `subject` at `at_us`; `before` and `after` are the stored rows or null, never a secret.

    `subject` is `<what>/<id>`; a plan and a fleet have only their names. Stored as JSON, version 1. A field may be added with
    a default that means what its absence meant before; any other change is version 2. Readers refuse versions
    and actions they do not know.
    """

    id: str
    at_us: int
    actor: str
    action: Action
    subject: str
    before: Raw
    after: Raw
