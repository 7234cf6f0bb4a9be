import asyncio
import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest

from gateway.audit.record import ProbeBody, own_record
from gateway.audit.segment import first_chain, frame, scan
from gateway.stores.disk import OsDisk
from gateway.stores.files import Blocks, FileSegments
from tests.contracts.segment import SegmentContract


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


class TestFileSegments(SegmentContract):
    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[FileSegments]:
        async with FileSegments(tmp_path / "audit", 65_536) as store:
            yield store


async def test_only_its_user_can_read_the_folder_and_its_segments(tmp_path: Path) -> None:
    async with FileSegments(tmp_path / "audit", 4096) as store:
        await store.create("a")
        assert (tmp_path / "audit").stat().st_mode & 0o777 == 0o700
        assert (tmp_path / "audit" / "a.segment").stat().st_mode & 0o777 == 0o600


async def test_the_names_of_new_folders_and_segments_are_durable(tmp_path: Path) -> None:
    with synced() as paths:
        async with FileSegments(tmp_path / "state" / "audit", 4096) as store:
            assert sorted(paths) == [tmp_path, tmp_path / "state"]
            paths.clear()
            await store.create("a")
            assert tmp_path / "state" / "audit" in paths
    with synced() as paths:
        async with FileSegments(tmp_path / "state" / "audit", 4096):
            assert paths == []


async def test_a_fresh_segment_is_filled_with_zeros_so_that_a_commit_allocates_nothing(
    tmp_path: Path,
) -> None:
    async with FileSegments(tmp_path, 3_000_000) as store:
        segment = await store.create("a")
        before = (tmp_path / "a.segment").stat()
        await segment.append(b"x" * 1000)
        after = (tmp_path / "a.segment").stat()
        assert before.st_size == after.st_size == 3_000_000
        assert before.st_blocks == after.st_blocks >= 3_000_000 // 512


MIB = 1024 * 1024


@pytest.mark.parametrize(
    "sizes", [[4096, 1, 4095], [1, 4095, 4096, 8191, 1], [3 * MIB + 77, 5], [MIB - 3, 3, MIB]]
)
async def test_commits_lie_behind_each_other_with_zeros_behind_them_whatever_their_size(
    tmp_path: Path, sizes: list[int]
) -> None:
    """It is written by whole blocks: the last one again with what comes next, also beyond what was prepared."""
    written = b""
    async with FileSegments(tmp_path, 2 * MIB) as store:
        segment = await store.create("a")
        for number, size in enumerate(sizes, start=1):
            await segment.append(bytes([number]) * size)
            written += bytes([number]) * size
            data = (tmp_path / "a.segment").read_bytes()
            assert len(data) >= 2 * MIB
            assert data.rstrip(b"\0") == written
        await segment.close()
    assert (tmp_path / "a.segment").read_bytes() == written


def test_where_whole_blocks_are_refused_past_the_page_cache_it_is_used() -> None:
    fd = os.open("/dev/full", os.O_RDWR)
    try:
        Blocks(OsDisk(), fd)
        assert not fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_DIRECT
    finally:
        os.close(fd)


async def test_leaving_the_store_leaves_no_spare_behind(tmp_path: Path) -> None:
    async with FileSegments(tmp_path, 4096) as store:
        await store.create("a")
        await store.create("b")
    assert names(tmp_path) == ["a.segment", "b.segment"]


async def test_what_replaces_a_segment_and_then_its_name_are_durable_and_nothing_stays_aside(
    tmp_path: Path,
) -> None:
    with synced() as paths:
        async with FileSegments(tmp_path, 4096) as store:
            await (await store.create("a")).close()
            await store.replace("a", b"another")
            assert [path == tmp_path for path in paths[-2:]] == [False, True]
    assert (tmp_path / "a.segment").stat().st_mode & 0o777 == 0o600
    assert names(tmp_path) == ["a.segment"]


async def test_spares_of_the_dead_are_removed_and_those_of_the_living_kept(tmp_path: Path) -> None:
    (tmp_path / "dead.spare").touch()
    with (tmp_path / "living.spare").open("w") as living:
        fcntl.flock(living, fcntl.LOCK_EX)
        async with FileSegments(tmp_path, 4096):
            assert names(tmp_path) == ["living.spare"]


async def test_a_store_says_where_it_is(tmp_path: Path) -> None:
    assert FileSegments(tmp_path, 4096).place == str(tmp_path)


async def test_an_id_cannot_leave_the_folder(tmp_path: Path) -> None:
    async with FileSegments(tmp_path, 4096) as store:
        for name in ("../a", "", "a/b", "a.b", "a" * 65):
            with pytest.raises(ValueError, match="not a segment id"):
                await store.create(name)


