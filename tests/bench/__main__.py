"""Measure, print the table, and say whether to believe it.

Exit codes: 0 every bar holds, 1 one is missed or a hop failed, 2 something is missing or wrongly asked, 3 the machine is too noisy for
numbers, whatever they say.
"""

import argparse
import math
import os
import platform
import re
import resource
import shutil
import signal
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import NoReturn

import msgspec

from tests.bench import hops
from tests.bench.bars import bars
from tests.bench.grpc_load import (
    GRPC_LOADS,
    grpc_ask,
    grpc_bars,
    grpc_hop,
    grpc_measure,
    grpc_passthrough,
)
from tests.bench.hops import Failed, Hop
from tests.bench.loads import LOADS, ask, measure
from tests.bench.report import (
    NOISE,
    Report,
    Resident,
    Sample,
    has_block,
    is_noisy,
    lines,
    noise,
    table,
    written,
)
from tests.bench.streams import ROUNDS, SECONDS, STREAMS, measured, stream_bars

_MISSING, _NOISY = 2, 3
_PACKAGES = {"wrk": "wrk", "nginx": "nginx-light", "h2load": "nghttp2-client"}  # Debian's
_START_SECONDS = 60
_HOPS = 5
_GRPC_HOPS = 3
_MEMORY_SECONDS = 3
_SLOWEST_REQUESTS_PER_SECOND = 300
_MIB = 1024 * 1024


