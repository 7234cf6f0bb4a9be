"""The compact format of sealed audit bodies: many small things under one key, which is derived once a segment. Pure.

    stored     = 01 | u8 n | segment id, n bytes | u64 position | commitment, 32 | ciphertext | tag, 16
    key, commitment = the two halves of HKDF-SHA256(data key, no salt, "gateway sealed series v1" 00 | tenant, "audit", segment id, 64)
    ciphertext, tag = AES-256-GCM(key, nonce, body, 01 | data key id, tenant, "audit", segment id, record id | position)
    nonce      = 4 zero bytes | position

Names are u16 bytes | UTF-8, integers big-endian. A segment belongs to one process and is never opened again for writing, so its id and a
counter are enough for a nonce that never comes twice. The id of the data key is beside the body, in its entry.

Compatibility: this is all of version 1, and its bytes never change; another layout has another first byte, which is never `{`, with which a
body in the clear begins.
"""

import re
import struct
from hmac import compare_digest
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from msgspec import Struct

from gateway.envelope.derived import COMMITMENT_BYTES, NotOpened, derived, name_bytes, named
from gateway.envelope.keys import DataKey, Material, Purpose

PURPOSE: Final[Purpose] = "audit"
MOST_BODIES = 1 << 32  # of one series

_VERSION = b"\x01"
_LABEL = b"gateway sealed series v1\0"
_SEGMENT = re.compile(r"[0-9A-Za-z_-]{1,64}")
_PLACE = struct.Struct(f">Q{COMMITMENT_BYTES}s")
_POSITION = struct.Struct(">Q")
_NONCE_START = bytes(4)


class SeriesKey(Struct, frozen=True):
    """What opens a tenant's bodies of one segment, and nothing else. It may be told to that tenant."""

    tenant: str
    segment: str
    data_key: str  # its id
    key: Material
    commitment: bytes

    def open(self, stored: bytes, record: str) -> bytes:
        """The body of this record. NotOpened when it is another record's, tenant's, segment's or key's, or not a bit is as it was."""
        try:
            if segment_of(stored) != self.segment:
                raise NotOpened
            start = 2 + len(self.segment)
            position, commitment = _PLACE.unpack_from(stored, start)
            if not compare_digest(commitment, self.commitment):
                raise NotOpened
            place = _POSITION.pack(position)
            bound = _bound(self) + named(record) + place
            cipher = AESGCM(self.key.reveal())
            return cipher.decrypt(_NONCE_START + place, stored[start + _PLACE.size :], bound)
        except (InvalidTag, struct.error, ValueError):
            raise NotOpened from None


def series_key(key: DataKey, tenant: str, segment: str) -> SeriesKey:
    """ValueError for a segment's id that is not 1 to 64 of `0-9A-Za-z_-`, or a tenant's that is too long."""
    if not _SEGMENT.fullmatch(segment):
        raise ValueError("the id of a segment is 1 to 64 of 0-9A-Za-z_-")
    info = _LABEL + named(tenant, PURPOSE, segment)
    found = derived(key.material.reveal(), salt=b"", info=info)
    return SeriesKey(tenant, segment, key.id, Material(found.key), found.commitment)


class Series:
    """Seals a tenant's bodies of one segment. There is one at most of its data key, tenant and segment, ever: it alone counts the
    positions, and none comes twice.
    """

    __slots__ = ("__weakref__", "_before", "_bound", "_cipher", "_commitment", "_next", "data_key")

    def __init__(self, key: DataKey, tenant: str, segment: str) -> None:
        found = series_key(key, tenant, segment)
        self.data_key = key.id
        self._cipher: AESGCM | None = AESGCM(found.key.reveal())
        self._commitment = found.commitment
        self._before = _VERSION + bytes([len(segment)]) + segment.encode()
        self._bound = _bound(found)
        self._next = 0

    def seal(self, record: str, body: bytes) -> bytes:
        """The body of this record as it is stored. OverflowError behind 2^32 of them, ValueError for a record's id that is too long, and
        of a series that is closed.
        """
        if self._cipher is None:
            raise ValueError("a series that is closed")
        position = self._next
        if position >= MOST_BODIES:
            raise OverflowError("a series that is full")
        self._next = position + 1
        place = _POSITION.pack(position)
        bound = self._bound + name_bytes(record) + place
        sealed = self._cipher.encrypt(_NONCE_START + place, body, bound)
        return b"".join((self._before, place, self._commitment, sealed))

    def close(self) -> None:
        """It seals no more, and its key is here no longer."""
        self._cipher = None

    @property
    def is_closed(self) -> bool:
        return self._cipher is None


def segment_of(stored: bytes) -> str:
    """Which segment's key opens it. NotOpened for what is not of this version. Nothing vouches for the answer until it is opened."""
    size = stored[1] if len(stored) > 1 else 0
    found = stored[2 : 2 + size].decode("latin-1")
    if stored[:1] != _VERSION or len(found) < size or not _SEGMENT.fullmatch(found):
        raise NotOpened
    return found


def _bound(key: SeriesKey) -> bytes:
    return _VERSION + named(key.data_key, key.tenant, PURPOSE, key.segment)
