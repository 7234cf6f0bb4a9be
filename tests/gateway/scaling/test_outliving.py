"""Servers outlive any one gateway and die with the last, wherever a gateway, a nanny or both are killed. The server here does nothing;
tests/e2e/test_outliving.py does the same with a real one."""

import asyncio
import fcntl
import os
import secrets
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import msgspec
import pytest

from gateway.cluster.certificates import Process
from gateway.process import identity
from gateway.scaling.alive import alive
from gateway.scaling.scaler import Replica
from gateway.scaling.scalers import nanny, record
from gateway.scaling.scalers.leftovers import KEPT_LOGS
from gateway.scaling.scalers.pidfd import Held
from gateway.scaling.scalers.process import ProcessScaler
from gateway.scaling.scalers.record import Record, Unreadable
from gateway.scaling.scalers.wheel import Wheel
from tests.gateway.scaling.gateways import idle_wheel, kill, left, living, nannies_of, nothing_left, runs
from tests.worlds.host import eventually, processes_of


@pytest.fixture
def wheel(tmp_path: Path) -> Wheel:
    return idle_wheel(tmp_path / "wheel")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "triton"


# Gateways that are killed


async def test_a_server_outlives_the_gateway_that_started_it_and_who_has_charge_next_goes_on_with_it(
    folder: Path, wheel: Wheel
) -> None:
    async with living(folder, wheel) as one, living(folder, wheel) as other:
        await one.does("charge")
        replica = await one.starts()
        server = await runs(replica.id)
        assert await other.does("adopt") == []  # it is in a hand
        await one.killed()
        await other.does("charge")
        assert await other.does("adopt") == [replica.id]
        assert await runs(replica.id) == server
        assert await other.does("adopt") == []
        await other.does("stop", replica.id)
        assert left(folder) == []


async def test_when_all_gateways_are_killed_at_once_nothing_is_left(folder: Path, wheel: Wheel) -> None:
    async with living(folder, wheel) as one, living(folder, wheel) as other:
        for gateway in (one, one, other):
            await runs((await gateway.starts()).id)
        for gateway in (one, other):
            kill(gateway.process.pid)
        await nothing_left(folder, seconds=2)


async def test_a_server_that_was_adopted_dies_with_the_last_gateway_too(folder: Path, wheel: Wheel) -> None:
    async with living(folder, wheel) as one, living(folder, wheel) as other:
        await runs((await one.starts()).id)
        await one.killed()
        await other.adopts()
        await other.killed()
        await nothing_left(folder, seconds=2)


async def test_a_gateway_that_is_stopped_lives(folder: Path, wheel: Wheel) -> None:
    async with living(folder, wheel) as one:
        replica = await one.starts()
        server = await runs(replica.id)
        os.kill(one.process.pid, signal.SIGSTOP)
        async with living(folder, wheel) as other:
            assert await other.does("adopt") == []
        os.kill(one.process.pid, signal.SIGCONT)
        assert Path(f"/proc/{server}").exists()
        await one.does("stop", replica.id)
        assert left(folder) == []


async def test_how_an_adopted_server_ended_is_told_as_not_known(folder: Path, wheel: Wheel) -> None:
    async with living(folder, wheel) as one, living(folder, wheel) as other:
        replica = await one.starts()
        server = await runs(replica.id)
        await one.killed()
        await other.adopts()
        kill(server)
        assert f"{replica.id} ended; how is not known" in await other.does("gone", replica.id)
        assert left(folder) == []


async def test_what_an_adopted_nanny_cannot_end_any_more_the_scaler_ends(folder: Path, wheel: Wheel) -> None:
    async with living(folder, wheel) as one, living(folder, wheel) as other:
        replica = await one.starts()
        await runs(replica.id)
        await one.killed()
        await other.adopts()
        for number in nannies_of(folder):
            kill(number)
        await other.does("stop", replica.id)
        assert left(folder) == []


async def test_what_a_nanny_left_that_was_killed_with_all_gateways_is_cleared_when_the_next_takes_over(
    folder: Path, wheel: Wheel
) -> None:
    async with living(folder, wheel) as one:
        await runs((await one.starts()).id)
        for number in nannies_of(folder):
            kill(number)
        await one.killed()
    async with living(folder, wheel) as other:
        assert await other.does("adopt") == []
        await nothing_left(folder, seconds=2)


# Each step of a start: the gateway is killed before it, and after


