"""API keys: how they look, what of them is stored, and when they work. Pure.

    gw_live_  32 random characters of 0-9A-Za-z  CRC-32 of all before it as six base62 digits

The checksum refuses typing errors and guesses before any look-up; it is no secret. Only the SHA-256 of the
whole text is stored: with 190 random bits there is nothing to gain from a slow hash.
"""

import re
import zlib
from hashlib import sha256
from typing import Final, Literal, NoReturn

from msgspec import Struct
from msgspec.structs import replace

from tenants.conditions import KeyLimits, Terms
from tenants.hours import Hours
from tenants.ids import Reference, digits

ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
PREFIX: Final = "gw_live_"
SECRET_CHARACTERS: Final = 32
CHECKSUM_CHARACTERS: Final = 6
HINT_CHARACTERS: Final = 4
RANDOM_BYTES: Final = 40
MOST_SECONDS: Final = 10 * 365 * 86_400

TOLD: Final = "holds the text of a key, and is kept and shown: write its id (k_...)"

_FORM = re.compile(rf"{PREFIX}[0-9A-Za-z]{{{SECRET_CHARACTERS + CHECKSUM_CHARACTERS}}}")


class Secret:
    """The text of a credential. It prints nothing and does not pickle; only `reveal` shows it."""

    __slots__ = ("__hashed", "__text")

    def __init__(self, text: str) -> None:
        self.__text = text
        self.__hashed = ""

    def reveal(self) -> str:
        return self.__text

    def hashed(self) -> str:
        """The SHA-256 of the text in hex; a call over gRPC asks for it twice."""
        if not self.__hashed:
            self.__hashed = sha256(self.__text.encode()).hexdigest()
        return self.__hashed

    def __repr__(self) -> str:
        return "Secret(...)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not copied into bytes")


class ApiKey(Struct, frozen=True, tag_field="v", tag=1):
    """What is known of a key; never its text. Times in microseconds since 1970, UTC.

    Stored as JSON, version 1. A field may be added with a default that means what its absence meant before;
    any other change is version 2. Readers refuse versions they do not know.
    """

    id: str
    tenant_id: str
    name: str
    hint: str
    models: tuple[str, ...] | None
    """The names of the models it may use; None means all that the tenant may."""
    created_us: int
    expires_us: int | None
    revoked_us: int | None
    account_id: Reference | None = None
    """The service account that it is of, which must be there. None: it may use models, and control nothing."""
    successor_id: Reference | None = None
    """The key that it was rotated to."""
    networks: tuple[str, ...] | None = None
    """Ranges of addresses (`networks.py`) that it may be used from; None: any. A reader older than this field overlooks it."""
    hours: Hours | None = None
    """When it may be used; None: always."""
    limits: KeyLimits | None = None
    """Its own, beside its tenant's."""
    made_by: Reference | None = None
    """The id of the key that made or rotated it. None: no key did, or it is older than this field, and its event has the actor."""
    break_glass: bool = False
    """An operator's for emergencies: it says why with each request, and each request that it is used for has an event. A reader older
    than this field takes it for any key of theirs.
    """

    @property
    def terms(self) -> Terms:
        return Terms(self.networks, self.hours, self.limits)


State = Literal["active", "expiring", "rotating", "expired", "revoked"]
Shown = Literal["active", "expiring", "rotating", "expired", "revoked", "orphaned"]
"""As lists tell it. An orphaned one would work, but the service account that it is of is gone, for ever."""
Event = Literal["set to end", "rotated", "its time comes", "revoked"]

WORKING: Final[frozenset[State]] = frozenset({"active", "expiring", "rotating"})

# What becomes of a key. Revoked is for ever; an expired key does not come back either.
NEXT: Final[dict[tuple[State, Event], State]] = {
    ("active", "set to end"): "expiring",
    ("active", "rotated"): "rotating",
    ("expiring", "rotated"): "rotating",
    ("rotating", "rotated"): "rotating",
    ("expiring", "its time comes"): "expired",
    ("rotating", "its time comes"): "expired",
    ("active", "revoked"): "revoked",
    ("expiring", "revoked"): "revoked",
    ("rotating", "revoked"): "revoked",
    ("expired", "revoked"): "revoked",
}


def state(key: ApiKey, now_us: int) -> State:
    """Where the key stands. It is expired from the very microsecond `expires_us` on."""
    if key.revoked_us is not None:
        return "revoked"
    if key.expires_us is None:
        return "active"
    if now_us >= key.expires_us:
        return "expired"
    return "expiring" if key.successor_id is None else "rotating"


def state_when_revoked(key: ApiKey) -> State:
    """Where a revoked key stood when it was."""
    return state(replace(key, revoked_us=None), key.revoked_us or 0)


def mint(random: bytes) -> Secret:
    """A new key from at least 40 random bytes.

    320 bits modulo 62**32 (191 bits) favour no text by more than one part in 2**129: uniform for any purpose.
    """
    if len(random) < RANDOM_BYTES:
        raise ValueError(f"{len(random)} random bytes, a key needs {RANDOM_BYTES}")
    body = PREFIX + digits(int.from_bytes(random), ALPHABET, SECRET_CHARACTERS)
    return Secret(body + checksum(body))


def hint(secret: Secret) -> str:
    """The first four random characters of a key: they tell one's keys apart and leave 167 bits to guess."""
    return secret.reveal()[len(PREFIX) :][:HINT_CHARACTERS]


def checksum(body: str) -> str:
    """The last six characters of a key, from all before them."""
    return digits(zlib.crc32(body.encode()), ALPHABET, CHECKSUM_CHARACTERS)


def is_well_formed(text: str) -> bool:
    """Whether the text can be a key at all."""
    return (
        _FORM.fullmatch(text) is not None
        and checksum(text[:-CHECKSUM_CHARACTERS]) == text[-CHECKSUM_CHARACTERS:]
    )


def is_told_by(text: str) -> bool:
    """Whether the text holds a key, as of somebody who tells why it is revoked: what is kept and shown must not."""
    return any(is_well_formed(found[0]) for found in _FORM.finditer(text))


def digest(text: str) -> str | None:
    """What the key of this text is looked up by; None for a text that cannot be a key."""
    return hashed(Secret(text)) if is_well_formed(text) else None


def hashed(secret: Secret) -> str:
    """What a key is stored by."""
    return secret.hashed()
