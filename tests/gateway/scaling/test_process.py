"""The process scaler against the real tritonserver: what runs, what is left, and what is said when it cannot run."""

import asyncio
import json
import os
import secrets
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import pytest
from msgspec import structs

from gateway.frontends.sockets import bound_socket
from gateway.scaling.alive import alive
from gateway.scaling.scaler import Replica, StartFailed
from gateway.scaling.scalers import leftovers, nanny
from gateway.scaling.scalers.process import ProcessScaler, find_wheel, free_port
from gateway.triton.client import Client, UpstreamFailed
from gateway.triton.control import load, unload, versions
from gateway.triton.probe import is_ready
from tenants.model import Model
from tests.contracts.scaler import ScalerContract, started
from tests.worlds.host import eventually, processes_of

MODELS = Path(__file__).parents[2] / "models"
SLOW = Model(id="m_1", name="slow", repository=str(MODELS), tenants="*")
ECHO = structs.replace(SLOW, name="echo_fp32")

pytestmark = pytest.mark.triton


@dataclass(slots=True)
class RealTriton:
    scaler: ProcessScaler
    model: Model = SLOW

    def server(self, replica: Replica) -> int:
        return next(pid for pid, line in processes_of(replica.id) if line[0].endswith("bin/tritonserver"))

    def kill(self, replica: Replica) -> None:
        os.kill(self.server(replica), signal.SIGKILL)

    def freeze(self, replica: Replica) -> None:
        """The server and its stubs; only the nanny goes on."""
        group = os.getpgid(self.server(replica))
        for pid, _ in processes_of(""):
            with suppress(ProcessLookupError):
                if os.getpgid(pid) == group != pid:
                    os.kill(pid, signal.SIGSTOP)

    def heir(self) -> ProcessScaler:
        return replace(self.scaler, _in_hand={})

    def left(self, replica: Replica) -> list[str]:
        regions = leftovers.SHARED_MEMORY.glob(f"{leftovers.shm_prefix(replica.id)}*")
        home = self.scaler.folder / replica.id
        return [
            *(" ".join(line) for _, line in processes_of(replica.id)),
            *(str(path) for path in (*regions, *home.glob("**"))),
        ]

    async def slow_call(self, client: Client) -> "asyncio.Task[int]":
        began = self.scaler.folder.parent / "began"
        asked = {"name": "milliseconds", "shape": [1], "datatype": "INT32", "data": [1_000]}
        body = {"inputs": [asked], "parameters": {"began": str(began)}}
        task = asyncio.create_task(self._call(client, json.dumps(body).encode()))
        while not began.exists():  # that something asked behind it is answered would not say so: another thread of Triton's reads that
            await client.ask("GET", "/v2")
        return task

    async def _call(self, client: Client, body: bytes) -> int:
        return (await client.ask("POST", "/v2/models/slow/infer", body)).status


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[RealTriton]:
    numbers = count(1)
    async with alive(tmp_path / "triton"):
        yield RealTriton(
            ProcessScaler(
                wheel=find_wheel(),
                folder=tmp_path / "triton",
                new_id=lambda: f"{os.getpid()}test{next(numbers)}",
                new_secret=lambda: secrets.token_hex(8),
                choose_port=secrets.choice,
            )
        )


class TestProcessScaler(ScalerContract):
    @pytest.fixture
    def stage(self, stage: RealTriton) -> RealTriton:
        return stage


# What is started


async def test_a_server_and_its_model_are_processes_of_a_nanny_and_keep_nothing_of_our_environment(
    stage: RealTriton,
) -> None:
    os.environ["GATEWAY_TEST_SECRET"] = "must not be seen"
    try:
        async with started(stage, ECHO) as one:
            found = processes_of(one.replica.id)
            assert len(found) >= 3  # the nanny, the server and the stub
            for pid, _line in found:
                assert b"GATEWAY_TEST_SECRET" not in Path(f"/proc/{pid}/environ").read_bytes()
    finally:
        del os.environ["GATEWAY_TEST_SECRET"]


