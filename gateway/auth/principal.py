"""Who a credential stands for: one frozen value per key, made anew when the key, its account, its tenant or its plan changes."""

from dataclasses import dataclass

from gateway.authz.cedar import Subject
from tenants.plans import Plan


@dataclass(frozen=True, slots=True)
class Principal:
    key_id: str
    key_name: str
    tenant_id: str
    tenant_name: str
    plan: Plan
    subject: Subject  # the same, as the policies see it
    expires_us: int | None  # the key's end, or its tenant's if that comes first
    account_id: str | None = None  # the service account that the key is of
