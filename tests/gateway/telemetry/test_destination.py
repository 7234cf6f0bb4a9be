"""What OpenTelemetry's variables mean here."""

import pytest

from gateway.settings import SettingsError
from gateway.telemetry.destination import Destination
from gateway.telemetry.traceparent import Sampling

BASE = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318/"}


def test_by_default_nothing_is_sent_anywhere() -> None:
    assert Destination.of({"OTEL_TRACES_SAMPLER": "always_on"}) == Destination()
    assert Destination() == Destination(metrics_url="", traces_url="")


def test_one_endpoint_is_for_both_and_each_may_have_its_own() -> None:
    both = Destination.of(BASE)
    assert (both.metrics_url, both.traces_url) == (
        "http://collector:4318/v1/metrics",
        "http://collector:4318/v1/traces",
    )
    own = Destination.of(BASE | {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://tracer/in"})
    assert (own.metrics_url, own.traces_url) == (both.metrics_url, "http://tracer/in")
    only = Destination.of({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://meter/in"})
    assert (only.metrics_url, only.traces_url) == ("http://meter/in", "")


def test_it_can_be_turned_off_as_a_whole_and_by_signal() -> None:
    assert Destination.of(BASE | {"OTEL_SDK_DISABLED": "true"}) == Destination()
    assert Destination.of(BASE | {"OTEL_TRACES_EXPORTER": "none"}).traces_url == ""
    assert Destination.of(BASE | {"OTEL_METRICS_EXPORTER": "none"}).metrics_url == ""


def test_interval_and_sampler_are_taken_over() -> None:
    found = Destination.of(
        BASE
        | {
            "OTEL_METRIC_EXPORT_INTERVAL": "1500",
            "OTEL_TRACES_SAMPLER": "traceidratio",
            "OTEL_TRACES_SAMPLER_ARG": "0.1",
        }
    )
    assert (found.interval_seconds, found.sampling) == (1.5, Sampling(by_parent=False, ratio=0.1))
    assert Destination.of(BASE).sampling == Sampling(by_parent=True, ratio=1.0)


@pytest.mark.parametrize(
    "variable",
    [
        {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
        {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json"},
        {"OTEL_METRIC_EXPORT_INTERVAL": "often"},
        {"OTEL_METRIC_EXPORT_INTERVAL": "0"},
        {"OTEL_METRIC_EXPORT_INTERVAL": "nan"},
        {"OTEL_TRACES_SAMPLER": "xray"},
    ],
)
def test_what_cannot_be_done_is_refused_when_a_collector_is_named(variable: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="OTEL_"):
        Destination.of(BASE | variable)
    assert Destination.of(variable) == Destination()
