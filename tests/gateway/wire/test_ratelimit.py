"""The fields are structured field lists (RFC 9651), and a client that waits as told is not too early."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.call import Quota, Standing
from gateway.wire.ratelimit import ratelimit_headers, ratelimit_metadata, retry_after

# RFC 9651, as far as these fields use it: a list (3.1) of strings (3.3.3) with parameters (3.1.2) that are integers (3.3.1) or strings.
STRING = r'"(?:[\x20-\x21\x23-\x5b\x5d-\x7e]|\\["\\])*"'
INTEGER = r"-?[0-9]{1,15}"
MEMBER = re.compile(rf"({STRING})((?:;[a-z*][a-z0-9_.*-]*=(?:{INTEGER}|{STRING}))*)")


def parsed(field: bytes) -> dict[str, dict[str, str]]:
    """Name of each member -> its parameters; fails on what is not such a list."""
    found = {}
    for member in field.decode("ascii").split(", "):
        match = MEMBER.fullmatch(member)
        assert match, member
        found[match[1].strip('"')] = dict(p.split("=", 1) for p in match[2].split(";")[1:])
    return found


counts = st.integers(0, 10**15 - 1)
rates = st.builds(Quota, st.just("requests"), counts, counts, counts, counts)
at_once = st.builds(Quota, st.just("concurrency"), counts, counts)


@given(st.tuples(rates) | st.tuples(at_once) | st.tuples(rates, at_once))
def test_both_fields_are_structured_and_say_where_the_caller_stands(standing: Standing) -> None:
    policy, limit = ratelimit_headers(standing)
    assert (policy[0], limit[0]) == (b"ratelimit-policy", b"ratelimit")
    policies, limits = parsed(policy[1]), parsed(limit[1])
    assert list(policies) == list(limits) == [quota.name for quota in standing]
    for quota in standing:
        assert int(policies[quota.name]["q"]) == quota.quota
        assert int(limits[quota.name]["r"]) == quota.remaining
        assert policies[quota.name].get("w") == (
            None if quota.window_seconds is None else str(quota.window_seconds)
        )
        assert limits[quota.name].get("t") == (
            None if quota.reset_seconds is None else str(quota.reset_seconds)
        )
        assert policies[quota.name].get("qu") == (
            '"concurrent-requests"' if quota.window_seconds is None else None
        )


def test_without_limits_nothing_is_said() -> None:
    assert ratelimit_headers(()) == []
    assert ratelimit_metadata(()) == []


@given(st.tuples(rates, at_once))
def test_grpc_says_the_same_as_http(standing: Standing) -> None:
    said = [(name.decode(), value.decode()) for name, value in ratelimit_headers(standing)]
    assert ratelimit_metadata(standing) == said


@given(st.floats(0, 1e9))
def test_who_waits_as_told_is_not_too_early_and_less_than_a_second_late(seconds: float) -> None:
    told = int(retry_after(seconds))
    assert told >= max(1, seconds)
    assert told < max(seconds, 1) + 1


@pytest.mark.parametrize(
    ("seconds", "told"), [(0, b"1"), (0.01, b"1"), (1, b"1"), (1.01, b"2"), (59.5, b"60")]
)
def test_parts_of_a_second_are_rounded_up(seconds: float, told: bytes) -> None:
    assert retry_after(seconds) == told
