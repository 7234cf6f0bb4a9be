"""A client's certificate as a tenant's credential: which name in it is whose. Pure.

    certificates: [{name: ingest, uri: "spiffe://acme.example/ingest", models: [digits]}]

What counts is one name of the subject's alternative names (RFC 5280, 4.2.1.6), letter by letter: no wildcard, and never the common name.
One is one tenant's. Whose certificates are read at all is for the listener's authorities to say.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct, field

from tenants import names
from tenants.errors import Invalid
from tenants.holdings import Held, Holding
from tenants.names import CertificateName, ModelName

MOST_CERTIFICATES: Final = 8
"""Of one tenant: all of them are changed in one transaction, which takes 25 items."""
MOST_MODELS: Final = 100
MOST_URI: Final = 2048
MOST_DNS: Final = 253
MOST_EMAIL: Final = 254
# An event holds the row before and after, and a row of a table has 350,000 bytes.
MOST_ROW_BYTES: Final = 150_000

Sort = Literal["uri", "dns", "email"]
Identity = tuple[Sort, str]
"""A name in certificates: it belongs to one tenant."""

_URI: Final = re.compile(r"[a-z][a-z0-9+.-]*:[!-~]+")
_DNS: Final = re.compile(
    r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
)
_EMAIL: Final = re.compile(r"[!-?A-~]+@[!-?A-~]+")
_FORMS: Final[dict[Sort, tuple[re.Pattern[str], int, str]]] = {
    "uri": (_URI, MOST_URI, "a URI as spiffe://acme.example/ingest, its scheme in lower case"),
    "dns": (_DNS, MOST_DNS, "a host name in lower case, as ingest.acme.example, without a wildcard"),
    "email": (_EMAIL, MOST_EMAIL, "an email address, as ingest@acme.example"),
}


class TenantCertificate(Struct, frozen=True, forbid_unknown_fields=True):
    """Who shows a certificate with this name is the tenant's. A field that the reader does not know may be a condition: to overlook it
    would be to lift it, so it is refused. Stored in `TenantCertificates`.
    """

    name: CertificateName
    """What its tenant calls it; none has it twice."""
    uri: Annotated[str, Meta(min_length=1, max_length=MOST_URI)] | None = None
    dns: Annotated[str, Meta(min_length=1, max_length=MOST_DNS)] | None = None
    email: Annotated[str, Meta(min_length=1, max_length=MOST_EMAIL)] | None = None
    """Of these three it has exactly one."""
    models: Annotated[tuple[ModelName, ...], Meta(min_length=1, max_length=MOST_MODELS)] | None = None
    """The names of the models it may use; None means all that the tenant may."""

    @property
    def key(self) -> str:
        """What is compared."""
        return self.name

    @property
    def identity(self) -> Identity:
        """Of one that has no faults."""
        return self.identities[0]

    @property
    def held(self) -> Held:
        """As `identity`."""
        return held(self.identity)

    @property
    def identities(self) -> tuple[Identity, ...]:
        found: tuple[tuple[Sort, str | None], ...] = (
            ("uri", self.uri),
            ("dns", self.dns),
            ("email", self.email),
        )
        return tuple((sort, text) for sort, text in found if text is not None)


class TenantCertificates(Holding[TenantCertificate], frozen=True):
    """Stored under the rule of `Holding`."""

    entries: tuple[TenantCertificate, ...] = field(default=(), name="certificates")


def held(identity: Identity) -> Held:
    sort, text = identity
    return Held("certificate", text, sort)


def faults(one: TenantCertificate) -> Iterator[Invalid]:
    """What is wrong with it beyond the types of its fields, each with the path to it."""
    yield from names.CERTIFICATE.faults(one.name, "name")
    found = one.identities
    if len(found) != 1:
        yield Invalid("", "must have exactly one of uri, dns and email")
    for sort, text in found:
        form, most, words = _FORMS[sort]
        if len(text) > most or not form.fullmatch(text):
            yield Invalid(sort, f"must be {words}, of {most} characters at most")
    for position, model in enumerate(one.models or ()):
        path = f"models[{position}]"
        yield from names.MODEL.faults(model, path)
        if one.models and model in one.models[:position]:
            yield Invalid(path, "is there already")


def list_faults(certificates: Sequence[TenantCertificate], path: str = "certificates") -> Iterator[Invalid]:
    """What is wrong with all that a tenant has, each by itself and together."""
    if len(certificates) > MOST_CERTIFICATES:
        yield Invalid(path, f"has {len(certificates)} of them, and a tenant may have {MOST_CERTIFICATES}")
    by_name: dict[str, int] = {}
    by_identity: dict[Identity, int] = {}
    for position, one in enumerate(certificates):
        at = f"{path}[{position}]"
        for fault in faults(one):
            yield Invalid(f"{at}.{fault.path}".removesuffix("."), fault.reason)
        before = by_name.setdefault(one.name, position)
        if before != position:
            yield Invalid(f"{at}.name", f"is that of {path}[{before}]")
        for identity in one.identities:
            before = by_identity.setdefault(identity, position)
            if before != position:
                yield Invalid(f"{at}.{identity[0]}", f"is that of {path}[{before}]")
    if len(msgspec.json.encode(certificates)) > MOST_ROW_BYTES:
        yield Invalid(path, f"is too large: more than {MOST_ROW_BYTES} bytes as they are stored")
