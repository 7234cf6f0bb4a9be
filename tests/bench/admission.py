"""What it costs to admit a call and to settle it, in microseconds of CPU, by the shares that a process holds; the bar is 15.

.venv/bin/python -m tests.bench.admission
"""

import asyncio
import sys
import time
from collections.abc import Callable
from dataclasses import replace

from gateway.admission.bucket import MICRO
from gateway.admission.limiter import Limiter
from gateway.admission.permitting import Permitting
from gateway.admission.sharing import Sharing
from gateway.auth.principal import Principal
from gateway.authz.cedar import Subject
from tenants.conditions import KeyLimits
from tenants.plans import Limits, Part, Plan, Rate
from tests.gateway.admission.counted import Counted

BAR = 15.0
TIMES = 200_000
RATE = Rate(1_000_000, 1_000_000)
MODEL = "digits"


def tenant() -> Principal:
    """By one limit of a rate and of calls at once."""
    plan = Plan("team", 1, Limits(body_bytes=1000, requests_per_second=RATE, concurrent_requests=50))
    return Principal(
        "k_1", "", "t_1", "acme", plan, Subject("k_1", "t_1", "acme", "active", "team", None), None
    )


def all_sides() -> Principal:
    """By the same four times: of the tenant, each key of its plan, the key, the model."""
    part = Part(RATE, 50)
    limits = Limits(1000, RATE, 50, per_key=part, per_model={MODEL: part})
    return replace(tenant(), plan=Plan("team", 1, limits), limits=KeyLimits(RATE, 50))


def microseconds(act: Callable[[], None]) -> float:
    began = time.process_time()
    for _ in range(TIMES):
        act()
    return (time.process_time() - began) / TIMES * 1e6


def one(limiter: Limiter, who: Principal) -> Callable[[], None]:
    """Of a share that is warm: who gets None would have to ask the table."""

    def act() -> None:
        place = limiter.admit(who, 100, MODEL)
        if place is None:
            raise AssertionError("a warm share is cold: what is measured is not an admission")
        place.release()

    asyncio.run(_warmed(limiter, who))
    return act


async def _warmed(limiter: Limiter, who: Principal) -> None:
    (await limiter.ask(who, 100, MODEL)).release()


def alone(table: Counted) -> Limiter:
    def clock() -> int:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000

    dead: set[str] = set()
    return Limiter(
        Sharing(table, "m1", clock, clock, dead.__contains__, lambda: 1, 600 * MICRO),
        Permitting(table, "m1", clock, dead.__contains__, lambda: 1, stale_us=600 * MICRO),
    )


def figure(who: Principal) -> float:
    """The best of five. Raises AssertionError for a call of the store."""
    table = Counted()
    act = one(alone(table), who)
    table.calls.clear()
    found = min(microseconds(act) for _ in range(5))
    if table.calls.total():
        raise AssertionError(f"the store was asked: {table.calls}")
    return found


if __name__ == "__main__":
    tenant_us, sides_us = figure(tenant()), figure(all_sides())
    print(
        f"admit and settle: {tenant_us:.1f} µs by a tenant's limits, {sides_us:.1f} µs by four of them, no call of the store"
        f" (bar {BAR:.0f} µs: {'holds' if sides_us <= BAR else 'MISSED'})"
    )
    sys.exit(sides_us > BAR)
