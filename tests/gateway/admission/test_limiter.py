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


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def principal(tenant: str = "t_a", **limits: object) -> Principal:
    plan = Plan("team", 1, Limits(**{"body_bytes": 1000, **limits}))  # type: ignore[arg-type]
    subject = Subject("k_a", tenant, "acme", "active", "team", None)
    return Principal("k_a", "", tenant, "acme", plan, subject, None)


def refusal(limiter: Limiter, who: Principal, declared_bytes: int | None = 0) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        limiter.admit(who, declared_bytes)
    return caught.value


def test_no_more_calls_at_once_than_the_plan_says_and_a_released_place_is_free_again() -> None:
    limiter, who = Limiter(Clock()), principal(concurrent_requests=2)
    first, _ = limiter.admit(who, 0), limiter.admit(who, 0)
    error = refusal(limiter, who)
    assert (error.code, error.standing[0].remaining, error.retry_after_seconds) == (
        Code.TOO_MANY_AT_ONCE,
        0,
        1,
    )
    first.release()
    assert limiter.admit(who, 0).standing[0].remaining == 0


def test_a_place_is_given_back_once_however_often_it_is_released() -> None:
    limiter, who = Limiter(Clock()), principal(concurrent_requests=1)
    place = limiter.admit(who, 0)
    place.release()
    place.release()
    limiter.admit(who, 0)
    assert refusal(limiter, who).code is Code.TOO_MANY_AT_ONCE


def test_a_call_refused_for_calls_at_once_costs_nothing_of_the_rate() -> None:
    limiter, who = (
        Limiter(Clock()),
        principal(concurrent_requests=1, requests_per_second=Rate(rate=1, burst=2)),
    )
    place = limiter.admit(who, 0)
    for _ in range(10):
        refusal(limiter, who)
    place.release()
    assert limiter.admit(who, 0).standing[0].remaining == 0


def test_one_loud_tenant_takes_nothing_from_a_quiet_one() -> None:
    limiter = Limiter(Clock())
    loud, quiet = (
        principal(name, requests_per_second=Rate(rate=1, burst=1)) for name in ("t_loud", "t_quiet")
    )
    limiter.admit(loud, 0)
    assert refusal(limiter, loud).code is Code.RATE_LIMITED
    limiter.admit(quiet, 0)


def test_a_body_is_judged_by_what_it_declares() -> None:
    limiter, who = Limiter(Clock()), principal()
    limiter.admit(who, 1000)
    limiter.admit(who, None)
    assert refusal(limiter, who, 1001).code is Code.BODY_TOO_LARGE


def test_a_client_that_waits_as_retry_after_says_is_admitted_and_one_that_comes_earlier_is_not() -> None:
    clock = Clock()
    limiter, who = Limiter(clock), principal(requests_per_second=Rate(rate=3, burst=1))
    limiter.admit(who, 0)
    wait = refusal(limiter, who).retry_after_seconds
    assert wait is not None
    clock.now += wait - 1e-6
    assert refusal(limiter, who).code is Code.RATE_LIMITED
    clock.now += 2e-6
    limiter.admit(who, 0)


@given(st.lists(st.tuples(st.floats(0, 0.5), st.booleans()), max_size=50))
def test_what_the_headers_say_remains_is_what_would_be_admitted(steps: list[tuple[float, bool]]) -> None:
    clock = Clock()
    limiter, who = (
        Limiter(clock),
        principal(requests_per_second=Rate(rate=10, burst=4), concurrent_requests=3),
    )
    held: list[Reservation] = []
    for wait, release in steps:
        clock.now += wait
        if release and held:
            held.pop().release()
        with suppress(GatewayError):
            held.append(limiter.admit(who, 0))
            remaining = min(quota.remaining for quota in held[-1].standing)
            assert more(copy.deepcopy(limiter), who) == remaining


def more(limiter: Limiter, who: Principal) -> int:
    """How many more are admitted at this instant."""
    for number in range(10):
        try:
            limiter.admit(who, 0)
        except GatewayError:
            return number
    raise AssertionError("no limit")


async def test_forgetting_idle_tenants_gives_nobody_a_second_burst() -> None:
    clock = Clock()
    limiter, who = Limiter(clock), principal(requests_per_second=Rate(rate=1, burst=2))
    limiter.admit(who, 0).release()
    limiter.admit(who, 0).release()
    await limiter.forget_idle()
    assert refusal(limiter, who).code is Code.RATE_LIMITED
    clock.now += 2
    await limiter.forget_idle()
    assert limiter.admit(who, 0).standing[0].remaining == 1
