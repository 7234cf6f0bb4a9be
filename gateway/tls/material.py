"""A certificate with its chain and key, and the authorities of clients: PEM becomes what may be shown, or a sentence says why not. Pure.

Fails closed: one fault, and nothing of it is used.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    SECP384R1,
    SECP521R1,
    EllipticCurvePrivateKey,
)
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from gateway.tls.errors import TlsRefused

SOON: Final = timedelta(days=14)
_LEAST_RSA_BITS: Final = 2048
_CURVES: Final = (SECP256R1, SECP384R1, SECP521R1)
_MOST_CERTIFICATES: Final = 1000


@dataclass(frozen=True, slots=True)
class Pems:
    """What the files held. `names` are theirs, in the same order, for the sentences."""

    certificate: bytes
    key: bytes = field(repr=False)
    authorities: bytes = b""
    """Empty: no client is asked for a certificate."""
    names: tuple[str, str, str] = ("certificate", "key", "client authorities")


@dataclass(frozen=True, slots=True)
class Material:
    """What may be shown: PEM, as it was judged."""

    chain: bytes
    """The listener's own certificate first."""
    key: bytes = field(repr=False)
    authorities: bytes
    fingerprint: str
    """SHA-256 of the certificate, in hex."""
    not_before: datetime
    not_after: datetime

    def is_ending(self, now: datetime) -> bool:
        """Whether it should have been replaced by now: within 14 days of its end, or the last third of a short life."""
        return self.not_after - now < min(SOON, (self.not_after - self.not_before) / 3)


def judged(pems: Pems, now: datetime) -> Material:
    """Raises TlsRefused."""
    named, of_key, of_authorities = pems.names
    chain = certificates(pems.certificate, named)
    key = _key(pems.key, of_key)
    own = chain[0]
    try:
        is_its_key = own.public_key() == key.public_key()
    except (ValueError, UnsupportedAlgorithm) as fault:  # read only now, not with the certificate
        raise TlsRefused(f"{named} is of a key that cannot be read: {fault}") from fault
    if not is_its_key:
        raise TlsRefused(f"{of_key} is not the key of the first certificate in {named}")
    if now >= own.not_valid_after_utc:
        raise TlsRefused(
            f"{named} is over since {own.not_valid_after_utc:%Y-%m-%d %H:%M} UTC; put a new one there"
        )
    if now < own.not_valid_before_utc:
        raise TlsRefused(f"{named} is not valid before {own.not_valid_before_utc:%Y-%m-%d %H:%M} UTC")
    authorities = certificates(pems.authorities, of_authorities) if pems.authorities else []
    return Material(
        chain=pem_of(chain),
        key=pems.key,
        authorities=pem_of(authorities),
        fingerprint=own.fingerprint(SHA256()).hex(),
        not_before=own.not_valid_before_utc,
        not_after=own.not_valid_after_utc,
    )


def moment(now_us: int) -> datetime:
    return datetime.fromtimestamp(now_us / 1_000_000, UTC)


def certificates(pem: bytes, name: str) -> list[x509.Certificate]:
    """Raises TlsRefused."""
    try:
        found = x509.load_pem_x509_certificates(pem)
    except (ValueError, UnsupportedAlgorithm) as fault:
        raise TlsRefused(
            f"{name} must hold certificates in PEM (BEGIN CERTIFICATE), and {_instead(pem)}"
        ) from fault
    if len(found) > _MOST_CERTIFICATES:
        raise TlsRefused(f"{name} holds more than {_MOST_CERTIFICATES} certificates")
    return found


def _key(pem: bytes, name: str) -> RSAPrivateKey | EllipticCurvePrivateKey:
    if b"ENCRYPTED" in pem:
        raise TlsRefused(
            f"{name} is encrypted, and nobody is there to type its password; write it without one"
        )
    try:
        key = load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as fault:
        raise TlsRefused(
            f"{name} must hold a private key in PEM (BEGIN PRIVATE KEY), and {_instead(pem)}"
        ) from fault
    if isinstance(key, RSAPrivateKey) and key.key_size >= _LEAST_RSA_BITS:
        return key
    if isinstance(key, EllipticCurvePrivateKey) and isinstance(key.curve, _CURVES):
        return key
    raise TlsRefused(f"{name} must be a key of RSA with 2048 bits or more, or of P-256, P-384 or P-521")


def _instead(pem: bytes) -> str:
    """What it is, without a byte of it."""
    if b"PRIVATE KEY" in pem:
        return "holds a private key that cannot be read"
    if b"BEGIN CERTIFICATE-----" in pem:
        return "holds a certificate that cannot be read"
    return "holds nothing of the kind" if pem.strip() else "is empty"


def pem_of(chain: Sequence[x509.Certificate]) -> bytes:
    return b"".join(it.public_bytes(Encoding.PEM) for it in chain)
