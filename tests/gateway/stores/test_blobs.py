import asyncio
import fcntl
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gateway.kept.ports import BlobsUnavailable
from gateway.stores.blobs import FileBlobs
from gateway.stores.disk import Entry, OsDisk
from tests.contracts.blobs import BlobsContract


class TestFileBlobs(BlobsContract):
    @pytest.fixture
    async def blobs(self, tmp_path: Path) -> AsyncIterator[FileBlobs]:
        async with FileBlobs(tmp_path / "blobs") as blobs:
            yield blobs


async def test_only_its_user_can_read_the_folders_and_the_objects(tmp_path: Path) -> None:
    async with FileBlobs(tmp_path / "blobs") as blobs:
        await blobs.put("a/b/c", b"x")
    found = list((tmp_path / "blobs").rglob("*"))
    assert {path.stat().st_mode & 0o777 for path in found if path.is_dir()} == {0o700}
    assert {path.stat().st_mode & 0o777 for path in found if path.is_file()} == {0o600}
    assert (tmp_path / "blobs").stat().st_mode & 0o777 == 0o700


async def test_two_who_open_the_same_folder_see_the_same_and_one_put_wins(tmp_path: Path) -> None:
    async with FileBlobs(tmp_path) as here, FileBlobs(tmp_path) as there:
        for number in range(50):
            won = await asyncio.gather(here.put(f"a/{number}", b"here"), there.put(f"a/{number}", b"there"))
            assert sorted(won) == [False, True]
            assert await here.get(f"a/{number}") == await there.get(f"a/{number}")
            await asyncio.gather(here.delete(f"a/{number}"), there.delete(f"a/{number}"))
        assert await here.names("") == []


async def test_an_empty_folder_does_not_outlive_its_last_object(tmp_path: Path) -> None:
    async with FileBlobs(tmp_path) as blobs:
        await blobs.put("a/b/c", b"")
        await blobs.put("a/d", b"")
        await blobs.delete("a/b/c")
        assert names(tmp_path) == [".aside", "a", "a/d,blob"]
        await blobs.delete("a/d")
        assert names(tmp_path) == [".aside"]


async def test_what_the_dead_left_aside_is_swept_and_what_the_living_write_is_kept(tmp_path: Path) -> None:
    (tmp_path / ".aside").mkdir()
    (tmp_path / ".aside" / "dead").write_bytes(b"half an obj")
    with (tmp_path / ".aside" / "living").open("w") as living:
        fcntl.flock(living, fcntl.LOCK_EX)
        async with FileBlobs(tmp_path) as blobs:
            assert names(tmp_path) == [".aside", ".aside/living"]
            assert await blobs.names("") == []


async def test_a_file_of_somebody_else_is_no_object(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    (tmp_path / "note").touch()
    async with FileBlobs(tmp_path) as blobs:
        await blobs.put("a", b"")
        assert await blobs.names("") == ["a"]


async def test_names_of_a_folder_with_more_than_a_page_are_all_told_in_order(tmp_path: Path) -> None:
    wanted = sorted([f"a/{number}" for number in range(2500)] + [f"a/{number}/x" for number in range(1200)])
    for name in wanted:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{name},blob").touch()
    async with FileBlobs(tmp_path) as blobs:
        assert await blobs.names("", limit=10_000) == wanted
        assert await blobs.names("a/", "a/1999", 1500) == [name for name in wanted if name > "a/1999"][:1500]


class CountingDisk(OsDisk):
    """How often a folder is read from end to end."""

    def __init__(self) -> None:
        self.reads: Counter[str] = Counter()

    def entries(self, folder: Path) -> Iterator[Entry]:
        self.reads[folder.name] += 1
        return super().entries(folder)


async def test_a_page_of_names_reads_a_folder_once_however_many_it_asks_for(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for number in range(3000):
        (tmp_path / f"a/{number},blob").touch()
    disk = CountingDisk()
    async with FileBlobs(tmp_path, disk=disk) as blobs:
        assert len(await blobs.names("a/", None, 3000)) == 3000
    assert disk.reads["a"] == 1


async def test_what_cannot_be_read_or_written_is_unavailable(tmp_path: Path) -> None:
    async with FileBlobs(tmp_path) as blobs:
        await blobs.put("a/b", b"")
        (tmp_path / "c").touch()  # where a folder would be
        (tmp_path / "d,blob").mkdir()
        for asked in (blobs.put("c/d", b""), blobs.get("c/d"), blobs.delete("c/d"), blobs.get("d")):
            with pytest.raises(BlobsUnavailable, match=str(tmp_path)):
                await asked
    with pytest.raises(BlobsUnavailable):
        async with FileBlobs(tmp_path / "c"):
            pass


async def test_every_object_that_was_told_survives_kill_9_whole_and_nothing_is_left_aside(
    tmp_path: Path,
) -> None:
    script = """
import asyncio, sys
from pathlib import Path
from gateway.stores.blobs import FileBlobs
async def main():
    async with FileBlobs(Path(sys.argv[1])) as blobs:
        async def put(number):
            assert await blobs.put(f"{number % 7}/{number}", b"%d" % number * 20_000)
            print(number, flush=True)
        for start in range(0, 10_000, 4):
            await asyncio.gather(*map(put, range(start, start + 4)))
asyncio.run(main())
"""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, str(tmp_path), stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    told = [int(await child.stdout.readline()) for _ in range(50)]
    child.send_signal(signal.SIGKILL)
    told += [int(line) for line in (await child.stdout.read()).split(b"\n")[:-1]]
    await child.wait()
    async with FileBlobs(tmp_path) as blobs:
        assert os.listdir(tmp_path / ".aside") == []
        held = await blobs.names("", limit=20_000)
        assert {f"{number % 7}/{number}" for number in told} <= set(held)
        for name in held:
            assert await blobs.get(name) == name.partition("/")[2].encode() * 20_000


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
