"""The ways to one Triton: to it, through nginx, the same with a check of the key, a bare pass-through, the gateway as shipped.

The gateway starts first and starts the Triton; the other hops go to that same one. Every hop is one process, so none has a core more than
another; only the check of the key beside nginx is a second one. All of them end with the block, whatever ended it.
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
from urllib.parse import urlsplit

from msgspec import structs

from gateway.scaling.scalers.process import free_port
from gateway.settings import load
from gateway.state import now_us, opened_directory
from tenants.acts import Act
from tenants.fleet import Fleet, Replicas
from tenants.model import Model, Scaling
from tenants.plans import Limits, Plan, Rate
from tests.conftest import ROOT

_STOP_SECONDS = 45
_START_TRIES, _TRY_SECONDS = 500, 0.02
_TICKS = os.sysconf("SC_CLK_TCK")
_FOR_EVER_SECONDS = 86_400
_ACTOR = "bench"
NGINX_AUTH = "nginx + auth_request"
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
MODEL = "echo_fp32"
STREAMED = "ticker"
# The one replica that all hops share, as long as they are measured: another would give the gateway more of Triton than the others have.
FLEET = Fleet("local", replicas=Replicas(max=1), idle_seconds=_FOR_EVER_SECONDS)
_MODEL = Model(
    id="",
    name=MODEL,
    repository=str(ROOT / "tests" / "models"),
    tenants="*",
    scaling=Scaling(max_replicas=1, target_concurrency=32, idle_seconds=_FOR_EVER_SECONDS),
)

# Bodies stream both ways, as they do through the gateway, and go to no file. With its small default buffers nginx needs twice the CPU
# for a MiB, and would be a baseline that is too easy.
_NGINX = """
daemon off;
master_process off;
pid {folder}/nginx-{port}.pid;
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
    {authorizer}
    upstream triton {{
        server 127.0.0.1:{triton};
        keepalive 64;
        keepalive_requests 100000000;
    }}
    server {{
        listen 127.0.0.1:{port};
        {check}
        location / {{
            {ask}
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


# As the manual of ngx_http_auth_request_module has it, with kept-alive connections.
_AUTHORIZER = (
    """upstream authorizer {{ server 127.0.0.1:{port}; keepalive 64; keepalive_requests 100000000; }}"""
)
_CHECK = """location = /check {
            internal;
            proxy_pass http://authorizer;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Content-Length "";
            proxy_pass_request_body off;
        }"""


class Failed(Exception):
    """Nothing can be said about the cost: a hop did not start, did not answer, or answered with an error."""


@dataclass(frozen=True, slots=True)
class Hop:
    """One way to Triton, on a loopback port. Without `pids` Triton itself, whose CPU is the same for all and is not counted."""

    name: str
    port: int
    pids: tuple[int, ...]
    key: str = ""
    grpc_port: int = 0

    def cpu_seconds(self) -> float:
        """User and system time of the hop's processes until now, all their threads."""
        return sum(map(_cpu_seconds, self.pids))

    def resident_bytes(self) -> int:
        """Memory of the hop's processes now."""
        return sum(map(_resident_bytes, self.pids))


@contextmanager
def gateway(folder: Path) -> Iterator[Hop]:
    """`gateway serve` over one model and at most one replica, with a state of its own. No Triton runs before its first request."""
    state = folder / "state"
    key = asyncio.run(_new_key(state))
    command = [
        sys.executable,
        "-m",
        "gateway.cli",
        "serve",
        "--json",
        "--port=0",
        "--grpc-port=0",
        "--operator-port=0",
    ]
    with child([*command, f"--state={state}"], stdout=subprocess.PIPE) as process:
        line = process.stdout.readline() if process.stdout else ""
        if not line:
            raise Failed("the gateway did not start")
        said = json.loads(line)
        grpc_port = int(said["grpc"].rpartition(":")[2])
        yield Hop("gateway", urlsplit(said["http"]).port or 80, (process.pid,), key, grpc_port)


def direct(gateway: Hop) -> Hop:
    """The Triton that this gateway has started, named by the arguments of the nanny that is the gateway's child."""
    (pid,) = gateway.pids
    for started in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        arguments = Path(f"/proc/{started}/cmdline").read_text().split("\0")
        ports = dict(argument.split("=", 1) for argument in arguments if "-port=" in argument)
        if "--http-port" in ports:
            return Hop("direct", int(ports["--http-port"]), (), grpc_port=int(ports["--grpc-port"]))
    raise Failed("the gateway has no Triton")


@contextmanager
def nginx(program: str, triton: Hop, folder: Path) -> Iterator[Hop]:
    """A plain proxy with kept-alive connections to Triton, in one process."""
    port = free_port(random.choice)
    config = _NGINX.format(folder=folder, port=port, triton=triton.port, authorizer="", check="", ask="")
    with _nginx(program, config, folder, port) as process:
        yield Hop("nginx", port, (process.pid,))


@contextmanager
def nginx_auth(program: str, triton: Hop, folder: Path, key: str) -> Iterator[Hop]:
    """The same, and nginx asks another process about the key of every request."""
    port, asked = free_port(random.choice), free_port(random.choice)
    command = [sys.executable, "-m", "tests.bench.authorize", str(asked)]
    config = _NGINX.format(
        folder=folder,
        port=port,
        triton=triton.port,
        authorizer=_AUTHORIZER.format(port=asked),
        check=_CHECK,
        ask="auth_request /check;",
    )
    with child(command, KEY=key) as authorizer:
        wait_until_listening(authorizer, asked)
        with _nginx(program, config, folder, port) as process:
            yield Hop(NGINX_AUTH, port, (process.pid, authorizer.pid), key)


@contextmanager
def _nginx(program: str, config: str, folder: Path, port: int) -> "Iterator[subprocess.Popen[str]]":
    path = folder / f"nginx-{port}.conf"
    path.write_text(config)
    with child([program, "-p", str(folder), "-e", "stderr", "-c", str(path)]) as process:
        wait_until_listening(process, port)
        yield process


@contextmanager
def passthrough(triton: Hop) -> Iterator[Hop]:
    port = free_port(random.choice)
    command = [sys.executable, "-m", "tests.bench.passthrough", str(port), str(triton.port)]
    with child(command) as process:
        wait_until_listening(process, port)
        yield Hop("pass-through", port, (process.pid,))


async def _new_key(state: Path) -> str:
    async with opened_directory(load({}, state=state)) as directory:
        await directory.values.put(PLAN, act=Act(_ACTOR, now_us()))
        await directory.values.put(FLEET, act=Act(_ACTOR, now_us()))
        for model in (_MODEL, structs.replace(_MODEL, name=STREAMED)):
            await directory.values.put(model, act=Act(_ACTOR, now_us()))
        await directory.tenants.create("bench", PLAN.name, act=Act(_ACTOR, now_us()))
        minted = await directory.keys.create("bench", act=Act(_ACTOR, now_us()))
    return minted.secret.reveal()


@contextmanager
def child(
    command: list[str], stdout: int | None = None, **variables: str
) -> "Iterator[subprocess.Popen[str]]":
    """A process that ends with the block. In a session of its own: Ctrl-C reaches us alone, and we end it in order."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment | variables, start_new_session=True, stdout=stdout, text=True
    )
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


def _cpu_seconds(pid: int) -> float:
    # Behind the name, which may hold anything, the 3rd field comes first; utime and stime are the 14th and 15th (proc(5)).
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def wait_until_listening(process: "subprocess.Popen[str]", port: int) -> None:
    for _ in range(_START_TRIES):
        if process.poll() is not None:
            raise Failed(f"{process.args!r} ended with {process.returncode}")
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(_TRY_SECONDS)
    raise Failed(f"nobody listens on port {port}")
