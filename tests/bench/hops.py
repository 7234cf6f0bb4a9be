"""The four ways to one Triton: to it, through nginx, through a bare pass-through, through the gateway as shipped.

The gateway starts first and starts the Triton; the other hops go to that same one. Every hop is one process, so none has a core more than
another. All of them end with the block, whatever ended it.
"""

import asyncio
import json
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gateway.app import now_us, opened_directory
from gateway.scaling.scalers.process import free_port
from gateway.settings import load
from tenants.plans import Limits, Plan, Rate
from tests.conftest import ROOT

_STOP_SECONDS = 45
_START_TRIES, _TRY_SECONDS = 500, 0.02
_TICKS = os.sysconf("SC_CLK_TCK")
_ACTOR = "bench"
# The demo's plan would refuse the load. Every limit is still there and checked, none is ever reached.
PLAN = Plan(
    name="bench",
    weight=1,
    limits=Limits(
        body_bytes=64 * 1024 * 1024,
        requests_per_second=Rate(rate=1_000_000, burst=1_000_000),
        concurrent_requests=100_000,
    ),
)

# Bodies stream both ways, as they do through the gateway, and go to no file. With its small default buffers nginx needs twice the CPU
# for a MiB, and would be a baseline that is too easy.
_NGINX = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr crit;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_max_body_size 64m;
    keepalive_requests 100000000;
    upstream triton {{
        server 127.0.0.1:{triton};
        keepalive 64;
        keepalive_requests 100000000;
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://triton;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_request_buffering off;
            proxy_max_temp_file_size 0;
            client_body_buffer_size 256k;
            proxy_buffer_size 64k;
            proxy_buffers 8 64k;
        }}
    }}
}}
"""


class Failed(Exception):
    """Nothing can be said about the cost: a hop did not start, did not answer, or answered with an error."""


@dataclass(frozen=True, slots=True)
class Hop:
    """One way to Triton, on a loopback port. `pid` None: Triton itself, whose CPU is the same for all and is not counted."""

    name: str
    port: int
    pid: int | None
    key: str = ""

    def cpu_seconds(self) -> float:
        """User and system time of the hop's process until now, all its threads."""
        if self.pid is None:
            return 0.0
        # Behind the name, which may hold anything, the 3rd field comes first; utime and stime are the 14th and 15th (proc(5)).
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def resident_bytes(self) -> int:
        """Memory of the hop's process now."""
        pages = Path(f"/proc/{self.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGESIZE")


@contextmanager
def gateway(folder: Path) -> Iterator[Hop]:
    """The demo over the test models, with a state of its own. No Triton runs before its first request."""
    state = folder / "state"
    key = asyncio.run(_new_key(state))
    command = [sys.executable, "-m", "gateway.cli", "demo", "--json", "--port=0"]
    places = [f"--state={state}", f"--repository={ROOT / 'tests' / 'models'}"]
    with _child([*command, *places], stdout=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline() if process.stdout else ""
        if not line:
            raise Failed("the gateway did not start")
        yield Hop("gateway", urlsplit(json.loads(line)["http"]).port or 80, process.pid, key)


def direct(gateway: Hop) -> Hop:
    """The Triton that this gateway has started, named by the arguments of the nanny that is the gateway's child."""
    for child in Path(f"/proc/{gateway.pid}/task/{gateway.pid}/children").read_text().split():
        for argument in Path(f"/proc/{child}/cmdline").read_text().split("\0"):
            if argument.startswith("--http-port="):
                return Hop("direct", int(argument.partition("=")[2]), None)
    raise Failed("the gateway has no Triton")


@contextmanager
def nginx(program: str, triton: Hop, folder: Path) -> Iterator[Hop]:
    """A plain proxy with kept-alive connections to Triton, in one process."""
    port = free_port(random.choice)
    config = folder / "nginx.conf"
    config.write_text(_NGINX.format(folder=folder, port=port, triton=triton.port))
    with _child([program, "-p", str(folder), "-e", "stderr", "-c", str(config)]) as process:
        _wait_until_listening(process, port)
        yield Hop("nginx", port, process.pid)


@contextmanager
def passthrough(triton: Hop) -> Iterator[Hop]:
    port = free_port(random.choice)
    command = [sys.executable, "-m", "tests.bench.passthrough", str(port), str(triton.port)]
    with _child(command) as process:
        _wait_until_listening(process, port)
        yield Hop("pass-through", port, process.pid)


async def _new_key(state: Path) -> str:
    async with opened_directory(load({}, state=state)) as directory:
        await directory.put_plan(PLAN, actor=_ACTOR, now_us=now_us())
        await directory.create_tenant("bench", PLAN.name, actor=_ACTOR, now_us=now_us())
        minted = await directory.create_key("bench", actor=_ACTOR, now_us=now_us())
    return minted.secret.reveal()


@contextmanager
def _child(command: list[str], **streams: Any) -> "Iterator[subprocess.Popen[str]]":
    """A process that ends with the block. In a session of its own: Ctrl-C reaches us alone, and we end it in order."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True, **streams)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout:
            process.stdout.close()


def _wait_until_listening(process: "subprocess.Popen[str]", port: int) -> None:
    for _ in range(_START_TRIES):
        if process.poll() is not None:
            raise Failed(f"{process.args!r} ended with {process.returncode}")
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(_TRY_SECONDS)
    raise Failed(f"nobody listens on port {port}")
