"""What do many tenants and keys cost? Builds a state of them and measures a gateway on it: `python -m tests.bench.many --help`.

Exit codes: 0 every bar holds, 3 one is missed.
"""

import argparse
import asyncio
import http.client
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from random import Random
from statistics import quantiles
from typing import NamedTuple

from gateway.state import clock
from gateway.stores.backup import TABLE
from gateway.stores.sqlite import SqliteTable
from tenants import keys
from tenants.directory import Directory
from tenants.keys import Secret
from tests.bench.many_state import build
from tests.bench.report import Bar
from tests.conftest import ROOT

MISSED = 3
LOOK_UPS = 1000
SDKS = ("aiobotocore", "botocore", "boto3")
_STOP_SECONDS = 30
_SERVE = ("serve", "--port", "0", "--grpc-port", "0", "--operator-port", "0", "--json", "--state")


class Spread(NamedTuple):
    """Milliseconds."""

    median: float
    p99: float


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.many")
    parser.add_argument("--tenants", type=int, default=100_000, help="(default: 100000)")
    parser.add_argument("--keys", type=int, default=10, help="keys of each tenant (default: 10)")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="many-") as folder:
        state = Path(folder) / "state"
        print(f"building {given.tenants} tenants with {given.keys} keys each, seed {given.seed}", flush=True)
        started = clock()
        secrets = build(state, given.tenants, given.keys, samples=2 * LOOK_UPS, random=Random(given.seed))
        size_mib = (state / TABLE).stat().st_size / 2**20
        print(
            f"built in {clock() - started:.0f} s: {size_mib:.0f} MiB, through sqlite3 in bulk\n", flush=True
        )
        found = bars(state, secrets)
    for bar in found:
        is_so = "no bar" if bar.is_aim else f"at most {bar.most:g}: {'holds' if bar.holds else 'MISSED'}"
        print(f"{bar.what:70} {bar.figure:10.2f}   {is_so}")
    return 0 if all(bar.holds for bar in found) else MISSED


def bars(state: Path, secrets: Sequence[Secret]) -> list[Bar]:
    in_process, over_http = secrets[:LOOK_UPS], secrets[LOOK_UPS:]
    forget(state / TABLE)
    spread = asyncio.run(looked_up(state, in_process))
    again = asyncio.run(looked_up(state, in_process))
    forget(state / TABLE)
    started = clock()
    with serving(state) as gateway:
        start_seconds = clock() - started
        idle_mib = gateway.resident_mib()
        http_spread = called(gateway.port, over_http)
        http_again = called(gateway.port, over_http)
        used_mib = gateway.resident_mib()
    forget(state / TABLE)
    return [
        Bar(what="start of `gateway serve`, from exec to ready, s", figure=start_seconds, most=2),
        Bar(what="look-up of a cold key in process, p50, ms", figure=spread.median, most=5),
        Bar(what="look-up of a cold key in process, p99, ms", figure=spread.p99, most=5),
        Bar(what="the same keys again, which the kernel has in memory, p99, ms", figure=again.p99),
        Bar(what="call with a cold key over HTTP (/v1/models), p50, ms", figure=http_spread.median, most=5),
        Bar(what="call with a cold key over HTTP (/v1/models), p99, ms", figure=http_spread.p99, most=5),
        Bar(what="the same keys again, which the gateway knows, p99, ms", figure=http_again.p99),
        Bar(what="resident memory of a `gateway serve` that is idle, MiB", figure=idle_mib, most=300),
        Bar(what=f"the same after calls with {len(over_http)} keys, MiB", figure=used_mib, most=300),
        Bar(what="first line of `gateway tenants list`, s", figure=first_line_seconds(state)),
        Bar(what="modules of cloud SDKs that `gateway serve` imports", figure=len(sdks(state)), most=0),
    ]


def forget(path: Path) -> None:
    """The kernel keeps nothing of the file in memory: what comes next reads the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


async def looked_up(state: Path, secrets: Sequence[Secret]) -> Spread:
    took: list[float] = []
    async with SqliteTable(state / TABLE) as table:
        directory = Directory(table, os.urandom)
        for secret in secrets:
            started = clock()
            found = await directory.keys.find(keys.hashed(secret))
            took.append(clock() - started)
            assert found is not None
            assert keys.hint(secret) == found.key.hint
    return spread_of(took)


def called(port: int, secrets: Sequence[Secret]) -> Spread:
    """One connection, one call after the other."""
    took: list[float] = []
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        for secret in secrets:
            started = clock()
            connection.request("GET", "/v1/models", headers={"Authorization": f"Bearer {secret.reveal()}"})
            reply = connection.getresponse()
            reply.read()
            took.append(clock() - started)
            assert reply.status == 200, reply.status
    return spread_of(took)


def spread_of(seconds: Sequence[float]) -> Spread:
    cuts = quantiles(seconds, n=100, method="inclusive")
    return Spread(1000 * cuts[49], 1000 * cuts[98])


class Gateway(NamedTuple):
    pid: int
    port: int

    def resident_mib(self) -> float:
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize() / 2**20


@contextmanager
def serving(state: Path, *python: str, log: int | None = None) -> Iterator[Gateway]:
    """A `gateway serve` that is ready."""
    command = (sys.executable, *python, "-m", "gateway.cli", *_SERVE, str(state))
    with subprocess.Popen(command, cwd=ROOT, env=_environ(), stdout=subprocess.PIPE, stderr=log) as process:
        try:
            assert process.stdout is not None
            addresses = json.loads(process.stdout.readline())
            port = int(addresses["http"].rpartition(":")[2])
            with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
                connection.request("GET", "/readyz")
                assert connection.getresponse().status == 200
            yield Gateway(process.pid, port)
        finally:
            process.terminate()
            process.wait(_STOP_SECONDS)


def first_line_seconds(state: Path) -> float:
    """Until the command has printed a tenant."""
    command = (sys.executable, "-m", "gateway.cli", "tenants", "list", "--state", str(state))
    started = clock()
    with subprocess.Popen(command, cwd=ROOT, env=_environ(), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"NAME")
        assert process.stdout.readline().startswith(b"tenant-000000")
        seconds = clock() - started
        process.stdout.read()
    return seconds


def sdks(state: Path) -> list[str]:
    """What of them a gateway has imported once it is ready, as Python itself tells it."""
    with tempfile.TemporaryFile() as log:
        with serving(state, "-X", "importtime", log=log.fileno()):
            pass
        log.seek(0)
        lines = [line for line in log.read().decode().splitlines() if line.startswith("import time:")]
    imported = [line.rpartition("|")[2].strip() for line in lines]
    assert "gateway.app" in imported
    return [name for name in imported if name.partition(".")[0] in SDKS]


def _environ() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}


if __name__ == "__main__":
    sys.exit(main())
