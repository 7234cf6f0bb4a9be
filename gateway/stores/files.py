"""Segments as files of one folder: preallocated, locked by their process, one synced write a commit.

A segment is zero-filled beforehand, so that a sync writes data only, and gets its name when it is created. It is written past the page
cache where the filesystem can do that, which takes less time and CPU a commit than through it.
Its owner holds an exclusive flock, which the kernel frees however the owner dies.
"""

import asyncio
import errno
import fcntl
import mmap
import os
import re
import secrets
import threading
from asyncio import Future
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple, Self, TypeVar

from gateway.audit.ports import Segment, SegmentFailed, Stored
from gateway.stores.disk import Disk, OsDisk, make_folders, sync_folder, write_all

SEGMENT_BYTES = 32 * 1024 * 1024
_SUFFIX = ".segment"
_SPARE = ".spare"
_RECOVERY, _RETENTION = "recovery.lock", "retention.lock"
_PIECE = bytes(1024 * 1024)
_BLOCK_BYTES = 4096  # what O_DIRECT is aligned to: no disk's logical block is larger, but for some that are tried and found out
_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")
_T = TypeVar("_T")


class _Job(NamedTuple):
    frame: bytes
    done: Future[None]


class _Spare(NamedTuple):
    fd: int
    path: Path


