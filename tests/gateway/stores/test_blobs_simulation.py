"""Random lives of blobs on a disk that loses what was not synced. The seed is in the name of the test; SEEDS can be raised."""

import asyncio
import errno
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from gateway.kept.ports import BlobsUnavailable
from gateway.stores.blobs import FileBlobs
from tests.seeds import seeds
from tests.worlds.disk import DiskWorld

SEEDS = seeds(20, 200)
FOLDER = Path("/state/blobs")
NAMES = [f"{folder}/{number}" for folder in ("a", "b/c") for number in range(4)]
CHANGES = {"create", "write", "sync", "link", "unlink", "make_folder", "remove_folder"}


class Kept:
    """What may be there of each name; None: nothing."""

    def __init__(self) -> None:
        self.may_be: dict[str, set[bytes | None]] = {name: {None} for name in NAMES}
        self.written = 0

    async def step(self, rng: random.Random, blobs: FileBlobs) -> None:
        name = rng.choice(NAMES)
        before = self.may_be[name]
        if rng.random() < 0.7:
            self.written += 1
            data = b"%d " % self.written * rng.choice([1, 300, 3000])
            self.may_be[name] = before | {data}
            is_new = await blobs.put(name, data)
            self.may_be[name] = {data} if is_new else before - {None}
        else:
            self.may_be[name] = before | {None}
            await blobs.delete(name)
            self.may_be[name] = {None}


def judging(rng: random.Random) -> Callable[[str], int | None]:
    code, share = rng.choice((errno.EIO, errno.ENOSPC, errno.EROFS)), rng.choice((0.02, 0.2))
    return lambda call: code if call in CHANGES and rng.random() < share else None


async def simulate(seed: int, *, syncs_lie: bool = False) -> None:
    rng = random.Random(seed)
    world = DiskWorld(seed)
    world.syncs_lie = syncs_lie
    kept = Kept()
    for _ in range(6):
        world.cut_at = world.calls + rng.randrange(1, 400)
        if rng.random() < 0.5:
            world.judge = judging(rng)
        with suppress(BlobsUnavailable):
            async with FileBlobs(FOLDER, disk=world.process()) as blobs:
                for _ in range(40):
                    with suppress(BlobsUnavailable):
                        await kept.step(rng, blobs)
        world.judge = lambda _: None
        world.cut()
        disk = world.process()
        async with FileBlobs(FOLDER, disk=disk) as blobs:
            there = {name: await blobs.get(name) for name in NAMES}
            assert [name for name in NAMES if there[name] not in kept.may_be[name]] == []
            assert await blobs.names("") == sorted(name for name in NAMES if there[name] is not None)
            assert list(disk.entries(FOLDER / ".aside")) == []
        kept.may_be = {name: {data} for name, data in there.items()}
        disk.die()


@pytest.mark.chaos
@pytest.mark.parametrize("seed", SEEDS)
async def test_a_put_that_was_told_is_there_wholly_after_any_power_cut_and_no_object_is_half(
    seed: int,
) -> None:
    await simulate(seed)


async def test_a_disk_whose_syncs_do_nothing_is_caught() -> None:
    caught = 0
    for seed in range(20):
        try:
            await simulate(seed, syncs_lie=True)
        except AssertionError:
            caught += 1
    assert caught > 10


async def test_a_put_that_hangs_keeps_nobody_longer_than_it_may_and_others_are_answered() -> None:
    world = DiskWorld()
    async with FileBlobs(FOLDER, disk=world.process(), answer_seconds=0.05) as blobs:
        await blobs.put("a", b"x")
        world.hang("sync")
        with pytest.raises(BlobsUnavailable, match="no answer"):
            await blobs.put("b", b"y")
        assert await blobs.get("a") == b"x"
        world.hang()
        async with asyncio.timeout(5):
            while not await blobs.get("b"):
                await asyncio.sleep(0)
