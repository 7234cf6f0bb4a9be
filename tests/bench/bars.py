"""The bars that the benchmark judges, and the aims that it only shows. Pure."""

from collections.abc import Sequence

from tests.bench.hops import NGINX_AUTH
from tests.bench.loads import LOADS
from tests.bench.report import Bar, Resident, Sample, lines, ratio, slope_kib

_MANY, _ONE, _LARGE = (load.name for load in LOADS)
# Less than the smallest object that could be forgotten with each request, more than what memory wavers by.
_FLAT_KIB = 10.0
# What it may cost beyond 2.0 that each record of a request is sealed under its tenant's key.
_SEALING = 0.3


def bars(samples: Sequence[Sample], memory: Sequence[Resident]) -> tuple[Bar, ...]:
    median_ms = {(line.load, line.hop): line.median_ms for line in lines(samples)}
    judged = [
        Bar(
            what="32 connections: CPU of the gateway, times the pass-through's",
            figure=ratio(samples, _MANY, "gateway", "pass-through", _cpu_ms),
            most=2.0 + _SEALING,
        ),
        Bar(
            what="32 connections: requests/s of the gateway, of direct",
            figure=ratio(samples, _MANY, "gateway", "direct", _rate),
            least=0.30,
        ),
        Bar(
            what="1 connection: ms that the gateway adds to direct's median",
            figure=median_ms[_ONE, "gateway"] - median_ms[_ONE, "direct"],
            most=0.5,
        ),
        Bar(
            what="1 MiB: requests/s of the gateway, of nginx",
            figure=ratio(samples, _LARGE, "gateway", "nginx", _rate),
            least=0.85,
        ),
        Bar(
            what=f"32 connections: CPU of the gateway, times that of {NGINX_AUTH}",
            figure=ratio(samples, _MANY, "gateway", NGINX_AUTH, _cpu_ms),
        ),
    ]
    if memory:
        what = "KiB of memory that each 1,000 requests leave behind, by least squares"
        judged.append(Bar(what=what, figure=slope_kib(memory), most=_FLAT_KIB))
    return tuple(judged)


def _cpu_ms(sample: Sample) -> float:
    return sample.cpu_ms or 0.0


def _rate(sample: Sample) -> float:
    return sample.requests_per_second
