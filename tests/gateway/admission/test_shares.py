"""A share is never more than there is: the laws of the row and of the bucket, after every move."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admission import shares as rows
from gateway.admission.bucket import MICRO, ONE, Bucket, Share
from gateway.admission.shares import Damaged, Free, Holder, Limit, Shares, fair, faults, is_slow, laid_out
from tenants.plans import Rate
from tenants.ports import VALUE_BYTES, Row

LIMIT = Limit(200 * MICRO, 100 * ONE, 7)
GOLDEN = (
    b'{"v":1,"rate":200000000,"capacity":100000000,"since":7,"free":{"rate":150000000,"capacity":60000000,"tokens":50000000},'
    b'"holders":{"m1":{"rate":50000000,"capacity":40000000,"beat":3,"demand":9000000}},"by":"m1","at_us":1700000000000001}'
)


def bucket(rate: int, burst: int, *, tokens: int, at_us: int = 0, deadline_us: int = 10**9) -> Bucket:
    found = Bucket(at_us)
    found.deadline_us = deadline_us
    found.hold(Share(rate * MICRO, burst * ONE), tokens * ONE, at_us)
    return found


def test_the_stored_bytes_are_read_for_ever_and_written_the_same() -> None:
    shares = Shares(
        LIMIT.rate,
        LIMIT.capacity,
        7,
        Free(150 * MICRO, 60 * ONE, 50 * ONE),
        {"m1": Holder(50 * MICRO, 40 * ONE, 3, 9 * MICRO)},
        "m1",
        1_700_000_000_000_001,
    )
    assert rows.encoded(shares) == GOLDEN
    assert rows.read(Row(rows.place("tenant/t_1"), GOLDEN, 1)) == shares


@pytest.mark.parametrize(
    "value", [b"", b"{}", GOLDEN.replace(b'"v":1', b'"v":2'), GOLDEN[:-1], b"\xff", b"[" * 10_000]
)
def test_a_row_that_cannot_be_read_gives_nobody_anything(value: bytes) -> None:
    with pytest.raises(Damaged):
        rows.read(Row(rows.place("tenant/t_1"), value, 1))


AMOUNTS = st.integers(0, 300 * MICRO)
STEPS = st.one_of(
    st.tuples(st.just("move"), st.sampled_from("abc"), AMOUNTS, AMOUNTS, AMOUNTS),
    st.tuples(st.just("fair"), st.sampled_from("abc"), AMOUNTS, AMOUNTS, st.integers(1, 6)),
    st.tuples(st.just("leave"), st.sampled_from("abc"), AMOUNTS, AMOUNTS, AMOUNTS),
    st.tuples(st.just("die"), st.sampled_from("abc"), AMOUNTS, AMOUNTS, AMOUNTS),
    st.tuples(st.just("plan"), st.just(""), AMOUNTS, AMOUNTS, AMOUNTS),
    st.tuples(st.just("draw"), st.just(""), AMOUNTS, AMOUNTS, AMOUNTS),
)


@given(st.lists(STEPS, max_size=30))
def test_no_move_breaks_a_law(steps: list[tuple[str, str, int, int, int]]) -> None:
    shares = laid_out(LIMIT)
    for number, (kind, name, first, second, third) in enumerate(steps):
        held = sum(it.rate for it in shares.holders.values())
        match kind:
            case "move" | "fair":
                aim = Share(first, second) if kind == "move" else fair(shares, name, first, third)
                share = rows.reach(shares, name, aim, third % 6)
                shares, taken = rows.moved(shares, name, share, beat=number, demand=first, given=second)
                assert 0 <= taken <= share.capacity
            case "leave":
                shares = rows.left(shares, name, third) if name in shares.holders else shares
            case "die":
                shares = rows.without(shares, [name] if name in shares.holders else [])
            case "plan":
                shares = rows.under(shares, Limit(max(1, first), max(ONE, second), shares.since + 1))
                assert sum(it.rate for it in shares.holders.values()) == held, (
                    "nobody takes what another holds"
                )
            case "draw":
                shares = rows.spent(rows.refilled(shares, first)) or shares
        assert list(faults(shares)) == []


@given(
    st.lists(st.integers(0, 10**9), min_size=1, max_size=8),
    st.integers(1, 12),
    st.integers(5, 10**6),
    st.integers(2, 10**6),
)
def test_fair_shares_of_all_are_no_more_than_the_limit(
    demands: list[int], members: int, rate: int, burst: int
) -> None:
    shares = laid_out(Limit(rate * MICRO, burst * ONE, 0))
    holders = {str(n): Holder(0, 0, 0, it) for n, it in enumerate(demands)}
    shares = msgspec.structs.replace(shares, holders=holders)
    found = [fair(shares, name, it.demand, members) for name, it in holders.items()]
    assert sum(it.rate for it in found) <= shares.rate
    assert sum(it.capacity for it in found) <= shares.capacity
    if members <= len(demands):
        assert sum(it.rate for it in found) >= shares.rate - 2 * len(demands), "nothing is left lying about"


def test_a_share_is_in_proportion_to_demand_and_never_nothing() -> None:
    demands = {"a": 776, "b": 8, "c": 8, "d": 0}
    shares = laid_out(LIMIT)
    shares = msgspec.structs.replace(
        shares, holders={name: Holder(0, 0, 0, it * MICRO) for name, it in demands.items()}
    )
    found = {name: fair(shares, name, it * MICRO, 4) for name, it in demands.items()}
    assert 0.95 <= found["a"].rate / LIMIT.rate <= 0.98
    assert found["b"] == found["c"]
    assert found["d"].rate >= MICRO
    assert found["d"].capacity >= ONE


def test_what_members_are_to_begin_with_stays_free_until_they_come() -> None:
    alone, one_of_four = (fair(laid_out(LIMIT), "a", 800 * MICRO, members) for members in (1, 4))
    assert alone == Share(LIMIT.rate, LIMIT.capacity)
    assert LIMIT.rate - one_of_four.rate >= 3 * MICRO
    assert LIMIT.capacity - one_of_four.capacity >= 3 * ONE


def test_slow_and_tight_limits_are_not_shared_out() -> None:
    assert is_slow(rows.limit_of(Rate(4.99, 100), 0), 1)
    assert is_slow(rows.limit_of(Rate(100, 7), 0), 4)
    assert not is_slow(rows.limit_of(Rate(5, 8), 0), 4)


def test_a_limit_is_shared_out_among_so_many_as_its_row_can_hold() -> None:
    names = (f"{n:064x}" for n in range(2 * rows.MOST_MEMBERS))
    holders = {name: Holder(10**12, 10**12, 2**53, 10**12) for name in names}
    assert len(rows.encoded(msgspec.structs.replace(laid_out(LIMIT), holders=holders))) < VALUE_BYTES
    assert is_slow(rows.limit_of(Rate(10**6, 10**6), 0), rows.MOST_MEMBERS + 1)


def test_a_plan_never_says_more_in_whole_numbers_than_it_says() -> None:
    assert rows.limit_of(Rate(1 / 3, 2), 0) == Limit(333_333, 2 * ONE, 0)
    assert rows.limit_of(Rate(0.1, 2), 0).rate == 100_000


def test_a_bucket_admits_its_burst_and_then_its_rate() -> None:
    found = bucket(10, 3, tokens=3)
    assert [found.admit(0).admitted for _ in range(4)] == [True, True, True, False]
    wait = found.admit(0).retry_after_us
    assert 100_000 <= wait <= 100_200, "a thousandth longer than a clock that is right would say"
    assert not found.admit(wait - 1).admitted
    assert found.admit(wait).admitted


def test_a_clock_that_is_a_thousandth_fast_refills_no_more_than_the_rate() -> None:
    seconds = 10
    reading = seconds * 1_001_000
    found = bucket(200, 4000, tokens=0)
    found.settle(reading // 7)
    found.settle(reading)
    assert found.tokens <= 200 * seconds * ONE


def test_at_the_deadline_nothing_is_admitted_and_nothing_refills() -> None:
    found = bucket(10, 5, tokens=5, deadline_us=1000)
    assert found.admit(999).admitted
    assert not found.admit(1000).admitted
    assert not found.admit(10**8).admitted
    found = bucket(10, 5, tokens=0, deadline_us=100_000)
    found.settle(10**8)
    assert found.tokens <= ONE
    found.deadline_us = 2 * 10**8
    found.settle(10**8)
    assert found.tokens <= ONE, "the time it stood past its deadline is no time"


@given(st.integers(0, 1000), st.integers(1, 1000), st.integers(0, 1000), st.integers(0, 10**6))
def test_who_gives_capacity_has_no_more_than_fits_into_the_rest(
    tokens: int, held: int, left: int, now_us: int
) -> None:
    found = bucket(100, held, tokens=min(tokens, held))
    found.settle(now_us)
    before = found.tokens
    given = found.lower(Share(10 * MICRO, left * ONE), now_us)
    assert 0 <= given <= max(0, held - left) * ONE
    assert found.tokens <= min(held, left) * ONE
    assert found.tokens + given <= before
