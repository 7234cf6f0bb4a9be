"""The RateLimit and RateLimit-Policy fields, as draft-ietf-httpapi-ratelimit-headers gives them (structured field lists, RFC 9651)."""

import math
from functools import lru_cache

from gateway.call import Quota, Standing

Headers = list[tuple[bytes, bytes]]


def ratelimit_headers(standing: Standing) -> Headers:
    """Where the caller stands. A rate has a window `w` and the seconds `t` until it is whole; a count of calls at once has neither."""
    if not standing:
        return []
    policies, limits = _values(standing)
    return [(b"ratelimit-policy", policies.encode()), (b"ratelimit", limits.encode())]


def ratelimit_metadata(standing: Standing) -> list[tuple[str, str]]:
    """The same for gRPC."""
    return list(zip(("ratelimit-policy", "ratelimit"), _values(standing), strict=True)) if standing else []


def _values(standing: Standing) -> tuple[str, str]:
    policies = ", ".join([_policy(quota.name, quota.quota, quota.window_seconds) for quota in standing])
    return policies, ", ".join(map(_limit, standing))


@lru_cache
def _policy(name: str, quota: int, window_seconds: int | None) -> str:
    """The same for every call of a plan."""
    if window_seconds is None:
        return f'"{name}";q={quota};qu="concurrent-requests"'
    return f'"{name}";q={quota};w={window_seconds}'


def _limit(quota: Quota) -> str:
    if quota.window_seconds is None:
        return f'"{quota.name}";r={quota.remaining}'
    return f'"{quota.name}";r={quota.remaining};t={quota.reset_seconds}'


def retry_after(seconds: float) -> bytes:
    """Retry-After in whole seconds (RFC 9110, 10.2.3), rounded up: a client that waits as told is not too early."""
    return str(max(1, math.ceil(seconds))).encode()
