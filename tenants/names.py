"""What may be a name, of everything that has one: its length, its letters, and the words that are kept back. Pure.

A name is judged once, where it comes in; what is stored is not judged again. `check` is for whoever looks for something of a name, and
`check_new` for whoever makes it: a word that is kept back from today on locks nobody out who has it already.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Final

from msgspec import Meta

from tenants.errors import Invalid


@dataclass(frozen=True, slots=True)
class Names:
    """All names of one kind: printable and of this form. `rule` completes "the name ...". No new one is a reserved word."""

    form: re.Pattern[str]
    rule: str
    reserved: frozenset[str] = frozenset()

    def faults(self, name: str, path: str) -> Iterator[Invalid]:
        """Why this is no such name."""
        if not (name.isprintable() and self.form.fullmatch(name)):
            yield Invalid(path, self.rule)

    def new_faults(self, name: str, path: str) -> Iterator[Invalid]:
        """Why this is no such name, or none for something new."""
        yield from self.faults(name, path)
        if name in self.reserved:
            yield Invalid(path, f"{name!r} is a word of the gateway's own: choose another name")

    def check(self, name: str, path: str) -> None:
        """Invalid unless it is such a name."""
        for fault in self.faults(name, path):
            raise fault

    def check_new(self, name: str, path: str) -> None:
        """Invalid unless something new may have this name."""
        for fault in self.new_faults(name, path):
            raise fault

    @property
    def meta(self) -> Meta:
        """What an editor is told. A reader of values passes it over: `rule` says more than a pattern that was not met."""
        return Meta(extra_json_schema={"pattern": f"^{self.form.pattern}$"})


# In the audit log and in lists a tenant of one of these names would be taken for somebody or something else.
_RESERVED_TENANTS: Final = frozenset(
    {
        *("operator", "operators"),  # who runs the gateway
        *("gateway", "system"),  # what a program did by itself
        *("admin", "root"),  # a role of members; the unix user behind `cli:root`
        *("public", "all"),  # everybody: the "*" of `tenants` in a model's document
        *("none", "null", "anonymous"),  # nobody: a call without a credential
        "internal",  # the operator's own services
        *("control", "portal", "audit"),  # the gateway's own places in URLs
    }
)

# They end up in paths, in URLs and in host names.
_LABEL: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_LABEL_RULE: Final = "must be 1 to 63 characters of a-z, 0-9 and '-', not starting with '-'"

TENANT: Final = Names(_LABEL, _LABEL_RULE, _RESERVED_TENANTS)
PLAN: Final = Names(_LABEL, _LABEL_RULE)
PRIVACY: Final = Names(_LABEL, _LABEL_RULE, frozenset({"none"}))
FLEET: Final = Names(_LABEL, _LABEL_RULE)
SERVICE_ACCOUNT: Final = Names(_LABEL, _LABEL_RULE)
CERTIFICATE: Final = Names(_LABEL, _LABEL_RULE)
TAG: Final = Names(_LABEL, _LABEL_RULE)
# How the SHA-256 of its URL begins (`issuers.id_of`): a URL is no part of a path.
ISSUER: Final = Names(re.compile(r"[0-9a-f]{20}"), "must be 20 characters of 0-9 and a-f")
REGION: Final = Names(_LABEL, _LABEL_RULE)
# What ends up in a path of the model repository must not lead out of it.
MODEL: Final = Names(
    re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}"),
    "must be 1 to 128 characters of A-Z, a-z, 0-9, '.', '_' and '-', not starting with '.'",
)
# Mail alone can say whether somebody is there; here it is kept apart from what is none.
MEMBER: Final = Names(
    re.compile(r"(?=.{3,254}$)[^@\s]+@[^@\s]+"),
    "must be an email address: one @, 3 to 254 printable characters, no spaces",
)
# A note to oneself, shown in lists. It may be empty.
KEY: Final = Names(re.compile(r".{0,64}"), "must be at most 64 printable characters")

TenantName = Annotated[str, TENANT.meta]
PlanName = Annotated[str, PLAN.meta]
PrivacyName = Annotated[str, PRIVACY.meta]
FleetName = Annotated[str, FLEET.meta]
ModelName = Annotated[str, MODEL.meta]
MemberName = Annotated[str, MEMBER.meta]
Tag = Annotated[str, TAG.meta]
CertificateName = Annotated[str, CERTIFICATE.meta]
RegionName = Annotated[str, REGION.meta]
