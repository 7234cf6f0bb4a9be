"""The text is what Prometheus reads: its own parser gets every figure back."""

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.parser import text_string_to_metric_families

from gateway.telemetry import table
from gateway.telemetry.meter import Buckets, Meter
from gateway.telemetry.prometheus import name_of, text
from gateway.telemetry.table import TABLE, Metric


def parsed(written: str) -> dict[str, Family]:
    return {family.name: family for family in text_string_to_metric_families(written)}


def family_of(metric: Metric, families: dict[str, Family]) -> Family:
    return families[name_of(metric).removesuffix("_total")]  # as the parser has it


def test_every_metric_of_the_table_is_named_with_its_meaning_and_type() -> None:
    families = parsed(text(Meter().read()))
    assert len(families) == len(TABLE)
    for metric in TABLE:
        family = family_of(metric, families)
        assert family.documentation == metric.meaning
        assert family.type == {"up-down counter": "gauge"}.get(metric.kind, metric.kind)


@pytest.mark.parametrize(
    ("metric", "name"),
    [
        (table.CALLS, "http_server_request_duration_seconds"),
        (table.RECEIVED, "gateway_request_body_bytes_total"),
        (table.STARTS, "gateway_replica_starts_total"),
        (table.CPU, "process_cpu_time_seconds_total"),
        (table.MEMORY, "process_memory_usage_bytes"),
        (table.AUDIT_OPEN, "gateway_audit_open"),
    ],
)
def test_names_have_their_unit_and_counters_their_suffix(metric: Metric, name: str) -> None:
    assert name_of(metric) == name


@given(st.lists(st.floats(0, 1000), min_size=1))
def test_a_histogram_comes_back_with_its_buckets_its_sum_and_its_count(values: list[float]) -> None:
    meter = Meter()
    for value in values:
        meter.phase("boot", value)
    samples = family_of(table.COLD_START, parsed(text(meter.read()))).samples
    buckets = {float(s.labels["le"]): s.value for s in samples if s.name.endswith("_bucket")}
    assert buckets == {
        edge: sum(value <= edge for value in values) for edge in (*table.COLD_START.bounds, math.inf)
    }
    rest = {s.name.rpartition("_")[2]: s for s in samples if not s.name.endswith("_bucket")}
    assert rest["count"].value == len(values)
    assert rest["sum"].value == pytest.approx(sum(values))
    assert rest["sum"].labels == {"gateway_phase": "boot"}


def test_a_histogram_without_attributes_is_written_as_well() -> None:
    metric = Metric("wait", "histogram", "s", (), "waiting", (1.0,))
    buckets = Buckets(metric.bounds)
    buckets.add(0.5)
    assert text({metric: {(): buckets}}).splitlines()[2:] == [
        'wait_seconds_bucket{le="1.0"} 1',
        'wait_seconds_bucket{le="+Inf"} 1',
        "wait_seconds_sum 0.5",
        "wait_seconds_count 1",
    ]


@given(
    st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters="\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029")
    )
)
@example('\\n\\"\n')
def test_whatever_a_name_holds_it_cannot_leave_its_quotes(name: str) -> None:
    meter = Meter()
    meter.happened("load", name)
    (sample,) = family_of(table.LOADS, parsed(text(meter.read()))).samples
    assert (sample.labels, sample.value) == ({"gateway_model": name}, 1)
