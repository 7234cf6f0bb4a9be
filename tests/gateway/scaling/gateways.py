"""Small gateways (`told`), each a process of its own; and a server that does nothing, for where it need be no real one."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.scaling.scaler import Replica
from gateway.scaling.scalers.leftovers import SHARED_MEMORY, shm_prefix
from gateway.scaling.scalers.wheel import Wheel
from tests.conftest import ROOT
from tests.worlds.host import eventually, processes_of


@dataclass(slots=True)
class Gateway:
    """One that lives on a folder of servers."""

    process: asyncio.subprocess.Process

    async def does(self, *words: str) -> Any:
        """What it says once it has done it; ConnectionError if it is dead."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(" ".join(words).encode() + b"\n")
        line = await self.process.stdout.readline()
        if not line:
            raise ConnectionError("it is dead")
        return json.loads(line)

    async def starts(self) -> Replica:
        said = await self.does("start")
        said["control"] = tuple(map(tuple, said["control"]))
        return Replica(**said)

    async def adopts(self) -> str:
        """The one server that it adopts, once nobody has it in hand: one that dies has it a moment longer."""
        found: list[str] = []

        async def is_so() -> bool:
            found[:] = await self.does("adopt")
            return bool(found)

        await eventually(is_so, seconds=1)
        (replica_id,) = found
        return replica_id

    async def killed(self) -> None:
        with suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()

    async def ends(self) -> None:
        """In good order, as its input ends."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert await self.process.wait() == 0


@asynccontextmanager
async def living(folder: Path, wheel: Wheel) -> AsyncIterator[Gateway]:
    """A gateway that lives when the block begins, and is dead after it."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.gateway.scaling.told", str(folder)),
        *map(str, (wheel.server, wheel.backend, wheel.stub, wheel.libraries)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        start_new_session=True,
    )
    gateway = Gateway(process)
    try:
        await gateway.does("live")
        yield gateway
    finally:
        await gateway.killed()


def idle_wheel(folder: Path) -> Wheel:
    """The parts of one whose server does nothing: it runs until it is killed, with a child, and says that it has heard of SIGTERM."""
    backend = folder / "backend"
    backend.mkdir(parents=True)
    server = folder / "server"
    server.write_text("#!/bin/sh\ntrap 'echo heard' TERM\nwhile :; do sleep 1000 & wait; done\n")
    server.chmod(0o700)
    stub = backend / "stub"
    stub.touch()
    return Wheel(server, backend, stub, folder)


def nannies_of(folder: Path) -> list[int]:
    return [
        pid for pid, line in processes_of(f"{folder}/") if any(word.endswith("nanny.py") for word in line)
    ]


async def runs(replica_id: str) -> int:
    """The number of the process that was started as its server, once it is that."""
    found: list[int] = []

    async def is_so() -> bool:
        lines = processes_of(f"--id={replica_id}")
        found[:] = [pid for pid, line in lines if not any(word.endswith("nanny.py") for word in line)]
        return bool(found)

    await eventually(is_so, seconds=5)
    return found[0]


def left(folder: Path) -> list[str]:
    """What there is of servers in this folder: processes, shared memory, files."""
    homes = [path for path in folder.iterdir() if path.is_dir() and path.name != "backends"]
    logs = [path.stem for path in folder.glob("*.log")]
    regions = [path for log in logs for path in SHARED_MEMORY.glob(f"{shm_prefix(log)}*")]
    return [*(" ".join(line) for _, line in processes_of(f"{folder}/")), *map(str, (*homes, *regions))]


async def nothing_left(folder: Path, *, seconds: float) -> None:
    async def is_so() -> bool:
        return left(folder) == []

    await eventually(is_so, seconds=seconds)


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
