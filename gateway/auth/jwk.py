"""The keys that an issuer publishes (RFC 7517, 7518, 8037), each judged before it is used, and what they sign. Pure.

A key that is not sound, not public or not for signatures is left out and its set goes on without it. `x5c` and its like in a key are not
looked at: who the key is of is said by the address that the set came from.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import Algorithm as Arithmetic
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm, RSAPSSAlgorithm

from gateway.auth.claims import MOST_ISSUER, Algorithm, Token
from gateway.auth.reading import (
    MOST_DOCUMENT_BYTES,
    MOST_KEYS_BYTES,
    Rejected,
    base64url,
    json_object,
    optional_text,
    text_of,
)
from gateway.auth.weak import check_modulus, check_point
from tenants import urls

MOST_KEYS: Final = 100
MOST_KID: Final = 256

ALGORITHMS: Final[Mapping[Algorithm, Arithmetic]] = {
    "RS256": RSAAlgorithm(RSAAlgorithm.SHA256),
    "PS256": RSAPSSAlgorithm(RSAPSSAlgorithm.SHA256),
    "ES256": ECAlgorithm(ECAlgorithm.SHA256, ec.SECP256R1),
    "EdDSA": OKPAlgorithm(),
}
_OF_TYPE: Final[Mapping[str, tuple[Algorithm, ...]]] = {
    "RSA": ("RS256", "PS256"),
    "EC": ("ES256",),
    "OKP": ("EdDSA",),
}
_PRIVATE: Final = ("d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv")
_EXPONENTS: Final = range(65537, 2**32, 2)
_POINT_BYTES: Final = 32
_P256_PRIME: Final = 2**256 - 2**224 + 2**192 + 2**96 - 1

_Public = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


@dataclass(frozen=True, slots=True)
class VerificationKey:
    kid: str | None
    algorithms: tuple[Algorithm, ...]
    numbers: tuple[str, ...]
    """What the key is, as RFC 7638 takes it: one text a key, since base64url is read strictly."""
    public: _Public


@dataclass(frozen=True, slots=True)
class KeySet:
    """`rejected` says of each key that is not used why, by its place in the set. Sets of equal keys have equal digests."""

    keys: tuple[VerificationKey, ...]
    rejected: tuple[str, ...]
    digest: str

    def __len__(self) -> int:
        return len(self.keys)

    def key_for(self, token: Token) -> VerificationKey | None:
        """The key of this name and algorithm; without a name the only one for the algorithm. None: the set has no such key."""
        fitting = [it for it in self.keys if token.algorithm in it.algorithms]
        if token.kid is not None:
            fitting = [it for it in fitting if it.kid == token.kid]
        return fitting[0] if len(fitting) == 1 else None


def key_set(content: bytes) -> KeySet:
    """The keys of a JWK Set. Raises Rejected where it is none; a key that is not sound is left out.

    Of two keys with one `kid` that one algorithm fits, neither is used: which one was meant is anybody's guess.
    """
    if len(content) > MOST_KEYS_BYTES:
        raise Rejected("the key set is too long")
    found = json_object(content).get("keys")
    if not isinstance(found, list):
        raise Rejected("the key set has no list of keys")
    if len(found) > MOST_KEYS:
        raise Rejected("the key set has too many keys")
    keys, rejected = {}, []
    for place, it in enumerate(found, start=1):
        try:
            keys[place] = _key(it)
        except Rejected as fault:
            rejected.append(f"key {place}: {fault.reason}")
    names = Counter((it.kid, algorithm) for it in keys.values() for algorithm in it.algorithms)
    for place, it in list(keys.items()):
        if it.kid is not None and any(names[it.kid, algorithm] > 1 for algorithm in it.algorithms):
            rejected.append(f"key {place}: another key has its kid and algorithm")
            del keys[place]
    return KeySet(tuple(keys.values()), tuple(rejected), _digest(keys.values()))


def issuer_document(content: bytes) -> tuple[str, str]:
    """The `issuer` and the `jwks_uri` of OpenID Connect Discovery, 3, or RFC 8414, 2. Raises Rejected.

    Whether the issuer is the one that was asked, and whether that URL may be fetched, is for who fetches to judge.
    """
    if len(content) > MOST_DOCUMENT_BYTES:
        raise Rejected("the issuer's document is too long")
    found = json_object(content)
    issuer = text_of(found.get("issuer"), "issuer", MOST_ISSUER)
    return issuer, text_of(found.get("jwks_uri"), "jwks_uri", urls.MOST_CHARACTERS)


def verifies(key: VerificationKey, algorithm: Algorithm, signed: bytes, signature: bytes) -> bool:
    """Whether it is this key's signature. One of RSA has as many bytes as the modulus (RFC 8017, 8.1.2 and 8.2.2); OpenSSL takes one of
    PSS also without the zeros that it starts with.
    """
    if isinstance(key.public, rsa.RSAPublicKey) and len(signature) != (key.public.key_size + 7) // 8:
        return False
    return ALGORITHMS[algorithm].verify(signed, key.public, signature)


def _key(found: object) -> VerificationKey:
    if not isinstance(found, dict):
        raise Rejected("no JSON object")
    kind = found.get("kty")
    if not isinstance(kind, str) or kind not in _OF_TYPE:
        raise Rejected("kty is none of RSA, EC and OKP")
    if any(name in found for name in _PRIVATE):
        raise Rejected("a private or symmetric key is published")
    _check_purpose(found)
    algorithms, kid = _algorithms(found, _OF_TYPE[kind]), optional_text(found, "kid", MOST_KID)
    try:
        public, names = _READERS[kind](found)
    except ValueError:
        raise Rejected("its numbers are no key") from None
    return VerificationKey(kid, algorithms, (kind, *(found[name] for name in names)), public)


def _check_purpose(found: Mapping[str, Any]) -> None:
    """RFC 7517, 4.2 and 4.3: it is for signatures, and where both say so they agree."""
    use, operations = found.get("use", "sig"), found.get("key_ops", ["verify"])
    if use != "sig":
        raise Rejected("use is not sig")
    if not isinstance(operations, list) or not all(isinstance(it, str) for it in operations):
        raise Rejected("key_ops is no list of strings")
    if len(set(operations)) != len(operations) or "verify" not in operations:
        raise Rejected("key_ops has one twice, or verify is not among them")
    if "use" in found and not {"sign", "verify"}.issuperset(operations):
        raise Rejected("use and key_ops do not agree")


def _algorithms(found: Mapping[str, Any], fitting: tuple[Algorithm, ...]) -> tuple[Algorithm, ...]:
    if "alg" not in found:
        return fitting
    chosen = tuple(it for it in fitting if it == found["alg"])
    if not chosen:
        raise Rejected("alg is none of ours for this kty")
    return chosen


def _rsa(found: Mapping[str, Any]) -> tuple[_Public, tuple[str, ...]]:
    modulus, exponent = _number(found, "n"), _number(found, "e")
    if exponent not in _EXPONENTS:
        raise Rejected("e is even, too small or too large")
    check_modulus(modulus)
    return rsa.RSAPublicNumbers(exponent, modulus).public_key(), ("e", "n")


def _ec(found: Mapping[str, Any]) -> tuple[_Public, tuple[str, ...]]:
    """The library refuses what is not on the curve, with a ValueError, and takes x + p for x. P-256 has no small subgroups."""
    if found.get("crv") != "P-256":
        raise Rejected("crv is not P-256")
    x, y = (int.from_bytes(_point(found, name), "big") for name in ("x", "y"))
    if max(x, y) >= _P256_PRIME:
        raise Rejected("x or y is another form of a number")
    return ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key(), ("crv", "x", "y")


def _okp(found: Mapping[str, Any]) -> tuple[_Public, tuple[str, ...]]:
    """The library takes points of small order and other forms of a point, so those are judged here."""
    if found.get("crv") != "Ed25519":
        raise Rejected("crv is not Ed25519")
    point = _point(found, "x")
    check_point(point)
    return ed25519.Ed25519PublicKey.from_public_bytes(point), ("crv", "x")


_READERS: Final = {"RSA": _rsa, "EC": _ec, "OKP": _okp}


def _bytes(found: Mapping[str, Any], name: str) -> bytes:
    value = found.get(name)
    if not isinstance(value, str):
        raise Rejected("one of its numbers is no string")
    return base64url(value)


def _number(found: Mapping[str, Any], name: str) -> int:
    """RFC 7518, 2: of as many octets as are needed."""
    octets = _bytes(found, name)
    if octets[0] == 0:
        raise Rejected("one of its numbers has a zero before it")
    return int.from_bytes(octets, "big")


def _point(found: Mapping[str, Any], name: str) -> bytes:
    """RFC 7518, 6.2.1.2, and RFC 8037, 2: always of the full size."""
    octets = _bytes(found, name)
    if len(octets) != _POINT_BYTES:
        raise Rejected("one of its numbers is not of the curve's size")
    return octets


def _digest(keys: Collection[VerificationKey]) -> str:
    """In whatever order they came."""
    named = sorted([it.kid or "", *it.algorithms, *it.numbers] for it in keys)
    return hashlib.sha256(json.dumps(named).encode()).hexdigest()
