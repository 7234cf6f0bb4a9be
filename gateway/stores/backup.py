"""Back-ups of a state directory: its lasting tables and the audit log, as folders that another host can keep.

    manifest.json        Manifest, written last: a folder without one is no back-up
    table.sqlite         the table as it was at one instant, after the back-up began
    usage.sqlite         what was used, at a later instant; of a state that has none it is not there
    audit/<id>.segment   every record that was durable when it began, and whole commits only

The table comes first: so no event is in neither of the two. Checksums find damage, not malice: whoever can write a back-up can make keys.
What is made, a back-up or a state, is made aside and renamed when all of it is on the disk; a crash leaves `.NAME.*.partial` beside it.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import BinaryIO, Final

import msgspec
from msgspec import Struct

from gateway.audit.segment import Tail, scan
from gateway.stores import schema
from gateway.stores.files import SegmentBytes, sync
from gateway.stores.sqlite import copy

TABLE: Final = "table.sqlite"
USAGE: Final = "usage.sqlite"
AUDIT: Final = "audit"
BLOBS: Final = "blobs"
MANIFEST: Final = "manifest.json"
FORMAT: Final = 2
_PIECE_BYTES: Final = 1024 * 1024
_PATH: Final = re.compile(rf"{re.escape(TABLE)}|{re.escape(USAGE)}|{AUDIT}/[0-9A-Za-z_-]{{1,64}}\.segment")

Told = Callable[[str], None]


class Unfit(OSError):
    """It cannot be done with this back-up, or this state; nothing was changed. The message is for people."""


class File(Struct, frozen=True):
    path: str
    bytes: int
    sha256: str


class Manifest(Struct, frozen=True, tag_field="v", tag=FORMAT):
    """What a back-up holds. Stored as JSON, version 2; readers take version 1 too, which has no usage, and refuse any other."""

    made_us: int
    program: str
    table_version: int
    files: tuple[File, ...]

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)


class _FirstManifest(Manifest, frozen=True, tag_field="v", tag=1):
    """Of a program that kept no usage."""


class _AnyManifest(Struct):
    v: int


def back_up(state: Path, to: Path, *, made_us: int, program: str, told: Told) -> Manifest:
    """`to` is a whole back-up, durably, also while gateways run. `told` hears of each step. Raises Unfit, OSError, TableUnavailable,
    UnknownFormat, and then leaves nothing.
    """
    if not (state / TABLE).exists():
        raise Unfit(f"there is no table in {state}; name its state with --state")
    if os.path.lexists(to):
        raise Unfit(f"{to} exists, and a back-up replaces nothing; name another place for it")
    with aside(to, AUDIT) as folder:
        versions, files = [], []
        for name in filter(lambda it: (state / it).exists(), (TABLE, USAGE)):
            versions.append(copy(state / name, folder / name))
            (folder / name).chmod(0o600)
            sync(folder / name)
            files.append(look(folder, name))
            told(f"copied {name}")
        table_version = max(versions)
        (folder / AUDIT).mkdir(mode=0o700)
        for path, data in _segments(state / AUDIT):
            files.append(write(folder, path, [data]))
            told(f"copied {path}")
        manifest = Manifest(made_us, program, table_version, tuple(files))
        write(folder, MANIFEST, [msgspec.json.format(msgspec.json.encode(manifest))])
        told(f"wrote {MANIFEST}")
    told("done")
    return manifest


def restore(backup: Path, state: Path, *, told: Told) -> Manifest:
    """The state directory is what was backed up, durably. `told` hears of each step. Raises Unfit, OSError, and then leaves nothing."""
    manifest = read(backup)
    if state.is_mount():
        raise Unfit(f"{state} is a mount point, which cannot be replaced; name a folder in it with --state")
    if state.exists() and any(state.iterdir()):
        raise Unfit(f"{state} is not empty, and a restore replaces nothing; name another with --state")
    for file in manifest.files:
        if look(backup, file.path) != file:
            raise damaged(backup, file.path)
    told("checked")
    with aside(state, AUDIT) as folder:
        (folder / AUDIT).mkdir(mode=0o700)
        for file in manifest.files:
            with (backup / file.path).open("rb") as source:
                if write(folder, file.path, pieces(source)) != file:
                    raise damaged(backup, file.path)
            told(f"copied {file.path}")
    told("done")
    return manifest


def read(backup: Path) -> Manifest:
    """What a folder says that it holds. Raises Unfit for what is no back-up that this program can restore."""
    try:
        text = (backup / MANIFEST).read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Unfit(
            f"{backup} is no back-up: it has no {MANIFEST}, which is written when one is whole"
        ) from error
    try:
        version = msgspec.json.decode(text, type=_AnyManifest).v
        if version > FORMAT:
            raise Unfit(
                f"{backup} has format {version}, and this program knows formats up to {FORMAT}: "
                "restore it with the program that wrote it or a newer one"
            )
        manifest: Manifest = msgspec.json.decode(text, type=Manifest | _FirstManifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise damaged(backup, MANIFEST) from error
    if manifest.table_version > schema.VERSION:
        raise Unfit(
            f"the table in {backup} has schema version {manifest.table_version}, and this program knows versions up to "
            f"{schema.VERSION}: restore it with the program that wrote it or a newer one"
        )
    paths = [file.path for file in manifest.files]
    if TABLE not in paths or len(set(paths)) < len(paths) or not all(map(_PATH.fullmatch, paths)):
        raise damaged(backup, MANIFEST)
    return manifest


def _segments(audit: Path) -> Iterator[tuple[str, bytes]]:
    """The path and the bytes of every segment that has begun. One that begins meanwhile holds nothing older.

    A segment names older ones with the commits that they end on: all it names were whole before it began, so they are copied whole if
    they are found and read after. They are, once two looks have found the same.
    """
    if not audit.is_dir():
        return
    before: list[str] | None = None
    while (begun := (segments := SegmentBytes(audit)).begun()) != before:
        before = begun
    for segment_id in begun:
        is_owned = segment_id in segments.owned([segment_id])
        data = segments[segment_id]
        if is_owned and (found := scan(segment_id, data)).tail is not Tail.DAMAGED:
            data = data[: found.end_bytes]  # without the zeros, and what was just being written
        yield f"{AUDIT}/{segment_id}.segment", data


@contextmanager
def aside(place: Path, *inside: str) -> Iterator[Path]:
    """A folder (0700) that gets its name, durably, when the block is done; else nothing is left of it. `inside` are folders in it."""
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder = Path(mkdtemp(prefix=f".{place.name}.", suffix=".partial", dir=place.parent))
    except OSError as error:  # by the name that was given
        raise OSError(error.errno, error.strerror, str(place)) from error
    try:
        yield folder
        for path in (*(folder / name for name in inside), folder):
            sync(path)
        folder.rename(place)  # over nothing, or over an empty folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    sync(place.parent)


def write(folder: Path, path: str, pieces: Iterable[bytes]) -> File:
    """A new file, for its owner alone, on the disk."""
    digest = hashlib.sha256()
    descriptor = os.open(folder / path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        for piece in pieces:
            digest.update(piece)
            file.write(piece)
        file.flush()
        os.fsync(descriptor)
        return File(path, file.tell(), digest.hexdigest())


def look(folder: Path, path: str) -> File:
    """What is there. Raises Unfit where nothing is."""
    try:
        with (folder / path).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return File(path, file.tell(), digest)
    except FileNotFoundError as error:
        raise damaged(folder, path) from error


def pieces(file: BinaryIO) -> Iterator[bytes]:
    """A file may be larger than memory."""
    while piece := file.read(_PIECE_BYTES):
        yield piece


def damaged(backup: Path, path: str) -> Unfit:
    return Unfit(
        f"{backup / path} is missing or not what was written: this back-up is damaged; nothing was restored"
    )
