"""Sums of usage: the same whatever the order and the portions, exact in money, and no row is misread."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenants import usage
from tenants.errors import Invalid, Unreadable
from tenants.plans import Prices
from tenants.ports import Row
from tenants.usage import Call, Group, Sums

NOW = datetime(2026, 11, 30, 23, 59, tzinfo=UTC)
NOW_US = int(NOW.timestamp()) * 1_000_000
GOLDEN = b'{"calls":3,"requests":2,"tokens":40,"bytes":700,"estimated_compute_us":5,"compute_us":4,"done":1,"partial":1,"unknown":1,"v":1}'
SUMS = Sums(
    calls=3,
    requests=2,
    tokens=40,
    bytes=700,
    estimated_compute_us=5,
    compute_us=4,
    done=1,
    partial=1,
    unknown=1,
)

calls = st.lists(
    st.builds(
        Call,
        tenant=st.sampled_from(["t_a", "t_b"]),
        key=st.sampled_from(["k_a", "k_b"]),
        model=st.sampled_from(["m_a", "m_b"]),
        at_us=st.integers(NOW_US - 10**11, NOW_US + 10**11),
        ended=st.sampled_from([None, *usage.ENDINGS]),
        requests=st.integers(0, 1),
        tokens=st.integers(0, 10**9),
        bytes=st.integers(0, 10**12),
        compute_us=st.integers(0, 10**9),
    ),
    max_size=30,
)


@given(st.data(), calls)
def test_the_same_calls_give_the_same_sums_in_any_order_and_any_portions(
    data: st.DataObject, them: list[Call]
) -> None:
    wanted = usage.folded(them)
    shuffled = data.draw(st.permutations(them))
    found: dict[Group, Sums] = {}
    while shuffled:
        size = data.draw(st.integers(1, len(shuffled)))
        for group, sums in usage.folded(shuffled[:size]).items():
            found[group] = found.get(group, usage.NOTHING) + sums
        shuffled = shuffled[size:]
    assert found == wanted


@given(calls)
def test_hours_days_and_months_of_the_same_calls_have_the_same_total(them: list[Call]) -> None:
    found = usage.folded(them)
    totals = {
        unit: sum((sums for group, sums in found.items() if group.unit == unit), usage.NOTHING)
        for unit in usage.UNITS
    }
    assert totals["hour"] == totals["day"] == totals["month"]
    assert totals["hour"].calls == len(them)


def test_a_row_keeps_its_bytes_and_one_of_a_later_program_is_refused() -> None:
    at = Group("t_a", "hour", "2026-11-30T23", "k_a", "m_a").at
    assert usage.written(SUMS) == GOLDEN
    assert usage.read(Row(at, GOLDEN, 1)) == SUMS
    for bad in (GOLDEN.replace(b'"v":1', b'"v":2'), GOLDEN.replace(b'"v"', b'"new":1,"v"'), b"", b"{}"):
        with pytest.raises(Unreadable):
            usage.read(Row(at, bad, 1))


def test_a_period_is_that_of_utc_and_its_rows_are_in_the_order_of_time() -> None:
    late, next_ = NOW_US, NOW_US + 60_000_000
    assert [usage.period(unit, late) for unit in usage.UNITS] == ["2026-11-30T23", "2026-11-30", "2026-11"]
    assert [usage.period(unit, next_) for unit in usage.UNITS] == ["2026-12-01T00", "2026-12-01", "2026-12"]
    (group, *_) = usage.groups(Call(tenant="t_a", key="k_a", model="m_a", at_us=late))
    assert usage.group_of("t_a", "hour", group.at.sort) == group


def test_a_cost_is_exact_and_told_to_a_hundredth_of_a_cent() -> None:
    prices = Prices("USD", per_1000_requests="0.10", per_million_tokens="0.40", per_compute_second="0.0012")
    found = usage.cost(Sums(requests=3, tokens=1, compute_us=1), prices)
    assert found == Decimal("0.0003") + Decimal("0.0000004") + Decimal("0.0000000012")
    assert usage.money(found) == "0.0003"
    assert usage.money(Decimal("0.00005")) == "0.0001"


@pytest.mark.parametrize(
    ("text", "unit", "first", "behind"),
    [
        ("2026-11", "hour", "2026-11-01T00", "2026-11-01T00"),
        ("2026-11-27", "month", "2026-11", "2026-11~"),
        ("2026-11-01", "month", "2026-11", "2026-11"),
        ("2026-11-27T15", "day", "2026-11-27", "2026-11-27~"),
        ("2026-11-27T15:30", "hour", "2026-11-27T15", "2026-11-27T15~"),
        ("2026-11-27T15:00:00Z", "hour", "2026-11-27T15", "2026-11-27T15"),
    ],
)
def test_a_bound_takes_in_the_period_that_it_cuts(
    text: str, unit: usage.Unit, first: str, behind: str
) -> None:
    assert (usage.started(text, unit, "from"), usage.ended(text, unit, "to")) == (first, behind)


@pytest.mark.parametrize("text", ["", "now", "2026", "2026-13", "2026-11-27 15", "27.11.2026"])
def test_a_time_that_is_none_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(Invalid, match="from: must be a time"):
        usage.started(text, "day", "from")


def test_rows_are_asked_for_by_time_key_and_model() -> None:
    asked = usage.Asked("t_a", "day", "2026-11-27", "2026-11-29", "k_a", "m_a")
    day = timedelta(days=1)
    held = [
        group
        for back in range(6)
        for key in ("k_a", "k_b")
        for group in usage.groups(
            Call(tenant="t_a", key=key, model="m_a", at_us=int((NOW - back * day).timestamp()) * 1_000_000)
        )
        if asked.holds(group)
    ]
    assert sorted(group.period for group in held) == ["2026-11-27", "2026-11-28"]
    assert {group.key for group in held} == {"k_a"}
