"""The limiter over shares: what a call costs, and that of no limit anything is taken which another refuses."""

import asyncio
from dataclasses import replace

import pytest

from gateway.auth.principal import Principal
from gateway.call import Standing
from gateway.errors import Code, GatewayError
from tenants.conditions import KeyLimits
from tenants.plans import Part, Rate
from tests.gateway.admission.alone import Alone, Clock, admitted, limiter
from tests.gateway.admission.counted import Counted
from tests.gateway.admission.test_limiter import principal, refusal
from tests.worlds.table import Pause

FAST, SLOW = Rate(1000, 1000), Rate(1, 3)


def keyed(who: Principal, key_id: str, rate: Rate | None = None) -> Principal:
    return replace(who, id=key_id, limits=KeyLimits(rate) if rate else None)


def remaining(standing: Standing) -> dict[str, int]:
    return {quota.name: quota.remaining for quota in standing}


async def test_a_warm_call_asks_the_table_nothing_by_however_many_limits_it_is_judged() -> None:
    house = Alone()
    parts = {"digits": Part(FAST, 9)}
    who = principal(requests_per_second=FAST, concurrent_requests=9, per_key=Part(FAST), per_model=parts)
    who = keyed(who, "k_1", FAST)
    (await admitted(house.limiter, who, 0, "digits")).release()
    house.table.calls.clear()
    for _ in range(99):
        place = house.limiter.admit(who, 0, "digits")
        assert place is not None
        place.release()
    last = house.limiter.admit(who, 0, "digits")
    assert last is not None
    assert house.table.calls.total() == 0
    assert remaining(last.standing) == {
        "requests": 899,
        "concurrency": 8,
        "plan-key-requests": 899,
        "key-requests": 899,
        "model-requests": 899,
        "model-concurrency": 8,
    }


async def test_a_call_by_a_slow_limit_is_one_write_and_a_refusal_nothing() -> None:
    house = Alone()
    who = keyed(principal(requests_per_second=FAST, concurrent_requests=9), "k_1", SLOW)
    await admitted(house.limiter, who)
    house.table.calls.clear()
    for _ in range(2):
        await admitted(house.limiter, who)
    assert house.table.calls == {"transact": 2}
    for _ in range(10):
        assert (await refusal(house.limiter, who)).code is Code.RATE_LIMITED
    assert house.table.calls == {"transact": 2}


async def test_what_a_keys_slow_limit_refuses_is_not_taken_from_its_tenant() -> None:
    house = Alone()
    who = principal(requests_per_second=FAST)
    bound = keyed(who, "k_1", SLOW)
    for _ in range(3):
        await admitted(house.limiter, bound)
    for _ in range(10):
        error = await refusal(house.limiter, bound)
    assert remaining(error.standing) == {"requests": 997, "key-requests": 0}


async def test_what_a_tenants_share_refuses_takes_no_write_of_its_keys_slow_limit() -> None:
    house = Alone()
    who = principal(requests_per_second=Rate(10, 5))
    bound = keyed(who, "k_1", SLOW)
    await admitted(house.limiter, bound)
    for _ in range(4):
        await admitted(house.limiter, keyed(who, "k_2"))
    house.table.calls.clear()
    for _ in range(10):
        error = await refusal(house.limiter, bound)
    assert remaining(error.standing) == {"requests": 0, "key-requests": 2}
    assert house.table.calls.total() == 0


async def test_of_two_slow_limits_what_the_one_refuses_is_given_back_to_the_other() -> None:
    house = Alone()
    who = principal(requests_per_second=Rate(1, 2))
    first, second = keyed(who, "k_1", SLOW), keyed(who, "k_2", SLOW)
    for _ in range(2):
        await admitted(house.limiter, first)
    for _ in range(2):
        error = await refusal(house.limiter, second)
    assert remaining(error.standing) == {"requests": 0, "key-requests": 3}
    house.clock.now += 2.01
    for _ in range(2):
        await admitted(house.limiter, second)
    house.clock.now += 1.01
    await admitted(house.limiter, second)


async def test_what_was_drawn_is_given_back_where_a_share_ran_dry_meanwhile() -> None:
    house = Alone()
    who = principal(requests_per_second=Rate(10, 2))
    bound = keyed(who, "k_1", SLOW)
    await admitted(house.limiter, bound)
    house.table.pauses_before.append(pause := Pause())
    asked = asyncio.ensure_future(refusal(house.limiter, bound))
    await pause.came.wait()
    assert house.limiter.admit(keyed(who, "k_2"), 0) is not None
    pause.go.set()
    error = await asked
    assert remaining(error.standing) == {"requests": 0, "key-requests": 2}


