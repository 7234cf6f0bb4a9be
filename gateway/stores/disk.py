"""What the stores of files ask of the operating system, call by call: so the same code runs over a disk that loses what was not synced."""

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol


class Entry(NamedTuple):
    name: str
    is_folder: bool


class Disk(Protocol):
    """Each method is one system call (section 2 of the manual), as soon durable as that is, and raises OSError as that does.

    Of what is written, only what was synced outlives a power cut: a file by its own sync, each name of it by that of the folder.
    """

    def open(self, path: Path, flags: int) -> int:
        """open; a file that it makes is for its owner alone (0600)."""

    def close(self, fd: int) -> None: ...

    def read(self, fd: int, most_bytes: int, offset: int) -> bytes:
        """pread."""

    def write(self, fd: int, data: memoryview, offset: int) -> int:
        """pwrite: how many bytes were taken."""

    def write_through(self, fd: int, data: memoryview, offset: int) -> int:
        """pwritev2 with RWF_DSYNC: what it says was taken is durable."""

    def sync(self, fd: int) -> None:
        """fsync. Where it fails, what waited is lost, and the next one will not tell."""

    def sync_data(self, fd: int) -> None:
        """fdatasync. Fails as `sync` does."""

    def truncate(self, fd: int, size_bytes: int) -> None: ...

    def links(self, fd: int) -> int:
        """How many names the file still has."""

    def past_cache(self, fd: int, *, wanted: bool) -> None:
        """fcntl: O_DIRECT, which asks for whole blocks."""

    def lock(self, fd: int, how: int) -> bool:
        """flock; False where another one holds it and `how` has LOCK_NB."""

    def make_folder(self, path: Path) -> bool:
        """mkdir, for its owner alone (0700); False if there was something already."""

    def remove_folder(self, path: Path) -> None: ...

    def exists(self, path: Path) -> bool: ...

    def entries(self, folder: Path) -> Iterator[Entry]:
        """What is in it, in no order, a little at a time."""

    def rename(self, path: Path, to: Path) -> None: ...

    def link(self, path: Path, to: Path) -> None:
        """A second name; FileExistsError where there is one already."""

    def unlink(self, path: Path) -> None: ...


class OsDisk:
    """The real one."""

    def open(self, path: Path, flags: int) -> int:
        return os.open(path, flags | os.O_CLOEXEC, 0o600)

    def close(self, fd: int) -> None:
        os.close(fd)

    def read(self, fd: int, most_bytes: int, offset: int) -> bytes:
        return os.pread(fd, most_bytes, offset)

    def write(self, fd: int, data: memoryview, offset: int) -> int:
        return os.pwrite(fd, data, offset)

    def write_through(self, fd: int, data: memoryview, offset: int) -> int:
        return os.pwritev(fd, (data,), offset, os.RWF_DSYNC)

    def sync(self, fd: int) -> None:
        os.fsync(fd)

    def sync_data(self, fd: int) -> None:
        os.fdatasync(fd)

    def truncate(self, fd: int, size_bytes: int) -> None:
        os.ftruncate(fd, size_bytes)

    def links(self, fd: int) -> int:
        return os.fstat(fd).st_nlink

    def past_cache(self, fd: int, *, wanted: bool) -> None:
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        fcntl.fcntl(fd, fcntl.F_SETFL, flags | os.O_DIRECT if wanted else flags & ~os.O_DIRECT)

    def lock(self, fd: int, how: int) -> bool:
        try:
            fcntl.flock(fd, how)
        except BlockingIOError:
            return False
        return True

    def make_folder(self, path: Path) -> bool:
        try:
            path.mkdir(mode=0o700)
        except FileExistsError:
            return False
        return True

    def remove_folder(self, path: Path) -> None:
        path.rmdir()

    def exists(self, path: Path) -> bool:
        return path.exists()

    def entries(self, folder: Path) -> Iterator[Entry]:
        with os.scandir(folder) as found:
            for entry in found:
                yield Entry(entry.name, entry.is_dir(follow_symlinks=False))

    def rename(self, path: Path, to: Path) -> None:
        path.rename(to)

    def link(self, path: Path, to: Path) -> None:
        os.link(path, to)

    def unlink(self, path: Path) -> None:
        path.unlink()


def make_folders(disk: Disk, folder: Path) -> None:
    """The folder and those above it are there; the new ones durably, by name."""
    new = []
    while not disk.exists(folder):
        new.append(folder)
        folder = folder.parent
    for path in reversed(new):
        disk.make_folder(path)
    for path in new:
        sync_folder(disk, path.parent)


def sync_folder(disk: Disk, folder: Path) -> None:
    """Which names it has is on the disk."""
    fd = disk.open(folder, os.O_RDONLY)
    try:
        disk.sync(fd)
    finally:
        disk.close(fd)


def write_all(disk: Disk, fd: int, data: bytes | memoryview, offset: int) -> int:
    """Where the data ends; all of it is written, and none of it is synced."""
    view = memoryview(data)
    while view:
        written = disk.write(fd, view, offset)
        view, offset = view[written:], offset + written
    return offset
