"""The format of sealed objects: bytes of any size, whole or as a stream, under a key of their own. Pure.

    object     = "GWS" 01 | u8 n | data key id, n bytes | salt, 32 | commitment, 32 | frames
    key, commitment = the two halves of HKDF-SHA256(data key, salt, "gateway sealed object v1" 00 | names, 64 bytes)
    names      = tenant, purpose, record, each as u16 bytes | UTF-8
    frame(i)   = AES-256-GCM(key, nonce(i), plain(i), "GWS" 01 | u16 n | data key id | names | nonce(i)), its tag of 16 bytes behind it
    nonce(i)   = i, 11 bytes | last, 1 byte: 1 for the last frame, else 0

Integers are big-endian. Each frame holds 1 MiB, but for the last one, which holds 0 bytes to 1 MiB. There is always a last one, so what is
cut short never opens. The commitment is compared, in constant time, before any frame is opened.

Compatibility: this is all of version 1, and its bytes never change; another layout has another fourth byte, which a version 1 reader
refuses. What was sealed is opened by every later version.
"""

import re
from collections.abc import Iterator
from hmac import compare_digest

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.envelope.derived import COMMITMENT_BYTES, NotOpened, derived, named
from gateway.envelope.keys import Context, DataKey

__all__ = [
    "FRAME_BYTES",
    "HEAD_BYTES",
    "SALT_BYTES",
    "NotOpened",
    "Opening",
    "Sealing",
    "key_id",
    "seal",
    "unseal",
]

MAGIC = b"GWS\x01"
SALT_BYTES = 32
TAG_BYTES = 16
FRAME_BYTES = 1 << 20  # of what is sealed
MOST_FRAMES = 1 << 16  # 64 GiB: far from where the positions would end, or what AES-GCM may do with one key
HEAD_BYTES = len(MAGIC) + 1 + 64 + SALT_BYTES + COMMITMENT_BYTES  # of the longest head

_LABEL = b"gateway sealed object v1\0"
_ID = re.compile(rb"[0-9A-Za-z_-]{1,64}")
_SEALED_FRAME_BYTES = FRAME_BYTES + TAG_BYTES


def seal(key: DataKey, context: Context, plain: bytes, salt: bytes) -> bytes:
    """The whole object. `salt`: 32 fresh random bytes, for this object alone. ValueError as `Sealing` has it."""
    sealing = Sealing(key, context, salt)
    parts = [sealing.head]
    view = memoryview(plain)
    for start in range(0, len(plain) or 1, FRAME_BYTES):
        end = start + FRAME_BYTES
        parts.append(sealing.frame(view[start:end], last=end >= len(plain)))
    return b"".join(parts)


def unseal(key: DataKey, context: Context, sealed: bytes) -> bytes:
    """All of it, as it was sealed, or NotOpened."""
    opening = Opening(key, context)
    return b"".join([*opening.feed(sealed), opening.end()])


def key_id(sealed: bytes) -> str:
    """Which data key opens it; the first HEAD_BYTES are enough. NotOpened for what is no sealed object of this version. Nothing vouches
    for the answer until it is opened.
    """
    start = len(MAGIC) + 1
    end = start + sealed[start - 1] if len(sealed) >= start else 0
    found = bytes(sealed[start:end])
    if sealed[: len(MAGIC)] != MAGIC or len(sealed) < end or not _ID.fullmatch(found):
        raise NotOpened
    return found.decode()


class Sealing:
    """One object, frame by frame: `head`, then what each `frame` gives, are its bytes. ValueError for a data key's id that is not 1 to 64
    of `0-9A-Za-z_-`, for a salt of another size, and for a context whose names are too long.
    """

    def __init__(self, key: DataKey, context: Context, salt: bytes) -> None:
        if len(salt) != SALT_BYTES:
            raise ValueError(f"a salt has {SALT_BYTES} bytes")
        self._frames = _Frames(key, context, salt)
        self.head = _head(key.id) + salt + self._frames.commitment

    def frame(self, piece: bytes | memoryview, *, last: bool) -> bytes:
        """The next 1 MiB, sealed; the last one may be shorter, or empty. ValueError for another size, or when there can be none behind
        the one before.
        """
        if len(piece) > FRAME_BYTES or (len(piece) < FRAME_BYTES and not last):
            raise ValueError(
                f"a frame of {len(piece)} bytes: each has {FRAME_BYTES}, and only the last one may have fewer"
            )
        return self._frames.cipher.encrypt(*self._frames.next(piece, last=last))