class Blocks:
    """Appends to a prepared file of zeros, by whole blocks as O_DIRECT asks for (open(2)). The last one is written again with what comes
    next: what it held is the same bytes in both writes, so no cut between them can lose it.
    """

    def __init__(self, disk: Disk, fd: int) -> None:
        self._disk = disk
        self._fd = fd
        # Aligned to a page; shared, so that a fork while the disk reads from it cannot move it.
        self._waiting = memoryview(mmap.mmap(-1, len(_PIECE)))
        self._start = 0  # of the last block
        self._filled = 0  # so much of it
        try:
            disk.past_cache(fd, wanted=True)
            self._write(self._waiting[:_BLOCK_BYTES])  # zeros on zeros: some filesystems refuse only now
        except OSError:  # then through the page cache, as durable
            disk.past_cache(fd, wanted=False)

    @property
    def end(self) -> int:
        return self._start + self._filled

    def append(self, data: bytes) -> None:
        """All of it is durable when this returns: RWF_DSYNC does in the same system call what fdatasync does in one more."""
        rest = memoryview(data)
        while rest:
            piece = rest[: len(self._waiting) - self._filled]
            rest = rest[len(piece) :]
            end = self._filled + len(piece)
            whole = -(-end // _BLOCK_BYTES) * _BLOCK_BYTES
            self._waiting[self._filled : end] = piece
            self._waiting[end:whole] = bytes(whole - end)
            self._write(self._waiting[:whole])
            self._filled = end % _BLOCK_BYTES
            self._waiting[: self._filled] = self._waiting[end - self._filled : end]
            self._start += end - self._filled

    def _write(self, blocks: memoryview) -> None:
        offset = self._start
        while blocks:
            written = self._disk.write_through(self._fd, blocks, offset) // _BLOCK_BYTES * _BLOCK_BYTES
            if not written:
                raise OSError(errno.EIO, "less than a block was written")
            blocks, offset = blocks[written:], offset + written


class FileSegment:
    """One file and the one thread that writes it. Everything but `_work` belongs to the loop."""

    def __init__(
        self, segment_id: str, disk: Disk, fd: int, size_bytes: int, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.id = segment_id
        self.left_bytes = size_bytes
        self._disk = disk
        self._fd = fd
        self._blocks = Blocks(disk, fd)
        self._loop = loop
        self._last: Future[None] | None = None
        self._is_closed = False
        self._jobs: SimpleQueue[_Job | Future[None]] = SimpleQueue()
        # A daemon: a sync that never returns must not keep the process.
        threading.Thread(target=self._work, name=f"segment {segment_id}", daemon=True).start()

    def append(self, frame: bytes) -> Future[None]:
        is_poisoned = _has_failed(self._last)
        done = self._last = self._loop.create_future()
        if is_poisoned or self._is_closed:
            done.set_exception(SegmentFailed("the segment takes nothing more"))
        else:
            self.left_bytes -= len(frame)
            self._jobs.put(_Job(frame, done))
        return done

    def close(self) -> Future[None]:
        self._is_closed = True
        done = self._loop.create_future()
        if _has_failed(self._last):
            done.set_result(None)  # the thread may be stuck in a sync; it closes the file when it gets there
        self._jobs.put(done)
        return done

    def _work(self) -> None:
        last: Future[None] | None = None
        failed: SegmentFailed | None = None
        while isinstance(job := self._jobs.get(), _Job):
            last = job.done
            try:
                self._blocks.append(job.frame)
            except OSError as error:
                failed = SegmentFailed(str(error))
            self._tell(last, failed)
        if failed is None and not (last and last.cancelled()):
            with suppress(OSError):  # else the zeros stay: a longer file, the same segment
                self._disk.truncate(self._fd, self._blocks.end)
                self._disk.sync(self._fd)
        with suppress(OSError):  # it is closed all the same (close(2))
            self._disk.close(self._fd)
        self._tell(job, None)

    def _tell(self, done: Future[None], failed: SegmentFailed | None) -> None:
        with suppress(RuntimeError):  # the loop is gone, and with it whoever asked
            self._loop.call_soon_threadsafe(_resolve, done, failed)


class FileSegments:
    """The segments in a folder (0700). Enter it before use. All but commits runs on one other thread."""

    def __init__(self, folder: Path, size_bytes: int = SEGMENT_BYTES, *, disk: Disk | None = None) -> None:
        self.place = str(folder)
        self._disk = disk or OsDisk()
        self._folder = folder
        self._size_bytes = size_bytes
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="segments")
        self._spare: _Spare | None = None

    async def __aenter__(self) -> Self:
        await self._off_loop(self._prepare_folder)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._off_loop(self._drop_spare)
        self._pool.shutdown(wait=False)

    def create(self, segment_id: str) -> Future[Segment]:
        loop = asyncio.get_running_loop()
        created = self._off_loop(lambda: self._create(segment_id, loop))
        self._off_loop(self._prepare_spare)
        return created

    async def stored(self) -> list[Stored]:
        return await self._off_loop(self._stored)

    async def read(self, segment_id: str, limit_bytes: int | None = None) -> bytes:
        return await self._off_loop(lambda: self._read(segment_id, limit_bytes))

    async def cut(self, segment_id: str, kept: bytes) -> None:
        await self._off_loop(lambda: self._cut(segment_id, kept))

    async def replace(self, segment_id: str, data: bytes) -> None:
        await self._off_loop(lambda: self._replace(segment_id, data))

    @asynccontextmanager
    async def retention(self) -> AsyncIterator[bool]:
        fd, is_alone = await self._off_loop(lambda: self._locked(_RETENTION, fcntl.LOCK_EX | fcntl.LOCK_NB))
        try:
            yield is_alone
        finally:
            self._disk.close(fd)

    @asynccontextmanager
    async def recovery(self) -> AsyncIterator[None]:
        lock, _ = await self._off_loop(lambda: self._locked(_RECOVERY, fcntl.LOCK_EX))
        try:
            yield
        finally:
            self._disk.close(lock)

    def _off_loop(self, work: Callable[[], _T]) -> Future[_T]:
        return asyncio.get_running_loop().run_in_executor(self._pool, _translated, work)

    def _path(self, segment_id: str) -> Path:
        if not _ID.fullmatch(segment_id):
            raise ValueError(f"not a segment id: {segment_id!r}")
        return self._folder / (segment_id + _SUFFIX)

    def _prepare_folder(self) -> None:
        make_folders(self._disk, self._folder)
        for name in self._names(_SPARE):
            path = self._folder / (name + _SPARE)
            with suppress(FileNotFoundError), _opened(self._disk, path) as fd:
                if self._is_free(fd):  # its process died before it used it
                    self._disk.unlink(path)

    def _create(self, segment_id: str, loop: asyncio.AbstractEventLoop) -> Segment:
        path = self._path(segment_id)
        if self._disk.exists(path):
            raise SegmentFailed(f"segment {segment_id} exists")
        spare = self._spare = self._spare or self._fill()
        self._disk.rename(spare.path, path)
        self._spare = None
        try:
            sync_folder(self._disk, self._folder)
            return FileSegment(segment_id, self._disk, spare.fd, self._size_bytes, loop)
        except OSError:
            with suppress(OSError):  # else it stays, empty: the next start names it
                self._disk.unlink(path)
            self._disk.close(spare.fd)
            raise

    def _prepare_spare(self) -> None:
        """Ahead of need, so that changing segments never waits for it. If it fails, the next create tries."""
        with suppress(OSError):
            self._spare = self._spare or self._fill()

    def _fill(self) -> _Spare:
        """A locked file of durable zeros."""
        fd, _ = spare = self._aside()
        try:
            end = 0
            while end < self._size_bytes:  # piece by piece, for the sake of the commits that go on meanwhile
                end = write_all(self._disk, fd, _PIECE[: self._size_bytes - end], end)
                self._disk.sync_data(fd)
            self._disk.sync(fd)
        except OSError:
            self._drop(spare)
            raise
        return spare

    def _aside(self) -> _Spare:
        """A locked file that holds nothing. Should this process die, a later start removes it."""
        while True:
            path = self._folder / (secrets.token_hex(8) + _SPARE)
            fd = self._disk.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            if self._disk.lock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB) and self._disk.links(fd):
                return _Spare(fd, path)
            self._disk.close(fd)  # another process, just starting, took it for a dead one's

    def _drop_spare(self) -> None:
        if spare := self._spare:
            self._spare = None
            self._drop(spare)

    def _drop(self, spare: _Spare) -> None:
        with suppress(OSError):  # else the next start removes it
            self._disk.unlink(spare.path)
        self._disk.close(spare.fd)

    def _names(self, suffix: str) -> list[str]:
        found = (entry.name for entry in self._disk.entries(self._folder))
        return sorted(name.removesuffix(suffix) for name in found if name.endswith(suffix))

    def _stored(self) -> list[Stored]:
        return [Stored(name, self._is_locked(name)) for name in self._names(_SUFFIX)]

    def _is_locked(self, segment_id: str) -> bool:
        with _opened(self._disk, self._path(segment_id), os.O_RDONLY) as fd:
            return not self._is_free(fd)

    def _read(self, segment_id: str, limit_bytes: int | None) -> bytes:
        most = len(_PIECE) if limit_bytes is None else limit_bytes
        pieces: list[bytes] = []
        size = 0
        with _opened(self._disk, self._path(segment_id), os.O_RDONLY) as fd:
            while piece := self._disk.read(fd, most, size):
                pieces.append(piece)
                size += len(piece)
                if limit_bytes is not None:
                    most = limit_bytes - size
        return b"".join(pieces)

    def _cut(self, segment_id: str, kept: bytes) -> None:
        with _opened(self._disk, self._path(segment_id)) as fd:
            if not self._is_free(fd):
                raise SegmentFailed(f"segment {segment_id} belongs to a living process")
            self._disk.truncate(fd, len(kept))
            write_all(self._disk, fd, kept, 0)
            self._disk.sync(fd)

    def _replace(self, segment_id: str, data: bytes) -> None:
        if self._is_locked(segment_id):
            raise SegmentFailed(f"segment {segment_id} belongs to a living process")
        aside = self._aside()
        try:
            write_all(self._disk, aside.fd, data, 0)
            self._disk.sync(aside.fd)
            self._disk.rename(aside.path, self._path(segment_id))
        except OSError:
            self._drop(aside)
            raise
        self._disk.close(aside.fd)
        sync_folder(self._disk, self._folder)

    def _locked(self, name: str, how: int) -> tuple[int, bool]:
        fd = self._disk.open(self._folder / name, os.O_RDWR | os.O_CREAT)
        return fd, self._disk.lock(fd, how)

    def _is_free(self, fd: int) -> bool:
        """Whether nobody owns the file. Shared, so that two who ask do not take each other for an owner."""
        return self._disk.lock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)


