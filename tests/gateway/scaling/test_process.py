"""The process scaler against the real tritonserver: what runs, what is left, and what is said when it cannot run."""

import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from gateway.scaling.scaler import Replica, StartFailed
from gateway.scaling.scalers.process import ProcessScaler, find_wheel, free_port
from gateway.triton.client import Client
from gateway.triton.probe import is_ready, loaded
from tests.worlds.host import eventually, processes_of

MODELS = Path(__file__).parents[2] / "models"

pytestmark = pytest.mark.triton


def scaler(folder: Path, models: list[str]) -> ProcessScaler:
    numbers = count(1)
    return ProcessScaler(
        wheel=find_wheel(),
        folder=folder,
        repositories=lambda: dict.fromkeys(models, MODELS),
        new_id=lambda: f"{os.getpid()}test{next(numbers)}",
        choose_port=lambda ports: ports[next(numbers) * 997 % len(ports)],
    )


@asynccontextmanager
async def ready(over: ProcessScaler) -> AsyncIterator[tuple[Replica, Client]]:
    replica = await over.start()
    client = Client(replica.host, replica.port)

    async def answers() -> bool:
        assert over.why_gone(replica) is None
        return await is_ready(client, replica.id)

    await eventually(answers, seconds=30)
    try:
        yield replica, client
    finally:
        client.close()
        await over.stop(replica)


async def test_a_server_serves_the_wanted_models_and_nothing_of_it_is_left_after_stop(tmp_path: Path) -> None:
    over = scaler(tmp_path, ["echo_fp32"])
    async with ready(over) as (replica, client):
        assert await loaded(client, ["echo_fp32", "echo_bytes"]) == {"echo_fp32": ("1",)}
        assert len(processes_of(replica.id)) >= 2  # the nanny and the server
        assert list(Path("/dev/shm").glob(f"gateway_{replica.id}_*"))
    assert processes_of(replica.id) == []
    assert not list(Path("/dev/shm").glob(f"gateway_{replica.id}_*"))
    assert over.why_gone(replica) is not None


async def test_a_broken_model_does_not_take_the_others_with_it(tmp_path: Path) -> None:
    async with ready(scaler(tmp_path, ["does_not_exist", "echo_fp32"])) as (_, client):
        assert await loaded(client, ["does_not_exist", "echo_fp32"]) == {"echo_fp32": ("1",)}


async def test_a_server_that_is_killed_is_seen_gone_with_the_reason_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    over = scaler(tmp_path, ["echo_fp32"])
    async with ready(over) as (replica, _):
        server = next(pid for pid, line in processes_of(replica.id) if line[0].endswith("bin/tritonserver"))
        os.kill(server, signal.SIGKILL)

        async def gone() -> bool:
            return over.why_gone(replica) is not None

        await eventually(gone, seconds=10)
        assert "ended with 137" in str(over.why_gone(replica))
        assert processes_of(replica.id) == []
        assert not list(Path("/dev/shm").glob(f"gateway_{replica.id}_*"))


async def test_a_server_that_ends_as_it_starts_says_why_with_the_end_of_its_log(tmp_path: Path) -> None:
    over = scaler(tmp_path, ["echo_fp32"])
    over.wheel = replace(over.wheel, server=Path("/bin/false"))
    replica = await over.start()

    async def gone() -> bool:
        return over.why_gone(replica) is not None

    await eventually(gone, seconds=10)
    assert "ended with 1" in str(over.why_gone(replica))
    assert str(tmp_path) in str(over.why_gone(replica))
    await over.stop(replica)


async def test_a_failure_of_the_system_is_a_failed_start_and_nothing_worse(tmp_path: Path) -> None:
    over = scaler(tmp_path / "file" / "triton", ["echo_fp32"])
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StartFailed, match="could not be started"):
        await over.start()


async def test_a_repository_that_is_not_there_fails_the_start_with_its_path(tmp_path: Path) -> None:
    over = scaler(tmp_path, [])
    over.repositories = lambda: {"echo_fp32": tmp_path / "nowhere"}
    with pytest.raises(StartFailed, match="nowhere"):
        await over.start()


async def test_the_servers_folder_is_for_its_owner_alone_and_it_sees_nothing_of_our_environment(
    tmp_path: Path,
) -> None:
    over = scaler(tmp_path / "triton", ["echo_fp32"])
    os.environ["GATEWAY_TEST_SECRET"] = "must not be seen"
    try:
        async with ready(over) as (replica, _):
            for pid, _line in processes_of(replica.id):
                assert b"GATEWAY_TEST_SECRET" not in Path(f"/proc/{pid}/environ").read_bytes()
    finally:
        del os.environ["GATEWAY_TEST_SECRET"]
    assert (tmp_path / "triton").stat().st_mode & 0o777 == 0o700


def test_when_no_port_is_free_the_start_fails_with_a_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(StartFailed, match="no free port"):
        free_port(lambda _: int(taken.getsockname()[1]))


def test_ports_are_below_those_that_the_kernel_gives_to_clients() -> None:
    assert free_port(max) < 32768
