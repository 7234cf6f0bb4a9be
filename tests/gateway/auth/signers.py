"""An issuer with a key of each kind, and somebody else with the same kinds: what they sign, as it should be and as it should not.

Keys of RSA are made once a process; the others, and all times, are fixed.
"""

import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

NOW_US: Final = 1_700_000_000_000_000
NOW: Final = NOW_US // 1_000_000
P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
ED25519_ORDER: Final = 2**252 + 27742317777372353535851937790883648493
ABSENT: Final = object()
"""As a value of a header, a claim or a key: it has no such name."""

KIDS: Final = {"RS256": "rsa-1", "PS256": "rsa-1", "ES256": "ec-1", "EdDSA": "ed-1"}


@dataclass(frozen=True)
class Signer:
    """The private keys of one issuer."""

    rsa: rsa.RSAPrivateKey
    ec: ec.EllipticCurvePrivateKey
    ed: ed25519.Ed25519PrivateKey

    def sign(self, algorithm: str, data: bytes) -> bytes:
        """By an algorithm of ours; ECDSA as r and s, 32 bytes each."""
        if algorithm == "RS256":
            return self.rsa.sign(data, padding.PKCS1v15(), hashes.SHA256())
        if algorithm == "PS256":
            return self.rsa.sign(data, pss(32), hashes.SHA256())
        if algorithm == "EdDSA":
            return self.ed.sign(data)
        r, s = decode_dss_signature(self.ec.sign(data, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def published(self) -> list[dict[str, Any]]:
        """As this issuer publishes them."""
        return [rsa_key(self.rsa), ec_key(self.ec), ed_key(self.ed)]


def pss(salt_bytes: int, mask: hashes.HashAlgorithm | None = None) -> padding.PSS:
    return padding.PSS(padding.MGF1(mask or hashes.SHA256()), salt_bytes)


@cache
def signer(number: int) -> Signer:
    return Signer(
        rsa.generate_private_key(65537, 2048),
        ec.derive_private_key(1_000_003 + number, ec.SECP256R1()),
        ed25519.Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32),
    )


@dataclass(frozen=True)
class World:
    """One issuer and what it says of a caller; `stranger` signs too, and publishes its keys elsewhere under the same names.

    Whoever sends these tokens through a whole gateway gives the world an issuer and an audience that this gateway knows.
    """

    issuer: str = "https://login.acme.example"
    audience: str = "gateway"
    subject: str = "alice"
    now: int = NOW
    own: Signer = field(default_factory=lambda: signer(1))
    stranger: Signer = field(default_factory=lambda: signer(2))
    more: Mapping[str, Any] | None = None
    """Claims that every token has."""

    def header(self, algorithm: str = "RS256", **given: Any) -> dict[str, Any]:
        return kept({"alg": algorithm, "kid": KIDS.get(algorithm, "rsa-1"), "typ": "JWT", **given})

    def claims(self, **given: Any) -> dict[str, Any]:
        said = {"iss": self.issuer, "sub": self.subject, "aud": self.audience, "iat": self.now}
        return kept({**said, "exp": self.now + 300, **(self.more or {}), **given})

    def token(
        self,
        algorithm: str = "RS256",
        *,
        header: Mapping[str, Any] | None = None,
        claims: Mapping[str, Any] | None = None,
        by: Signer | None = None,
        signs: str = "",
    ) -> str:
        """Right but for what is given, and signed; `signs` is the algorithm that is used where the header has another."""
        head, said = self.header(algorithm, **(header or {})), self.claims(**(claims or {}))
        return self.raw(dumped(head), dumped(said), signs or algorithm, by)

    def raw(
        self,
        header: bytes | None = None,
        payload: bytes | None = None,
        signs: str = "EdDSA",
        by: Signer | None = None,
    ) -> str:
        """Of any bytes, with a signature that is right for them."""
        head = dumped(self.header(signs)) if header is None else header
        said = dumped(self.claims()) if payload is None else payload
        text = f"{base64url(head)}.{base64url(said)}"
        return f"{text}.{base64url((by or self.own).sign(signs, text.encode()))}"

    def parts(self, algorithm: str = "RS256") -> tuple[str, bytes]:
        """The signing input of a right token, and its signature."""
        text, _, _ = self.token(algorithm).rpartition(".")
        return text, self.own.sign(algorithm, text.encode())

    def key_set(self) -> bytes:
        return dumped({"keys": self.own.published()})


def kept(found: Mapping[str, Any]) -> dict[str, Any]:
    return {name: it for name, it in found.items() if it is not ABSENT}


def dumped(value: Any) -> bytes:
    return json.dumps(value).encode()


def base64url(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value: int) -> str:
    return base64url(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def rsa_key(key: rsa.RSAPrivateKey, **given: Any) -> dict[str, Any]:
    public = key.public_key().public_numbers()
    said = {"kty": "RSA", "kid": "rsa-1", "use": "sig", "n": number(public.n), "e": number(public.e)}
    return kept({**said, **given})


def ec_key(key: ec.EllipticCurvePrivateKey, **given: Any) -> dict[str, Any]:
    public = key.public_key().public_numbers()
    size = (key.curve.key_size + 7) // 8
    x, y = (base64url(it.to_bytes(size, "big")) for it in (public.x, public.y))
    return kept({"kty": "EC", "crv": "P-256", "kid": "ec-1", "alg": "ES256", "x": x, "y": y, **given})


def ed_key(key: ed25519.Ed25519PrivateKey, **given: Any) -> dict[str, Any]:
    x = base64url(key.public_key().public_bytes_raw())
    return kept({"kty": "OKP", "crv": "Ed25519", "kid": "ed-1", "key_ops": ["verify"], "x": x, **given})
