"""The parts of the benchmark that decide what is believed: what wrk says, medians, noise, the table."""

from itertools import product

import pytest

from tests.bench.bars import bars
from tests.bench.grpc_load import grpc_sample
from tests.bench.hops import Failed
from tests.bench.loads import LOADS, sample
from tests.bench.report import (
    Bar,
    Report,
    Resident,
    Sample,
    has_block,
    is_noisy,
    lines,
    noise,
    slope_kib,
    table,
    written,
)
from tests.bench.streams import Lags, stream_bars

GOOD = (
    '{"requests":3000,"duration_us":2000000,"median_us":2500,"p99_us":7680,'
    '"not_connected":0,"broken":0,"refused":0,"late":0}'
)


def run(
    hop: str, rate: float, *, load: str = "small", cpu_ms: float | None = None, median_ms: float = 1.0
) -> Sample:
    return Sample(
        hop=hop,
        load=load,
        requests=1000,
        requests_per_second=rate,
        cpu_ms=cpu_ms,
        median_ms=median_ms,
        p99_ms=9.0,
    )


def report(samples: tuple[Sample, ...]) -> Report:
    return Report(
        machine="2 cores (x)",
        rounds=3,
        seconds=2,
        memory=(Resident(0, 50.4), Resident(1000, 60.6)),
        bars=(
            Bar(what="cost", figure=2.004, most=2.0),
            Bar(what="speed", figure=0.9, least=0.85),
            Bar(what="wish", figure=7),
        ),
        lines=lines(samples),
        noise=noise(samples),
        samples=samples,
    )


def test_a_run_of_wrk_is_read_in_the_units_that_the_table_has() -> None:
    found = sample(
        "nginx", "small", f"Running 2s test\n  3000 requests in 2.00s\n\n{GOOD}\n", cpu_seconds=0.3
    )
    assert found == Sample(
        hop="nginx",
        load="small",
        requests=3000,
        requests_per_second=1500.0,
        cpu_ms=0.1,
        median_ms=2.5,
        p99_ms=7.68,
    )


@pytest.mark.parametrize("name", ["not_connected", "broken", "refused", "late"])
def test_one_request_that_was_not_answered_with_200_fails_the_run(name: str) -> None:
    with pytest.raises(Failed, match="not every request"):
        sample("gateway", "small", GOOD.replace(f'"{name}":0', f'"{name}":1'), None)


@pytest.mark.parametrize(
    "printed", ["", "unable to connect", GOOD.replace("3000", "0"), GOOD.replace(',"late":0', "")]
)
def test_a_run_without_a_whole_report_fails(printed: str) -> None:
    with pytest.raises(Failed):
        sample("gateway", "small", printed, None)


def test_the_ratio_is_taken_within_a_round_so_that_a_machine_that_slows_down_does_not_change_it() -> None:
    samples = [
        run(hop, rate) for speed in (900, 90, 9) for hop, rate in (("direct", speed), ("gateway", speed / 3))
    ]
    direct, gateway = lines(samples)
    assert direct.of_direct == 1.0
    assert gateway.of_direct == pytest.approx(1 / 3)
    assert (direct.requests_per_second, gateway.requests_per_second) == (90, 30)


def test_a_round_that_went_wrong_does_not_move_the_medians() -> None:
    samples = [
        *(run("direct", 100), run("gateway", 50, cpu_ms=0.2, median_ms=1)),
        *(run("direct", 100), run("gateway", 1, cpu_ms=9.0, median_ms=70)),
        *(run("direct", 100), run("gateway", 52, cpu_ms=0.3, median_ms=2)),
    ]
    gateway = lines(samples)[1]
    assert (gateway.of_direct, gateway.cpu_ms, gateway.median_ms) == (0.5, 0.3, 2)


def test_lines_come_by_load_and_then_by_hop_as_they_were_measured() -> None:
    order = list(product(("small", "large"), ("direct", "nginx")))
    samples = [run(hop, 1, load=load) for _ in range(2) for load, hop in order]
    assert [(line.load, line.hop) for line in lines(samples)] == order


@pytest.mark.parametrize(("rates", "noisy"), [((100, 115, 129), False), ((100, 100, 131), True)])
def test_a_machine_is_noisy_when_direct_triton_varies_by_more_than_the_bound(
    rates: tuple[float, ...],
    noisy: bool,  # noqa: FBT001
) -> None:
    steady = [run(hop, 100, load="large") for hop in ("direct", "gateway") for _ in rates]
    wild_gateway = [run("gateway", rate * rate) for rate in rates]
    found = report((*(run("direct", rate) for rate in rates), *wild_gateway, *steady))
    assert is_noisy(found) is noisy


def test_the_table_names_a_load_once_and_leaves_triton_without_cpu() -> None:
    found = report((run("direct", 12345.6), run("gateway", 4000, cpu_ms=0.2004)))
    rows = table(found).splitlines()
    assert rows[2:4] == [
        "| small | direct | 12,346 | 1.00 | - | 1.00 | 9.00 |",
        "|  | gateway | 4,000 | 0.32 | 0.200 | 1.00 | 9.00 |",
    ]
    assert rows[-1] == "Memory: 50.4 MiB, and 60.6 MiB 1,000 requests later."
    assert rows[-5:-2] == [
        "| cost | 2.00 | at most 2 | missed |",
        "| speed | 0.90 | at least 0.85 | holds |",
        "| wish | 7.00 |  | not judged |",
    ]