async def test_a_smaller_plan_holds_at_once_and_a_larger_one_is_no_new_burst() -> None:
    house = Alone()
    who = principal(requests_per_second=FAST)
    for _ in range(500):
        await admitted(house.limiter, who)
    smaller = replace(principal(requests_per_second=Rate(1000, 100)), since=1)
    assert remaining((await admitted(house.limiter, smaller)).standing) == {"requests": 49}
    larger = replace(principal(requests_per_second=FAST), since=2)
    assert remaining((await admitted(house.limiter, larger)).standing) == {"requests": 48}


async def test_who_was_known_before_a_plan_changed_does_not_bring_the_old_one_back() -> None:
    house = Alone()
    before = replace(principal(requests_per_second=FAST), since=1)
    after = replace(principal(requests_per_second=Rate(10, 10), concurrent_requests=3), since=2)
    await admitted(house.limiter, before)
    await admitted(house.limiter, after)
    place = await admitted(house.limiter, before)
    assert [quota.quota for quota in place.standing] == [10, 3]


async def test_a_limit_of_a_model_is_for_that_model_alone() -> None:
    house = Alone()
    who = principal(requests_per_second=FAST, per_model={"digits": Part(Rate(10, 2), 1)})
    place = await admitted(house.limiter, who, 0, "digits")
    assert remaining(place.standing) == {"requests": 999, "model-requests": 1, "model-concurrency": 0}
    assert remaining((await admitted(house.limiter, who, 0, "story")).standing) == {"requests": 998}
    with pytest.raises(GatewayError) as caught:
        await admitted(house.limiter, who, 0, "digits")
    assert caught.value.code is Code.TOO_MANY_AT_ONCE
    place.release()
    await admitted(house.limiter, who, 0, "digits")


async def test_a_model_that_is_named_late_is_judged_then_and_held_with_the_rest() -> None:
    house = Alone()
    who = principal(concurrent_requests=5, per_model={"story": Part(Rate(10, 1), 1)})
    place = await admitted(house.limiter, who)
    place.join(await house.limiter.ask_model(who, "story"))
    assert remaining(place.standing) == {"concurrency": 4, "model-requests": 0, "model-concurrency": 0}
    with pytest.raises(GatewayError) as caught:
        await house.limiter.ask_model(who, "story")
    assert caught.value.code is Code.TOO_MANY_AT_ONCE
    place.release()
    with pytest.raises(GatewayError) as caught:
        await house.limiter.ask_model(who, "story")
    assert caught.value.code is Code.RATE_LIMITED


async def test_two_processes_have_one_limit() -> None:
    clock, table = Clock(), Counted()
    who = principal(requests_per_second=Rate(10, 100))
    both = [limiter(clock, table, name, members=2) for name in ("m1", "m2")]
    count = 0
    for it in both * 100:
        try:
            await admitted(it, who)
        except GatewayError:
            continue
        count += 1
    assert 30 <= count <= 100


async def test_who_comes_first_behind_a_killed_process_waits_for_a_token_and_is_not_refused() -> None:
    clock, table, dead = Clock(), Counted(), {"m1"}
    who = principal(requests_per_second=Rate(200, 100))
    killed, anew = limiter(clock, table), limiter(clock, table, "m2", dead=dead)
    await admitted(killed, who)
    asked = asyncio.ensure_future(admitted(anew, who))
    while anew.sharing.look("tenant/t_a") is None:
        await asyncio.sleep(0)
    clock.now += 0.01
    await asked
    assert (await refusal(anew, who)).code is Code.RATE_LIMITED


async def test_without_a_table_what_is_held_goes_on_and_what_is_not_is_unavailable() -> None:
    house = Alone()
    warm = principal("t_warm", requests_per_second=FAST)
    await admitted(house.limiter, warm)
    house.table.gone = True
    await admitted(house.limiter, warm)
    cold = principal("t_cold", requests_per_second=FAST, concurrent_requests=1)
    for _ in range(2):
        error = await refusal(house.limiter, cold)
        assert (error.code, error.retry_after_seconds) == (Code.LIMITS_UNAVAILABLE, 1)
    house.clock.now += 60
    assert (await refusal(house.limiter, warm)).code is Code.LIMITS_UNAVAILABLE
    house.table.gone = False
    house.clock.now += 2
    await admitted(house.limiter, cold)
    await admitted(house.limiter, warm)


async def test_a_call_that_is_refused_holds_no_place_at_once() -> None:
    house = Alone()
    who = keyed(principal(concurrent_requests=5), "k_1", SLOW)
    for _ in range(3):
        (await admitted(house.limiter, who)).release()
    for _ in range(20):
        assert (await refusal(house.limiter, who)).code is Code.RATE_LIMITED
    house.table.gone = True
    house.clock.now += 2
    for _ in range(20):
        assert (await refusal(house.limiter, who)).code is Code.LIMITS_UNAVAILABLE
    assert house.limiter.at_once == 0
