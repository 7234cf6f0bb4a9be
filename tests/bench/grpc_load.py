"""The same over gRPC: the hops, and one run of h2load over one of them.

h2load posts one serialized request again and again and knows nothing of gRPC, so an answer counts by the bytes of its message.
"""

import random
import re
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import quantiles

import grpc
from tritonclient.grpc import service_pb2

from gateway.scaling.scalers.process import free_port
from tests.bench.grpc_passthrough import METHOD
from tests.bench.hops import MODEL, Failed, Hop, child, wait_until_listening
from tests.bench.report import Bar, Sample, lines, ratio

_ANSWER_SECONDS = 60
_LATE_SECONDS = 10
_HUNDREDTHS = 100


@dataclass(frozen=True, slots=True)
class GrpcLoad:
    """A small request over so many connections, on each as soon as it has its answer."""

    name: str
    connections: int


GRPC_LOADS = (GrpcLoad("gRPC, 32 connections", 32), GrpcLoad("gRPC, 1 connection", 1))


def request() -> bytes:
    """The tensor of the JSON load."""
    made = service_pb2.ModelInferRequest(model_name=MODEL)
    made.inputs.add(name="in", datatype="FP32", shape=[5])
    made.raw_input_contents.append(struct.pack("<5f", 0.125, 1.125, 2.125, 3.125, 4.125625))
    message: bytes = made.SerializeToString()
    return message


@contextmanager
def grpc_passthrough(triton: Hop) -> Iterator[Hop]:
    port = free_port(random.choice)
    command = [sys.executable, "-m", "tests.bench.grpc_passthrough", str(port), str(triton.grpc_port)]
    with child(command) as process:
        wait_until_listening(process, port)
        yield Hop("pass-through", port, (process.pid,), grpc_port=port)


def grpc_hop(hop: Hop) -> Hop:
    """The same process at its other door."""
    return replace(hop, port=hop.grpc_port)


def grpc_ask(hop: Hop) -> bytes:
    """One answer. Raises Failed unless its status is OK."""
    metadata = (("authorization", f"Bearer {hop.key}"),) if hop.key else ()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{hop.port}") as channel:
            infer: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)
            answer = infer(request(), timeout=_ANSWER_SECONDS, metadata=metadata)
    except grpc.RpcError as fault:
        raise Failed(f"{hop.name} does not answer over gRPC: {fault}") from fault
    return answer


def grpc_measure(hop: Hop, load: GrpcLoad, seconds: int, *, h2load: str, folder: Path, answer: int) -> Sample:
    """One run; each answer has a message of `answer` bytes. Raises Failed when a single one has not."""
    message, log = request(), folder / "h2load.log"
    body = folder / "grpc-request"
    body.write_bytes(struct.pack(">BI", 0, len(message)) + message)
    log.unlink(missing_ok=True)
    headers = ["content-type: application/grpc", "te: trailers"]
    headers += [f"authorization: Bearer {hop.key}"] if hop.key else []
    command = [
        *(h2load, f"--clients={load.connections}", "--max-concurrent-streams=1", f"--duration={seconds}"),
        *(f"--threads={min(2, load.connections)}", f"--data={body}", f"--log-file={log}"),
        *(f"--header={header}" for header in headers),
        f"http://127.0.0.1:{hop.port}{METHOD}",
    ]
    before = hop.cpu_seconds()
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds + 3 * _LATE_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as fault:
        raise Failed(f"h2load did not end: {hop.name}, {load.name}") from fault
    cpu_seconds = hop.cpu_seconds() - before
    if done.returncode:
        raise Failed(f"h2load ended with {done.returncode}: {done.stderr}")
    cpu = cpu_seconds if hop.pids else None
    return grpc_sample(hop.name, load.name, done.stdout, log.read_text(), answer=answer, cpu_seconds=cpu)


def grpc_sample(
    hop: str, load: str, printed: str, log: str, *, answer: int, cpu_seconds: float | None
) -> Sample:
    """What h2load printed and logged, as a sample. Raises Failed when anything in it went wrong."""
    rate = re.search(r"^finished in .*?, ([\d.]+) req/s", printed, re.MULTILINE)
    counts = re.search(r"(\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", printed)
    data = re.search(r"\((\d+)\) data$", printed, re.MULTILINE)
    if not rate or not counts or not data:
        raise Failed(f"h2load printed no report: {printed!r}")
    done, succeeded, *bad = map(int, counts.groups())
    if not done or succeeded != done or any(bad) or int(data[1]) < done * (answer + 5):
        raise Failed(f"{hop}, {load}: not every request was answered with a message: {counts[0]}")
    took_ms = [int(line.split()[2]) / 1e3 for line in log.splitlines() if line]
    places = quantiles(took_ms, n=_HUNDREDTHS)
    return Sample(
        hop=hop,
        load=load,
        requests=done,
        requests_per_second=float(rate[1]),
        cpu_ms=None if cpu_seconds is None else cpu_seconds * 1e3 / done,
        median_ms=places[_HUNDREDTHS // 2 - 1],
        p99_ms=places[-1],
    )


def grpc_bars(samples: list[Sample]) -> tuple[Bar, ...]:
    many, one = (load.name for load in GRPC_LOADS)
    found = {(line.load, line.hop): line for line in lines(samples)}
    return (
        Bar(
            what=f"{many}: requests/s of the gateway, of the pass-through",
            figure=ratio(samples, many, "gateway", "pass-through", lambda it: it.requests_per_second),
            least=0.65,
        ),
        Bar(
            what=f"{many}: requests/s of the gateway",
            figure=found[many, "gateway"].requests_per_second,
            least=800,
        ),
        Bar(
            what=f"{one}: ms that the gateway adds to the pass-through's median",
            figure=found[one, "gateway"].median_ms - found[one, "pass-through"].median_ms,
            most=0.6,
        ),
    )
