"""Who lives and who has charge: the kernel says so, also when a gateway is killed."""

import asyncio
import fcntl
import os
from contextlib import AsyncExitStack, closing, suppress
from pathlib import Path

import msgspec
import pytest

from gateway.cluster.certificates import Process
from gateway.process import identity
from gateway.scaling.alive import ALIVE, alive, deserted
from gateway.scaling.charge import CHARGE, Charge
from gateway.scaling.scaler import StartFailed
from gateway.scaling.scalers.wheel import Wheel
from tests.gateway.scaling.gateways import idle_wheel, kill, left, living, nannies_of, runs
from tests.worlds.host import eventually


@pytest.fixture
def wheel(tmp_path: Path) -> Wheel:
    return idle_wheel(tmp_path / "wheel")


def is_deserted(folder: Path) -> bool:
    """Whether a nanny would be given the lock that it waits for."""
    with (folder / ALIVE).open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


async def test_somebody_lives_until_the_last_one_is_dead_however_it_dies(
    tmp_path: Path, wheel: Wheel
) -> None:
    async with (
        living(tmp_path, wheel) as one,
        living(tmp_path, wheel) as two,
        living(tmp_path, wheel) as three,
    ):
        assert not is_deserted(tmp_path)
        await one.killed()
        await two.ends()
        assert not is_deserted(tmp_path)
        await three.killed()
        assert is_deserted(tmp_path)


async def test_who_is_no_part_of_the_living_keeps_nobody_alive(tmp_path: Path) -> None:
    async with alive(tmp_path / "deep" / "down"):
        assert (tmp_path / "deep" / "down").stat().st_mode & 0o777 == 0o700
        assert not is_deserted(tmp_path / "deep" / "down")
    assert is_deserted(tmp_path / "deep" / "down")


async def test_of_those_that_end_together_the_last_one_is_told_so_and_the_answer_is_for_good(
    tmp_path: Path,
) -> None:
    async with alive(tmp_path) as one, alive(tmp_path) as two:
        assert not one.is_last()
        assert two.is_last()
        assert (one.is_last(), two.is_last()) == (False, True)
    async with alive(tmp_path) as alone:
        assert alone.is_last()


async def test_nannies_that_wait_do_not_keep_the_last_one_from_being_told_so(
    tmp_path: Path, wheel: Wheel
) -> None:
    async with living(tmp_path, wheel) as one, living(tmp_path, wheel) as other:
        for _ in range(3):
            await one.starts()
        assert not await one.does("last")
        await one.killed()
        assert await other.does("last")


async def test_who_comes_while_the_last_one_ends_waits_until_it_has(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        ending = await stack.enter_async_context(alive(tmp_path))
        assert ending.is_last()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1), alive(tmp_path):
                pass
        await stack.aclose()
        async with asyncio.timeout(5), alive(tmp_path) as next_one:
            assert next_one.is_last()


async def test_who_has_waited_for_too_long_is_told_what_to_do(tmp_path: Path) -> None:
    async with alive(tmp_path) as ending:
        assert ending.is_last()
        with pytest.raises(StartFailed, match="try again"):
            async with alive(tmp_path, patience_seconds=0.05):
                pass


async def test_who_waits_for_the_end_of_gateways_finds_no_server_of_theirs(
    tmp_path: Path, wheel: Wheel
) -> None:
    folder = tmp_path / "triton"
    async with living(folder, wheel) as one, living(folder, wheel) as other:
        for _ in range(3):
            await runs((await one.starts()).id)
        await one.killed()
        await deserted(folder)
        assert len(nannies_of(folder)) == 3  # as another one lives
        await other.killed()
        await deserted(folder)
        assert left(folder) == []


# Charge


async def test_one_has_charge_and_the_next_has_it_at_once_when_that_one_is_killed(
    tmp_path: Path, wheel: Wheel
) -> None:
    async with living(tmp_path, wheel) as first, living(tmp_path, wheel) as second:
        await first.does("charge")
        waits = asyncio.ensure_future(second.does("charge"))
        done, _ = await asyncio.wait([waits], timeout=0.2)
        assert not done
        await first.killed()
        async with asyncio.timeout(1):
            await waits


async def test_a_loop_that_waits_for_charge_goes_on(tmp_path: Path) -> None:
    with closing(Charge(tmp_path)) as first, closing(Charge(tmp_path)) as second:
        await first.taken()
        assert first.is_taken
        waits = [asyncio.ensure_future(second.taken()) for _ in range(2)]
        done, _ = await asyncio.wait(waits, timeout=0.05)
        assert not done
        assert not second.is_taken
        first.close()
        async with asyncio.timeout(1):
            await asyncio.gather(*waits)
        assert (first.is_taken, second.is_taken) == (False, True)
        await second.taken()


async def test_who_gave_up_waiting_stands_in_nobodys_way(tmp_path: Path) -> None:
    with closing(Charge(tmp_path)) as first:
        await first.taken()
        with closing(Charge(tmp_path)) as second, suppress(TimeoutError):
            async with asyncio.timeout(0.05):
                await second.taken()
        first.close()

        async def was_given() -> bool:
            return second._waits is None

        await eventually(was_given, seconds=5)  # as its thread waited on
        with closing(Charge(tmp_path)) as third:
            async with asyncio.timeout(1):
                await third.taken()
        assert not second.is_taken


async def test_who_gave_up_once_may_wait_again(tmp_path: Path) -> None:
    with closing(Charge(tmp_path)) as first, closing(Charge(tmp_path)) as second:
        await first.taken()
        for _ in range(2):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await second.taken()
        first.close()
        async with asyncio.timeout(1):
            await second.taken()
        assert second.is_taken


async def test_who_has_charge_next_waits_until_the_one_before_is_over_and_not_only_its_lock_is_free(
    tmp_path: Path, wheel: Wheel
) -> None:
    async with living(tmp_path, wheel) as dying:
        for words in (["charge"], ["unlock", "charge"]):
            await dying.does(*words)
        with closing(Charge(tmp_path)) as charge:
            waits = asyncio.ensure_future(charge.taken())
            done, _ = await asyncio.wait([waits], timeout=0.1)
            assert not done
            kill(dying.process.pid)
            async with asyncio.timeout(5):
                await waits


@pytest.mark.parametrize("named", [b"", b"{", b'{"host":"h","kernel":"k","pid":1,"started":1}'])
async def test_who_is_not_there_is_not_waited_for(tmp_path: Path, named: bytes) -> None:
    (tmp_path / CHARGE).write_bytes(named)
    with closing(Charge(tmp_path)) as charge:
        await charge.taken()
        assert msgspec.json.decode((tmp_path / CHARGE).read_bytes(), type=Process) == identity(os.getpid())
    assert (tmp_path / CHARGE).read_bytes() == b""
