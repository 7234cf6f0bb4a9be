"""The KeyService in one file of this host: its keys wrap the data keys of all tenants.

Must be durable, and is trusted: whoever reads it, and has the wrapped data keys too, opens all that is sealed; so its back-up is kept apart
from theirs. If it is lost, nothing that is sealed can ever be opened again.

    {"v": 1, "keys": [
    {"id": "w_...", "made_us": 1764220000000000, "key": "... 32 bytes in Base64 ..."}
    ]}

The last key wraps, all of them unwrap. An id is a fingerprint of its key: so one that was damaged is found, and no second key opens what
one wrapped. Compatibility: readers refuse what they do not know, in the file and in what was wrapped; another form is another version.

Fails closed: a file that is missing, another one, malformed, or not its owner's alone is refused at the start, in a sentence that says what
to do. Changed while a gateway runs, it is taken if it has the key that wraps still; otherwise the keys that were read go on, and the log
says so.
"""

import asyncio
import fcntl
import logging
import os
import re
import stat
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from msgspec import Meta, Struct

from gateway.envelope.keys import KEY_BYTES, Context, Material
from gateway.envelope.ports import KeyRefused
from gateway.stores.aside import aside, put, swept
from gateway.stores.files import sync

log = logging.getLogger(__name__)

FORM: Final = 1
"""The first byte of what this wraps; what AWS KMS wrapped has another (`kms_aws.py`)."""
FILE_VERSION: Final = 1
MOST_BYTES: Final = 64 * 1024
MOST_KEYS: Final = 200
_ID_BYTES, _SALT_BYTES, _NONCE_BYTES, _TAG_BYTES = 16, 32, 12, 16
_HEAD_BYTES: Final = 1 + _ID_BYTES
WRAPPED_BYTES: Final = _HEAD_BYTES + _SALT_BYTES + KEY_BYTES + _TAG_BYTES
_CHECK: Final = Context("", "check", "")  # of no tenant
_OTHERS: Final = 0o077
_PATH: Final = re.compile(r"\$\.keys\[(\d+)\]")
_BYTE: Final = re.compile(r"\(byte (\d+)\)")

Draw = Callable[[int], bytes]
"""So many random bytes."""


class KeyFileUnfit(OSError):
    """This key file cannot be used, or not made; nothing was changed. The message is for people and holds nothing of a key."""


class WrappingKey(Struct, frozen=True, forbid_unknown_fields=True):
    """One of the file. Its secret prints nothing."""

    id: Annotated[str, Meta(pattern=r"^w_[0-9a-f]{32}$")]
    made_us: Annotated[int, Meta(ge=0, le=2**62)]
    key: Material


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    v: Annotated[int, Meta(ge=FILE_VERSION)]
    keys: Annotated[tuple[WrappingKey, ...], Meta(min_length=1, max_length=MOST_KEYS)]


class _AnyFile(Struct):
    v: int


class _Mark(NamedTuple):
    """By these a file is known to be as it was."""

    inode: int
    changed_ns: int
    size_bytes: int


class Place(NamedTuple):
    """Where the key file of a state is, and whether a configuration names it: one that it names is never made, and none in a state that has
    wrapped data keys. `check` is a file of the state with a value that the newest key wrapped.
    """

    path: Path
    check: Path
    is_named: bool
    has_wrapped: bool


class KeyFile:
    """Raises KeyFileUnfit for a file that is not fit. `draw` gives the salt of each wrapping."""

    def __init__(self, path: Path, draw: Draw) -> None:
        self.path = path
        self._draw = draw
        self._mark, self._keys = _mark(path), read(path)

    @property
    def keys(self) -> Sequence[WrappingKey]:
        """The one that wraps comes last."""
        return self._keys

    @property
    def newest(self) -> WrappingKey:
        return self._keys[-1]

    async def wrap(self, material: Material, context: Context, with_key: str | None = None) -> bytes:
        _expect_own(with_key)
        keys = await asyncio.to_thread(self._current)
        return wrap(keys[-1], material, context, self._draw(_SALT_BYTES))

    async def unwrap(self, wrapped: bytes, context: Context, with_key: str | None = None) -> Material:
        _expect_own(with_key)
        return unwrap(await asyncio.to_thread(self._current), wrapped, context)

    def _current(self) -> Sequence[WrappingKey]:
        """The keys of the file as it is now, or else those that were read before."""
        try:
            mark = _mark(self.path)
            if mark != self._mark:
                self._mark = mark  # what is not fit is said once
                keys = read(self.path)
                if self.newest.id not in {key.id for key in keys}:
                    raise KeyFileUnfit(
                        f"{self.path} lacks the key {self.newest.id}, which wraps: add to the file that there was"
                    )
                self._keys = keys
        except FileNotFoundError:
            pass  # the keys are here; the next start says what to do
        except OSError as fault:
            log.error("the key file was changed, and its old keys go on: %s", fault)  # noqa: TRY400 - for people
        return self._keys