class Opening:
    """One object, opened as its bytes come. Each piece that it gives is as it was sealed and where it was; that they are all, `end` says.
    Holds one frame at most, besides what it is fed. Every method raises NotOpened, and then goes on doing so.
    """

    def __init__(self, key: DataKey, context: Context) -> None:
        self._key = key
        self._context = context
        self._waiting = bytearray()
        self._frames: _Frames | None = None
        self._is_over = False

    def feed(self, data: bytes | memoryview) -> list[bytes]:
        """What these bytes, behind all before, make known. A frame is opened when a byte behind it is here: it is not the last one then."""
        self._waiting += data
        return list(self._opened())

    def end(self) -> bytes:
        """There are no more bytes: the last piece, which may be empty."""
        frames = self._begun()
        if frames is None or self._is_over:
            self._is_over = True
            raise NotOpened
        return self._open(frames, bytes(self._waiting), last=True)

    def _opened(self) -> Iterator[bytes]:
        if self._is_over:
            raise NotOpened
        frames = self._begun()
        while frames is not None and len(self._waiting) > _SEALED_FRAME_BYTES:
            sealed = bytes(memoryview(self._waiting)[:_SEALED_FRAME_BYTES])
            del self._waiting[:_SEALED_FRAME_BYTES]
            yield self._open(frames, sealed, last=False)

    def _begun(self) -> "_Frames | None":
        """The keys of the frames, once the head is here and is that of this key and context."""
        if self._frames is None:
            head = _head(self._key.id)
            if not head.startswith(self._waiting[: len(head)]):
                self._is_over = True
                raise NotOpened
            end = len(head) + SALT_BYTES + COMMITMENT_BYTES
            if len(self._waiting) >= end:
                salt = bytes(self._waiting[len(head) : len(head) + SALT_BYTES])
                frames = _Frames(self._key, self._context, salt)
                if not compare_digest(frames.commitment, self._waiting[end - COMMITMENT_BYTES : end]):
                    self._is_over = True
                    raise NotOpened
                del self._waiting[:end]
                self._frames = frames
        return self._frames

    def _open(self, frames: "_Frames", sealed: bytes, *, last: bool) -> bytes:
        try:
            return frames.cipher.decrypt(*frames.next(sealed, last=last))
        except (InvalidTag, ValueError):  # ValueError: too many frames, or less than a tag
            self._is_over = True
            raise NotOpened from None
        finally:
            self._is_over = self._is_over or last


class _Frames:
    """The key of one object, and where in it we are: each position is given once."""

    __slots__ = ("_bound", "_is_over", "_position", "cipher", "commitment")

    def __init__(self, key: DataKey, context: Context, salt: bytes) -> None:
        names = named(*context)
        found = derived(key.material.reveal(), salt=salt, info=_LABEL + names)
        self.cipher = AESGCM(found.key)
        self.commitment = found.commitment
        self._bound = MAGIC + named(key.id) + names
        self._position = 0
        self._is_over = False

    def next(self, data: bytes | memoryview, *, last: bool) -> tuple[bytes, bytes | memoryview, bytes]:
        """What AESGCM takes: the nonce, the data, and what the frame is bound to."""
        if self._is_over or self._position >= MOST_FRAMES:
            raise ValueError(f"there is no frame behind the last one, nor behind the {MOST_FRAMES}th")
        nonce = self._position.to_bytes(11, "big") + bytes([last])
        self._position += 1
        self._is_over = last
        return nonce, data, self._bound + nonce


def _head(data_key: str) -> bytes:
    encoded = data_key.encode()
    if not _ID.fullmatch(encoded):
        raise ValueError("the id of a data key is 1 to 64 of 0-9A-Za-z_-")
    return MAGIC + bytes([len(encoded)]) + encoded
