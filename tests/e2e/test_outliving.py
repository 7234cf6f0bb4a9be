"""A real tritonserver under gateways that are killed: it outlives any one of them, with what it has loaded, and dies with the last."""

import asyncio
import json
from contextlib import closing
from pathlib import Path

import pytest

from gateway.scaling.scalers.wheel import find_wheel
from gateway.state import clock
from gateway.triton.client import Client
from gateway.triton.control import load
from gateway.triton.probe import is_ready
from tests.e2e.load import Record
from tests.e2e.world import MODELS, fp32
from tests.gateway.scaling.gateways import Gateway, kill, living, nannies_of, nothing_left
from tests.worlds.host import eventually, processes_of

pytestmark = pytest.mark.triton

NANNY_SERVER_AND_STUB = 3
NANNY_KIB = 8_192


async def test_a_server_outlives_the_gateway_in_charge_and_dies_with_the_last(
    tmp_path: Path, record_property: Record
) -> None:
    folder, wheel = tmp_path / "triton", find_wheel()
    async with living(folder, wheel) as first, living(folder, wheel) as second:
        await first.does("charge")
        replica = await first.starts()
        (folder / replica.id / "models" / "echo_fp32").symlink_to(MODELS / "echo_fp32")
        with closing(Client(replica.host, replica.port)) as client:
            await eventually(lambda: is_ready(client, replica.id), seconds=20)
            await load(client, replica, "echo_fp32", seconds=20)
            before = processes(folder)
            assert len(before) == NANNY_SERVER_AND_STUB
            took = await taken_over(first, second, replica.id)
            assert processes(folder) == before
            own_kib = nannys_memory(folder)
            body = json.dumps(fp32(1)).encode()
            assert (await client.ask("POST", "/v2/models/echo_fp32/infer", body)).status == 200
        await second.killed()
        began = clock()
        await nothing_left(folder, seconds=2)
    assert own_kib <= NANNY_KIB
    record_property("memory that a nanny has of its own", f"{own_kib} KiB (bar {NANNY_KIB})")
    record_property("kill -9 of who has charge, until the next has its servers", f"{took:.3f} s (bar 1 s)")
    record_property(
        "kill -9 of the last gateway, until nothing is left", f"{clock() - began:.3f} s (bar 2 s)"
    )


async def taken_over(first: Gateway, second: Gateway, replica: str) -> float:
    """The first has charge, and is killed; how many seconds later the second has, and has adopted the server."""
    waits = asyncio.ensure_future(second.does("charge"))
    done, _ = await asyncio.wait([waits], timeout=0.1)
    assert not done
    kill(first.process.pid)
    began = clock()
    async with asyncio.timeout(1):
        await waits
        assert await second.does("adopt") == [replica]
    return clock() - began


def processes(folder: Path) -> list[int]:
    """What runs in this folder but for gateways."""
    return sorted(pid for pid, line in processes_of(f"{folder}/") if line)


def nannys_memory(folder: Path) -> int:
    """In KiB, without what it shares with other processes that run Python."""
    (nanny,) = nannies_of(folder)
    lines = Path(f"/proc/{nanny}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))
