"""The figures of several processes as one reading: nothing is lost on the way, and what cannot be added is not."""

import pytest

from gateway.telemetry import table
from gateway.telemetry.meter import Meter, Reading
from gateway.telemetry.prometheus import text
from gateway.telemetry.sums import added, decoded, encoded, lasting, read
from gateway.telemetry.table import TABLE
from tests.conftest import ROOT


def counted(calls: int, age: float) -> Reading:
    meter = Meter()
    for _ in range(calls):
        meter.settled(
            "infer", "digits", 200, seconds=0.01, upstream_seconds=0.002, received_bytes=5, sent_bytes=7
        )
    meter.failed("overloaded")
    meter.watch_number(table.DIRECTORY_AGE, lambda: age)
    meter.watch_number(table.UPTIME, lambda: age)
    meter.watch_number(table.IN_FLIGHT, lambda: 3)
    return meter.read()


def test_what_one_process_tells_another_one_reads_as_it_was() -> None:
    reading = counted(3, 1.5)
    told = decoded(encoded(reading, ready=False, state="no"))
    assert (told.ready, told.state) == (False, "no")
    assert text(read(told)) == text(reading)


def test_numbers_and_histograms_are_added_and_of_an_age_the_most_is_told_and_of_a_life_the_least() -> None:
    both = added([counted(3, 1.5), counted(4, 7.0)])
    lines = text(both).splitlines()
    for line in (
        'http_server_request_duration_seconds_count{gateway_model="digits",gateway_verb="infer",http_response_status_code="200"} 7',
        'gateway_request_body_bytes_total{gateway_model="digits"} 35',
        'gateway_errors_total{error_type="overloaded"} 2',
        "http_server_active_requests 6",
        "gateway_directory_age_seconds 7.0",
        "process_uptime_seconds 1.5",
    ):
        assert line in lines


def test_adding_changes_nothing_of_what_is_added() -> None:
    one = counted(3, 1.0)
    before = text(one)
    added([one, counted(2, 2.0)])
    assert text(one) == before


def test_of_who_has_ended_only_what_it_counted_is_still_true() -> None:
    kinds = {metric.kind for metric, points in lasting(counted(1, 1.0)).items() if points}
    assert kinds == {"counter", "histogram"}


def test_a_process_of_another_version_is_read_as_far_as_it_is_understood() -> None:
    told = decoded(
        b'{"ready":true,"state":"ok","more":1,"figures":{"gateway.unheard.of":[[[],1]],"http.server.active_requests":[[["one"],1],[[],2]],'
        b'"http.server.request.duration":[[["m","infer","200"],[[1,2],0.5]],[["m","infer","200"],7]],"gateway.tokens.known":[[[],[[1],1]]]}}'
    )
    found = read(told)
    assert {metric.name: points for metric, points in found.items() if points} == {
        "http.server.active_requests": {(): 2}
    }


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b'{"ready":1}', b'{"ready":true,"state":"ok","figures":[]}']
)
def test_what_is_nothing_of_ours_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        decoded(data)


def test_of_every_gauge_it_is_said_which_one_counts_and_operators_read_it() -> None:
    readme = (ROOT / "gateway" / "README.md").read_text()
    assert [metric.name for metric in TABLE if metric.kind == "gauge" and metric.across == "sum"] == []
    for how in ("least", "most"):
        names = ", ".join(f"`{metric.name}`" for metric in TABLE if metric.across == how)
        assert f"<!-- {how} -->{names}<!-- /{how} -->" in readme
