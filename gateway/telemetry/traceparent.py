"""W3C Trace Context: what of a client's trace passes on, and which calls are traced. Pure.

A `traceparent` passes if it is of version 00, well formed, and the only one; anything else is as if it were not there. A `tracestate`
never passes: it is free text of somebody who is not trusted, for vendors that we do not know, and a trace holds together without it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from gateway.call import InferenceCall
from gateway.settings import SettingsError

_FORM: Final = re.compile(rb"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_SAMPLED: Final = 0x01
_IDS: Final = 2**64

# OTEL_TRACES_SAMPLER: whether the caller's decision counts, and the part of the others; None is OTEL_TRACES_SAMPLER_ARG.
_SAMPLERS: Final[Mapping[str, tuple[bool, float | None]]] = {
    "always_on": (False, 1.0),
    "always_off": (False, 0.0),
    "traceidratio": (False, None),
    "parentbased_always_on": (True, 1.0),
    "parentbased_always_off": (True, 0.0),
    "parentbased_traceidratio": (True, None),
}


def valid_traceparent(values: Sequence[bytes]) -> str:
    """The one valid traceparent among a request's headers of this name, "" without one."""
    if len(values) != 1 or not _FORM.fullmatch(values[0]):
        return ""
    return values[0].decode()


@dataclass(frozen=True, slots=True)
class Sampling:
    """Which calls are traced, as OpenTelemetry's samplers of these names decide."""

    by_parent: bool = True
    ratio: float = 1.0

    @classmethod
    def named(cls, sampler: str, argument: str) -> "Sampling":
        """Of OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG. Raises SettingsError."""
        if sampler not in _SAMPLERS:
            raise SettingsError(f"OTEL_TRACES_SAMPLER must be one of {', '.join(_SAMPLERS)}, not {sampler!r}")
        by_parent, ratio = _SAMPLERS[sampler]
        if ratio is None:
            try:
                ratio = float(argument)
            except ValueError:
                ratio = -1.0
            if not 0.0 <= ratio <= 1.0:
                raise SettingsError(f"OTEL_TRACES_SAMPLER_ARG must be between 0 and 1, not {argument!r}")
        return cls(by_parent, ratio)

    def wants(self, traceparent: str, draw: float) -> bool:
        """Whether a call with this valid traceparent, or "", is traced; `draw` is a random number of [0, 1)."""
        if not traceparent:
            return draw < self.ratio
        if self.by_parent:
            return bool(int(traceparent[53:], 16) & _SAMPLED)
        return int(traceparent[19:35], 16) < self.ratio * _IDS


class Trace(Protocol):
    """The spans of one sampled call."""

    def forwarding(self, call: InferenceCall, replica: str, host: str, port: int) -> InferenceCall:
        """A try on this replica begins: the call as it goes there, with this try's span as its parent."""

    def ended(self, model: str, tenant: str, status: int, error: str) -> None:
        """The call has ended; `error` is a code or ""."""


class Tracer(Protocol):
    def begin(self, call: InferenceCall, started_us: int) -> Trace | None:
        """The trace of a call that came in then, None if it is not sampled: then there is no object either."""
