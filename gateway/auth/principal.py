"""Who a credential stands for: one frozen value per credential, made anew when it, its account, its tenant or what that has changes."""

from dataclasses import dataclass

from gateway.auth.conditions import Conditions
from gateway.auth.key_sets import Source
from gateway.authz.cedar import Subject
from tenants.conditions import KeyLimits
from tenants.plans import Plan
from tenants.privacy import Privacy


@dataclass(frozen=True, slots=True)
class Principal:
    id: str
    """A key's (`k_...`), a member's (`u_...`), or made of a token's subject or of a name in certificates (`p_...`); the audit log's entries
    have it as `key`.
    """
    name: str
    """What its tenant calls it; never a claim of a token."""
    tenant_id: str
    tenant_name: str
    plan: Plan
    subject: Subject  # the same, as the policies see it
    expires_us: int | None  # the credential's end, or its tenant's if that comes first
    account_id: str | None = None  # the service account that the key is of
    source: Source | None = None  # of the keys that its token was verified with; None for all else
    certificate: str | None = None  # the SHA-256, in hex, of the one that was shown instead of a key or token
    conditions: Conditions | None = None  # from where and when it may be used
    limits: KeyLimits | None = None  # its own, beside its tenant's
    since: int = (
        0  # the directory's last change that was known when its tenant's plan and its own limits were read
    )
    privacy: Privacy | None = None  # its tenant's; None: it has none, never that it could not be read
