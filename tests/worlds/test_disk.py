"""The world of files is as hard as a power cut: what was synced is there, and what was not is gone sooner or later."""

import errno
import fcntl
import os
import threading
from pathlib import Path

import pytest

from gateway.stores.disk import Entry, sync_folder, write_all
from tests.worlds.disk import DiskWorld, MemoryDisk

TOP = Path("/")
MADE = os.O_RDWR | os.O_CREAT
SEEDS = range(40)


def make(disk: MemoryDisk, name: str, data: bytes = b"") -> int:
    fd = disk.open(TOP / name, MADE)
    write_all(disk, fd, data, 0)
    return fd


def synced(disk: MemoryDisk, name: str, data: bytes) -> int:
    fd = make(disk, name, data)
    disk.sync(fd)
    sync_folder(disk, TOP)
    return fd


def after_cut(world: DiskWorld) -> dict[str, bytes]:
    world.cut()
    disk = world.process()
    return {
        entry.name: disk.read(disk.open(TOP / entry.name, os.O_RDONLY), 1 << 20, 0)
        for entry in disk.entries(TOP)
    }


@pytest.mark.parametrize("seed", SEEDS)
def test_what_was_synced_with_its_name_is_there(seed: int) -> None:
    world = DiskWorld(seed)
    disk = world.process()
    fd = synced(disk, "a", b"x" * 5000)
    assert disk.write_through(fd, memoryview(b"y" * 100), 4000) == 100
    assert after_cut(world) == {"a": b"x" * 4000 + b"y" * 100 + b"x" * 900}


def test_each_half_of_a_file_that_was_not_synced_may_be_gone() -> None:
    seen = set()
    for seed in SEEDS:
        world = DiskWorld(seed)
        disk = world.process()
        fd = synced(disk, "a", b"x" * 1024)
        write_all(disk, fd, b"y" * 1024, 0)
        seen.add(after_cut(world)["a"])
    halves = (b"x" * 512, b"y" * 512)
    assert seen == {first + second for first in halves for second in halves}


def test_a_name_without_a_sync_of_its_folder_may_be_gone_and_a_removed_one_may_be_back() -> None:
    seen = set()
    for seed in SEEDS:
        world = DiskWorld(seed)
        disk = world.process()
        synced(disk, "old", b"")
        disk.sync(make(disk, "new", b""))
        disk.unlink(TOP / "old")
        seen.add(frozenset(after_cut(world)))
    assert seen == {frozenset(names) for names in ((), ("old",), ("new",), ("old", "new"))}


def test_a_rename_is_done_or_not() -> None:
    seen = set()
    for seed in SEEDS:
        world = DiskWorld(seed)
        disk = world.process()
        synced(disk, "old", b"x")
        disk.rename(TOP / "old", TOP / "new")
        seen.add(frozenset(after_cut(world).items()))
    assert seen == {frozenset({("old", b"x")}), frozenset({("new", b"x")})}


@pytest.mark.parametrize("sync", ["sync", "sync_data"])
def test_what_a_sync_failed_to_write_is_read_until_the_cut_and_no_later_sync_writes_it(sync: str) -> None:
    seen = set()
    for seed in SEEDS:
        world = DiskWorld(seed)
        disk = world.process()
        fd = synced(disk, "a", b"x" * 512)
        write_all(disk, fd, b"y" * 512, 0)
        world.judge = lambda name: errno.EIO if name == sync else None
        with pytest.raises(OSError, match="Input/output"):
            getattr(disk, sync)(fd)
        world.judge = lambda _: None
        disk.sync(fd)
        assert disk.read(fd, 1, 0) == b"y"
        seen.add(after_cut(world)["a"][:1])
    assert seen == {b"x", b"y"}


def test_a_write_past_the_cache_that_failed_shows_what_the_platter_has() -> None:
    for seed in SEEDS:
        world = DiskWorld(seed)
        disk = world.process()
        fd = synced(disk, "a", b"x" * 4096)
        disk.past_cache(fd, wanted=True)
        world.judge = lambda name: errno.EIO if name == "write_through" else None
        with pytest.raises(OSError, match="Input/output"):
            disk.write_through(fd, memoryview(b"y" * 4096), 0)
        seen = disk.read(fd, 4096, 0)
        assert after_cut(world) == {"a": seen}


def test_a_lock_is_of_who_opened_the_file_and_dies_with_its_process() -> None:
    world = DiskWorld()
    first, second = world.process(), world.process()
    mine, again, other = make(first, "a"), make(first, "a"), make(second, "a")
    assert first.lock(mine, fcntl.LOCK_EX)
    assert not first.lock(again, fcntl.LOCK_SH | fcntl.LOCK_NB)
    waits = threading.Thread(target=second.lock, args=(other, fcntl.LOCK_EX))
    waits.start()
    first.die()
    waits.join(5)
    assert not waits.is_alive()
    with pytest.raises(OSError, match="dead"):
        first.read(mine, 1, 0)


def test_a_call_that_hangs_comes_back_when_it_is_let_go_or_its_machine_ends() -> None:
    for ends in (DiskWorld.hang, DiskWorld.cut):
        world = DiskWorld()
        disk = world.process()
        fd = make(disk, "a", b"x")
        world.hang("sync")
        failed: list[OSError] = []
        waits = threading.Thread(target=_told, args=(disk, fd, failed))
        waits.start()
        assert world.hung.wait(5)
        assert disk.read(fd, 1, 0) == b"x"
        ends(world)
        waits.join(5)
        assert not waits.is_alive()
        assert bool(failed) == (ends is DiskWorld.cut)


def _told(disk: MemoryDisk, fd: int, failed: list[OSError]) -> None:
    try:
        disk.sync(fd)
    except OSError as error:
        failed.append(error)


def test_any_call_can_be_the_last_one() -> None:
    for number in range(1, 6):
        world = DiskWorld()
        world.cut_at = number
        disk = world.process()
        with pytest.raises(OSError, match="dead"):
            synced(disk, "a", b"x")
        assert world.calls == number
        assert list(world.process().entries(TOP)) in ([], [Entry("a", is_folder=False)])
