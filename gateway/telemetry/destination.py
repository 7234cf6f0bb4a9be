"""Where figures and spans are sent, as OpenTelemetry's own variables say; by default nowhere. Pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from gateway.settings import SettingsError
from gateway.telemetry.traceparent import Sampling


@dataclass(frozen=True, slots=True)
class Destination:
    """Where to send what, "" for nowhere. Headers, certificates, compression and timeout are the exporters' own to read."""

    metrics_url: str = ""
    traces_url: str = ""
    interval_seconds: float = 60.0
    sampling: Sampling = field(default_factory=Sampling)

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> "Destination":
        """What the OTEL_ variables say, read as OpenTelemetry reads them. Raises SettingsError."""
        if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
            return cls()
        destination = cls(_url(environ, "metrics"), _url(environ, "traces"))
        if not (destination.metrics_url or destination.traces_url):
            return cls()
        sampler = environ.get("OTEL_TRACES_SAMPLER") or "parentbased_always_on"
        return replace(
            destination,
            interval_seconds=_milliseconds(environ, "OTEL_METRIC_EXPORT_INTERVAL", 60_000) / 1_000,
            sampling=Sampling.named(sampler, environ.get("OTEL_TRACES_SAMPLER_ARG") or "1"),
        )


def _url(environ: Mapping[str, str], signal: str) -> str:
    name = signal.upper()
    if environ.get(f"OTEL_{name}_EXPORTER", "otlp") != "otlp":
        return ""
    base = environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "")
    own = environ.get(f"OTEL_EXPORTER_OTLP_{name}_ENDPOINT", "")
    url = own or (f"{base.removesuffix('/')}/v1/{signal}" if base else "")
    protocol = environ.get(f"OTEL_EXPORTER_OTLP_{name}_PROTOCOL") or environ.get(
        "OTEL_EXPORTER_OTLP_PROTOCOL"
    )
    if url and protocol not in (None, "", "http/protobuf"):
        raise SettingsError(f"OTEL_EXPORTER_OTLP_PROTOCOL must be http/protobuf, not {protocol!r}")
    return url


def _milliseconds(environ: Mapping[str, str], name: str, default: float) -> float:
    text = environ.get(name) or str(default)
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < math.inf:
        raise SettingsError(f"{name} must be a number of milliseconds, not {text!r}")
    return number
