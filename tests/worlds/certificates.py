"""An authority of a test's own, and the certificates that it gives."""

import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

LOCALHOST: Final = (x509.DNSName("localhost"), x509.IPAddress(IPv4Address("127.0.0.1")))


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key, in PEM."""

    certificate: bytes
    key: bytes

    def write(self, folder: Path, name: str = "tls") -> tuple[Path, Path]:
        certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
        certificate.write_bytes(self.certificate)
        key.touch(mode=0o600)
        key.write_bytes(self.key)
        return certificate, key


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def pem_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@dataclass(slots=True)
class Authority:
    name: str = "a test's authority"
    key: ec.EllipticCurvePrivateKey = field(default_factory=new_key)
    pem: bytes = b""

    def __post_init__(self) -> None:
        name, now = _name(self.name), datetime.now(UTC)
        made = x509.CertificateBuilder(name, name, self.key.public_key(), x509.random_serial_number())
        made = made.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=365))
        made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.pem = made.sign(self.key, SHA256()).public_bytes(Encoding.PEM)

    def gives(
        self,
        name: str = "localhost",
        *,
        begins: timedelta = timedelta(days=-1),
        lasts: timedelta = timedelta(days=90),
        names: Sequence[x509.GeneralName] = LOCALHOST,
    ) -> Pair:
        """For localhost and 127.0.0.1, or these names; it `lasts` from now."""
        key, now = new_key(), datetime.now(UTC)
        made = x509.CertificateBuilder(
            _name(self.name), _name(name), key.public_key(), x509.random_serial_number()
        )
        made = made.not_valid_before(now + begins).not_valid_after(now + lasts)
        made = made.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return Pair(made.sign(self.key, SHA256()).public_bytes(Encoding.PEM), pem_of(key))

    def trusted(self) -> ssl.SSLContext:
        """For a client that trusts this authority alone."""
        return ssl.create_default_context(cadata=self.pem.decode())
