"""A plan says what it means, or is refused with the path to the fault."""

import tomllib
from copy import deepcopy
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tenants import keys
from tenants.acts import Act
from tenants.directory import Directory
from tenants.errors import Invalid
from tenants.plans import Limits, Plan, Prices, Rate, Soft, amount, faults, parse
from tenants.ports import Row
from tenants.rows import encoded, plan_at
from tests.tenants.conftest import BY, NOW, TEAM
from tests.worlds.table import MemoryTable

DEMO = Path(__file__).parents[2] / "policies" / "plans" / "demo.toml"
DOCUMENT: dict[str, Any] = {
    "name": "team",
    "weight": 2,
    "limits": {
        "requests_per_second": {"rate": 50, "burst": 100},
        "concurrent_requests": 20,
        "body_bytes": 16777216,
    },
}


def test_a_document_is_read_as_it_says() -> None:
    assert parse(DOCUMENT) == Plan("team", 2, Limits(16777216, Rate(50.0, 100), 20))


def test_a_limit_that_is_not_named_is_none() -> None:
    assert parse({"name": "free", "weight": 1, "limits": {"body_bytes": 1}}) == Plan(
        "free", 1, Limits(1, None, None)
    )


def test_the_demo_plan_is_what_the_design_promises() -> None:
    assert parse(tomllib.loads(DEMO.read_text())) == Plan("demo", 1, Limits(16777216, Rate(50.0, 100), 20))


@pytest.mark.parametrize(
    ("at", "value", "path"),
    [
        ("name", "Team", "name"),
        ("name", 7, "name"),
        ("weight", 0, "weight"),
        ("weight", 1.5, "weight"),
        ("weight", True, "weight"),
        ("colour", "red", ""),
        ("limits", [], "limits"),
        ("limits.requests_per_minute", {"rate": 1, "burst": 1}, "limits"),
        ("limits.body_bytes", 0, "limits.body_bytes"),
        ("limits.body_bytes", "16 MiB", "limits.body_bytes"),
        ("limits.body_bytes", None, "limits.body_bytes"),
        ("limits.concurrent_requests", 0, "limits.concurrent_requests"),
        ("limits.requests_per_second", 50, "limits.requests_per_second"),
        ("limits.requests_per_second.rate", 0, "limits.requests_per_second.rate"),
        ("limits.requests_per_second.rate", float("inf"), "limits.requests_per_second.rate"),
        ("limits.requests_per_second.rate", float("nan"), "limits.requests_per_second.rate"),
        ("limits.requests_per_second.burst", 0, "limits.requests_per_second.burst"),
        ("limits.requests_per_second.burst", 1.0, "limits.requests_per_second.burst"),
        ("limits.requests_per_second.per", "second", "limits.requests_per_second"),
        ("limits.requests_per_day", 0, "limits.requests_per_day"),
        ("limits.tokens_per_minute", 1.5, "limits.tokens_per_minute"),
        ("limits.compute_seconds_per_day", 0, "limits.compute_seconds_per_day"),
        ("limits.money_per_month", 500.0, "limits.money_per_month"),
        ("limits.money_per_month", "500,00", "limits.money_per_month"),
        ("limits.soft", {}, "limits.soft"),
        ("limits.per_key", {"body_bytes": 1}, "limits.per_key"),
        (
            "limits.per_model",
            {"digits": {"concurrent_requests": 0}},
            "limits.per_model[...].concurrent_requests",
        ),
        ("limits.per_model", {".digits": {}}, "limits.per_model..digits"),
        ("prices", {"currency": "EURO"}, "prices.currency"),
        ("prices", {"currency": "EUR", "per_1000_requests": 0.1}, "prices.per_1000_requests"),
        ("prices", {"currency": "EUR", "per_1000_requests": ".1"}, "prices.per_1000_requests"),
        ("prices", {"currency": "EUR", "per_hour": "1"}, "prices"),
    ],
)
def test_a_fault_is_refused_with_the_path_to_it(at: str, value: object, path: str) -> None:
    document = deepcopy(DOCUMENT)
    *parents, last = at.split(".")
    place = document
    for parent in parents:
        place = place[parent]
    place[last] = value
    with pytest.raises(Invalid) as refusal:
        parse(document)
    assert refusal.value.path == path
    assert refusal.value.sentence.startswith(path)