def wrap(key: WrappingKey, material: Material, context: Context, salt: bytes) -> bytes:
    """Version, key id, salt, and the sealed secret. `salt`: 32 random bytes, from which each message has a key of its own."""
    head = bytes([FORM]) + _raw(key.id)
    cipher, nonce = _cipher(key, salt)
    return head + salt + cipher.encrypt(nonce, material.reveal(), _bound(head, context))


def unwrap(keys: Sequence[WrappingKey], wrapped: bytes, context: Context) -> Material:
    """Raises KeyRefused."""
    if len(wrapped) != WRAPPED_BYTES or wrapped[0] != FORM:
        raise KeyRefused(
            "the data key was wrapped by something else than a key file: by AWS KMS, say; then set keys.kms_key again"
        )
    head, salt = wrapped[:_HEAD_BYTES], wrapped[_HEAD_BYTES : _HEAD_BYTES + _SALT_BYTES]
    key = next((it for it in keys if _raw(it.id) == head[1:]), None)
    if key is None:
        raise KeyRefused(f"the data key was wrapped with {named_by(wrapped)}, which is not in the key file")
    cipher, nonce = _cipher(key, salt)
    try:
        return Material(cipher.decrypt(nonce, wrapped[_HEAD_BYTES + _SALT_BYTES :], _bound(head, context)))
    except InvalidTag:
        raise KeyRefused("the wrapped data key is damaged, or of something else") from None


def named_by(wrapped: bytes) -> str:
    """The id of the key that wrapped this; to be asked of what has the form of this file's."""
    return f"w_{wrapped[1:_HEAD_BYTES].hex()}"


def _cipher(key: WrappingKey, salt: bytes) -> tuple[AESGCM, bytes]:
    """RFC 5869; the nonce comes with the key, which is used once."""
    made = _derived(key.key, salt, b"model-gateway key file 1: wrap", KEY_BYTES + _NONCE_BYTES)
    return AESGCM(made[:KEY_BYTES]), made[KEY_BYTES:]


def _bound(head: bytes, context: Context) -> bytes:
    """Associated data: each part behind its length (4 bytes), so that no two contexts give the same."""
    parts = [part.encode() for part in context]
    return head + b"".join(len(part).to_bytes(4) + part for part in parts)


def _derived(material: Material, salt: bytes, info: bytes, size_bytes: int) -> bytes:
    return HKDF(SHA256(), length=size_bytes, salt=salt, info=info).derive(material.reveal())


def _fingerprint(material: Material) -> str:
    return f"w_{_derived(material, b'', b'model-gateway key file 1: id', _ID_BYTES).hex()}"


def _raw(key_id: str) -> bytes:
    return bytes.fromhex(key_id.removeprefix("w_"))


def _expect_own(with_key: str | None) -> None:
    if with_key is not None:
        raise KeyRefused(
            "this gateway wraps with a local key file, which cannot wrap with a tenant's own KMS key: set keys.kms_key, or take the "
            "tenant's away"
        )


# The file at the start of a process


def opened(place: Place, draw: Draw, now_us: Callable[[], int]) -> KeyFile:
    """The key file of a state, whose data keys it opens; made where it may be. Raises KeyFileUnfit, OSError."""
    try:
        found = found_at(place, draw)
    except FileNotFoundError:
        with suppress(FileExistsError):  # another process was faster: then that is the one
            create(place.path, draw, now_us())
        found = found_at(place, draw)
    check, newest = place.check, found.newest
    swept(place.path)
    swept(check)
    if not place.has_wrapped or not check.exists() or named_by(check.read_bytes()) != newest.id:
        put(check, wrap(newest, Material(bytes(KEY_BYTES)), _CHECK, draw(_SALT_BYTES)))
    return found


def found_at(place: Place, draw: Draw) -> KeyFile:
    """The same, and nothing is made. Raises KeyFileUnfit, OSError; FileNotFoundError where it may be made."""
    path, check = place.path, place.check
    try:
        found = KeyFile(path, draw)
    except FileNotFoundError:
        if place.has_wrapped:
            raise KeyFileUnfit(
                f"the key file {path} is missing, and nothing that is sealed can be opened without it: restore it from its back-up, or "
                "name where it is with keys.file (if AWS KMS wrapped the data keys, set keys.kms_key again)"
            ) from None
        if place.is_named:
            raise KeyFileUnfit(
                f"there is no key file {path}, which keys.file names: bring it there, or make one with `gateway key-file create`"
            ) from None
        raise
    # A state may have been restored without it: what cannot be opened is refused when it is used.
    if place.has_wrapped and check.exists():
        try:
            unwrap(found.keys, check.read_bytes(), _CHECK)
        except KeyRefused as fault:
            raise KeyFileUnfit(
                f"the key file {path} is another one than that of the state, whose data keys it does not open ({fault}): restore "
                f"the right one from its back-up, or name it with keys.file"
            ) from fault
    return found


