"""The row of a budget, and what calendar periods are."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admission import budget as rows
from gateway.admission.budget import Budget, Damaged, Holder, Limit, Span
from gateway.admission.chunk import Chunk
from tenants.ports import Key, Row

GOLDEN = b'{"v":1,"start_us":1764201600000000,"used":900,"holders":{"m1":{"used":600,"held":50},"m2":{"used":200,"held":0}}}'
BUDGET = Budget(1_764_201_600_000_000, 900, {"m1": Holder(600, 50), "m2": Holder(200, 0)})


def us(at: str) -> int:
    return int(datetime.fromisoformat(at).replace(tzinfo=UTC).timestamp()) * 1_000_000


def test_a_row_is_what_it_was_stored_as() -> None:
    assert rows.encoded(BUDGET) == GOLDEN
    assert rows.read(Row(Key("budget/x"), GOLDEN, 1)) == BUDGET
    assert not list(rows.faults(BUDGET))


def test_a_row_that_cannot_be_read_gives_nothing() -> None:
    for value in (b"", b"{}", GOLDEN.replace(b'"v":1', b'"v":2'), b"\xff", b'{"v":1,"start_us":1}'):
        with pytest.raises(Damaged):
            rows.read(Row(Key("budget/x"), value, 1))


@pytest.mark.parametrize(
    ("span", "at", "start", "end"),
    [
        ("minute", us("2026-12-31T23:59:59") + 999_999, us("2026-12-31T23:59:00"), us("2027-01-01")),
        ("day", us("2026-11-27T15:00:00"), us("2026-11-27"), us("2026-11-28")),
        ("day", us("2026-11-27"), us("2026-11-27"), us("2026-11-28")),
        ("month", us("2028-02-29T12:00:00"), us("2028-02-01"), us("2028-03-01")),
        ("month", us("2026-12-31T23:59:59"), us("2026-12-01"), us("2027-01-01")),
    ],
)
def test_a_period_is_that_of_the_calendar_in_utc(span: Span, at: int, start: int, end: int) -> None:
    assert rows.began(span, at) == start
    assert rows.ended(span, start) == end


@given(st.sampled_from(["minute", "day", "month"]), st.integers(0, us("2200-01-01")))
def test_every_moment_is_in_one_period(span: Span, at: int) -> None:
    start = rows.began(span, at)
    end = rows.ended(span, start)
    assert start <= at < end
    assert rows.began(span, end - 1) == start
    assert rows.began(span, end) == end


@given(st.integers(0, 10**9), st.integers(1, 256), st.integers(0, 10**6), st.integers(1, 10**4))
def test_what_members_hold_ahead_is_a_hundredth_of_what_remains(
    remaining: int, members: int, a_second: int, a_call: int
) -> None:
    assert 0 <= members * rows.chunk(remaining, members, a_second, a_call) * rows.PART <= remaining


def test_who_is_gone_leaves_what_it_did_not_use_and_is_charged_what_it_did() -> None:
    assert rows.left(BUDGET, "m1", 620) == Budget(BUDGET.start_us, 920, {"m2": Holder(200, 0)})
    assert rows.left(BUDGET, "m1", 700).used == 1000, "more than it held is charged, too"
    assert rows.left(BUDGET, "m1", 10).used == 900, "what it told of stays told"


def test_telling_takes_nothing_and_taking_is_told() -> None:
    told = rows.moved(BUDGET, "m1", used=640, claim=650)
    assert rows.total(told) == rows.total(BUDGET)
    assert rows.total(rows.moved(told, "m3", used=0, claim=30)) == rows.total(BUDGET) + 30


LIMIT = Limit(100, "minute")


def chunk(claim: int) -> Chunk:
    found = Chunk(LIMIT, 0)
    found.allow(claim)
    return found


def test_what_was_reserved_and_not_used_is_there_again() -> None:
    it = chunk(10)
    it.reserve(8)
    assert not it.has(3, 0)
    it.settle(8, 5, 0)
    assert (it.left, it.used, it.reserved) == (5, 5, 0)


def test_what_was_used_beyond_its_reservation_is_charged_in_full() -> None:
    it = chunk(10)
    it.reserve(8)
    it.settle(8, 15, 0)
    assert (it.left, it.used) == (-5, 15)
    assert not it.has(1, 0)


def test_a_chunk_ends_with_its_period() -> None:
    it = chunk(10)
    assert it.has(10, it.until_us - 1)
    assert not it.has(1, it.until_us)
    it.reserve(4)
    it.begin(it.until_us)
    it.settle(4, 2, 0)
    assert (it.left, it.used, it.reserved) == (0, 0, 0)


def test_of_a_plan_that_became_smaller_nothing_beyond_is_spent() -> None:
    it = chunk(10)
    it.total = 100
    it.reserve(2)
    it.told(95)
    assert not it.has(1, 0)
    it.settle(2, 2, 0)
    assert (it.left, it.used, it.reserved) == (0, 2, 0)
    other = chunk(10)
    other.total = 90
    other.told(95)
    assert other.has(10, 0), "what it took was within the smaller one"