@pytest.mark.parametrize("when", ["before the nanny", "before the record", "after the record"])
async def test_of_a_start_that_was_cut_off_before_its_server_ran_nothing_is_left(
    folder: Path, wheel: Wheel, when: str
) -> None:
    async with living(folder, wheel) as one, living(folder, wheel) as other:
        await one.does("die", *when.split())
        with pytest.raises(ConnectionError):
            await one.does("start")
        await one.killed()
        for number in await other.does(
            "adopt"
        ):  # whose nanny has not heard yet that nobody will say the word
            await other.does("gone", number)
        await other.does("adopt")
        await nothing_left(folder, seconds=2)


async def test_a_server_whose_gateway_was_killed_right_after_it_had_said_the_word_is_adopted(
    folder: Path, wheel: Wheel
) -> None:
    async with living(folder, wheel) as one, living(folder, wheel) as other:
        await one.does("die", "after", "the", "word")
        with pytest.raises(ConnectionError):
            await one.does("start")
        await one.killed()
        number = await other.adopts()
        await runs(number)
        await other.does("stop", number)
        assert left(folder) == []


@pytest.mark.parametrize(
    "when", ["before the nanny", "before the record", "after the record", "after the word"]
)
async def test_of_a_start_that_was_cut_off_with_the_last_gateway_nothing_runs_on(
    folder: Path, wheel: Wheel, when: str
) -> None:
    async with living(folder, wheel) as one:
        await one.does("die", *when.split())
        with pytest.raises(ConnectionError):
            await one.does("start")
        await one.killed()

        async def nothing_runs() -> bool:
            return processes_of(f"{folder}/") == []

        await eventually(nothing_runs, seconds=2)
    async with living(folder, wheel) as next_one:
        assert await next_one.does("adopt") == []
        assert left(folder) == []


# A nanny


@contextmanager
def told_to_kill(path: Path) -> Iterator[list[bool]]:
    """Each time that a nanny in this process was told to kill its server: whether the path was there."""
    seen: list[bool] = []
    before = signal.signal(signal.SIGUSR1, lambda *_: seen.append(path.exists()))
    try:
        yield seen
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_nanny_strikes_its_server_from_the_list_before_it_ends_it_and_then_the_next_one_may(
    tmp_path: Path,
) -> None:
    (tmp_path / record.NAME).touch()
    with (tmp_path / "alive").open("wb") as lock, told_to_kill(tmp_path / record.NAME) as seen:
        nanny._wait(os.open(tmp_path / "alive", os.O_RDWR), str(tmp_path))
        assert seen == [False]
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_nanny_that_cannot_wait_for_the_last_gateway_ends_its_server(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(write)
    os.close(read)
    with told_to_kill(tmp_path) as seen:
        with pytest.raises(OSError, match="Bad file descriptor"):
            nanny._wait(read, str(tmp_path))
        assert len(seen) == 1


# What is written of a server

GOLDEN = (
    b'{"replica":{"id":"r1","host":"127.0.0.1","port":20001,"control":[["x-gateway-control","secret"]],"grpc_port":20002,'
    b'"fleet":"local"},"nanny":{"host":"h","kernel":"k","pid":7,"started":99},"format":1}\n'
)
RECORD = Record(
    Replica("r1", "127.0.0.1", 20001, (("x-gateway-control", "secret"),), 20002, "local"),
    Process("h", "k", 7, 99),
)


def test_a_record_is_these_bytes_and_is_read_from_them() -> None:
    assert record.encode(RECORD) == GOLDEN
    assert record.decode(GOLDEN) == RECORD
    assert "secret" not in repr(RECORD)


def test_a_record_of_a_later_program_is_read_where_that_added_something() -> None:
    later = msgspec.json.decode(GOLDEN)
    later["since"] = 1
    later["replica"]["colour"] = "red"
    assert record.decode(msgspec.json.encode(later)) == RECORD


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", GOLDEN[:50], GOLDEN.replace(b'"format":1', b'"format":2'), GOLDEN.replace(b"7", b'"7"')],
)
def test_a_record_that_says_nothing_to_this_program_is_refused(data: bytes) -> None:
    with pytest.raises(Unreadable):
        record.decode(data)


async def test_a_record_is_for_its_owner_alone(folder: Path, wheel: Wheel) -> None:
    async with living(folder, wheel) as one:
        replica = await one.starts()
        path = folder / replica.id / record.NAME
        assert path.stat().st_mode & 0o777 == 0o600
        assert record.decode(path.read_bytes()).replica == replica


def _later(_: Record) -> bytes:
    return GOLDEN.replace(b'"format":1', b'"format":2')


