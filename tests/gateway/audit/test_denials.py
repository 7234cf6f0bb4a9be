from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.audit.denials import MINUTE_US, OTHER, SECOND_US, Tally, network
from gateway.audit.record import Denial
from tests.gateway.audit.support import NOW_US, denial

ANYONE = [
    denial(),
    denial(address="192.0.2.200"),
    denial(address="198.51.100.1"),
    denial(reason="bad_key"),
    denial(tenant="t_a"),
    denial(tenant="t_b"),
]


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("192.0.2.77", "192.0.2.0/24"),
        ("::ffff:192.0.2.77", "192.0.2.0/24"),
        ("2001:db8:1:2::3", "2001:db8:1::/48"),
        ("fe80::1%eth0", "fe80::/48"),
        ("", OTHER),
        ("somewhere", OTHER),
    ],
)
def test_an_address_is_kept_only_as_its_network(address: str, expected: str) -> None:
    assert network(address) == expected


@given(
    st.lists(st.tuples(st.sampled_from(ANYONE), st.integers(0, 3 * MINUTE_US)), max_size=60),
    st.integers(1, 5),
)
def test_every_denial_is_single_or_counted_exactly_once_however_few_groups_fit(
    seen: list[tuple[Denial, int]], groups: int
) -> None:
    tally = Tally(singles=2, groups=groups)
    expected: Counter[str] = Counter()
    singles: Counter[tuple[str | None, int]] = Counter()
    for one, later in sorted(seen, key=lambda pair: pair[1]):
        if tally.is_single(one, NOW_US + later):
            singles[one.tenant, (NOW_US + later) // SECOND_US] += 1
        else:
            tally.count(one, NOW_US + later)
            expected[one.reason] += 1
    counted: Counter[str] = Counter()
    for count in tally.take(None):
        counted.update(count.body.reasons)
    assert counted == expected
    assert all(tenant is not None and number <= 2 for (tenant, _), number in singles.items())
    assert not tally


def test_each_second_has_its_own_single_records() -> None:
    tally = Tally(singles=1)
    one = denial(tenant="t_a")
    seconds = (0, 0, SECOND_US, SECOND_US)
    assert [tally.is_single(one, NOW_US + later) for later in seconds] == [True, False, True, False]


def test_counts_leave_only_when_their_window_is_over() -> None:
    tally = Tally()
    start = NOW_US - NOW_US % MINUTE_US
    tally.count(denial(), start)
    assert tally.take(start + MINUTE_US - 1) == []
    (count,) = tally.take(start + MINUTE_US)
    assert (count.body.network, count.body.from_us, count.body.until_us) == (
        "192.0.2.0/24",
        start,
        start + MINUTE_US,
    )


def test_beyond_the_bound_networks_are_counted_together() -> None:
    tally = Tally(groups=3)
    for number in range(200):
        tally.count(denial(address=f"10.0.{number}.1"), NOW_US)
    found = {count.body.network: count.body.reasons for count in tally.take(None)}
    assert found.pop(OTHER) == {"rate": 197}
    assert len(found) == 3
