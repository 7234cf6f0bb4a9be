"""A limit is a limit: what one tenant holds, what it is told, and that others do not notice."""

import copy
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admission.limiter import Limiter, Reservation
from gateway.auth.principal import Principal
from gateway.authz.cedar import Subject
from gateway.errors import Code, GatewayError
from tenants.plans import Limits, Plan, Rate
from tests.gateway.admission.alone import Clock, admitted
from tests.gateway.admission.alone import limiter as alone


def principal(tenant: str = "t_a", **limits: object) -> Principal:
    plan = Plan("team", 1, Limits(**{"body_bytes": 1000, **limits}))  # type: ignore[arg-type]
    subject = Subject("k_a", tenant, "acme", "active", "team", None)
    return Principal("k_a", "", tenant, "acme", plan, subject, None)


async def refusal(limiter: Limiter, who: Principal, declared_bytes: int | None = 0) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        await admitted(limiter, who, declared_bytes)
    return caught.value


async def test_no_more_calls_at_once_than_the_plan_says_and_a_released_place_is_free_again() -> None:
    limiter, who = alone(Clock()), principal(concurrent_requests=2)
    first, _ = await admitted(limiter, who, 0), await admitted(limiter, who, 0)
    error = await refusal(limiter, who)
    assert (error.code, error.standing[0].remaining, error.retry_after_seconds) == (
        Code.TOO_MANY_AT_ONCE,
        0,
        1,
    )
    first.release()
    assert (await admitted(limiter, who, 0)).standing[0].remaining == 0


async def test_a_place_is_given_back_once_however_often_it_is_released() -> None:
    limiter, who = alone(Clock()), principal(concurrent_requests=1)
    place = await admitted(limiter, who, 0)
    place.release()
    place.release()
    await admitted(limiter, who, 0)
    assert (await refusal(limiter, who)).code is Code.TOO_MANY_AT_ONCE


async def test_a_call_refused_for_calls_at_once_costs_nothing_of_the_rate() -> None:
    limiter, who = (
        alone(Clock()),
        principal(concurrent_requests=1, requests_per_second=Rate(rate=1, burst=2)),
    )
    place = await admitted(limiter, who, 0)
    for _ in range(10):
        await refusal(limiter, who)
    place.release()
    assert (await admitted(limiter, who, 0)).standing[0].remaining == 0


async def test_one_loud_tenant_takes_nothing_from_a_quiet_one() -> None:
    limiter = alone(Clock())
    loud, quiet = (
        principal(name, requests_per_second=Rate(rate=1, burst=1)) for name in ("t_loud", "t_quiet")
    )
    await admitted(limiter, loud, 0)
    assert (await refusal(limiter, loud)).code is Code.RATE_LIMITED
    await admitted(limiter, quiet, 0)


async def test_a_body_is_judged_by_what_it_declares() -> None:
    limiter, who = alone(Clock()), principal()
    await admitted(limiter, who, 1000)
    await admitted(limiter, who, None)
    assert (await refusal(limiter, who, 1001)).code is Code.BODY_TOO_LARGE


async def test_a_client_that_waits_as_retry_after_says_is_admitted_and_one_that_comes_earlier_is_not() -> (
    None
):
    clock = Clock()
    limiter, who = alone(clock), principal(requests_per_second=Rate(rate=3, burst=1))
    await admitted(limiter, who, 0)
    wait = (await refusal(limiter, who)).retry_after_seconds
    assert wait is not None
    clock.now += wait - 2e-6
    assert (await refusal(limiter, who)).code is Code.RATE_LIMITED
    clock.now += 3e-6
    await admitted(limiter, who, 0)


@given(st.lists(st.tuples(st.floats(0, 0.5), st.booleans()), max_size=50))
async def test_what_the_headers_say_remains_is_what_would_be_admitted(
    steps: list[tuple[float, bool]],
) -> None:
    clock = Clock()
    limiter, who = (
        alone(clock),
        principal(requests_per_second=Rate(rate=10, burst=4), concurrent_requests=3),
    )
    held: list[Reservation] = []
    for wait, release in steps:
        clock.now += wait
        if release and held:
            held.pop().release()
        with suppress(GatewayError):
            held.append(await admitted(limiter, who, 0))
            remaining = min(quota.remaining for quota in held[-1].standing)
            assert await more(copy.deepcopy(limiter), who) == remaining


async def more(limiter: Limiter, who: Principal) -> int:
    """How many more are admitted at this instant."""
    for number in range(10):
        try:
            await admitted(limiter, who, 0)
        except GatewayError:
            return number
    raise AssertionError("no limit")


async def test_forgetting_idle_tenants_gives_nobody_a_second_burst() -> None:
    clock = Clock()
    limiter, who = alone(clock), principal(requests_per_second=Rate(rate=1, burst=2))
    (await admitted(limiter, who, 0)).release()
    (await admitted(limiter, who, 0)).release()
    await limiter.forget_idle()
    assert (await refusal(limiter, who)).code is Code.RATE_LIMITED
    clock.now += 2.01
    await limiter.forget_idle()
    assert (await admitted(limiter, who, 0)).standing[0].remaining == 1