def _cut(told: Record) -> bytes:
    return record.encode(told)[:40]


@pytest.mark.parametrize("written", [_later, _cut])
async def test_a_server_whose_record_cannot_be_read_is_ended(
    folder: Path, wheel: Wheel, written: Callable[[Record], bytes]
) -> None:
    async with living(folder, wheel) as one, living(folder, wheel) as other:
        replica = await one.starts()
        await runs(replica.id)
        await one.killed()
        path = folder / replica.id / record.NAME
        path.write_bytes(written(record.decode(path.read_bytes())))
        assert await other.does("adopt") == []

        async def cleared() -> bool:
            assert await other.does("adopt") == []
            return left(folder) == []

        await eventually(cleared, seconds=5)


async def test_another_process_that_has_a_nannys_number_is_not_taken_for_it(
    folder: Path, wheel: Wheel
) -> None:
    async with living(folder, wheel) as one, living(folder, wheel) as other:
        replica = await one.starts()
        await runs(replica.id)
        await one.killed()
        path = folder / replica.id / record.NAME
        earlier = msgspec.structs.replace(identity(os.getpid()), started=1)
        told = msgspec.structs.replace(record.decode(path.read_bytes()), nanny=earlier)
        path.write_bytes(record.encode(told))
        assert await other.does("adopt") == []
        # Its nanny, which nobody here knows, sees to it; and this process goes on.
        assert await runs(replica.id)
        await other.killed()
        await nothing_left(folder, seconds=2)


# A process that is meant by a descriptor


async def test_of_a_process_that_is_none_of_ours_the_end_is_noticed_and_the_code_is_not_known(
    folder: Path, wheel: Wheel
) -> None:
    async with living(folder, wheel) as one:
        replica = await one.starts()
        await runs(replica.id)
        (number,) = nannies_of(folder)
        held = Held(number)
        await held.over(0.02)
        assert not held.ended.done()
        held.tell(signal.SIGUSR1)
        assert await held.ended is None
        held.tell(signal.SIGUSR1)
        assert "ended with 137" in await one.does("gone", replica.id)
    with pytest.raises(ProcessLookupError):
        Held(number)


async def test_a_nanny_hands_on_sigterm_and_goes_on(folder: Path, wheel: Wheel) -> None:
    async with alive(folder), living(folder, wheel) as one:
        replica = await one.starts()
        await runs(replica.id)
        (number,) = nannies_of(folder)
        log = folder / f"{replica.id}.log"

        async def heard() -> bool:
            os.kill(number, signal.SIGTERM)
            return "heard" in log.read_text()

        await eventually(heard, seconds=5)
        assert nannies_of(folder) == [number]
        await one.does("stop", replica.id)
        assert left(folder) == []


async def test_who_waits_for_the_end_of_a_server_that_is_left_waits_no_more_and_it_runs_on(
    folder: Path, wheel: Wheel
) -> None:
    async with alive(folder):
        names = count()
        one, heir = (
            ProcessScaler(wheel, folder, lambda: f"{os.getpid()}left{next(names)}", str, secrets.choice)
            for _ in range(2)
        )
        replica = await one.start("local")
        server = await runs(replica.id)
        for scaler in (one, heir):  # who started it, and who adopted it
            assert await scaler.adopt() == ([] if scaler is one else [replica])
            async with asyncio.timeout(5), asyncio.TaskGroup() as group:
                waiter = group.create_task(scaler.gone(replica))
                await asyncio.sleep(0)
                await scaler.leave(replica)
            assert replica.id in waiter.result()
            assert await runs(replica.id) == server
        assert await one.adopt() == [replica]
        await one.stop(replica, 0)
        assert left(folder) == []


async def test_an_adoption_that_fails_halfway_has_nothing_in_hand_and_is_made_again(
    folder: Path, wheel: Wheel
) -> None:
    async with alive(folder):
        names = count()
        one, heir = (
            ProcessScaler(wheel, folder, lambda: f"{os.getpid()}half{next(names)}", str, secrets.choice)
            for _ in range(2)
        )
        replica = await one.start("local")
        await one.leave(replica)
        no_logs = [folder / f"{number}.log" for number in range(KEPT_LOGS + 1)]
        for path in no_logs:
            path.mkdir()  # which is no file that could be cleared away
        with pytest.raises(OSError, match=r"\.log"):
            await heir.adopt()
        for path in no_logs:
            path.rmdir()
        assert await heir.adopt() == [replica]
        await heir.stop(replica, 0)
