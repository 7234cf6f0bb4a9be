"""An issuer: an identity provider whose tokens are taken, for one tenant, for many, or for the operators; and what its claims say. Pure.

A claim is named as it stands in the token, or by the path to it: `realm_access.roles` is the claim of that very name where the token
has one, else `roles` within `realm_access`.
"""

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct, field

from tenants import names, urls
from tenants.errors import Invalid
from tenants.holdings import Held, Holding
from tenants.members import Role

MOST_ISSUERS: Final = 8
"""Of one tenant: all of them are changed in one transaction, which takes 25 items."""
MOST_URL_CHARACTERS: Final = 500
MOST_ROLES: Final = 50
_MOST_VALUE: Final = 255
# An event holds the row before and after, and a row of a table has 350,000 bytes.
MOST_ROW_BYTES: Final = 150_000
_ID_CHARACTERS: Final = 20

STRONGEST: Final[tuple[Role, ...]] = ("admin", "developer", "viewer", "billing")
"""Who is given more than one role has the first of these. It is an order to choose by: `billing` sees what a `viewer` does not."""

IssuerUrl = Annotated[str, Meta(min_length=1, max_length=MOST_URL_CHARACTERS)]
KeysUrl = Annotated[str, Meta(min_length=1, max_length=urls.MOST_CHARACTERS)]
Audience = Annotated[str, Meta(min_length=1, max_length=255)]
ClaimName = Annotated[str, Meta(min_length=1, max_length=255)]
Given = Role | Literal["operator"]
"""What a token may make of who shows it."""
Pair = tuple[str, str]
"""An issuer's URL and an audience: it belongs to one tenant, or to the platform."""


class _Trust(Struct, frozen=True, forbid_unknown_fields=True):
    """Whose tokens, and for whom they must be. A field that the reader does not know may be a condition: to overlook it would be to lift
    it, so it is refused.
    """

    issuer: IssuerUrl
    """As `iss` has it, letter by letter."""
    audience: Audience
    """Must be among those of `aud`."""
    jwks_url: KeysUrl | None = None
    """Where its keys are; None: its OpenID configuration says that."""
    roles_claim: ClaimName | None = None
    """None: no role is in its tokens."""
    insecure: bool = False
    """May be http, and at a private address: for tests and laptops."""

    @property
    def pair(self) -> Pair:
        return self.issuer, self.audience

    @property
    def held(self) -> Held:
        return Held("issuer", *self.pair)


class TenantIssuer(_Trust, frozen=True, forbid_unknown_fields=True):
    """One that a tenant has for itself: who has a token of it is the tenant's. Stored in `TenantIssuers`."""

    roles: Annotated[dict[str, Role], Meta(max_length=MOST_ROLES)] | None = None
    """From what the claim says to a role; None: it says roles by their own names."""

    @property
    def key(self) -> Pair:
        """What is compared."""
        return self.pair


class Issuer(_Trust, frozen=True, forbid_unknown_fields=True, tag_field="v", tag=1):
    """One for many tenants, of which a token names one; or the operators' own. Documents and rows know it by its URL.

    Stored as JSON, version 1. A row with a field that the reader does not know is refused, as of a plan: a new one reaches every
    reader before the first issuer that has it. What changes a meaning is version 2.
    """

    roles: Annotated[dict[str, Given], Meta(max_length=MOST_ROLES)] | None = None
    tenant_claim: ClaimName | None = None
    """Holds the name of the tenant. None: of the operators'."""
    operators: bool = False
    """Its tokens are for the operators' listener; who is given the role `operator` is one, and nobody else."""

    @property
    def name(self) -> str:
        return self.issuer

    @property
    def id(self) -> str:
        return id_of(self.issuer)


class TenantIssuers(Holding[TenantIssuer], frozen=True):
    """Stored under the rule of `Holding`."""

    entries: tuple[TenantIssuer, ...] = field(default=(), name="issuers")


def id_of(url: str) -> str:
    """How the URL of an issuer is called in paths and places: the first 20 hexadecimal digits of its SHA-256."""
    return sha256(url.encode()).hexdigest()[:_ID_CHARACTERS]


# What is wrong with them