def main() -> int:
    given = _parser().parse_args()
    programs = {name: shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") for name in _PACKAGES}
    missing = [_PACKAGES[name] for name, path in programs.items() if path is None]
    if missing:
        print(
            f"bench: the packages {', '.join(missing)} are not installed; run: make packages", file=sys.stderr
        )
        return _MISSING
    # SIGTERM and lateness end the block as Ctrl-C does, and the block ends every process.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    signal.signal(signal.SIGALRM, _late)
    runs = given.rounds * (len(LOADS) * _HOPS + len(GRPC_LOADS) * _GRPC_HOPS)
    signal.alarm(
        _START_SECONDS
        + 2 * runs * (given.seconds + 1)
        + math.ceil(given.memory / _SLOWEST_REQUESTS_PER_SECOND)
        + (2 * ROUNDS * SECONDS if given.streams else 0)
    )
    _may_open_more_files()
    try:
        report = _measured(given, {name: str(path) for name, path in programs.items()})
    except Failed as fault:
        print(f"bench: {fault}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    block = table(report)
    if is_noisy(report):
        worst = max(report.noise.values())
        block += (
            f"\nNoisy machine: direct Triton varied by {worst:.0%} between rounds, more than {NOISE:.0%}.\n"
        )
    print(block)
    if given.json:
        given.json.write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    if given.write:
        given.write.write_text(written(given.write.read_text(), block))
    if is_noisy(report):
        return _NOISY
    return 0 if all(bar.holds for bar in report.bars) else 1


def _measured(given: argparse.Namespace, programs: dict[str, str]) -> Report:
    """All rounds. The order within a round is what makes hops comparable: each is measured seconds after direct Triton."""
    wrk, nginx, h2load = (programs[name] for name in _PACKAGES)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        gateway = stack.enter_context(hops.gateway(folder))
        ask(gateway, LOADS[0])  # starts Triton
        direct = hops.direct(gateway)
        ways = (
            direct,
            stack.enter_context(hops.nginx(nginx, direct, folder)),
            stack.enter_context(hops.nginx_auth(nginx, direct, folder, gateway.key)),
            stack.enter_context(hops.passthrough(direct)),
            gateway,
        )
        grpc_ways = (grpc_hop(direct), stack.enter_context(grpc_passthrough(direct)), grpc_hop(gateway))
        stack.callback(signal.alarm, 0)  # the last in is the first out: what is to end may take its time
        _check_answers(ways)
        answer = _grpc_answer(grpc_ways)
        for hop in ways:
            measure(hop, LOADS[0], 1, wrk, folder)  # warm
        samples: list[Sample] = []
        for number in range(1, given.rounds + 1):
            print(f"bench: round {number} of {given.rounds}", file=sys.stderr, flush=True)
            samples += [measure(hop, load, given.seconds, wrk, folder) for load in LOADS for hop in ways]
            samples += [
                grpc_measure(hop, load, given.seconds, h2load=h2load, folder=folder, answer=answer)
                for load in GRPC_LOADS
                for hop in grpc_ways
            ]
        memory = _memory(gateway, given.memory, wrk, folder)
        print(f"bench: {given.streams} streams", file=sys.stderr, flush=True)
        lags = measured(direct, gateway, given.streams)
        return Report(
            machine=_machine(),
            rounds=given.rounds,
            seconds=given.seconds,
            memory=memory,
            bars=bars(samples, memory) + grpc_bars(samples) + stream_bars(lags, given.streams),
            lines=lines(samples),
            noise=noise(samples),
            samples=tuple(samples),
        )


def _memory(gateway: Hop, requests: int, wrk: str, folder: Path) -> tuple[Resident, ...]:
    """What the gateway has in memory, every few seconds of that many small requests."""
    found: list[Resident] = []
    done = 0
    while requests and done < requests:
        print(f"bench: memory after {done:,} of {requests:,} requests", file=sys.stderr, flush=True)
        found.append(Resident(done, gateway.resident_bytes() / _MIB))
        done += measure(gateway, LOADS[0], _MEMORY_SECONDS, wrk, folder).requests
    return (*found, Resident(done, gateway.resident_bytes() / _MIB)) if found else ()


def _check_answers(ways: tuple[Hop, ...]) -> None:
    """A hop that answers with anything else than Triton does would be measured for nothing."""
    for load in LOADS:
        answers = {hop.name: ask(hop, load) for hop in ways}
        for name, answer in answers.items():
            if answer != answers["direct"]:
                raise Failed(f"{name} answers otherwise than Triton: {answer[:200]!r}")


def _grpc_answer(ways: tuple[Hop, ...]) -> int:
    """The size of the one answer that all of them give."""
    answers = {hop.name: grpc_ask(hop) for hop in ways}
    for name, answer in answers.items():
        if answer != answers["direct"]:
            raise Failed(f"{name} answers otherwise than Triton over gRPC: {answer[:200]!r}")
    return len(answers["direct"])


def _machine() -> str:
    named = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return f"{len(os.sched_getaffinity(0))} cores ({named[1] if named else platform.machine()})"


def _may_open_more_files() -> None:
    """Each stream is a connection here, two in the gateway, and one in Triton."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard != resource.RLIM_INFINITY else 65_536, hard))


def _late(*_: object) -> NoReturn:
    raise Failed("took far longer than asked for")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--rounds", type=_count, default=5, metavar="N", help="rounds over all hops (default: 5)"
    )
    parser.add_argument(
        "--seconds", type=_count, default=3, metavar="N", help="of each run of wrk (default: 3)"
    )
    parser.add_argument(
        "--memory",
        type=_count_or_none,
        default=200_000,
        metavar="N",
        help="requests over which the gateway's memory is watched; 0 for none (default: 200000)",
    )
    parser.add_argument(
        "--streams",
        type=_count_or_none,
        default=STREAMS,
        metavar="N",
        help=f"streams that are open at once, for how late they are; 0 for none (default: {STREAMS})",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample there")
    parser.add_argument(
        "--write",
        type=_document,
        metavar="README.md",
        help="put the table between its <!-- bench --> markers; says there if the machine was noisy",
    )
    return parser


def _count(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 1000")
    return int(text)


def _count_or_none(text: str) -> int:
    if not text.isdigit() or int(text) > 10_000_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 10000000")
    return int(text)


def _document(text: str) -> Path:
    path = Path(text)
    if not path.is_file() or not has_block(path.read_text()):
        raise argparse.ArgumentTypeError(f"{text} has no <!-- bench --> line with a <!-- /bench --> after it")
    return path


if __name__ == "__main__":
    sys.exit(main())
