"""A key with limits of its own: both its tenant's and its own admit, or nothing is taken of either."""

from collections import Counter
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from gateway.admission.limiter import Reservation
from gateway.auth.principal import Principal
from gateway.errors import Code, GatewayError
from tenants.conditions import KeyLimits
from tenants.plans import Rate
from tests.gateway.admission.alone import Clock, admitted
from tests.gateway.admission.alone import limiter as alone
from tests.gateway.admission.test_limiter import principal, refusal


def keyed(who: Principal, key_id: str, **limits: object) -> Principal:
    return replace(who, id=key_id, limits=KeyLimits(**limits) if limits else None)  # type: ignore[arg-type]


def remaining(standing: object) -> dict[str, int]:
    return {quota.name: quota.remaining for quota in standing}  # type: ignore[attr-defined]


async def test_a_client_is_told_how_it_stands_with_both() -> None:
    limiter = alone(Clock())
    who = principal(requests_per_second=Rate(1, 9), concurrent_requests=7)
    bound = keyed(who, "k_1", requests_per_second=Rate(1, 3), concurrent_requests=2)
    assert remaining((await admitted(limiter, bound, 0)).standing) == {
        "requests": 8,
        "concurrency": 6,
        "key-requests": 2,
        "key-concurrency": 1,
    }


async def test_a_key_that_is_refused_takes_nothing_of_its_tenant_and_the_tenants_refusal_nothing_of_the_key() -> (
    None
):
    clock = Clock()
    limiter, who = alone(clock), principal(requests_per_second=Rate(1, 5))
    bound = keyed(who, "k_1", requests_per_second=Rate(1, 2))
    for _ in range(2):
        (await admitted(limiter, bound, 0)).release()
    for _ in range(10):
        error = await refusal(limiter, bound)
    assert (error.code, remaining(error.standing)) == (Code.RATE_LIMITED, {"requests": 3, "key-requests": 0})
    for _ in range(3):
        (await admitted(limiter, keyed(who, "k_2"), 0)).release()
    clock.now += 1.5  # the key has one again, and so has the tenant
    (await admitted(limiter, keyed(who, "k_2"), 0)).release()
    assert remaining((await refusal(limiter, bound)).standing) == {"requests": 0, "key-requests": 1}
    clock.now += 0.51
    await admitted(limiter, bound, 0)


async def test_who_waits_as_long_as_both_refusals_say_is_admitted() -> None:
    clock = Clock()
    limiter, who = alone(clock), principal(requests_per_second=Rate(1, 1))
    bound = keyed(who, "k_1", requests_per_second=Rate(0.25, 1))
    await admitted(limiter, bound, 0)
    wait = (await refusal(limiter, bound)).retry_after_seconds
    assert wait is not None
    assert 4 <= wait <= 4.01
    clock.now += wait
    await admitted(limiter, bound, 0)


async def test_calls_at_once_of_a_key_are_given_back_once_to_both() -> None:
    limiter, who = alone(Clock()), principal(concurrent_requests=2)
    bound = keyed(who, "k_1", concurrent_requests=1)
    place = await admitted(limiter, bound, 0)
    error = await refusal(limiter, bound)
    assert (error.code, remaining(error.standing)) == (
        Code.TOO_MANY_AT_ONCE,
        {"concurrency": 1, "key-concurrency": 0},
    )
    await admitted(limiter, keyed(who, "k_2"), 0)
    place.release()
    place.release()
    assert limiter.at_once == 1
    await admitted(limiter, bound, 0)
    assert (await refusal(limiter, keyed(who, "k_3"))).code is Code.TOO_MANY_AT_ONCE


async def test_forgetting_idle_keys_gives_none_a_second_burst() -> None:
    clock = Clock()
    limiter = alone(clock)
    bound = keyed(principal(), "k_1", requests_per_second=Rate(1, 1))
    (await admitted(limiter, bound, 0)).release()
    await limiter.forget_idle()
    assert (await refusal(limiter, bound)).code is Code.RATE_LIMITED
    clock.now += 1.01
    await limiter.forget_idle()
    assert (await admitted(limiter, bound, 0)).standing[0].remaining == 0


SLOWER = Fraction(999, 1000)  # a clock may run fast by a thousandth


class Model:
    """The law, slowly: buckets that fill by exact fractions, and counts."""

    def __init__(self, limits: dict[str, tuple[Rate, int]]) -> None:
        self.limits = limits
        self.tokens = {name: Fraction(rate.burst) for name, (rate, _) in limits.items()}
        self.held: Counter[str] = Counter()

    def wait(self, quarters: int) -> None:
        for name, (rate, _) in self.limits.items():
            self.tokens[name] = min(
                Fraction(rate.burst), self.tokens[name] + Fraction(rate.rate) * Fraction(quarters, 4) * SLOWER
            )

    def admit(self, *names: str) -> Code | None:
        if any(self.held[name] >= self.limits[name][1] for name in names):
            return Code.TOO_MANY_AT_ONCE
        if any(self.tokens[name] < 1 for name in names):
            return Code.RATE_LIMITED
        for name in names:
            self.tokens[name] -= 1
            self.held[name] += 1
        return None

    def standing(self, *names: str) -> list[int]:
        return [
            left
            for name in names
            for left in (int(self.tokens[name]), self.limits[name][1] - self.held[name])
        ]


_limits = st.tuples(
    st.builds(Rate, st.sampled_from([0.5, 1.0, 2.0, 4.0]), st.integers(1, 4)), st.integers(1, 3)
)
_steps = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.integers(1, 6)), st.tuples(st.sampled_from("abx"), st.integers(0, 3))
    ),
    max_size=60,
)


@given(st.fixed_dictionaries(dict.fromkeys(("tenant", "a", "b"), _limits)), _steps)
async def test_two_keys_and_their_tenant_are_admitted_as_the_law_says_and_told_so(
    limits: dict[str, tuple[Rate, int]], steps: list[tuple[str, int]]
) -> None:
    clock, model = Clock(), Model(limits)
    limiter = alone(clock)
    rate, at_once = limits["tenant"]
    whole = principal(requests_per_second=rate, concurrent_requests=at_once)
    keys = {
        name: keyed(
            whole, f"k_{name}", requests_per_second=limits[name][0], concurrent_requests=limits[name][1]
        )
        for name in "ab"
    }
    held: list[tuple[Reservation, tuple[str, ...]]] = []
    for what, number in steps:
        if what == "wait":
            clock.now += number / 4
            model.wait(number)
            continue
        if number == 0 and held:
            place, names = held.pop()
            place.release()
            model.held.subtract(names)
            continue
        names = ("tenant",) if what == "x" else ("tenant", what)
        wanted, got = model.admit(*names), None
        with suppress(GatewayError):
            try:
                place = await admitted(limiter, keys.get(what, whole), 0)
            except GatewayError as error:
                got = error.code
                raise
            held.append((place, names))
            assert [it.remaining for it in place.standing] == model.standing(*names)
        assert got == wanted
