"""Which traceparents pass, and which calls are traced."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.settings import SettingsError
from gateway.telemetry.traceparent import Sampling, valid_traceparent

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = f"00-{TRACE}-{SPAN}-01"
NOT_SAMPLED = f"00-{TRACE}-{SPAN}-00"


@pytest.mark.parametrize("value", [SAMPLED, NOT_SAMPLED, f"00-{TRACE}-{SPAN}-03"])
def test_a_well_formed_one_passes_as_it_is(value: str) -> None:
    assert valid_traceparent([value.encode()]) == value


@pytest.mark.parametrize(
    "value",
    [
        "",
        SAMPLED.upper(),
        SAMPLED + " ",
        SAMPLED + "\n",
        SAMPLED + "-00",
        "01" + SAMPLED[2:],
        "ff" + SAMPLED[2:],
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[1:]}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-0g",
        f"00-{TRACE}-{SPAN}",
        f"00_{TRACE}_{SPAN}_01",
        f"00-{chr(0xFF14) * 32}-{SPAN}-01",
        SAMPLED + "\r\nx-injected: 1",
    ],
)
def test_anything_else_is_as_if_it_were_not_there(value: str) -> None:
    assert valid_traceparent([value.encode()]) == ""


def test_two_of_them_are_none() -> None:
    assert valid_traceparent([SAMPLED.encode(), SAMPLED.encode()]) == ""
    assert valid_traceparent([]) == ""


@given(st.binary(max_size=80))
def test_no_bytes_get_through_but_those_of_the_form(value: bytes) -> None:
    passed = valid_traceparent([value])
    assert passed in ("", value.decode("latin-1"))
    assert set(passed) <= set("0123456789abcdef-")


@pytest.mark.parametrize(
    ("sampler", "argument", "parent", "draw", "wanted"),
    [
        ("parentbased_always_on", "", SAMPLED, 0.99, True),
        ("parentbased_always_on", "", NOT_SAMPLED, 0.0, False),
        ("parentbased_always_on", "", "", 0.99, True),
        ("parentbased_always_off", "", SAMPLED, 0.99, True),
        ("parentbased_always_off", "", "", 0.0, False),
        ("parentbased_traceidratio", "0.5", "", 0.49, True),
        ("parentbased_traceidratio", "0.5", "", 0.5, False),
        ("parentbased_traceidratio", "0.5", NOT_SAMPLED, 0.0, False),
        ("always_on", "", NOT_SAMPLED, 0.99, True),
        ("always_off", "", SAMPLED, 0.0, False),
        ("traceidratio", "0.7", SAMPLED, 0.99, True),  # the trace id's later half is 0.64 of the way
        ("traceidratio", "0.6", SAMPLED, 0.0, False),
        ("traceidratio", "0", "", 0.0, False),
        ("traceidratio", "1", NOT_SAMPLED, 0.99, True),
    ],
)
def test_the_samplers_decide_as_opentelemetry_names_them(
    sampler: str, argument: str, parent: str, draw: float, *, wanted: bool
) -> None:
    assert Sampling.named(sampler, argument).wants(parent, draw) is wanted


@pytest.mark.parametrize(
    ("sampler", "argument"),
    [
        ("sometimes", ""),
        ("traceidratio", ""),
        ("traceidratio", "2"),
        ("traceidratio", "nan"),
        ("traceidratio", "-0.1"),
    ],
)
def test_a_sampler_that_is_none_is_refused(sampler: str, argument: str) -> None:
    with pytest.raises(SettingsError, match="OTEL_TRACES_SAMPLER"):
        Sampling.named(sampler, argument)
