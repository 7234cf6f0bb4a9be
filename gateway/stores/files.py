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
import tempfile
import threading
from asyncio import Future
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple, Self, TypeVar

from gateway.audit.ports import Segment, SegmentFailed, Stored

SEGMENT_BYTES = 32 * 1024 * 1024
_SUFFIX = ".segment"
_SPARE = ".spare"
_RECOVERY = "recovery.lock"
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

    def __init__(self, fd: int) -> None:
        self._fd = fd
        # Aligned to a page; shared, so that a fork while the disk reads from it cannot move it.
        self._waiting = memoryview(mmap.mmap(-1, len(_PIECE)))
        self._start = 0  # of the last block
        self._filled = 0  # so much of it
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        try:
            fcntl.fcntl(fd, fcntl.F_SETFL, flags | os.O_DIRECT)
            self._write(self._waiting[:_BLOCK_BYTES])  # zeros on zeros: some filesystems refuse only now
        except OSError:  # then through the page cache, as durable
            fcntl.fcntl(fd, fcntl.F_SETFL, flags)

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
            written = os.pwritev(self._fd, (blocks,), offset, os.RWF_DSYNC) // _BLOCK_BYTES * _BLOCK_BYTES
            if not written:
                raise OSError(errno.EIO, "less than a block was written")
            blocks, offset = blocks[written:], offset + written


