"""From samples to what is shown: medians over rounds, and the table of the README. Pure."""

import re
from collections.abc import Callable, Iterable, Sequence
from statistics import linear_regression, median

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


class Resident(msgspec.Struct, frozen=True):
    """How much memory the gateway had after so many requests, counted from the first sample on."""

    requests: int
    mib: float


class Bar(msgspec.Struct, frozen=True, kw_only=True):
    """What the gateway promises: a figure of at most, or at least, so much. Only an aim is printed and not judged."""

    what: str
    figure: float
    most: float | None = None
    least: float | None = None

    @property
    def holds(self) -> bool:
        above = self.most is not None and self.figure > self.most
        return not (above or (self.least is not None and self.figure < self.least))

    @property
    def is_aim(self) -> bool:
        return self.most is None and self.least is None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was measured, and where."""

    machine: str
    rounds: int
    seconds: int
    memory: tuple[Resident, ...]
    bars: tuple[Bar, ...]
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


def slope_kib(memory: Sequence[Resident]) -> float:
    """By how many KiB the memory grows each 1,000 requests: least squares."""
    return (
        linear_regression([now.requests for now in memory], [now.mib for now in memory]).slope * 1024 * 1000
    )


def ratio(samples: Iterable[Sample], load: str, of: str, to: str, figure: Callable[[Sample], float]) -> float:
    """The median of each round's own ratio of one hop's figure to another's."""
    runs = _runs(samples)
    return median(figure(a) / figure(b) for a, b in zip(runs[load, of], runs[load, to], strict=True))


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
    return "\n".join(
        [
            *(f"| {' | '.join(row)} |" for row in (_COLUMNS, rules, *rows)),
            "",
            f"Medians of {report.rounds} rounds of {report.seconds} s, the hops in turn, over one Triton on {report.machine},",
            "which Triton, the hop and wrk share. The CPU is the hop's own, without Triton's; each is one process, but the check of",
            "the key that nginx asks with auth_request is a second one, in Python. The gateway runs as shipped: key, policy, limits (a",
            "plan that is never exhausted), metrics and a durable audit record of each call.",
            "",
            *_judged(report),
            "",
        ]
    )


def _judged(report: Report) -> list[str]:
    rows = ["| what | measured | bar | |", "| --- | --: | --: | --- |"]
    for bar in report.bars:
        limit = (
            ""
            if bar.is_aim
            else f"at most {bar.most:g}"
            if bar.most is not None
            else f"at least {bar.least:g}"
        )
        verdict = "not judged" if bar.is_aim else "holds" if bar.holds else "missed"
        rows.append(f"| {bar.what} | {bar.figure:.2f} | {limit} | {verdict} |")
    if report.memory:
        first, last = report.memory[0], report.memory[-1]
        rows += ["", f"Memory: {first.mib:.1f} MiB, and {last.mib:.1f} MiB {last.requests:,} requests later."]
    return rows


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