async def test_a_full_disk_fails_the_create_and_leaves_nothing(tmp_path: Path) -> None:
    script = """
async def main():
    async with FileSegments(Path(sys.argv[1]), 200_000) as store:
        try:
            await store.create("a")
        except SegmentFailed:
            print("failed")
asyncio.run(main())
"""
    assert await limited(tmp_path, script) == b"failed\n"
    assert names(tmp_path) == []


async def test_a_failed_write_poisons_the_segment_but_not_the_store(tmp_path: Path) -> None:
    script = """
async def main():
    async with FileSegments(Path(sys.argv[1]), 50_000) as store:
        segment = await store.create("a")
        await segment.append(b"good")
        for frame in (b"x" * 100_000, b"after"):
            try:
                await segment.append(frame)
            except SegmentFailed:
                print("failed")
        await segment.close()
        fresh = await store.create("b")
        await fresh.append(b"fresh")
        await fresh.close()
asyncio.run(main())
"""
    assert await limited(tmp_path, script) == b"failed\nfailed\n"
    assert (tmp_path / "a.segment").read_bytes().startswith(b"goodx")
    assert b"after" not in (tmp_path / "a.segment").read_bytes()
    assert (tmp_path / "b.segment").read_bytes() == b"fresh"


async def test_what_was_durable_survives_kill_9_and_the_lock_is_free(tmp_path: Path) -> None:
    script = """
import asyncio, sys
from pathlib import Path
from gateway.stores.files import FileSegments
from tests.gateway.stores.test_files import commits
async def main():
    async with FileSegments(Path(sys.argv[1]), 1_000_000) as store:
        segment = await store.create("a")
        for number, data in enumerate(commits("a")):
            await segment.append(data)
            print(number, flush=True)
asyncio.run(main())
"""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, str(tmp_path), stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    said = [int(await child.stdout.readline()) for _ in range(50)]
    child.send_signal(signal.SIGKILL)
    said += [int(line) for line in (await child.stdout.read()).split(b"\n")[:-1]]
    await child.wait()
    async with FileSegments(tmp_path, 4096) as store:
        assert [tuple(stored) for stored in await store.stored()] == [("a", False)]
        found = scan("a", await store.read("a"))
        assert len(found.commits) > said[-1]
        await store.cut("a", (await store.read("a"))[: found.end_bytes])
        assert scan("a", await store.read("a")).fault is None


async def test_one_process_at_a_time_recovers(tmp_path: Path) -> None:
    async with FileSegments(tmp_path, 4096) as store:
        async with store.recovery():
            assert not is_free(tmp_path / "recovery.lock")
        assert is_free(tmp_path / "recovery.lock")


async def test_a_segment_that_gave_no_answer_keeps_neither_the_loop_nor_the_next_segment(
    tmp_path: Path,
) -> None:
    async with FileSegments(tmp_path, 4096) as store:
        stuck = await store.create("stuck")
        stuck.append(b"x").cancel()
        assert stuck.close().done()  # at once, wherever its thread is
        fresh = await store.create("fresh")
        await fresh.append(b"fresh")
        await fresh.close()
        assert await store.read("fresh") == b"fresh"


@contextmanager
def synced() -> Iterator[list[Path]]:
    """What is synced, as seen by a profiler: only a power cut would show what is not."""
    paths: list[Path] = []

    def watch(frame: FrameType, event: str, called: object) -> None:
        if event == "c_call" and called is os.fsync:
            paths.append(Path(f"/proc/self/fd/{frame.f_locals['fd']}").readlink())

    threading.setprofile(watch)
    try:
        yield paths
    finally:
        threading.setprofile(None)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def is_free(path: Path) -> bool:
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


async def limited(folder: Path, script: str) -> bytes:
    """What the script prints in a process whose files cannot grow beyond 100,000 bytes, as on a full disk."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _LIMITED + script, str(folder), stdout=subprocess.PIPE
    )
    printed, _ = await child.communicate()
    assert child.returncode == 0
    return printed


_LIMITED = """
import asyncio, resource, signal, sys
from pathlib import Path
from gateway.audit.ports import SegmentFailed
from gateway.stores.files import FileSegments
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
"""


def commits(segment_id: str) -> list[bytes]:
    """Real commits, one record each."""
    chain, frames = first_chain(segment_id), []
    for number in range(2000):
        made = frame(number, [own_record(f"r{number}", "probe", ProbeBody(), at_us=number)], chain)
        chain = made.chain
        frames.append(made.data)
    return frames