class SegmentBytes(Mapping[str, bytes]):
    """A folder's segments for somebody who only reads, a copy too: each is read when it is asked for, as a log may be larger
    than memory. FileNotFoundError without the folder, unless it `may_lack`.
    """

    def __init__(self, folder: Path, *, may_lack: bool = False) -> None:
        paths = [] if may_lack and not folder.exists() else sorted(folder.iterdir())
        self._paths = {path.name.removesuffix(_SUFFIX): path for path in paths if path.suffix == _SUFFIX}

    def begun(self) -> list[str]:
        """Those that hold something."""
        return [segment_id for segment_id in self._paths if any(self.piece(segment_id, 0, 1))]

    def owned(self, among: Iterable[str] | None = None) -> list[str]:
        """Those that a living process is writing."""
        found = []
        disk = OsDisk()
        for segment_id in self._paths if among is None else among:
            with _opened(disk, self._paths[segment_id], os.O_RDONLY) as fd:
                if not disk.lock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB):
                    found.append(segment_id)
        return found

    def piece(self, segment_id: str, offset_bytes: int, most_bytes: int) -> bytes:
        """So much of it from there, less where it ends."""
        with self._paths[segment_id].open("rb") as file:
            file.seek(offset_bytes)
            return file.read(most_bytes)

    def __getitem__(self, segment_id: str) -> bytes:
        return self._paths[segment_id].read_bytes()

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)


def _translated(work: Callable[[], _T]) -> _T:
    try:
        return work()
    except OSError as error:
        raise SegmentFailed(str(error)) from error


@contextmanager
def _opened(disk: Disk, path: Path, how: int = os.O_RDWR) -> Iterator[int]:
    fd = disk.open(path, how)
    try:
        yield fd
    finally:
        disk.close(fd)


def sync(path: Path) -> None:
    """What a file holds, or which names a folder has, is on the disk."""
    sync_folder(OsDisk(), path)


def _has_failed(last: Future[None] | None) -> bool:
    return last is not None and last.done() and (last.cancelled() or last.exception() is not None)


def _resolve(done: Future[None], failed: SegmentFailed | None) -> None:
    if not done.done():
        if failed is None:
            done.set_result(None)
        else:
            done.set_exception(failed)
