"""From samples to what is shown: medians over rounds, and the table of the README. Pure."""

import re
from collections.abc import Callable, Iterable
from statistics import median

import msgspec

NOISE = 0.30
_BLOCK = re.compile(r"(?<=<!-- bench -->\n).*?(?=<!-- /bench -->)", re.DOTALL)
_COLUMNS = ("load", "hop", "requests/s", "of direct", "CPU ms a request", "median ms", "p99 ms")


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One run of wrk over one hop. `cpu_ms`: of the hop's process, a request; None for Triton itself."""

    hop: str
    load: str
    requests: int
    requests_per_second: float
    cpu_ms: float | None
    median_ms: float
    p99_ms: float


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """Medians over the rounds of one hop under one load. `of_direct` is the median of each round's own ratio."""

    hop: str
    load: str
    requests_per_second: float
    of_direct: float
    cpu_ms: float | None
    median_ms: float
    p99_ms: float


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was measured, and where."""

    machine: str
    rounds: int
    seconds: int
    gateway_mib_before: float
    gateway_mib_after: float
    lines: tuple[Line, ...]
    noise: dict[str, float]
    samples: tuple[Sample, ...]


def lines(samples: Iterable[Sample]) -> tuple[Line, ...]:
    """The lines of the table, in the order of the samples: by load, then by hop. The n-th sample of each is of round n."""
    runs = _runs(samples)
    return tuple(
        _line(runs[load, hop], runs[load, "direct"])
        for load in dict.fromkeys(load for load, _ in runs)
        for hop in [hop for of, hop in runs if of == load]
    )


def noise(samples: Iterable[Sample]) -> dict[str, float]:
    """By load: how far apart the rounds of direct Triton lie, as a share of their median."""
    rates = {
        load: [sample.requests_per_second for sample in run]
        for (load, hop), run in _runs(samples).items()
        if hop == "direct"
    }
    return {load: (max(run) - min(run)) / median(run) for load, run in rates.items()}


def is_noisy(report: Report) -> bool:
    return any(share > NOISE for share in report.noise.values())


def table(report: Report) -> str:
    """Markdown: the table, and beneath it what one must know to read it."""
    rows, load = [], ""
    for line in report.lines:
        rows.append(
            (
                line.load if line.load != load else "",
                line.hop,
                f"{line.requests_per_second:,.0f}",
                f"{line.of_direct:.2f}",
                "-" if line.cpu_ms is None else f"{line.cpu_ms:.3f}",
                f"{line.median_ms:.2f}",
                f"{line.p99_ms:.2f}",
            )
        )
        load = line.load
    rules = ("---", "---", *["--:"] * (len(_COLUMNS) - 2))
    requests = sum(sample.requests for sample in report.samples if sample.hop == "gateway")
    return "\n".join(
        [
            *(f"| {' | '.join(row)} |" for row in (_COLUMNS, rules, *rows)),
            "",
            f"Medians of {report.rounds} rounds of {report.seconds} s, the hops in turn, over one Triton on {report.machine},",
            "which Triton, the hop and wrk share. Every hop is one process; the CPU is that process's own, without Triton's.",
            "The gateway runs as shipped: key, policy, limits (a plan that is never exhausted) and a durable audit record",
            f"of each call. Its memory: {report.gateway_mib_before:.0f} MiB before, {report.gateway_mib_after:.0f} MiB "
            f"after {requests:,} requests.",
            "",
        ]
    )


def has_block(document: str) -> bool:
    return len(_BLOCK.findall(document)) == 1


def written(document: str, block: str) -> str:
    """The document with this between its markers."""
    return _BLOCK.sub(lambda _: block, document)


def _runs(samples: Iterable[Sample]) -> dict[tuple[str, str], list[Sample]]:
    """By load and hop: a sample a round."""
    runs: dict[tuple[str, str], list[Sample]] = {}
    for sample in samples:
        runs.setdefault((sample.load, sample.hop), []).append(sample)
    return runs


def _line(run: list[Sample], direct: list[Sample]) -> Line:
    def middle(of: Callable[[Sample], float]) -> float:
        return median(map(of, run))

    ratios = [a.requests_per_second / b.requests_per_second for a, b in zip(run, direct, strict=True)]
    cpu = [sample.cpu_ms for sample in run if sample.cpu_ms is not None]
    return Line(
        hop=run[0].hop,
        load=run[0].load,
        requests_per_second=middle(lambda sample: sample.requests_per_second),
        of_direct=median(ratios),
        cpu_ms=median(cpu) if cpu else None,
        median_ms=middle(lambda sample: sample.median_ms),
        p99_ms=middle(lambda sample: sample.p99_ms),
    )