def test_only_what_is_between_the_markers_is_replaced() -> None:
    before = "# a\n\n<!-- bench -->\nold\n\\1 and more\n<!-- /bench -->\n\nend\n"
    assert has_block(before)
    assert written(before, "new \\1\n") == "# a\n\n<!-- bench -->\nnew \\1\n<!-- /bench -->\n\nend\n"
    assert written(written(before, "x\n"), "y\n") == written(before, "y\n")


@pytest.mark.parametrize("document", ["", "<!-- bench -->\n", "<!-- /bench -->\n<!-- bench -->\n"])
def test_a_document_without_both_markers_has_no_place_for_the_table(document: str) -> None:
    assert not has_block(document)


def test_the_small_load_is_the_size_that_it_is_known_by() -> None:
    assert [len(load.body) for load in LOADS[:2]] == [98, 98]


@pytest.mark.parametrize("waver", [0.0, 0.5])
def test_the_slope_of_memory_is_what_each_request_leaves_behind_however_it_wavers(waver: float) -> None:
    memory = [Resident(n * 1000, 50 + n * 0.25 + waver * (-1) ** n) for n in range(200)]
    assert slope_kib(memory) == pytest.approx(256, rel=0.01)


def everything(*, cpu_ms: float = 0.23, rate: float = 30, median_ms: float = 1.5) -> list[Sample]:
    """A round in which the gateway is just good enough."""
    hops = {"direct": (100, None, 1.0), "nginx": (35, 0.05, 1.1), "nginx + auth_request": (50, 0.1, 1.2)}
    others = [
        run(hop, other_rate, load=load.name, cpu_ms=other_cpu_ms, median_ms=other_ms)
        for load in LOADS
        for hop, (other_rate, other_cpu_ms, other_ms) in (hops | {"pass-through": (60, 0.1, 1.1)}).items()
    ]
    return others + [
        run("gateway", rate, load=load.name, cpu_ms=cpu_ms, median_ms=median_ms) for load in LOADS
    ]


def test_every_bar_holds_at_its_limit() -> None:
    found = bars(everything(), [Resident(0, 50), Resident(1000, 50)])
    assert [bar.figure for bar in found] == pytest.approx([2.3, 0.3, 0.5, 30 / 35, 2.3, 0.0])
    assert all(bar.holds for bar in found)


@pytest.mark.parametrize(
    ("samples", "grown_mib", "missed"),
    [
        (everything(cpu_ms=0.24), 0, {0}),
        (everything(rate=29), 0, {1, 3}),
        (everything(median_ms=1.6), 0, {2}),
        (everything(), 0.01, {5}),
    ],
)
def test_a_bar_is_missed_alone(samples: list[Sample], grown_mib: float, missed: set[int]) -> None:
    found = bars(samples, [Resident(0, 50), Resident(1000, 50 + grown_mib)])
    assert {place for place, bar in enumerate(found) if not bar.holds} == missed


H2LOAD = """finished in 2.00s, 1500.50 req/s, 400.00KB/s
requests: 3000 total, 3032 started, 3000 done, 3000 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 3000 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 900KB (921600) total, 300KB (307200) headers (space savings 50.00%), 60KB (60000) data
"""
H2LOG = "\n".join(f"1700000000000000\t200\t{2000 + number}" for number in range(1001))


def test_a_run_of_h2load_is_read_in_the_units_that_the_table_has() -> None:
    found = grpc_sample("gateway", "gRPC", H2LOAD, H2LOG, answer=15, cpu_seconds=1.5)
    assert (found.requests, found.requests_per_second, found.cpu_ms) == (3000, 1500.5, 0.5)
    assert (found.median_ms, found.p99_ms) == pytest.approx((2.5, 2.99), abs=0.01)


@pytest.mark.parametrize(
    "printed",
    [
        "",
        H2LOAD.replace("3000 succeeded, 0 failed", "2999 succeeded, 1 failed"),
        H2LOAD.replace("(60000) data", "(59999) data"),  # an answer without its message: a refusal
    ],
)
def test_a_run_of_h2load_in_which_one_answer_had_no_message_fails(printed: str) -> None:
    with pytest.raises(Failed):
        grpc_sample("gateway", "gRPC", printed, H2LOG, answer=15, cpu_seconds=None)


def test_streams_are_judged_by_what_the_gateway_adds_and_by_those_it_cut() -> None:
    found = (
        Lags("direct", 1.0, 9.0, 100, 0),
        Lags("gateway", 1.5, 9.0, 100, 2),
        Lags("direct", 3.0, 9.0, 100, 0),
        Lags("gateway", 3.7, 9.0, 99, 1),
    )
    lag, cut = stream_bars(found, 50)
    assert (round(lag.figure, 6), lag.most, lag.holds) == (0.6, 2.0, True)
    assert (cut.figure, cut.holds) == (3, False)
    assert stream_bars((), 0) == ()