class FileSegment:
    """One file and the one thread that writes it. Everything but `_work` belongs to the loop."""

    def __init__(
        self, segment_id: str, fd: int, blocks: Blocks, size_bytes: int, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.id = segment_id
        self.left_bytes = size_bytes
        self._fd = fd
        self._blocks = blocks
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
                os.ftruncate(self._fd, self._blocks.end)
                os.fsync(self._fd)
        os.close(self._fd)
        self._tell(job, None)

    def _tell(self, done: Future[None], failed: SegmentFailed | None) -> None:
        with suppress(RuntimeError):  # the loop is gone, and with it whoever asked
            self._loop.call_soon_threadsafe(_resolve, done, failed)


class FileSegments:
    """The segments in a folder (0700). Enter it before use. All but commits runs on one other thread."""

    def __init__(self, folder: Path, size_bytes: int = SEGMENT_BYTES) -> None:
        self.place = str(folder)
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

    async def cut(self, segment_id: str, end_bytes: int) -> None:
        await self._off_loop(lambda: self._cut(segment_id, end_bytes))

    @asynccontextmanager
    async def recovery(self) -> AsyncIterator[None]:
        lock = await self._off_loop(self._lock_recovery)
        try:
            yield
        finally:
            os.close(lock)

    def _off_loop(self, work: Callable[[], _T]) -> Future[_T]:
        return asyncio.get_running_loop().run_in_executor(self._pool, _translated, work)

    def _path(self, segment_id: str) -> Path:
        if not _ID.fullmatch(segment_id):
            raise ValueError(f"not a segment id: {segment_id!r}")
        return self._folder / (segment_id + _SUFFIX)

    def _prepare_folder(self) -> None:
        new = [folder for folder in (self._folder, *self._folder.parents) if not folder.exists()]
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in new:
            sync(folder.parent)
        for path in self._folder.glob("*" + _SPARE):
            with _opened(path) as fd:
                if _is_free(fd):  # its process died before it used it
                    path.unlink(missing_ok=True)

    def _create(self, segment_id: str, loop: asyncio.AbstractEventLoop) -> Segment:
        path = self._path(segment_id)
        if path.exists():
            raise SegmentFailed(f"segment {segment_id} exists")
        spare = self._spare = self._spare or self._fill()
        blocks = Blocks(spare.fd)
        self._spare = None
        spare.path.rename(path)
        sync(self._folder)
        return FileSegment(segment_id, spare.fd, blocks, self._size_bytes, loop)

    def _prepare_spare(self) -> None:
        """Ahead of need, so that changing segments never waits for it. If it fails, the next create tries."""
        with suppress(OSError):
            self._spare = self._spare or self._fill()

    def _fill(self) -> _Spare:
        """A locked file of durable zeros."""
        while True:
            fd, name = tempfile.mkstemp(suffix=_SPARE, dir=self._folder)
            if _lock(fd, fcntl.LOCK_EX) and os.fstat(fd).st_nlink:
                break
            os.close(fd)  # another process, just starting, took it for a dead one's
        try:
            end = 0
            while end < self._size_bytes:  # piece by piece, for the sake of the commits that go on meanwhile
                end = _write(fd, _PIECE[: self._size_bytes - end], end)
                os.fdatasync(fd)
            os.fsync(fd)
        except OSError:
            os.close(fd)
            os.unlink(name)
            raise
        return _Spare(fd, Path(name))

    def _drop_spare(self) -> None:
        if self._spare:
            self._spare.path.unlink(missing_ok=True)
            os.close(self._spare.fd)
            self._spare = None

    def _stored(self) -> list[Stored]:
        names = sorted(path.name.removesuffix(_SUFFIX) for path in self._folder.glob("*" + _SUFFIX))
        return [Stored(name, self._is_locked(name)) for name in names]

    def _is_locked(self, segment_id: str) -> bool:
        with _opened(self._path(segment_id), os.O_RDONLY) as fd:
            return not _is_free(fd)

    def _read(self, segment_id: str, limit_bytes: int | None) -> bytes:
        with self._path(segment_id).open("rb") as file:
            return file.read(limit_bytes)

    def _cut(self, segment_id: str, end_bytes: int) -> None:
        with _opened(self._path(segment_id)) as fd:
            if not _is_free(fd):
                raise SegmentFailed(f"segment {segment_id} belongs to a living process")
            os.ftruncate(fd, end_bytes)
            os.fsync(fd)

    def _lock_recovery(self) -> int:
        fd = os.open(self._folder / _RECOVERY, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX)
        return fd


class SegmentBytes(Mapping[str, bytes]):
    """A folder's segments for somebody who only reads, a copy too: each is read when it is asked for, as a log may be larger
    than memory. FileNotFoundError without the folder.
    """

    def __init__(self, folder: Path) -> None:
        self._paths = {
            path.name.removesuffix(_SUFFIX): path
            for path in sorted(folder.iterdir())
            if path.suffix == _SUFFIX
        }

    def begun(self) -> list[str]:
        """Those that hold something."""
        found = []
        for segment_id, path in self._paths.items():
            with path.open("rb") as file:
                if any(file.read(1)):
                    found.append(segment_id)
        return found

    def owned(self, among: Iterable[str] | None = None) -> list[str]:
        """Those that a living process is writing."""
        found = []
        for segment_id in self._paths if among is None else among:
            with _opened(self._paths[segment_id], os.O_RDONLY) as fd:
                if not _is_free(fd):
                    found.append(segment_id)
        return found

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
def _opened(path: Path, how: int = os.O_RDWR) -> Iterator[int]:
    fd = os.open(path, how | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def sync(path: Path) -> None:
    """What a file holds, or which names a folder has, is on the disk."""
    with _opened(path, os.O_RDONLY) as fd:
        os.fsync(fd)


def _is_free(fd: int) -> bool:
    """Whether nobody owns the file. Shared, so that two who ask do not take each other for an owner."""
    return _lock(fd, fcntl.LOCK_SH)


def _lock(fd: int, how: int) -> bool:
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write(fd: int, data: bytes, offset: int) -> int:
    """Where the data ends; all of it is written."""
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written
    return offset


def _has_failed(last: Future[None] | None) -> bool:
    return last is not None and last.done() and (last.cancelled() or last.exception() is not None)


def _resolve(done: Future[None], failed: SegmentFailed | None) -> None:
    if done.done():
        return
    if failed is None:
        done.set_result(None)
    else:
        done.set_exception(failed)
