"""What the side tells of workers that serve, hang, end and die: sums that never shrink, and whether all serve."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from gateway.frontends.http import Readiness
from gateway.supervision.figures import MOST_BYTES, Gathering, leaving, own_folder, telling
from gateway.telemetry import table
from gateway.telemetry.meter import Meter
from gateway.telemetry.sums import encoded

OK = Readiness(ready=True, state="ok")


def gathering(folder: Path, workers: int = 2) -> Gathering:
    return Gathering(folder, workers, Meter().read, lambda: OK)


@asynccontextmanager
async def worker(folder: Path, name: str, readiness: Readiness = OK) -> AsyncIterator[Meter]:
    meter = Meter()
    meter.watch_number(table.IN_FLIGHT, lambda: 1)
    async with telling(
        folder, name, lambda: encoded(meter.read(), ready=readiness.ready, state=readiness.state)
    ):
        yield meter


async def failures(side: Gathering) -> float:
    found = (await side.figures())[table.ERRORS].get(("overloaded",), 0)
    assert isinstance(found, int | float)
    return found


async def test_the_figures_of_all_are_told_and_what_one_counted_stays_when_it_has_ended(
    tmp_path: Path,
) -> None:
    side = gathering(tmp_path)
    async with worker(tmp_path, "host.one-1") as one:
        one.failed("overloaded")
        async with worker(tmp_path, "host.one-2") as two:
            for _ in range(2):
                two.failed("overloaded")
            assert await failures(side) == 3
            assert (await side.figures())[table.IN_FLIGHT] == {(): 2}
        assert await failures(side) == 3
        one.failed("overloaded")
        assert await failures(side) == 4
        assert (await side.figures())[table.IN_FLIGHT] == {(): 1}
    assert [await failures(side) for _ in range(3)] == [4, 4, 4]


async def test_a_worker_that_died_leaves_what_it_had_counted_by_its_last_answer_and_no_socket(
    tmp_path: Path,
) -> None:
    side = gathering(tmp_path)
    async with worker(tmp_path, "one") as one:
        one.failed("overloaded")
        assert await failures(side) == 1
        died(tmp_path, "one")
        assert [await failures(it) for it in (side, side, gathering(tmp_path))] == [1, 1, 1]
        assert ([it.name for it in tmp_path.iterdir()], side.silent) == (["one.past"], 0)


async def test_the_next_side_tells_what_those_counted_that_ended_before_it(tmp_path: Path) -> None:
    async with worker(tmp_path, "one") as one:
        one.failed("overloaded")
    with leaving(tmp_path, "side", lambda: encoded(one.read(), ready=False, state="")):
        pass
    assert await failures(gathering(tmp_path)) == 2


def died(folder: Path, name: str) -> None:
    """As behind a `kill -9`: its socket is there, and nobody listens."""
    (folder / f"{name}.figures").unlink()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(folder / f"{name}.figures"))


def test_a_supervisor_removes_what_dead_ones_left_and_nothing_of_those_that_live(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with own_folder(run, "one"):
        (run / "dead").mkdir()
        (run / "dead" / "x.past").touch()
        (run / "member.sock").touch()
        with own_folder(run, "two"):
            assert sorted(it.name for it in run.iterdir()) == ["member.sock", "one", "two"]
    assert [it.name for it in run.iterdir()] == ["member.sock"]


async def test_a_worker_that_hangs_is_counted_and_stands_for_what_it_had_counted(tmp_path: Path) -> None:
    side = gathering(tmp_path)
    async with worker(tmp_path, "one") as one:
        one.failed("overloaded")
        assert await failures(side) == 1
        died(tmp_path, "one")
        (tmp_path / "one.figures").unlink()
        with socket.socket(socket.AF_UNIX) as hung:
            hung.bind(str(tmp_path / "one.figures"))
            hung.listen()
            assert await failures(side) == 1
            assert (side.silent, (await side.figures())[table.IN_FLIGHT]) == (1, {})
            assert not (await side.readiness()).ready


async def test_all_serve_only_if_each_says_so_and_all_are_there(tmp_path: Path) -> None:
    side = gathering(tmp_path)
    async with worker(tmp_path, "one"):
        assert await side.readiness() == Readiness(ready=False, state="1 of 2 workers answer")
        async with worker(tmp_path, "two", Readiness(ready=True, state="degraded")):
            assert await side.readiness() == Readiness(ready=True, state="degraded")
        async with worker(tmp_path, "three", Readiness(ready=False, state="no log")):
            assert await side.readiness() == Readiness(ready=False, state="no log")


async def test_a_state_may_lie_deeper_than_the_address_of_a_socket_is_long(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["a" * 60] * 3)
    deep.mkdir(parents=True)
    async with worker(deep, "one") as one:
        one.failed("overloaded")
        assert await failures(gathering(deep)) == 1


async def test_many_who_ask_at_once_are_told_the_same(tmp_path: Path) -> None:
    side = gathering(tmp_path)
    async with worker(tmp_path, "one") as one:
        one.failed("overloaded")
        assert await asyncio.gather(*(failures(side) for _ in range(5))) == [1] * 5
    assert await asyncio.gather(*(failures(side) for _ in range(5))) == [1] * 5


async def test_what_a_process_tells_and_leaves_is_for_its_owner_alone(tmp_path: Path) -> None:
    async with worker(tmp_path, "one"):
        assert modes(tmp_path) == {"one.figures": 0o600}
    assert modes(tmp_path) == {"one.past": 0o600}


def modes(folder: Path) -> dict[str, int]:
    return {it.name: it.stat().st_mode & 0o777 for it in folder.iterdir()}


async def test_an_answer_is_heard_up_to_its_bound_and_counted_as_silence_beyond(tmp_path: Path) -> None:
    side, meter = gathering(tmp_path), Meter()
    meter.failed("overloaded")
    told = encoded(meter.read(), ready=True, state="ok")
    for padding, found, silent in ((MOST_BYTES - len(told), 1, 0), (MOST_BYTES, 1, 1)):
        async with telling(tmp_path, f"{padding}", lambda padding=padding: told + b" " * padding):  # type: ignore[misc]
            assert (await failures(side), side.silent) == (found, silent)
        (tmp_path / f"{padding}.past").unlink()


async def test_a_side_whose_folder_is_gone_goes_on(tmp_path: Path) -> None:
    """It is swept by the next supervisor, as soon as this side's own was killed."""
    side = gathering(tmp_path / "gone")
    await side.look()
    assert await failures(side) == 0
    assert not (await side.readiness()).ready


async def test_what_a_dead_worker_counted_is_told_also_where_it_cannot_be_left(tmp_path: Path) -> None:
    side = gathering(tmp_path)
    async with worker(tmp_path, "one") as one:
        one.failed("overloaded")
        await side.look()
        died(tmp_path, "one")
        (tmp_path / f"one.{os.getpid()}").mkdir()  # nothing is written there, as on a full disk
        assert await failures(side) == 1
        (tmp_path / f"one.{os.getpid()}").rmdir()
        assert await failures(side) == 1
        assert [it.name for it in tmp_path.iterdir()] == ["one.past"]