def faults(issuer: TenantIssuer | Issuer) -> Iterator[Invalid]:
    """What is wrong with it beyond the types of its fields, each with the path to it."""
    reasons = urls.issuer_faults(issuer.issuer, insecure=issuer.insecure)
    yield from (Invalid("issuer", reason) for reason in reasons)
    if issuer.jwks_url is not None:
        reasons = urls.faults(issuer.jwks_url, insecure=issuer.insecure)
        yield from (Invalid("jwks_url", reason) for reason in reasons)
    named = {"audience": issuer.audience, "roles_claim": issuer.roles_claim}
    if isinstance(issuer, Issuer):
        named["tenant_claim"] = issuer.tenant_claim
    for path, text in named.items():
        if text is not None and not text.isprintable():
            yield Invalid(path, "must be printable characters")
    yield from _roles_faults(issuer)
    if isinstance(issuer, Issuer):
        yield from _sort_faults(issuer)


def list_faults(issuers: Sequence[TenantIssuer], path: str = "issuers") -> Iterator[Invalid]:
    """What is wrong with all that a tenant has, each by itself and together."""
    if len(issuers) > MOST_ISSUERS:
        yield Invalid(path, f"has {len(issuers)} issuers, and a tenant may have {MOST_ISSUERS}")
    first: dict[Pair, int] = {}
    for position, issuer in enumerate(issuers):
        at = f"{path}[{position}]"
        yield from (Invalid(f"{at}.{fault.path}", fault.reason) for fault in faults(issuer))
        before = first.setdefault(issuer.pair, position)
        if before != position:
            yield Invalid(at, f"has the issuer and the audience of {path}[{before}]")
    if len(msgspec.json.encode(issuers)) > MOST_ROW_BYTES:
        yield Invalid(path, f"is too large: more than {MOST_ROW_BYTES} bytes as they are stored")


def _roles_faults(issuer: TenantIssuer | Issuer) -> Iterator[Invalid]:
    if issuer.roles is None:
        return
    if issuer.roles_claim is None:
        yield Invalid("roles", "says nothing without roles_claim")
    if not issuer.roles:
        yield Invalid("roles", "is empty, and nobody would have a role: leave it out, or map a value")
    operators = isinstance(issuer, Issuer) and issuer.operators
    for value, role in issuer.roles.items():
        path = f"roles.{value}"
        if not 1 <= len(value) <= _MOST_VALUE or not value.isprintable():
            yield Invalid("roles", f"must map values of 1 to {_MOST_VALUE} printable characters")
        elif operators != (role == "operator"):
            yield Invalid(path, "must be operator" if operators else "must be a role of members")


def _sort_faults(issuer: Issuer) -> Iterator[Invalid]:
    """Whether it is the operators' or for many tenants, and wholly so."""
    if not issuer.operators:
        if issuer.tenant_claim is None:
            yield Invalid(
                "tenant_claim",
                "is missing: it names the claim with the tenant's name; or say operators: true",
            )
        return
    if issuer.tenant_claim is not None:
        yield Invalid("tenant_claim", "has no meaning with operators: true, who are of no tenant")
    if issuer.roles_claim is None:
        yield Invalid("roles_claim", "is missing: with operators: true it says who is one")


# What a token's claims say


def role_of(issuer: TenantIssuer | Issuer, claims: Mapping[str, object]) -> Given | None:
    """The role that a token of this issuer gives, of several the `STRONGEST`; "operator" of the operators' issuer, and of no other.

    Values that mean nothing here are passed over. None: no role, also where the claim is neither a text nor a list of texts.
    """
    found = None if issuer.roles_claim is None else _claim(claims, issuer.roles_claim)
    values = [found] if isinstance(found, str) else found
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        return None
    operators = isinstance(issuer, Issuer) and issuer.operators
    by_name: Mapping[str, Given] = {"operator": "operator"} if operators else {it: it for it in STRONGEST}
    table: Mapping[str, Given] = by_name if issuer.roles is None else issuer.roles
    given = {table[value] for value in values if value in table}
    if operators:
        return "operator" if "operator" in given else None
    return next((role for role in STRONGEST if role in given), None)


def tenant_of(issuer: TenantIssuer | Issuer, claims: Mapping[str, object]) -> str | None:
    """The name of the tenant that a token of a shared issuer is of; whether there is one is not said. None for any other issuer, and
    where the claim is no such name.
    """
    if isinstance(issuer, TenantIssuer) or issuer.operators or issuer.tenant_claim is None:
        return None
    found = _claim(claims, issuer.tenant_claim)
    return found if isinstance(found, str) and not any(names.TENANT.faults(found, "")) else None


def _claim(claims: Mapping[str, object], name: str) -> object:
    """The claim of this very name, else what is at that path; None where there is nothing."""
    if name in claims:
        return claims[name]
    node: object = claims
    for part in name.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    return node
