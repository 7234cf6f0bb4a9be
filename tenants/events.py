"""What happened: one event for each change, and one record in the order of changes for each transaction. Pure."""

from enum import StrEnum
from typing import Final

from msgspec import Raw, Struct

_OF_A_TENANT: Final = "tenant/"


class Action(StrEnum):
    """All that can happen, as `<what>.<done to it>` in a-z. A name is never removed and never means more."""

    TENANT_CREATED = "tenant.created"
    TENANT_CHANGED = "tenant.changed"
    TENANT_RESTRICTED = "tenant.restricted"
    TENANT_SUSPENDED = "tenant.suspended"
    TENANT_RESUMED = "tenant.resumed"
    TENANT_CLOSING = "tenant.closing"
    TENANT_REOPENED = "tenant.reopened"
    TENANT_CLOSED = "tenant.closed"
    MEMBER_INVITED = "member.invited"
    MEMBER_CHANGED = "member.changed"
    MEMBER_REMOVED = "member.removed"
    ACCOUNT_CREATED = "account.created"
    ACCOUNT_CHANGED = "account.changed"
    ACCOUNT_REMOVED = "account.removed"
    KEY_CREATED = "key.created"
    KEY_ROTATED = "key.rotated"
    KEY_REVOKED = "key.revoked"
    KEY_USED = "key.used"
    PLAN_CREATED = "plan.created"
    PLAN_CHANGED = "plan.changed"
    PLAN_REMOVED = "plan.removed"
    PRIVACY_CREATED = "privacy.created"
    PRIVACY_CHANGED = "privacy.changed"
    PRIVACY_REMOVED = "privacy.removed"
    MODEL_CREATED = "model.created"
    MODEL_CHANGED = "model.changed"
    MODEL_REMOVED = "model.removed"
    FLEET_CREATED = "fleet.created"
    FLEET_CHANGED = "fleet.changed"
    FLEET_REMOVED = "fleet.removed"
    ISSUER_CREATED = "issuer.created"
    ISSUER_CHANGED = "issuer.changed"
    ISSUER_REMOVED = "issuer.removed"
    ISSUER_ASSIGNED = "issuer.assigned"  # the issuers of a tenant are others
    CERTIFICATE_ASSIGNED = "certificate.assigned"  # the client certificates of a tenant are others
    DATAKEY_CREATED = "datakey.created"
    DATAKEY_ROTATED = "datakey.rotated"  # it seals no more
    DATAKEY_REWRAPPING = "datakey.rewrapping"
    DATAKEY_REWRAPPED = "datakey.rewrapped"
    DATAKEY_DESTROYING = "datakey.destroying"
    DATAKEY_KEPT = "datakey.kept"
    DATAKEY_DESTROYED = "datakey.destroyed"
    DATAKEY_TOLD = "datakey.told"  # somebody is told what opens records that it sealed
    CAPTURE_DELETED = "capture.deleted"  # by somebody, and not as too old
    DOCUMENTS_APPLIED = "documents.applied"


class Event(Struct, frozen=True, tag_field="v", tag=1):
    """`actor` did `action` to `subject` at `at_us`; `before` and `after` are the stored rows or null, never a secret.

    `subject` is `<what>/<id>`; plans, privacies, fleets and documents have only their names, the issuers and the certificates of a tenant
    its id, a capture that of its request. Stored as JSON, version 1. A field may be added with a default that means what its absence meant
    before; any other change is version 2. Readers refuse versions and actions they do not know.
    """

    id: str
    at_us: int
    actor: str
    action: Action
    subject: str
    before: Raw
    after: Raw
    reason: str = ""
    sequence: int = 0
    """Its transaction's place in the order of changes; 0 of those that are older than that order."""


class Changed(Struct, frozen=True, tag_field="v", tag=1):
    """A transaction's record in the order of changes: what was changed, and the [partition, sort] of each event.

    Stored as JSON, version 1. A field may be added with a default that means what its absence meant before; any other
    change is version 2. A reader that cannot read a record drops all that it has cached.
    """

    sequence: int
    at_us: int
    subjects: tuple[str, ...]
    events: tuple[tuple[str, str], ...]


def tenants_of(changed: Changed) -> set[str]:
    """The ids of those whose changes these were; none for what is of no tenant. A subject as `member/<id>` does not tell that."""
    places = (partition for partition, _ in changed.events)
    return {it.removeprefix(_OF_A_TENANT) for it in places if it.startswith(_OF_A_TENANT)}


class Head(Struct, frozen=True, tag_field="v", tag=1):
    """The end of the order of changes; the version of its row is the last sequence number.

    While documents are being rolled out `stage` is whose, and `rolled` how many of its transactions are done: nothing else is
    changed before that is finished, by whoever comes first. Stored as JSON, version 1; readers refuse any other.
    """

    stage: str | None = None
    rolled: int = 0