@pytest.mark.parametrize("missing", ["name", "weight", "limits"])
def test_what_is_missing_is_named(missing: str) -> None:
    document = {key: value for key, value in DOCUMENT.items() if key != missing}
    with pytest.raises(Invalid, match=f"`{missing}`"):
        parse(document)


@pytest.mark.parametrize("limits", [{"money_per_month": "5"}, {"soft": {"money_per_month": "5"}}])
@pytest.mark.parametrize("prices", [{}, {"prices": {"currency": "USD"}}])
def test_a_budget_of_money_needs_prices(limits: dict[str, Any], prices: dict[str, Any]) -> None:
    document = DOCUMENT | {"limits": {"body_bytes": 1} | limits} | prices
    with pytest.raises(Invalid, match="needs prices"):
        parse(document)
    parse(document | {"prices": {"currency": "USD", "per_1000_requests": "0.01"}})


async def test_prices_are_kept_as_they_were_written(directory: Directory) -> None:
    priced = replace(TEAM, prices=Prices("USD", "0.10", "0.40", "0.0012"))
    await directory.values.put(priced, act=Act(BY, NOW))
    assert await directory.values.plans() == {"team": priced}


# Money


@pytest.mark.parametrize(
    ("text", "number"),
    [("0", "0"), ("0.10", "0.1"), ("500.00", "500"), ("0.000001", "0.000001"), ("999999999999.999999", None)],
)
def test_an_amount_is_exact(text: str, number: str | None) -> None:
    assert amount(text) == Decimal(number or text)
    assert str(amount(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        *("", "-1", "+1", "1.", ".5", "01", "1e3", "1_000", "1,000", "NaN", "Infinity", " 1", "1\n"),
        *("0.0000001", "1000000000000", "٣", "1 USD"),
    ],
)
def test_what_is_no_amount_is_refused_and_never_rounded(text: str) -> None:
    with pytest.raises(ValueError, match="is no amount"):
        amount(text)
    prices = Plan("team", 1, Limits(1), Prices("USD", text))
    assert [fault.path for fault in faults(prices)] == ["prices.per_1000_requests"]


def test_a_price_may_be_nothing_and_a_limit_on_money_may_not() -> None:
    assert list(faults(Plan("team", 1, Limits(1), Prices("USD", "0.00")))) == []
    limits = Limits(1, money_per_month="0.00")
    assert "must be more than 0" in [fault.reason for fault in faults(Plan("team", 1, limits))]


@pytest.mark.parametrize(("soft", "faulty"), [("400", False), ("500.0", False), ("500.01", True)])
def test_a_warning_comes_before_what_it_warns_of(soft: str, faulty: bool) -> None:  # noqa: FBT001
    limits = Limits(1, money_per_month="500", soft=Soft(soft))
    said = [fault.reason for fault in faults(Plan("team", 1, limits))]
    assert ("is more than limits.money_per_month (500)" in said) == faulty


async def test_a_key_on_a_plan_with_a_limit_that_nobody_keeps_is_served_by_nobody(
    acme: Directory, world: MemoryTable
) -> None:
    """A later program wrote it. Serving without that limit would be no limit at all."""
    minted = await acme.keys.create("acme", Act(BY, NOW))
    later = encoded(TEAM).replace(b'"body_bytes":', b'"requests_per_year":5,"body_bytes":')
    world.rows[plan_at("team")] = Row(plan_at("team"), later, 9)
    assert await acme.keys.find(keys.hashed(minted.secret)) is None
    assert await acme.keys.identify(keys.hashed(minted.secret), NOW) is None
