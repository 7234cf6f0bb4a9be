"""A word from one process to another: it comes, it may be lost, and its socket is for its owner alone."""

import asyncio
import socket
from pathlib import Path

from gateway.cluster.nudges import opened_nudges


async def test_a_word_wakes_who_it_is_for_and_one_to_nobody_is_lost(tmp_path: Path) -> None:
    heard = asyncio.Event()
    with opened_nudges(tmp_path / "run", "one") as one, opened_nudges(tmp_path / "run", "two") as two:
        two.listen(heard.set)
        one.tell("nobody")
        one.tell("two")
        async with asyncio.timeout(5):
            await heard.wait()


async def test_a_socket_is_for_its_owner_alone_and_goes_with_its_process_or_as_the_next_one_starts(
    tmp_path: Path,
) -> None:
    run = tmp_path / "run"
    with opened_nudges(run, "one"):
        assert {it.name: it.stat().st_mode & 0o777 for it in (run, *run.iterdir())} == {
            "run": 0o700,
            "one.sock": 0o600,
        }
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as dead:
            dead.bind(str(run / "dead.sock"))
        with opened_nudges(run, "two"):
            assert sorted(it.name for it in run.iterdir()) == ["one.sock", "two.sock"]
    assert list(run.iterdir()) == []
