"""Blobs as files of one folder: written aside, synced, then linked to their names, which nothing ever writes to.

    a/b,blob      the object a/b: a comma is in no name, so an object and a folder may have the same one
    .aside/*      what is being written; its writer holds it locked, so that what the dead left is known and swept

Each part of a name but the last is a folder. A page of names reads every folder that it goes through from end to end, once: whoever goes
through many in one folder asks for many at a time. How many there are in all makes no difference.

A sync of a folder that fails leaves open what is on the disk: a put then takes its object back, and may be tried again. A delete may too,
but of a disk that failed so, one that says it is done may come back after a power cut.
"""

import asyncio
import errno
import fcntl
import heapq
import os
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Final, Self, TypeVar

from gateway.kept.ports import BlobsUnavailable
from gateway.stores.disk import Disk, OsDisk, make_folders, sync_folder, write_all

MOST_BYTES: Final = 64 * 1024 * 1024
_PIECE_BYTES: Final = 1024 * 1024
_SUFFIX: Final = ",blob"
_ASIDE: Final = ".aside"
_THREADS: Final = 4
_PAGE: Final = (
    1000  # of what a folder holds, so many entries at most are in memory, or as many as somebody asks for
)
_TRIES: Final = 16  # a folder may be removed, as it is empty, just before something is linked into it
_PART: Final = r"[0-9A-Za-z_-][0-9A-Za-z._-]*"
_NAME: Final = re.compile(rf"(?=.{{1,200}}\Z){_PART}(/{_PART})*")
_T = TypeVar("_T")


