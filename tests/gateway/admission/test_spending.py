"""What calls take of a plan's budgets: reserved at their ceilings, all or none, and settled to what they did cost."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.admission.budget import MICRO, place, read, total
from gateway.admission.purses import Cost, Price, price_of, purses_of
from gateway.admission.spending import NOTHING, Spending, Spent
from gateway.auth.principal import Principal
from gateway.authz.cedar import Subject
from gateway.errors import Code, GatewayError
from tenants.plans import Limits, Part, Plan, Prices, Soft
from tests.gateway.admission.alone import Clock, spending
from tests.gateway.admission.counted import Counted

PRICES = Prices("USD", "0.10", "0.40")
ONE = Cost(1)


def principal(key: str = "k_1", since: int = 0, **limits: Any) -> Principal:
    plan = Plan("team", 1, Limits(1000, **limits), PRICES)
    subject = Subject(key, "t_1", "acme", "active", "team", None)
    return Principal(key, "", "t_1", "acme", plan, subject, None, since=since)


@dataclass
class Alone:
    """One process, its clock and its table, whose calls are counted."""

    clock: Clock = field(default_factory=Clock)
    table: Counted = field(default_factory=Counted)
    spending: Spending = field(init=False)

    def __post_init__(self) -> None:
        self.clock.now = 20_000 * 86_400.0
        self.spending = spending(self.clock, self.table)

    async def call(self, who: Principal, model: str = "digits", tokens: int = 0) -> Spent:
        """As the pipeline asks."""
        return self.spending.admit(who, model, lambda: tokens) or await self.spending.ask(
            who, model, lambda: tokens
        )

    async def served(self, who: Principal, cost: Cost = ONE, model: str = "digits", tokens: int = 0) -> Spent:
        spent = await self.call(who, model, tokens)
        self.spending.settle(spent, cost)
        return spent

    async def refused(self, who: Principal, model: str = "digits", tokens: int = 0) -> GatewayError:
        with pytest.raises(GatewayError) as caught:
            await self.call(who, model, tokens)
        return caught.value

    def used(self, name: str) -> int:
        return total(read(self.table.rows[place(name)]))


async def test_a_plan_without_budgets_asks_nobody() -> None:
    here = Alone()
    assert await here.call(principal()) is NOTHING
    assert not here.table.calls


@pytest.mark.parametrize(
    ("limits", "cost", "code", "wait"),
    [
        ({"requests_per_day": 3}, Cost(1), Code.BUDGET_SPENT, 86_400),
        ({"tokens_per_minute": 30}, Cost(1, tokens=10), Code.RATE_LIMITED, 60),
        ({"compute_seconds_per_day": 3.0}, Cost(1, compute_us=MICRO), Code.BUDGET_SPENT, 86_400),
        ({"money_per_month": "0.00031"}, Cost(1), Code.BUDGET_SPENT, 28 * 86_400),
    ],
    ids=lambda it: next(iter(it)) if isinstance(it, dict) else "",
)
@pytest.mark.parametrize("part", ["tenant", "key", "model"])
async def test_every_budget_of_a_plan_is_kept(
    limits: dict[str, Any], cost: Cost, code: Code, wait: int, part: str
) -> None:
    """Of the tenant, of each key, of a model; the refusal says when there is more."""
    whole = {
        "tenant": limits,
        "key": {"per_key": Part(**limits)},
        "model": {"per_model": {"digits": Part(**limits)}},
    }[part]
    here, who = Alone(), principal(**whole)
    for _ in range(2 if "compute_seconds_per_day" in limits else 3):  # twice the mean is reserved of compute
        await here.served(who, cost, tokens=10)
    refusal = await here.refused(who, tokens=10)
    assert (refusal.code, refusal.retry_after_seconds) == (code, wait)
    other = principal("k_2", **whole)
    if part == "key":
        await here.served(other, cost, tokens=10)
    else:
        await here.refused(other, tokens=10)
    if part == "model":
        await here.served(who, cost, model="story", tokens=10)
    here.clock.now += wait
    await here.served(who, cost, tokens=10)


async def test_of_one_budget_nothing_stays_taken_that_another_refuses() -> None:
    here = Alone()
    who = principal(requests_per_day=10, per_model={"digits": Part(requests_per_day=2)})
    for _ in range(2):
        await here.served(who)
    for _ in range(5):
        await here.refused(who)
    assert [await here.served(who, model="story") for _ in range(8)]
    await here.refused(who, model="story")


async def test_a_warm_call_costs_no_call_of_the_table() -> None:
    here = Alone()
    who = principal(
        requests_per_day=10**6, tokens_per_minute=10**8, compute_seconds_per_day=1e6, money_per_month="10000"
    )
    for _ in range(8):
        for _ in range(50):
            await here.served(who, Cost(1, 10, 1000, 10), tokens=20)
        here.clock.now += 0.25
        await here.spending.budgets.step()
    here.table.calls.clear()
    for _ in range(50):
        await here.served(who, Cost(1, 10, 1000, 10), tokens=20)
    assert not here.table.calls


async def test_what_a_call_did_not_use_is_there_again_and_what_it_used_beyond_is_charged() -> None:
    here, who = Alone(), principal(tokens_per_minute=1000)
    await here.served(who, Cost(1, 100), tokens=900)
    await here.served(who, Cost(1, 100), tokens=900)
    assert (await here.refused(who, tokens=900)).code is Code.RATE_LIMITED
    await here.served(who, Cost(1, 5000), tokens=700)
    await here.refused(who, tokens=1)


async def test_who_is_known_to_be_refused_is_refused_before_the_body_is_read() -> None:
    here, who = Alone(), principal(requests_per_day=1)
    here.spending.check(who, "digits")
    await here.served(who)
    await here.refused(who)
    here.table.calls.clear()
    with pytest.raises(GatewayError):
        here.spending.check(who, "")
    assert not here.table.calls


async def test_who_asks_for_more_than_there_ever_is_is_told_so_and_not_to_wait() -> None:
    here, who = Alone(), principal(tokens_per_minute=100)
    refusal = await here.refused(who, tokens=101)
    assert refusal.code is Code.RATE_LIMITED
    assert refusal.retry_after_seconds is None
    assert "max_tokens" in refusal.sentence


async def test_who_asks_for_more_than_there_ever_is_takes_nothing_from_others() -> None:
    """Else one such call takes all that is left to this member, and the others refuse whoever comes until it is back."""
    here, who = Alone(), principal(tokens_per_minute=100)
    other = spending(here.clock, here.table, "m2", 2)
    await here.refused(who, tokens=101)
    assert await other.ask(who, "digits", lambda: 50)


@pytest.mark.parametrize(
    ("limits", "whose"),
    [
        ({"requests_per_day": 1}, "the plan's requests of this day are used up"),
        ({"per_key": Part(requests_per_day=1)}, "the plan's requests of this day for one key are used up"),
        (
            {"per_model": {"digits": Part(requests_per_day=1)}},
            "the plan's requests of this day for this model are used up",
        ),
    ],
    ids=["tenant", "key", "model"],
)
async def test_a_refusal_says_whose_budget_it_is(limits: dict[str, Any], whose: str) -> None:
    here, who = Alone(), principal(**limits)
    await here.served(who)
    assert whose in (await here.refused(who)).sentence


async def test_settling_twice_charges_once() -> None:
    here, who = Alone(), principal(requests_per_day=5)
    spent = await here.call(who)
    for _ in range(3):
        spent.settle(ONE)
    assert [await here.served(who) for _ in range(4)]
    await here.refused(who)
    await here.spending.budgets.close()
    assert read(here.table.rows[place("tenant/t_1/requests-day")]).used == 5


async def test_who_stands_where_is_told_in_seconds_and_hundredths() -> None:
    here = Alone()
    who = principal(
        requests_per_day=100, compute_seconds_per_day=50.0, money_per_month="5.00", tokens_per_minute=1000
    )
    told = {it.name: it for it in (await here.served(who, tokens=100)).standing}
    assert list(told) == ["requests-day", "tokens-minute", "compute-day", "money-month"]
    assert [(it.quota, it.window_seconds, it.reset_seconds) for it in told.values()] == [
        (100, 86_400, 86_400),
        (1000, 60, 60),
        (50, 86_400, 86_400),
        (500, 31 * 86_400, 28 * 86_400),
    ]
    assert (told["requests-day"].remaining, told["tokens-minute"].remaining) == (99, 900)


async def test_a_soft_limit_warns_once_and_refuses_nothing(caplog: pytest.LogCaptureFixture) -> None:
    here, who = Alone(), principal(soft=Soft("0.0002"))
    for _ in range(5):
        spent = await here.served(who)
    (told,) = spent.standing
    assert (told.name, told.remaining) == ("money-month-soft", 0)
    assert [it.message for it in caplog.records] == [
        "tenant/t_1/money-month: more is used than its plan's soft limit"
    ]


async def test_another_plan_holds_at_once_and_an_older_one_no_more() -> None:
    here = Alone()
    older, newer = principal(since=1, requests_per_day=10), principal("k_2", since=2, requests_per_day=3)
    for _ in range(3):
        await here.served(older)
    await here.refused(newer)
    await here.refused(older)
    await here.served(principal("k_3", since=3, requests_per_day=4))


async def test_who_comes_back_to_a_smaller_plan_is_told_that_nothing_is_left() -> None:
    here = Alone()
    for _ in range(5):
        await here.served(principal(since=1, requests_per_day=10))
    for _ in range(2):
        here.clock.now += 11
        await here.spending.budgets.step()
    refusal = await here.refused(principal(since=2, requests_per_day=3))
    assert [(it.name, it.quota, it.remaining) for it in refusal.standing] == [("requests-day", 3, 0)]


async def test_without_the_table_nothing_is_admitted_that_is_not_held() -> None:
    here, who = Alone(), principal(requests_per_day=5)
    here.table.gone = True
    refusal = await here.refused(who)
    assert (refusal.code, refusal.retry_after_seconds) == (Code.LIMITS_UNAVAILABLE, 1)


def test_prices_are_exact() -> None:
    price = price_of(Prices("USD", "0.10", "0.40", "0.0012"))
    assert price == Price(request=100 * MICRO, token=400_000, microsecond=1200)
    assert price.of(Cost(requests=1000)) == 100_000 * MICRO, "0.10 in millionths of millionths"
    assert price.of(Cost(billed_tokens=10**6)) == 400_000 * MICRO
    assert price.of(Cost(compute_us=MICRO)) == 1200 * MICRO


async def test_parts_of_a_unit_of_money_add_up() -> None:
    """A token costs 0.4 millionths: a thousand calls of one token 400, not none and not a thousand."""
    here, who = Alone(), principal(money_per_month="500.00")
    for _ in range(1000):
        await here.served(who, Cost(0, 0, 0, billed_tokens=1), tokens=1)
    await here.spending.budgets.close()
    assert here.used("tenant/t_1/money-month") == 400


def test_a_limit_of_a_plan_without_money_has_no_price() -> None:
    plan = replace(principal(requests_per_day=5).plan, prices=PRICES)
    assert purses_of(plan, 0, "t_1", "k_1", "digits").price == Price(0, 0, 0)
