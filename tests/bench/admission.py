"""What it costs to admit a call and to settle it, in microseconds of CPU: by the limiter of one process, and by a share of the limit with
the limiter's place among the calls at once; the bar is 15.

.venv/bin/python -m tests.bench.admission
"""

import asyncio
import sys
import time
from collections.abc import Callable
from functools import partial

from gateway.admission.bucket import MICRO
from gateway.admission.limiter import Limiter
from gateway.admission.shares import limit_of
from gateway.admission.sharing import Sharing
from gateway.auth.principal import Principal
from gateway.authz.cedar import Subject
from gateway.call import Quota
from tenants.plans import Limits, Plan, Rate
from tests.worlds.table import MemoryTable

BAR = 15.0
TIMES = 200_000
RATE = Rate(1_000_000, 1_000_000)
NAME = "tenant/t_1"


def principal(rate: Rate | None) -> Principal:
    plan = Plan("team", 1, Limits(body_bytes=1000, requests_per_second=rate, concurrent_requests=5))
    return Principal(
        "k_1", "", "t_1", "acme", plan, Subject("k_1", "t_1", "acme", "active", "team", None), None
    )


def microseconds(act: Callable[[], None]) -> float:
    began = time.process_time()
    for _ in range(TIMES):
        act()
    return (time.process_time() - began) / TIMES * 1e6


def in_one_process(limiter: Limiter, who: Principal) -> None:
    limiter.admit(who, 100).release()


def shared(sharing: Sharing, limiter: Limiter, who: Principal) -> Callable[[], None]:
    """The rate by its share, which the client is told of, all else by the limiter."""
    limit = limit_of(RATE, 0)

    def act() -> None:
        verdict = sharing.admit(NAME, limit)
        if verdict is None or not verdict.admitted:
            raise AssertionError("a warm share has run dry: what is measured is not an admission")
        Quota("requests", RATE.burst, verdict.remaining, 1, verdict.reset_us // MICRO)
        limiter.admit(who, 100).release()

    asyncio.run(_warmed(sharing))
    return act


async def _warmed(sharing: Sharing) -> None:
    await sharing.ask(NAME, limit_of(RATE, 0))


def member() -> Sharing:
    def clock() -> int:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000

    return Sharing(
        table=MemoryTable(),
        me="m1",
        clock=clock,
        wall_us=clock,
        is_dead=lambda _: False,
        members=lambda: 1,
        stale_us=600 * MICRO,
    )


def figures() -> tuple[float, float]:
    """Of the limiter, and of a share with it: the best of five."""
    clock = partial(time.clock_gettime, time.CLOCK_BOOTTIME)
    one = partial(in_one_process, Limiter(clock), principal(RATE))
    many = shared(member(), Limiter(clock), principal(None))
    return min(microseconds(one) for _ in range(5)), min(microseconds(many) for _ in range(5))


if __name__ == "__main__":
    limiter_us, shared_us = figures()
    print(
        f"admit and settle: {limiter_us:.1f} µs in one process, {shared_us:.1f} µs with a share of the limit"
        f" (bar {BAR:.0f} µs: {'holds' if shared_us <= BAR else 'MISSED'})"
    )
    sys.exit(shared_us > BAR)
