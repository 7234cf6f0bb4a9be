"""JSON Web Tokens (RFC 7519) in JWS compact serialization (RFC 7515), read strictly before a library sees them (RFC 8725). Pure.

Four algorithms and no others: no `none`, no HMAC, under which a public key would be a secret, nothing encrypted and nothing nested.
The header names an algorithm and a key, and both must be the issuer's own: the key comes from the issuer's set alone, and it says which
algorithms it is for. `jku`, `x5u`, `jwk` and `x5c` are never followed or used. Their presence is no fault, since some providers always
send `jku`.

A token has one text but for one exception: of an ECDSA signature (r, s) the twin (r, n-s) verifies as well. Honest signers produce
both, so neither can be refused. Nothing depends on it: who has a token can already use it, both texts make the same claims until the same
end, what is kept by a token's digest is kept twice at most, and nothing is taken back, counted or allowed once by the text of a token.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, cast

from gateway.auth.claims import (
    SKEW_SECONDS,
    Algorithm,
    Token,
    audiences_of,
    check_times,
    expiry_of,
    issuer_of,
    subject_of,
    time_of,
)
from gateway.auth.jwk import ALGORITHMS, MOST_KID, KeySet, VerificationKey, issuer_document, key_set, verifies
from gateway.auth.reading import Rejected, base64url, json_object, optional_text

__all__ = [
    "SKEW_SECONDS",
    "Algorithm",
    "KeySet",
    "Rejected",
    "Token",
    "VerificationKey",
    "check_times",
    "issuer_document",
    "key_set",
    "read",
    "verify",
]

MOST_CHARACTERS: Final = 16 * 1024
MOST_HEADER_BYTES: Final = 2 * 1024
MOST_CLAIM_MARKS: Final = 1_000
"""As `MOST_MARKS`, of claims: anybody may send some and have them read, and ten times as many take 6 ms of everybody's time."""
_PARTS: Final = 3
_TYPES: Final = ("jwt", "at+jwt")
"""Of what it may be: a token of another kind (`logout+jwt`, `dpop+jwt`) is none for us, whoever signed it (RFC 8725, 3.11)."""
_TELLS: Final = "events"
"""Only a token has it that tells a program of a logout or another event (RFC 8417, 2.2; OpenID Connect Back-Channel Logout, 2.4). Its `typ`
need not say so, and its issuer, audience and subject are as those of the token that it is about."""
_BOUND: Final = "cnf"
"""Its holder would have to prove a key of their own (RFC 7800, as DPoP and mutual TLS use it): to overlook that is to lift it."""
_REFUSED: Final = ("crit", "b64", "zip", "enc", "cty")
"""We know no critical extension, no unencoded, packed or encrypted payload, and no token in a token."""
_UNUSED: Final[Mapping[str, type]] = {
    **dict.fromkeys(("jku", "x5u", "x5t", "x5t#S256"), str),
    "jwk": dict,
    "x5c": list,
}
_P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_ED25519_ORDER: Final = 2**252 + 27742317777372353535851937790883648493
_HALF: Final = 32
_RSA_BYTES: Final = range(2048 // 8, 8192 // 8 + 1)


def read(text: str) -> Token:
    """The token, in the one reading that it has; not verified. Raises Rejected."""
    if len(text) > MOST_CHARACTERS:
        raise Rejected("it is too long")
    parts = text.split(".")
    if len(parts) != _PARTS:
        raise Rejected("it has not three parts")
    header_bytes, payload, signature = map(base64url, parts)
    if len(header_bytes) > MOST_HEADER_BYTES:
        raise Rejected("its header is too long")
    header = json_object(header_bytes)
    algorithm = _algorithm(header)
    _check_header(header)
    _check_signature(algorithm, signature)
    claims = json_object(payload, MOST_CLAIM_MARKS)
    if _TELLS in claims:
        raise Rejected("it tells what happened and lets nobody in")
    if _BOUND in claims:
        raise Rejected("it is bound to a key that is not proved here")
    return Token(
        algorithm=algorithm,
        kid=optional_text(header, "kid", MOST_KID),
        issuer=issuer_of(claims),
        subject=subject_of(claims),
        audiences=audiences_of(claims),
        expires_us=expiry_of(claims),
        not_before_us=time_of(claims, "nbf"),
        issued_us=time_of(claims, "iat"),
        claims=MappingProxyType(claims),
        signed=text[: text.rindex(".")].encode(),
        signature=signature,
    )


def verify(token: Token, key: VerificationKey) -> None:
    """That who has the private key signed this token, by an algorithm the key is for. Raises Rejected.

    Says nothing of when it holds, nor whether the issuer whose key this is may speak for the token's `issuer`.
    """
    if token.algorithm not in key.algorithms:
        raise Rejected("the key is not for this algorithm")
    if not verifies(key, token.algorithm, token.signed, token.signature):
        raise Rejected("the signature is not this key's")


def _algorithm(header: Mapping[str, Any]) -> Algorithm:
    found = header.get("alg")
    if not isinstance(found, str) or found not in ALGORITHMS:
        raise Rejected("alg is none of ours")
    return cast("Algorithm", found)


def _check_header(header: Mapping[str, Any]) -> None:
    if any(name in header for name in _REFUSED):
        raise Rejected("the header asks for what we do not do")
    typ = header.get("typ", "JWT")
    if not isinstance(typ, str) or typ.lower().removeprefix("application/") not in _TYPES:
        raise Rejected("typ is another kind of token")
    for name, kind in _UNUSED.items():
        if name in header and not isinstance(header[name], kind):
            raise Rejected("the header has a value of another type")


def _check_signature(algorithm: Algorithm, signature: bytes) -> None:
    """What can be said of a signature without its key, so that it has no other form: RFC 7518, 3.3 to 3.5, RFC 8032, 5.1.7."""
    if algorithm in ("RS256", "PS256"):
        is_one = len(signature) in _RSA_BYTES
    elif algorithm == "ES256":
        r, s = signature[:_HALF], signature[_HALF:]
        is_one = len(signature) == 2 * _HALF and all(
            0 < int.from_bytes(it, "big") < _P256_ORDER for it in (r, s)
        )
    else:
        s = signature[_HALF:]
        is_one = len(signature) == 2 * _HALF and int.from_bytes(s, "little") < _ED25519_ORDER
    if not is_one:
        raise Rejected("the signature has another form than its algorithm's")