async def test_a_servers_folders_are_for_their_owner_alone(stage: RealTriton) -> None:
    async with started(stage) as one:
        home = stage.scaler.folder / one.replica.id
        modes = [path.stat().st_mode & 0o777 for path in (stage.scaler.folder, home, home / "models")]
        assert modes == [0o700, 0o700, 0o700]


RESTRICTED = {
    "health": ("GET", "/v2/health/live"),
    "ready": ("GET", "/v2/models/echo_fp32/ready"),
    "config": ("GET", "/v2/models/echo_fp32/config"),
    "index": ("POST", "/v2/repository/index"),
    "unload": ("POST", "/v2/repository/models/echo_fp32/unload"),
    "shared memory": ("GET", "/v2/systemsharedmemory/status"),
    "gpu memory": ("GET", "/v2/cudasharedmemory/status"),
    "trace": ("GET", "/v2/trace/setting"),
    "logging": ("GET", "/v2/logging"),
}


async def test_all_but_inference_metadata_and_statistics_asks_for_the_secret_of_this_start(
    stage: RealTriton,
) -> None:
    async with started(stage, ECHO) as one:
        for path in ("/v2", "/v2/models/echo_fp32", "/v2/models/echo_fp32/stats"):
            assert (await one.client.ask("GET", path)).status == 200, path
        for method, path in RESTRICTED.values():
            assert method in ("GET", "POST")
            refused = await one.client.ask("GET" if method == "GET" else "POST", path)
            assert refused.status == 403, path
        assert (await one.client.ask("GET", "/v2/logging", headers=one.replica.control)).status == 200
        assert "control" not in repr(one.replica)


# What is provided


async def test_a_models_files_are_linked_and_another_repository_takes_its_place(
    stage: RealTriton, tmp_path: Path
) -> None:
    other = tmp_path / "with a space" / "echo_fp32"
    (other / "1").mkdir(parents=True)
    (other / "2").mkdir()
    for part in ("config.pbtxt", "1/model.py"):
        (other / part).write_bytes((MODELS / "echo_fp32" / part).read_bytes())
    (other / "2" / "model.py").write_bytes((other / "1" / "model.py").read_bytes())
    async with started(stage) as one:
        await stage.scaler.provide(one.replica, ECHO)
        await stage.scaler.provide(one.replica, structs.replace(ECHO, repository=str(other.parent)))
        await load(one.client, one.replica, "echo_fp32", seconds=20)
        assert await versions(one.client, "echo_fp32") == ("2",)


@pytest.mark.parametrize(
    ("repository", "words"),
    [("/nowhere", "put the model there"), ("s3://bucket/models", "copy it to a folder")],
)
async def test_a_model_that_is_not_there_is_said_with_what_to_do(
    stage: RealTriton, repository: str, words: str
) -> None:
    replica = Replica("never", "127.0.0.1", 1)
    with pytest.raises(StartFailed, match=words) as refusal:
        await stage.scaler.provide(replica, structs.replace(ECHO, repository=repository))
    assert repository in str(refusal.value)
    with pytest.raises(StartFailed, match="could not be given"):
        await stage.scaler.provide(replica, ECHO)


# How it ends


async def test_a_server_that_is_killed_is_gone_with_its_exit_code_and_the_end_of_its_log(
    stage: RealTriton,
) -> None:
    async with started(stage, ECHO) as one:
        stage.kill(one.replica)
        why = await stage.scaler.gone(one.replica)
        assert "ended with 137" in why
        assert "successfully loaded 'echo_fp32'" in why
        assert stage.left(one.replica) == []


