"""Real processes: `gateway demo` over a state directory, the Tritons that it starts, and what a client sees of both.

Whatever a demo started is found by its state directory, which is in the command line of every nanny, server and stub, and by the log
that each server leaves there.
"""

import asyncio
import contextlib
import http.client
import json
import os
import re
import select
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, TypeAlias, TypeVar

import pytest

from gateway.audit.record import Entry
from gateway.audit.segment import scan
from gateway.audit.verify import Report, verify
from gateway.settings import Settings
from gateway.state import clock, opened_directory
from tenants.acts import Act
from tenants.directory import Directory, Minted
from tenants.plans import Limits, Plan, Rate
from tests.conftest import ROOT
from tests.e2e import warm

DIGITS = ROOT / "infra" / "models"
MODELS = ROOT / "tests" / "models"
PROGRAM = Path(sys.executable).with_name("gateway")
ROOMY = Limits(body_bytes=2**31)

_SHARED_MEMORY = Path("/dev/shm")
_START_SECONDS = 20.0
_STOP_SECONDS = 45.0
_T = TypeVar("_T")
Process: TypeAlias = "subprocess.Popen[bytes] | warm.Process"


@dataclass(frozen=True, slots=True)
class Answer:
    """One whole HTTP answer; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def request_id(self) -> str:
        return self.headers["x-request-id"]

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def lasting(self) -> tuple[int, Mapping[str, str], bytes]:
        """All of it but what differs from answer to answer."""
        return (
            self.status,
            {n: v for n, v in self.headers.items() if n not in ("x-request-id", "date")},
            self.body,
        )


@dataclass(frozen=True, slots=True)
class Demo:
    """A `gateway demo` that serves; `key` is the one that calls carry unless told otherwise. `operator` is where operators call it."""

    process: Process
    state: Path
    host: str
    port: int
    key: str
    grpc: str = ""
    operator: str = ""
    operator_key: str = ""
    tls: ssl.SSLContext | None = None
    """What a client takes and shows; None: it is called in the clear."""

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    def connection(self, timeout_seconds: float = 60.0) -> http.client.HTTPConnection:
        if self.tls is not None:
            return http.client.HTTPSConnection(
                self.host, self.port, timeout=timeout_seconds, context=self.tls
            )
        return http.client.HTTPConnection(self.host, self.port, timeout=timeout_seconds)

    def call(
        self, path: str, body: Any = None, *, key: str | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """GET, or POST with a body: bytes as they are, an iterable of bytes chunked, anything else as JSON.

        `headers` replace the credential.
        """
        if body is not None and not isinstance(body, bytes | Iterator):
            body = json.dumps(body).encode()
        sent = {"Authorization": f"Bearer {key or self.key}"} if headers is None else headers
        with contextlib.closing(self.connection()) as connection:
            connection.request("GET" if body is None else "POST", path, body, dict(sent))
            return read_answer(connection)

    def infer(self, model: str, body: Any, *, key: str | None = None) -> Answer:
        return self.call(f"/v2/models/{model}/infer", body, key=key)

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        self.process.send_signal(number)

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self.process.terminate()
        return self.process.wait(_STOP_SECONDS)


def read_answer(connection: http.client.HTTPConnection) -> Answer:
    reply = connection.getresponse()
    return Answer(reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read())


def _demo(state: Path, arguments: Sequence[str]) -> list[str]:
    ports = [word for door in ("", "grpc-", "operator-") for word in (f"--{door}port", "0")]
    return ["demo", "--state", str(state), *ports, *arguments]


def _environ(more: Mapping[str, str]) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    return clean | dict(more)


@contextmanager
def running(state: Path, *arguments: str, **environ: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A `gateway demo` that may not serve yet. However the block ends, nothing that was started is left, or the test fails."""
    with started(state, *_demo(state, arguments), **environ) as process:
        try:
            yield process
        finally:
            end(process, state)


