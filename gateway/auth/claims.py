"""What a token says, of the right types, and when it holds. Pure: the time is an argument, and what is refused closes the door."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from gateway.auth.reading import Rejected, text_of
from tenants.issuers import MOST_URL_CHARACTERS

Algorithm = Literal["RS256", "PS256", "ES256", "EdDSA"]

SKEW_SECONDS: Final = 30
"""How far an issuer's clock and ours may be apart."""
MOST_ISSUER, MOST_SUBJECT, MOST_AUDIENCE, MOST_AUDIENCES = MOST_URL_CHARACTERS, 255, 500, 20
_LAST_SECOND: Final = 253_402_300_799
"""The end of the year 9999: beyond it is no date, though milliseconds may be; before it, microseconds fit in 64 bits."""
_US: Final = 1_000_000


@dataclass(frozen=True, slots=True, repr=False)
class Token:
    """Read strictly, and not verified yet: nothing of it is true before `verify` and `check_times` have returned.

    Times are microseconds since the Unix epoch. `signed` is the signing input of RFC 7515, 5.2. Its representation shows nothing.
    """

    algorithm: Algorithm
    kid: str | None  # untrusted: looked up in the issuer's set, and used for nothing else
    issuer: str
    subject: str
    audiences: tuple[str, ...]
    expires_us: int
    not_before_us: int | None
    issued_us: int | None
    claims: Mapping[str, Any] = field(hash=False)
    signed: bytes
    signature: bytes


def issuer_of(claims: Mapping[str, Any]) -> str:
    """RFC 7519, 4.1.1. Raises Rejected."""
    return text_of(claims.get("iss"), "iss", MOST_ISSUER)


def subject_of(claims: Mapping[str, Any]) -> str:
    """RFC 7519, 4.1.2. Raises Rejected."""
    return text_of(claims.get("sub"), "sub", MOST_SUBJECT)


def audiences_of(claims: Mapping[str, Any]) -> tuple[str, ...]:
    """RFC 7519, 4.1.3: a string, or a list of some. Raises Rejected."""
    found = claims.get("aud")
    several = found if isinstance(found, list) else [found]
    if not 0 < len(several) <= MOST_AUDIENCES:
        raise Rejected("aud is an empty list or a long one")
    return tuple(text_of(it, "aud", MOST_AUDIENCE) for it in several)


def expiry_of(claims: Mapping[str, Any]) -> int:
    """RFC 7519, 4.1.4. Required here: a token without an end cannot be taken back. Raises Rejected."""
    if "exp" not in claims:
        raise Rejected("exp is missing")
    return _microseconds(claims["exp"], "exp")


def time_of(claims: Mapping[str, Any], name: Literal["nbf", "iat"]) -> int | None:
    """RFC 7519, 4.1.5 and 4.1.6. Raises Rejected."""
    return _microseconds(claims[name], name) if name in claims else None


def check_times(token: Token, now_us: int) -> None:
    """That it holds now, give or take the skew. Raises Rejected."""
    skew_us = SKEW_SECONDS * _US
    if now_us >= token.expires_us + skew_us:
        raise Rejected("it has expired")
    if token.not_before_us is not None and now_us < token.not_before_us - skew_us:
        raise Rejected("it does not hold yet")
    if token.issued_us is not None and now_us < token.issued_us - skew_us:
        raise Rejected("it was issued in the future")


def _microseconds(value: object, what: str) -> int:
    """A NumericDate (RFC 7519, 2), which may have a fraction; Python's booleans are numbers, JSON's are none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Rejected(f"{what} is no number")
    if not 0 < value <= _LAST_SECOND:
        raise Rejected(f"{what} is no time of this era")
    return value * _US if isinstance(value, int) else math.floor(value * _US)