async def test_a_server_that_ends_as_it_starts_says_why(stage: RealTriton, tmp_path: Path) -> None:
    stage.scaler.wheel = replace(stage.scaler.wheel, server=Path("/bin/ls"))
    replica = await stage.scaler.start("local")
    why = await stage.scaler.gone(replica)
    assert "ended with 2" in why
    assert "unrecognized option" in why
    assert str(tmp_path) in why
    await stage.scaler.stop(replica, 0)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_what_a_nanny_cannot_end_any_more_the_scaler_ends(
    stage: RealTriton, number: signal.Signals
) -> None:
    async with started(stage, ECHO) as one, asyncio.timeout(20):
        os.kill(os.getpgid(stage.server(one.replica)), number)
        await stage.scaler.stop(one.replica, 0.1)

        async def nothing_left() -> bool:
            return stage.left(one.replica) == []

        await eventually(nothing_left, seconds=5)


GATEWAY = """
import asyncio, secrets, sys
from pathlib import Path
from gateway.scaling.alive import alive
from gateway.scaling.scalers.process import ProcessScaler, find_wheel
from tenants.model import Model

async def main():
    folder = Path(sys.argv[1])
    async with alive(folder):
        scaler = ProcessScaler(find_wheel(), folder, lambda: sys.argv[2], secrets.token_hex, secrets.choice)
        replica = await scaler.start("local")
        await scaler.provide(replica, Model(id="m_1", name="slow", repository=sys.argv[3], tenants="*"))
        print(replica.port, *replica.control[0], flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_nothing_is_left_of_a_gateway_that_is_killed_with_a_call_under_way(
    stage: RealTriton, tmp_path: Path
) -> None:
    stage.scaler.folder = tmp_path / "alone"  # nobody else lives there
    replica_id = f"{os.getpid()}orphan"
    gateway = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", GATEWAY, str(stage.scaler.folder), replica_id, str(MODELS)),
        stdout=asyncio.subprocess.PIPE,
    )
    assert gateway.stdout is not None
    port, header, secret = (await gateway.stdout.readline()).decode().split()
    replica = Replica(replica_id, "127.0.0.1", int(port), ((header, secret),))
    client = Client(replica.host, replica.port)
    await eventually(lambda: is_ready(client, replica_id), seconds=20)
    await load(client, replica, "slow", seconds=20)
    call = await stage.slow_call(client)
    assert len(stage.left(replica)) >= 5  # nanny, server, stub, its shared memory, folder
    gateway.kill()

    async def nothing_left() -> bool:
        return stage.left(replica) == []

    await eventually(nothing_left, seconds=5)
    with pytest.raises(UpstreamFailed):
        await call
    await gateway.wait()
    client.close()


async def test_what_a_killed_nanny_and_gateway_left_is_cleared_at_the_next_start_and_what_lives_is_not(
    stage: RealTriton,
) -> None:
    async with started(stage, ECHO) as dead, started(stage) as alive:
        os.kill(os.getpgid(stage.server(dead.replica)), signal.SIGKILL)  # its scaler is not asked any more
        assert stage.server(dead.replica)

        async def unlocked() -> bool:
            """The kernel has ended the nanny: until then its lock says that somebody uses the folder."""
            try:
                os.close(leftovers.lock(stage.scaler.folder / dead.replica.id))
            except BlockingIOError:
                return False
            return True

        await eventually(unlocked, seconds=5)
        async with started(stage):
            pass

        async def nothing_left() -> bool:
            return stage.left(dead.replica) == []

        await eventually(nothing_left, seconds=5)
        assert await is_ready(alive.client, alive.replica.id)
        assert (stage.scaler.folder / alive.replica.id / "models").is_dir()


# Logs


async def test_the_newest_logs_outlive_their_servers_and_the_oldest_do_not(stage: RealTriton) -> None:
    folder = stage.scaler.folder
    for number in range(30):
        for log in (folder / f"old{number:02}.log", folder / f"old{number:02}.log.1"):
            log.write_text("x")
            os.utime(log, (number, number))
    async with started(stage):
        names = sorted(path.name for path in folder.glob("old*"))
    kept = range(30 - leftovers.KEPT_LOGS, 30)
    assert names == [f"old{number:02}.log{part}" for number in kept for part in ("", ".1")]


async def test_a_log_that_is_full_makes_place_and_no_line_is_lost_or_holds_the_server_up(
    stage: RealTriton, tmp_path: Path
) -> None:
    chatter = tmp_path / "chatter"
    lines = nanny.LOG_BYTES // 64 + 100_000
    chatter.write_text(f"#!/bin/sh\nseq -f %063.0f 1 {lines}\n")
    chatter.chmod(0o700)
    stage.scaler.wheel = replace(stage.scaler.wheel, server=chatter)
    replica = await stage.scaler.start("local")
    assert f"{lines:063}" in await stage.scaler.gone(replica)
    newer, older = (stage.scaler.folder / f"{replica.id}.log{part}" for part in ("", ".1"))
    assert older.stat().st_size <= nanny.LOG_BYTES
    assert older.read_bytes() + newer.read_bytes() == b"".join(b"%063d\n" % n for n in range(1, lines + 1))
    await stage.scaler.stop(replica, 0)


# What cannot be started


async def test_a_failure_of_the_system_is_a_failed_start_and_nothing_worse(stage: RealTriton) -> None:
    (stage.scaler.folder / "backends").write_text("not a folder")
    with pytest.raises(StartFailed, match="could not be started"):
        await stage.scaler.start("local")


async def test_a_start_that_fails_leaves_nothing(stage: RealTriton) -> None:
    stage.scaler.wheel = replace(stage.scaler.wheel, backend=Path("/nowhere"))
    with pytest.raises(StartFailed, match="/nowhere"):
        await stage.scaler.start("local")
    assert list(stage.scaler.folder.glob("*/models")) == []


async def test_a_folder_that_no_server_could_use_is_refused_with_what_to_choose(
    stage: RealTriton, tmp_path: Path
) -> None:
    stage.scaler.folder = tmp_path / "with a space"
    with pytest.raises(StartFailed, match="--state"):
        await stage.scaler.start("local")


def test_when_no_port_is_free_the_start_fails_with_a_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(StartFailed, match="no free port"):
        free_port(lambda _: int(taken.getsockname()[1]))


def test_a_port_that_somebody_is_about_to_listen_on_is_given_to_nobody_else() -> None:
    port = free_port(secrets.choice)
    with bound_socket("127.0.0.1", port), pytest.raises(StartFailed, match="no free port"):
        free_port(lambda _: port)


async def test_servers_that_start_side_by_side_are_given_no_port_twice(stage: RealTriton) -> None:
    free: list[int] = []
    while len(free) < 4:
        free.append(free_port(secrets.choice, but=free))
    one, other, third, fourth = free
    offered = iter((one, one, other, other, one, third, third, fourth))
    stage.scaler.choose_port = lambda _: next(offered)
    replicas = [await stage.scaler.start("local"), await stage.scaler.start("local")]
    try:
        ports = [(it.port, it.grpc_port) for it in replicas]
        assert ports == [(one, other), (third, fourth)]
    finally:
        for replica in replicas:
            await stage.scaler.stop(replica, 0)


def test_ports_are_below_those_that_the_kernel_gives_to_clients() -> None:
    assert free_port(max) < 32768


async def test_a_deleted_model_folder_keeps_no_other_model_from_being_unloaded(
    stage: RealTriton, tmp_path: Path
) -> None:
    doomed = tmp_path / "repository" / "slow"
    shutil.copytree(MODELS / "slow", doomed)
    async with started(stage, structs.replace(SLOW, repository=str(doomed.parent)), ECHO) as one:
        shutil.rmtree(doomed)
        await stage.scaler.tidy(one.replica)
        await unload(one.client, one.replica, "echo_fp32")
        assert await versions(one.client, "slow") == ("1",)
        await unload(one.client, one.replica, "slow")