def read(path: Path) -> tuple[WrappingKey, ...]:
    """The keys, the newest last. Raises KeyFileUnfit; FileNotFoundError without the file."""
    return _parsed(_content(path), path)


def create(path: Path, draw: Draw, made_us: int) -> WrappingKey:
    """A new file, durably, for its owner alone (0600), with one key. Raises FileExistsError, OSError."""
    key = _new(draw, made_us)
    with aside(path, _formatted([key])) as made:
        os.link(made, path)
    sync(path.parent)
    return key


def add(path: Path, draw: Draw, made_us: int) -> WrappingKey:
    """The file, durably, with one more key, which wraps from now on. Raises KeyFileUnfit, OSError, and then nothing was changed."""
    path = path.resolve()
    with path.open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.fstat(lock.fileno()).st_ino != path.stat().st_ino:
            raise KeyFileUnfit(f"somebody else changed {path} at the same moment: look at it, and ask again")
        keys = read(path)
        if len(keys) == MOST_KEYS:
            raise KeyFileUnfit(
                f"{path} has {MOST_KEYS} keys, and may have no more: wrap the data keys anew, and take old ones out"
            )
        key = _new(draw, made_us)
        put(path, _formatted([*keys, key]))
    return key


def _new(draw: Draw, made_us: int) -> WrappingKey:
    material = Material(draw(KEY_BYTES))
    return WrappingKey(_fingerprint(material), made_us, material)


def _formatted(keys: Sequence[WrappingKey]) -> bytes:
    """A key a line, so that a fault has a line too."""
    lines = [
        msgspec.json.encode({"id": it.id, "made_us": it.made_us, "key": b64encode(it.key.reveal()).decode()})
        for it in keys
    ]
    return b'{"v": %d, "keys": [\n' % FILE_VERSION + b",\n".join(lines) + b"\n]}\n"


def _mark(path: Path) -> _Mark:
    found = path.stat()
    return _Mark(found.st_ino, found.st_mtime_ns, found.st_size)


def _content(path: Path) -> bytes:
    """Judged is what is open, so that nothing comes in between. Raises KeyFileUnfit, OSError."""
    ours = (os.geteuid(), 0)
    link = path.lstat()
    if stat.S_ISLNK(link.st_mode) and link.st_uid not in ours:
        raise KeyFileUnfit(
            f"the key file {path} is a link of somebody else's: name the file itself with keys.file"
        )
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise KeyFileUnfit(f"the key file {path} is no regular file: name another one with keys.file")
        if found.st_uid not in ours:
            raise KeyFileUnfit(
                f"the key file {path} is somebody else's, who can read it: copy it, and take the copy as your own"
            )
        if found.st_mode & _OTHERS:
            raise KeyFileUnfit(f"others may read or write the key file {path}: chmod 600 {path}")
        return file.read(MOST_BYTES + 1)


def _parsed(content: bytes, path: Path) -> tuple[WrappingKey, ...]:
    if len(content) > MOST_BYTES:
        raise KeyFileUnfit(f"the key file {path} has more than {MOST_BYTES} bytes: it is no key file")
    if not content.strip():
        raise KeyFileUnfit(f"the key file {path} is empty: restore it from its back-up")
    try:
        version = msgspec.json.decode(content, type=_AnyFile).v
        if version > FILE_VERSION:
            raise KeyFileUnfit(
                f"the key file {path} has version {version}, and this program knows versions up to {FILE_VERSION}: run the program that "
                "wrote it or a newer one"
            )
        keys = msgspec.json.decode(content, type=_File, dec_hook=_material).keys
    except (msgspec.DecodeError, UnicodeDecodeError) as fault:
        line = _line(content, str(fault))
        raise KeyFileUnfit(
            f"{path}:{line}: is not as a key file has it: restore it from its back-up"
        ) from None
    for number, key in enumerate(keys):
        line = _line(content, f"$.keys[{number}]")
        if key.id != _fingerprint(key.key):
            raise KeyFileUnfit(
                f"{path}:{line}: this key is not {key.id}: it was damaged; restore it from its back-up"
            )
        if key.id in {it.id for it in keys[:number]}:
            raise KeyFileUnfit(f"{path}:{line}: the key {key.id} was there before: take one of the two out")
    return keys


def _material(kind: type, value: object) -> Material:
    """A secret as the file has it; msgspec says where a ValueError came up."""
    return Material(b64decode(str(value), validate=True))


def _line(content: bytes, said: str) -> int:
    """Where msgspec's fault is, of which no more is told: its words may be the file's. No value of the file has a brace in it before the
    first fault, so a key is behind as many of them as it has before it, and the file's own."""
    if at := _PATH.search(said):
        end = [found.start() for found in re.finditer(rb"\{", content)][int(at[1]) + 1]
    elif at := _BYTE.search(said):
        end = int(at[1])
    else:  # cut off
        end = len(content.rstrip()) if "truncated" in said else 0
    return content[:end].count(b"\n") + 1