@contextmanager
def started(state: Path, *arguments: str, **environ: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Any long-running command over this state; the block has to end it."""
    with (
        state.with_suffix(".stderr").open("ab") as log,
        subprocess.Popen(
            [str(PROGRAM), *arguments],
            stdout=subprocess.PIPE,
            stderr=log,
            stdin=subprocess.DEVNULL,
            env=_environ(environ),
            cwd=ROOT,
        ) as process,
    ):
        yield process


@contextmanager
def started_warm(state: Path, *arguments: str, **environ: str) -> Iterator[warm.Process]:
    """The same, spared the import: where not the start is what is tested."""
    read, write = os.pipe()
    with (
        os.fdopen(write, "wb") as stdout,
        state.with_suffix(".stderr").open("ab") as log,
        Path(os.devnull).open("rb") as nothing,
    ):
        streams = [stream.fileno() for stream in (nothing, stdout, log)]
        connection = warm.asked(
            warm.server(), (str(PROGRAM), *arguments), _environ(environ), str(ROOT), streams
        )
    with warm.Process(connection, os.fdopen(read, "rb")) as process:
        yield process


def end(process: Process, state: Path) -> None:
    """SIGTERM, then SIGKILL if need be; nothing that was started over this state is left, or the test fails."""
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    finally:
        process.kill()
        expect_nothing_left(state)


@contextmanager
def serving(state: Path, repository: Path = DIGITS, **environ: str) -> Iterator[Demo]:
    """A demo that serves `repository`, until the block ends."""
    words = _demo(state, ["--json", "--repository", str(repository)])
    with started_warm(state, *words, **environ) as process:
        try:
            yield announced(process, state)
        finally:
            end(process, state)


def announced(process: Process, state: Path, line: bytes = b"") -> Demo:
    """The demo, once it has said that it serves: in this line, if it has been read."""
    line = line or first_line(process)
    if not line:
        pytest.fail(f"the demo ended: {state.with_suffix('.stderr').read_text()}")
    said = json.loads(line)
    host, _, port = said["http"].partition("://")[2].partition(":")
    keys = [said.get(name) or "" for name in ("api_key", "operator_key")]
    return Demo(process, state, host, int(port), keys[0], said["grpc"] or "", said["operator"], keys[1])


def first_line(process: Process) -> bytes:
    """What it prints first; empty when it ended without a word."""
    assert process.stdout is not None
    if not select.select([process.stdout], [], [], _START_SECONDS)[0]:
        pytest.fail(f"the demo said nothing for {_START_SECONDS:.0f} s")
    return process.stdout.readline()


def command(*arguments: str | Path, **environ: str) -> "subprocess.CompletedProcess[str]":
    """One run of the command line to its end, in a process that starts warm."""
    words = [str(word) for word in (PROGRAM, *arguments)]
    with TemporaryFile("w+") as out, TemporaryFile("w+") as err, Path(os.devnull).open() as nothing:
        streams = [stream.fileno() for stream in (nothing, out, err)]
        running = warm.asked(warm.server(), words, os.environ | environ, str(ROOT), streams)
        code = warm.ended(running, within_seconds=60)
        printed = [stream.read() for stream in (out, err) if not stream.seek(0)]
    return subprocess.CompletedProcess(words, code, *printed)


# What a demo started


def processes(state: Path) -> dict[int, str]:
    """The living processes of this state: number to program (nanny.py, tritonserver, triton_python_backend_stub, gateway)."""
    found: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit():
                words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
                if any(word == str(state) or f"{state}/" in word for word in words):
                    found[int(entry.name)] = _program(words)
    return found


def _program(words: list[str]) -> str:
    """The script where Python runs one."""
    names = [Path(word).name for word in words if word]
    return next((n for n in names if n in ("gateway", "nanny.py")), names[0])


def tritons(state: Path) -> list[int]:
    return [number for number, program in processes(state).items() if program == "tritonserver"]


def triton_of(state: Path, model: str) -> int:
    """The HTTP port of a server that has the model ready; what was called before may have started more than one."""
    for server in tritons(state):
        words = Path(f"/proc/{server}/cmdline").read_text().split("\0")
        port = next(int(word.partition("=")[2]) for word in words if word.startswith("--http-port="))
        # --http-restricted-api=model-repository,...:header=secret
        restricted = (re.fullmatch(r"--http-restricted-api=[^:]*:([^=]+)=(.*)", word) for word in words)
        headers = {found[1]: found[2] for found in restricted if found}
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
            connection.request("GET", f"/v2/models/{model}/ready", headers=headers)
            if connection.getresponse().status == 200:
                return port
    raise AssertionError(f"no server has {model}")


def starts(state: Path) -> int:
    """How many tritonservers were ever started: each leaves a log."""
    return len(_replicas(state))


def shared_memory(state: Path) -> list[str]:
    """The regions that are left of this state's servers, running or gone."""
    return [path.name for replica in _replicas(state) for path in _SHARED_MEMORY.glob(f"gateway_{replica}_*")]


def _replicas(state: Path) -> list[str]:
    return [log.stem for log in (state / "triton").glob("*.log")]


def expect_nothing_left(state: Path, within_seconds: float = 10.0) -> None:
    """No process and no shared memory of this state is left, in good time. What is left after all is removed, and the test fails."""
    try:
        until(
            lambda: not processes(state) and not shared_memory(state),
            within_seconds,
            lambda: f"still there: {processes(state)} {shared_memory(state)}",
        )
    finally:
        for number in processes(state):
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        for region in shared_memory(state):
            (_SHARED_MEMORY / region).unlink(missing_ok=True)


def until(
    condition: Callable[[], _T],
    within_seconds: float,
    failure: str | Callable[[], str] = "it never came true",
) -> _T:
    """The first true value of the condition, asked again and again; in time, or the test fails."""
    deadline = clock() + within_seconds
    pause = threading.Event()
    while not (found := condition()):
        if clock() > deadline:
            pytest.fail(f"after {within_seconds:g} s: {failure if isinstance(failure, str) else failure()}")
        pause.wait(0.01)
    return found


# What a state holds


def change(state: Path, act: Callable[[Directory], Awaitable[_T]]) -> _T:
    """Do something to the directory of a state, whether a gateway runs on it or not."""

    async def changed() -> _T:
        async with opened_directory(Settings(state=state)) as directory:
            return await act(directory)

    return asyncio.run(changed())


def new_tenant(
    state: Path, name: str, limits: Limits = ROOMY, models: tuple[str, ...] | None = None
) -> Minted:
    """A tenant of this name on a plan of its own, with a key that never expires."""

    async def act(directory: Directory) -> Minted:
        plan = Plan(name=name, weight=1, limits=limits)
        await directory.values.put(plan, act=Act("test", 1))
        await directory.tenants.create(name, name, act=Act("test", 1))
        return await directory.keys.create(name, models=models, act=Act("test", 1))

    return change(state, act)


def rated(rate: float, burst: int) -> Limits:
    return Limits(body_bytes=2**20, requests_per_second=Rate(rate=rate, burst=burst))


def entries(state: Path) -> list[Entry]:
    """Every entry of the audit log that is on the disk now, in no order between segments."""
    segments = stored_segments(state).items()
    return [
        entry for name, data in segments for commit in scan(name, data).commits for entry, _ in commit.records
    ]


def stored_segments(state: Path) -> dict[str, bytes]:
    return {path.stem: path.read_bytes() for path in (state / "audit").glob("*.segment")}


def verified(state: Path) -> Report:
    segments = stored_segments(state)
    return verify(segments, unfinished=segments.keys())


def in_parallel(acts: Iterable[Callable[[], _T]]) -> list[_T]:
    """All of them at the same moment, each in a thread of its own; their results in order."""
    acts = list(acts)
    together = threading.Barrier(len(acts))
    results: dict[int, _T] = {}

    def run(place: int, act: Callable[[], _T]) -> None:
        together.wait()
        results[place] = act()

    threads = [threading.Thread(target=run, args=item) for item in enumerate(acts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [results[place] for place in range(len(acts))]


# Requests


def fp32(*values: float) -> dict[str, Any]:
    return {"inputs": [{"name": "in", "datatype": "FP32", "shape": [len(values)], "data": values}]}


def milliseconds(value: int) -> dict[str, Any]:
    return {"inputs": [{"name": "milliseconds", "datatype": "INT32", "shape": [1], "data": [value]}]}
