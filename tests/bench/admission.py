"""What it costs to admit a call and to settle it, in microseconds of CPU, by the shares that a process holds; the bar is 15.

.venv/bin/python -m tests.bench.admission
"""

import asyncio
import sys
import time
from collections.abc import Callable
from dataclasses import replace

from msgspec import convert, structs

from gateway.admission.bucket import MICRO
from gateway.admission.budgets import Budgets
from gateway.admission.limiter import Limiter
from gateway.admission.permitting import Permitting
from gateway.admission.purses import Cost
from gateway.admission.sharing import Sharing
from gateway.admission.spending import Spending
from gateway.auth.principal import Principal
from gateway.authz.cedar import Subject
from tenants.conditions import KeyLimits
from tenants.plans import Limits, Part, Plan, Prices, Rate
from tests.gateway.admission.counted import Counted

BAR = 15.0
TIMES = 200_000
RATE = Rate(1_000_000, 1_000_000)
MODEL = "digits"
NOON_US = 20_000 * 86_400 * MICRO + 12 * 3600 * MICRO
NOTHING = Cost()


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


def all_budgets(who: Principal) -> Principal:
    """With every budget on each of its sides but the key's own, which has none: twelve."""
    limits = who.plan.limits
    most = {
        "requests_per_day": 10**9,
        "tokens_per_minute": 10**9,
        "compute_seconds_per_day": 1e9,
        "money_per_month": "100000000",
    }
    part = structs.replace(convert(most, Part), requests_per_second=RATE, concurrent_requests=50)
    limits = structs.replace(limits, **most, per_key=part, per_model={MODEL: part})
    return replace(who, plan=Plan("team", 1, limits, Prices("USD", "0.10", "0.40", "0.0012")))


def tenants_budgets(who: Principal) -> Principal:
    """With the four of the tenant."""
    found = all_budgets(who).plan
    return replace(
        who, plan=structs.replace(found, limits=structs.replace(found.limits, per_key=None, per_model=None))
    )


def microseconds(act: Callable[[], None]) -> float:
    began = time.process_time()
    for _ in range(TIMES):
        act()
    return (time.process_time() - began) / TIMES * 1e6


def one(limiter: Limiter, spending: Spending, who: Principal) -> Callable[[], None]:
    """Of shares and chunks that are warm: who gets None would have to ask the table. What was reserved is settled to nothing, so that a
    chunk lasts.
    """

    def tokens() -> int:
        return 100

    def act() -> None:
        place = limiter.admit(who, 100, MODEL)
        spent = spending.admit(who, MODEL, tokens)
        if place is None or spent is None:
            raise AssertionError("a warm share is cold: what is measured is not an admission")
        place.release()
        spending.settle(spent, NOTHING)

    asyncio.run(_warmed(limiter, spending, who))
    return act


async def _warmed(limiter: Limiter, spending: Spending, who: Principal) -> None:
    (await limiter.ask(who, 100, MODEL)).release()
    spending.settle(await spending.ask(who, MODEL, lambda: 100), NOTHING)


def clock() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000


def wall() -> int:
    return time.time_ns() // 1000


def noon() -> int:
    """The clock is read, and stands still: no minute ends while it is measured."""
    return NOON_US + time.time_ns() * 0


def figure(who: Principal) -> float:
    """The best of five. Raises AssertionError for a call of the store."""
    table = Counted()
    dead: set[str] = set()
    limiter = Limiter(
        Sharing(table, "m1", clock, wall, dead.__contains__, lambda: 1, 600 * MICRO),
        Permitting(table, "m1", clock, dead.__contains__, lambda: 1, stale_us=600 * MICRO),
    )
    spending = Spending(Budgets(table, "m1", clock, noon, lambda _: False, lambda: 1), noon)
    act = one(limiter, spending, who)
    table.calls.clear()
    found = min(microseconds(act) for _ in range(5))
    if table.calls.total():
        raise AssertionError(f"the store was asked: {table.calls}")
    return found


if __name__ == "__main__":
    by = (tenant(), all_sides(), tenants_budgets(tenant()), all_budgets(all_sides()))
    tenant_us, sides_us, budgets_us, all_us = map(figure, by)
    print(
        f"admit and settle: {tenant_us:.1f} µs by a tenant's limits, {sides_us:.1f} µs by four of them,"
        f" {budgets_us:.1f} µs by a tenant's limits and its four budgets, {all_us:.1f} µs by four of them and twelve budgets;"
        f" no call of the store (bar {BAR:.0f} µs: {'holds' if max(sides_us, budgets_us) <= BAR else 'MISSED'})"
    )
    sys.exit(max(sides_us, budgets_us) > BAR)
