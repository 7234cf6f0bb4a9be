"""The rows that say which calls ran under an Idempotency-Key, and what they amount to. Pure.

    partition                   sort                            value
    once/<first digit of d>     <yyyymmdd>/<the others of d>    Claimed

d is SHA-256 over the tenant's id and the key, in hexadecimal digits; yyyymmdd is the UTC day of the claim. A key is whose row of the
day before, of the day itself or of the day after is claimed and not void; the day after, as the clock of another process may be ahead.

A claim is written where no row is, or over one that is released or void, while none of the three has changed since it was read. Rows of
these days are only replaced and never deleted, so their versions grow, and a write that is late finds another version than it expects:
whatever it was to do, it does nothing. A day's rows are swept when nobody whose clock is right writes to them any more.
"""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, NamedTuple

import msgspec
from msgspec import Struct

from gateway.envelope.derived import named
from tenants.ports import Key, Row
from tenants.rows import decoded

MOST_KEY: Final = 255
"""Characters of an Idempotency-Key."""
VOID: Final = timedelta(hours=24, minutes=5)
"""So long a key is taken: a day, and as much as the clocks of two processes may differ by."""
SWEPT: Final = timedelta(hours=25)
"""So long behind the end of its day a row is void by every clock that is right, and so is an answer behind the end of its hour."""
PARTITIONS: Final = tuple(f"once/{digit}" for digit in "0123456789abcdef")

Fate = Literal["open", "released", "streamed", "large", "lost", "unknown"]
"""What became of a claim's call. `open`: it is under way, or its answer is in Blobs, or nobody came to say. `released`: it did not run.
Of the others no answer is kept: it was streamed, too large, could not be stored, or how the call ended is not known.
"""


class Damaged(Exception):
    """This row cannot be read, or is of a version that this program does not know. Fails closed. The text is for operators."""


class Claimed(Struct, frozen=True, tag_field="v", tag=1):
    """By which call, when, until when that call is over at the latest (microseconds since 1970, UTC), and what it asked: a fingerprint,
    sealed.

    Stored as JSON, version 1. A field may be added with a default that means what its absence meant before; any other change, also a new
    fate, is version 2. Readers refuse versions and fates that they do not know.
    """

    request: str
    at_us: int
    until_us: int
    fingerprint: bytes
    fate: Fate = "open"


class Places(NamedTuple):
    """Where a key may be claimed."""

    before: Key
    own: Key
    after: Key


class Holder(NamedTuple):
    """Whose the key is, by which row."""

    at: Key
    version: int
    claimed: Claimed


def digest_of(tenant_id: str, key: str) -> str:
    """64 hexadecimal digits. ValueError for a key that is empty or too long."""
    if not 1 <= len(key) <= MOST_KEY:
        raise ValueError(f"an Idempotency-Key has 1 to {MOST_KEY} characters")
    return hashlib.sha256(named("once", tenant_id, key)).hexdigest()


def places(digest: str, at_us: int) -> Places:
    day = timedelta(days=1)
    at = moment(at_us)
    return Places(_place(digest, at - day), _place(digest, at), _place(digest, at + day))


def encoded(claimed: Claimed) -> bytes:
    return msgspec.json.encode(claimed)


def read(row: Row) -> Claimed:
    """Raises Damaged."""
    return decoded(row, Claimed, Damaged)


def holder(rows: Mapping[Key, Row], now_us: int) -> Holder | None:
    """Whose the key is by these rows of its places; None: nobody's. Raises Damaged."""
    for row in rows.values():
        claimed = read(row)
        if claimed.fate != "released" and not is_void(claimed.at_us, now_us):
            return Holder(row.key, row.version, claimed)
    return None


def is_void(at_us: int, now_us: int) -> bool:
    return now_us - at_us >= VOID // timedelta(microseconds=1)


def is_swept(sort: str, now_us: int) -> bool:
    """Whether the row at this place of its partition goes now. What has another place is not ours, and stays."""
    try:
        day = datetime.strptime(sort.partition("/")[0], "%Y%m%d").replace(tzinfo=UTC)
    except ValueError:
        return False
    return moment(now_us) - day >= timedelta(days=1) + SWEPT


def answer_name(digest: str, claimed: Claimed) -> str:
    """Where its answer is, in Blobs: by the hour of the claim, and so that no other claim has the same."""
    found = hashlib.sha256(named(digest, claimed.request)).hexdigest()
    return f"replies/{moment(claimed.at_us):%Y%m%d%H}/{found}"


def moment(at_us: int) -> datetime:
    return datetime.fromtimestamp(at_us // 1_000_000, UTC)


def _place(digest: str, at: datetime) -> Key:
    return Key(f"once/{digest[0]}", f"{at:%Y%m%d}/{digest[1:]}")