class FileBlobs:
    """The objects in a folder (0700). Enter it before use. All of it runs on a few threads; what has no answer after `answer_seconds` is
    given up, and what had not begun by then never does.
    """

    def __init__(self, folder: Path, *, disk: Disk | None = None, answer_seconds: float = 30.0) -> None:
        self._folder = folder
        self._aside = folder / _ASIDE
        self._disk = disk or OsDisk()
        self._answer_seconds = answer_seconds
        self._pool = ThreadPoolExecutor(max_workers=_THREADS, thread_name_prefix="blobs")

    async def __aenter__(self) -> Self:
        await self._off_loop(self._prepare)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def put(self, name: str, data: bytes) -> bool:
        path = self._path(name)
        if len(data) > MOST_BYTES:
            raise ValueError(f"{len(data)} bytes in one object, more than {MOST_BYTES}")
        return await self._off_loop(lambda: self._put(path, data))

    async def get(self, name: str) -> bytes | None:
        path = self._path(name)
        return await self._off_loop(lambda: self._get(path))

    async def delete(self, name: str) -> None:
        path = self._path(name)
        await self._off_loop(lambda: self._delete(path))

    async def names(self, prefix: str, after: str | None = None, limit: int = 1000) -> Sequence[str]:
        return await self._off_loop(
            lambda: list(islice(self._walk(self._folder, "", prefix, after or "", max(limit, _PAGE)), limit))
        )

    async def _off_loop(self, work: Callable[[], _T]) -> _T:
        try:
            async with asyncio.timeout(self._answer_seconds):
                return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        except TimeoutError as error:
            raise BlobsUnavailable(f"{self._folder}: no answer in {self._answer_seconds:g} s") from error
        except OSError as error:
            raise BlobsUnavailable(f"{self._folder}: {error}") from error

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise ValueError(f"not a name of a blob: {name!r}")
        return self._folder / (name + _SUFFIX)

    def _prepare(self) -> None:
        make_folders(self._disk, self._aside)
        for entry in list(self._disk.entries(self._aside)):
            path = self._aside / entry.name
            with suppress(FileNotFoundError), self._opened(path, os.O_RDWR) as fd:
                if self._disk.lock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB):  # its process died
                    self._disk.unlink(path)

    def _put(self, path: Path, data: bytes) -> bool:
        with self._written(data) as aside:
            for _ in range(_TRIES):
                self._make_folders(path.parent)
                try:
                    self._disk.link(aside, path)
                except FileExistsError:  # perhaps only just: whoever hears of it may rely on it
                    self._sync_up(path.parent)
                    return False
                except FileNotFoundError:
                    continue
                try:
                    self._sync_up(path.parent)
                except OSError:
                    with suppress(OSError):
                        self._disk.unlink(path)
                    raise
                return True
        raise OSError(errno.EAGAIN, "its folder was removed again and again", str(path))

    @contextmanager
    def _written(self, data: bytes) -> Iterator[Path]:
        """A file aside that holds the data durably, while inside."""
        path = self._aside / secrets.token_hex(16)
        with self._opened(path, os.O_RDWR | os.O_CREAT | os.O_EXCL) as fd:
            try:
                # Whoever sweeps may have it first, or have removed it: then a file without a name is linked to nothing, and that is told.
                self._disk.lock(fd, fcntl.LOCK_EX)
                write_all(self._disk, fd, data, 0)
                self._disk.sync(fd)
                yield path
            finally:
                with suppress(OSError):  # else it is swept at the next start
                    self._disk.unlink(path)

    def _get(self, path: Path) -> bytes | None:
        try:
            with self._opened(path, os.O_RDONLY) as fd:
                pieces = []
                size = 0
                while size <= MOST_BYTES and (piece := self._disk.read(fd, _PIECE_BYTES, size)):
                    pieces.append(piece)
                    size += len(piece)
        except FileNotFoundError:
            return None
        if size > MOST_BYTES:
            raise OSError(errno.EFBIG, "larger than any object", str(path))
        return b"".join(pieces)

    def _delete(self, path: Path) -> None:
        with suppress(FileNotFoundError):
            self._disk.unlink(path)
        self._sync_up(path.parent)
        with suppress(OSError):  # as soon as one of them is not empty
            for folder in self._up(path.parent):
                self._disk.remove_folder(folder)

    def _walk(self, folder: Path, at: str, prefix: str, after: str, size: int) -> Iterator[str]:
        """All names in it, a page at a time. A folder stands for names that go on behind a slash, so it is sorted with that."""
        begun = ""
        while True:
            found = self._wanted(folder, at, prefix, after)
            page = heapq.nsmallest(size, (name for name in found if name > begun))
            for name in page:
                if name.endswith("/"):
                    yield from self._walk(self._folder / name, name, prefix, after, size)
                else:
                    yield name
            if len(page) < size:
                return
            begun = page[-1]

    def _wanted(self, folder: Path, at: str, prefix: str, after: str) -> Iterator[str]:
        with suppress(FileNotFoundError):  # removed meanwhile, as it was empty
            for entry in self._disk.entries(folder):
                if entry.is_folder:
                    name = f"{at}{entry.name}/"
                    is_wanted = name.startswith(prefix) or prefix.startswith(name)
                    if is_wanted and entry.name != _ASIDE and (name > after or after.startswith(name)):
                        yield name
                elif entry.name.endswith(_SUFFIX):
                    name = at + entry.name.removesuffix(_SUFFIX)
                    if name > after and name.startswith(prefix):
                        yield name

    def _up(self, folder: Path) -> Iterator[Path]:
        """A folder and those above it, without the one that holds all."""
        while folder != self._folder:
            yield folder
            folder = folder.parent

    def _make_folders(self, folder: Path) -> None:
        for path in reversed(list(self._up(folder))):
            with suppress(FileNotFoundError):  # removed while we are on our way down: the link will tell
                self._disk.make_folder(path)

    def _sync_up(self, folder: Path) -> None:
        """All that lead to it: another process may have made one just now, and not have synced it yet."""
        for path in (*self._up(folder), self._folder):
            with suppress(FileNotFoundError):  # it was empty, and that it is gone shows in the one above
                sync_folder(self._disk, path)

    @contextmanager
    def _opened(self, path: Path, flags: int) -> Iterator[int]:
        fd = self._disk.open(path, flags)
        try:
            yield fd
        finally:
            self._disk.close(fd)
