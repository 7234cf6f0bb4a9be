"""The requests that are measured, and one run of wrk over a hop."""

import subprocess
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import msgspec

from tests.bench.hops import MODEL, Failed, Hop
from tests.bench.report import Sample

_SCRIPT = Path(__file__).with_name("post.lua")
_PATH = f"/v2/models/{MODEL}/infer"
_TENSOR_BYTES = 1024 * 1024
_ANSWER_SECONDS = 60  # the first one waits for Triton to start
_LATE_SECONDS = 10

_JSON = b'{"inputs":[{"name":"in","datatype":"FP32","shape":[5],"data":[0.125,1.125,2.125,3.125,4.125625]}]}'
_HEAD = (
    f'{{"inputs":[{{"name":"in","datatype":"FP32","shape":[{_TENSOR_BYTES // 4}],'
    f'"parameters":{{"binary_data_size":{_TENSOR_BYTES}}}}}],"parameters":{{"binary_data_output":true}}}}'
).encode()


@dataclass(frozen=True, slots=True)
class Load:
    """One request, sent over so many connections by so many threads of wrk, each as soon as it has its answer."""

    name: str
    body: bytes
    headers: dict[str, str]
    connections: int
    threads: int

    def headers_for(self, hop: Hop) -> dict[str, str]:
        return self.headers | ({"Authorization": f"Bearer {hop.key}"} if hop.key else {})


_JSON_HEADERS = {"Content-Type": "application/json"}
_BINARY_HEADERS = {
    "Content-Type": "application/octet-stream",
    "Inference-Header-Content-Length": str(len(_HEAD)),
}
LOADS = (
    Load(f"{len(_JSON)} bytes of JSON, 32 connections", _JSON, _JSON_HEADERS, 32, 2),
    Load(f"{len(_JSON)} bytes of JSON, 1 connection", _JSON, _JSON_HEADERS, 1, 1),
    Load(
        "1 MiB of binary tensor each way, 8 connections", _HEAD + bytes(_TENSOR_BYTES), _BINARY_HEADERS, 8, 2
    ),
)


class _Wrk(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What post.lua reports."""

    requests: int
    duration_us: int
    median_us: int
    p99_us: int
    not_connected: int
    broken: int
    refused: int  # answered with 400 or above; the hops have no other answer that is not 200
    late: int


def ask(hop: Hop, load: Load) -> bytes:
    """The body of one answer. Raises Failed unless it is 200."""
    try:
        with closing(HTTPConnection("127.0.0.1", hop.port, timeout=_ANSWER_SECONDS)) as connection:
            connection.request("POST", _PATH, load.body, load.headers_for(hop))
            reply = connection.getresponse()
            body = reply.read()
    except (OSError, HTTPException) as fault:
        raise Failed(f"{hop.name} does not answer: {fault!r}") from fault
    if reply.status != 200:
        raise Failed(f"{hop.name} answers {reply.status}: {body[:500]!r}")
    return body


def measure(hop: Hop, load: Load, seconds: int, wrk: str, folder: Path) -> Sample:
    """One run. Raises Failed when a single request was not answered, or not with 200."""
    body = folder / "request"
    body.write_bytes(load.body)
    headers = [f"--header={name}: {value}" for name, value in load.headers_for(hop).items()]
    command = [
        *(wrk, f"--connections={load.connections}", f"--threads={load.threads}", f"--duration={seconds}s"),
        *(f"--timeout={_LATE_SECONDS}s", f"--script={_SCRIPT}", *headers),
        *(f"http://127.0.0.1:{hop.port}{_PATH}", str(body)),
    ]
    before = hop.cpu_seconds()
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds + 3 * _LATE_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as fault:
        raise Failed(f"wrk did not end: {hop.name}, {load.name}") from fault
    cpu_seconds = hop.cpu_seconds() - before
    if done.returncode:
        raise Failed(f"wrk ended with {done.returncode}: {done.stderr}")
    return sample(hop.name, load.name, done.stdout, cpu_seconds if hop.pids else None)


def sample(hop: str, load: str, printed: str, cpu_seconds: float | None) -> Sample:
    """What wrk printed, as a sample. Raises Failed when anything in it went wrong."""
    lines = printed.strip().splitlines()
    try:
        wrk = msgspec.json.decode(lines[-1] if lines else "", type=_Wrk)
    except msgspec.DecodeError as fault:
        raise Failed(f"wrk printed no report: {printed!r}") from fault
    if not wrk.requests or wrk.not_connected or wrk.broken or wrk.refused or wrk.late:
        raise Failed(f"{hop}, {load}: not every request was answered with 200: {lines[-1]}")
    return Sample(
        hop=hop,
        load=load,
        requests=wrk.requests,
        requests_per_second=wrk.requests / wrk.duration_us * 1e6,
        cpu_ms=None if cpu_seconds is None else cpu_seconds * 1e3 / wrk.requests,
        median_ms=wrk.median_us / 1e3,
        p99_ms=wrk.p99_us / 1e3,
    )
