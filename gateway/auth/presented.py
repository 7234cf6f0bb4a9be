"""A client's certificate, as a connection has verified it, becomes the names that it may be known by. Pure.

The handshake has judged its chain, its purpose and its time against the listener's authorities; here its form is judged, and that its key
protects something. Fails closed: what cannot be used says `why`, and is nobody's. Names are read from the subject's alternative names
alone (RFC 5280, 4.2.1.6), and never from the common name.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, Protocol

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    SECP384R1,
    SECP521R1,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import MD5, SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.auth.reading import Rejected
from gateway.auth.weak import check_modulus, check_point
from tenants.certificates import MOST_DNS, MOST_EMAIL, MOST_URI, Identity
from tenants.keys import Secret

MOST_BYTES: Final = 16 * 1024
"""Of one certificate, in DER."""
MOST_NAMES: Final = 100
_MOST_REMEMBERED: Final = 256
_CURVES: Final = (SECP256R1, SECP384R1, SECP521R1)
_END: Final = b"-----END CERTIFICATE-----"
_US: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a caller may be known by without a key or token. Times are microseconds since the Unix epoch."""

    fingerprint: str
    """SHA-256 of it, in hex."""
    identities: tuple[Identity, ...] = ()
    begins_us: int = 0
    ends_us: int = 0
    why: str = ""
    """Why it is nobody's, whoever its names are."""

    @property
    def digest(self) -> str:
        """What it is remembered by, beside keys and tokens: those have no space in theirs."""
        return f"certificate {self.fingerprint}"


Credential = Secret | Certificate
"""A key or token, or the certificate of the connection for who has shown neither."""


def of_der(der: bytes) -> Certificate:
    """Never raises: what cannot be read is told in `why`."""
    if len(der) > MOST_BYTES:
        return Certificate("", why=f"it has more than {MOST_BYTES} bytes")
    try:
        return _read(x509.load_der_x509_certificate(der))
    except (ValueError, UnsupportedAlgorithm, x509.UnsupportedGeneralNameType) as fault:
        return Certificate("", why=f"it cannot be read: {fault}")


class Verified(Protocol):
    """A connection whose handshake is over; an ssl.SSLObject is one."""

    def getpeercert(self, *, binary_form: Literal[True]) -> bytes | None:
        """In DER; None for a client that showed none."""


def of_tls(tls: Verified | None) -> Certificate | None:
    """What the client of a connection showed and the handshake verified; None in the clear, and of who showed none."""
    der = tls.getpeercert(binary_form=True) if tls is not None else None
    return of_der(der) if der is not None else None


@lru_cache(_MOST_REMEMBERED)
def of_pem(pem: bytes) -> Certificate:
    """The same of PEM; the first one, where several stand there. A connection over gRPC gives it anew with each call."""
    end = pem.find(_END)
    if end < 0 or end > 2 * MOST_BYTES:
        return Certificate("", why=f"it is no PEM of at most {MOST_BYTES} bytes")
    try:
        found = x509.load_pem_x509_certificate(pem[: end + len(_END)] + b"\n")
    except (ValueError, UnsupportedAlgorithm) as fault:
        return Certificate("", why=f"it cannot be read: {fault}")
    return of_der(found.public_bytes(Encoding.DER))


def _read(found: x509.Certificate) -> Certificate:
    """Raises ValueError, UnsupportedAlgorithm, x509.UnsupportedGeneralNameType."""
    fingerprint = found.fingerprint(SHA256()).hex()
    try:
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return Certificate(fingerprint, why="it has no alternative names")
    except x509.DuplicateExtension:
        return Certificate(fingerprint, why="it has the same extension twice")
    if len(names) > MOST_NAMES:
        return Certificate(fingerprint, why=f"it has more than {MOST_NAMES} alternative names")
    return Certificate(
        fingerprint,
        _identities(names),
        _us(found.not_valid_before_utc.timestamp()),
        _us(found.not_valid_after_utc.timestamp()),
        _weakness(found),
    )


def _identities(names: x509.SubjectAlternativeName) -> tuple[Identity, ...]:
    """Each once. Host names are the same in whatever case (RFC 4343); a name that is longer than any that is mapped is nobody's."""
    found: dict[Identity, None] = {}
    for name in names:
        match name:
            case x509.UniformResourceIdentifier(value=text) if len(text) <= MOST_URI:
                found["uri", text] = None
            case x509.DNSName(value=text) if len(text) <= MOST_DNS and text.isascii():
                found["dns", text.lower()] = None
            case x509.RFC822Name(value=text) if len(text) <= MOST_EMAIL:
                found["email", text] = None
    return tuple(found)


def _weakness(found: x509.Certificate) -> str:
    """As of the keys that tokens are verified with."""
    if isinstance(found.signature_hash_algorithm, MD5 | SHA1):
        return "it is signed over a weak hash"
    key = found.public_key()
    try:
        if isinstance(key, RSAPublicKey):
            check_modulus(key.public_numbers().n)
        elif isinstance(key, Ed25519PublicKey):
            check_point(key.public_bytes(Encoding.Raw, PublicFormat.Raw))
        elif not (isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, _CURVES)):
            return "its key is none of RSA, P-256, P-384, P-521 and Ed25519"
    except Rejected as fault:
        return f"its key is weak: {fault.reason}"
    return ""


def _us(seconds: float) -> int:
    return int(seconds) * _US
