"""The RateLimit and RateLimit-Policy fields, as draft-ietf-httpapi-ratelimit-headers gives them (structured field lists, RFC 9651)."""

import math

from gateway.call import Standing

Headers = list[tuple[bytes, bytes]]


def ratelimit_headers(standing: Standing) -> Headers:
    """Where the caller stands. A rate has a window `w` and the seconds `t` until it is whole; a count of calls at once has neither."""
    if not standing:
        return []
    policies, limits = [], []
    for quota in standing:
        if quota.window_seconds is None:
            policies.append(f'"{quota.name}";q={quota.quota};qu="concurrent-requests"')
            limits.append(f'"{quota.name}";r={quota.remaining}')
        else:
            policies.append(f'"{quota.name}";q={quota.quota};w={quota.window_seconds}')
            limits.append(f'"{quota.name}";r={quota.remaining};t={quota.reset_seconds}')
    return [(b"ratelimit-policy", ", ".join(policies).encode()), (b"ratelimit", ", ".join(limits).encode())]


def retry_after(seconds: float) -> bytes:
    """Retry-After in whole seconds (RFC 9110, 10.2.3), rounded up: a client that waits as told is not too early."""
    return str(max(1, math.ceil(seconds))).encode()
