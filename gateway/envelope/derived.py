"""From a data key to the key of one sealed thing and what commits to it: HKDF-SHA256 (RFC 5869). Pure."""

import struct
from typing import NamedTuple

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from gateway.envelope.keys import KEY_BYTES

COMMITMENT_BYTES = 32
MOST_NAME_BYTES = 1024

_LENGTH = struct.Struct(">H")


class NotOpened(Exception):
    """Under this key, as this thing, these bytes do not open. It tells nobody why: whoever changed something must not learn what of it
    was noticed. Nothing of what they hold may be used: fails closed.
    """

    def __init__(self) -> None:
        super().__init__("it does not open")


class Derived(NamedTuple):
    """A key for AES-256-GCM, and 32 bytes that only one data key gives for this thing: GCM alone lets one ciphertext open under two."""

    key: bytes
    commitment: bytes


def derived(secret: bytes, *, salt: bytes, info: bytes) -> Derived:
    """The first 64 bytes that HKDF gives. An empty salt is the RFC's: zeros."""
    both = HKDF(SHA256(), KEY_BYTES + COMMITMENT_BYTES, salt or None, info).derive(secret)
    return Derived(both[:KEY_BYTES], both[KEY_BYTES:])


def named(*names: str) -> bytes:
    """Names as bytes, each behind its length, so that no others give the same. ValueError for one of more than 1,024 bytes of UTF-8."""
    return b"".join(map(name_bytes, names))


def name_bytes(name: str) -> bytes:
    """`named` of one, as the hot path needs it."""
    encoded = name.encode()
    if len(encoded) > MOST_NAME_BYTES:
        raise ValueError(f"a name of {len(encoded)} bytes, more than {MOST_NAME_BYTES}")
    return _LENGTH.pack(len(encoded)) + encoded
