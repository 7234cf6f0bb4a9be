"""A range of addresses has one spelling, and holds the addresses that it says and no other."""

from ipaddress import IPv4Network, IPv6Network, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenants import networks

GOOD = ["192.0.2.0/24", "198.51.100.7/32", "0.0.0.0/0", "2001:db8::/32", "::1/128", "::/0", "fe80::/64"]


def reasons(*ranges: str) -> list[str]:
    return [str(fault) for fault in networks.faults(ranges, "networks")]


def test_a_range_of_either_kind_passes() -> None:
    assert reasons(*GOOD) == []


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("192.0.2.1", "must be written 192.0.2.1/32"),
        ("192.0.2.9/24", "must be written 192.0.2.0/24, or 192.0.2.9/32"),
        ("192.0.2.0/255.255.255.0", "must be written 192.0.2.0/24"),
        ("192.0.2.0/024", "must be written 192.0.2.0/24"),
        ("2001:DB8::/32", "must be written 2001:db8::/32"),
        ("2001:db8:0::/48", "must be written 2001:db8::/48"),
        ("::ffff:192.0.2.0/120", "write it as IPv4"),
        ("::ffff:0:0/96", "write it as IPv4"),
    ],
)
def test_a_range_has_one_spelling_and_who_has_another_is_told_it(text: str, hint: str) -> None:
    (reason,) = reasons("10.0.0.0/8", text)
    assert reason.startswith("networks[1]: ")
    assert hint in reason


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "/",
            "*",
            "office",
            "192.0.2.0/33",
            "192.0.2.0/-1",
            "192.0.2.0/ 24",
            " 192.0.2.0/24",
            "192.0.2.0/24\n",
        ),
        *(
            "192.0.2/24",
            "010.0.0.0/8",
            "3221225984",
            "fe80::%eth0/64",
            "::/129",
            "١٩٢.0.2.0/24",
            "1" * 100_000,
        ),
    ],
)
def test_what_is_no_range_is_refused_and_not_repeated(text: str) -> None:
    (reason,) = reasons(text)
    assert reason == "networks[0]: must be a range of addresses like 192.0.2.0/24 or 2001:db8::/32"


def test_a_list_that_would_let_nobody_in_or_is_too_long_or_repeats_itself_is_refused() -> None:
    assert "every address may come" in reasons()[0]
    fifty = [f"10.0.{number}.0/24" for number in range(networks.MOST)]
    assert reasons(*fifty) == []
    assert reasons(*fifty, "192.0.2.0/24") == ["networks: has 51 ranges: 50 at most"]
    assert reasons("10.0.0.0/8", "10.0.0.0/8") == ["networks[1]: 10.0.0.0/8 is there twice"]


@pytest.mark.parametrize(
    ("address", "held"),
    [
        ("192.0.2.0", True),
        ("192.0.2.255", True),
        ("192.0.1.255", False),
        ("192.0.3.0", False),
        ("::ffff:192.0.2.7", True),
        ("::ffff:192.0.3.7", False),
        ("::192.0.2.7", False),
        ("2001:db8::1", True),
        ("2001:db8::1%eth0", True),
        ("2001:db9::", False),
        *(
            (text, False)
            for text in ("", "unix:", "127.0.0.1.", "192.0.2.7:80", "[2001:db8::1]", "3221225985")
        ),
    ],
)
def test_an_address_is_held_or_not_and_what_is_none_is_not(address: str, held: bool) -> None:  # noqa: FBT001
    assert networks.holds(networks.parsed(("192.0.2.0/24", "2001:db8::/32")), address) == held


def test_all_of_one_kind_is_nothing_of_the_other() -> None:
    every_v6 = networks.parsed(("::/0",))
    assert networks.holds(every_v6, "2001:db8::1")
    assert not networks.holds(every_v6, "192.0.2.7")
    assert not networks.holds(every_v6, "::ffff:192.0.2.7")


@pytest.mark.parametrize(
    ("inner", "outer", "within"),
    [
        (("192.0.2.0/25",), ("192.0.2.0/24",), True),
        (("192.0.2.0/24",), ("192.0.2.0/25",), False),
        (("192.0.2.0/24",), ("192.0.2.0/25", "192.0.2.128/25"), True),
        (("192.0.2.0/24",), ("192.0.2.0/25", "192.0.2.128/26"), False),
        (("192.0.2.0/24", "2001:db8::/48"), ("192.0.2.0/24",), False),
        (("192.0.2.0/24", "2001:db8::/48"), ("2001:db8::/32", "192.0.0.0/16"), True),
        (("0.0.0.0/0",), ("::/0",), False),
    ],
)
def test_a_list_is_within_another_when_each_of_its_addresses_is(
    inner: tuple[str, ...],
    outer: tuple[str, ...],
    within: bool,  # noqa: FBT001
) -> None:
    assert networks.are_within(inner, outer) == within


_small = st.builds(
    lambda number, bits: str(IPv4Network((number >> (8 - bits) << (8 - bits), 24 + bits))),
    st.integers(0, 255),
    st.integers(0, 8),
).map(lambda text: text.replace("0.0.0.", "192.0.2."))


@given(st.lists(_small, min_size=1, max_size=6), st.lists(_small, min_size=1, max_size=6))
def test_within_says_what_counting_the_addresses_says(inner: list[str], outer: list[str]) -> None:
    def counted(ranges: list[str]) -> set[str]:
        return {str(address) for text in ranges for address in IPv4Network(text)}

    assert networks.are_within(inner, outer) == (counted(inner) <= counted(outer))
    held = networks.parsed(outer)
    assert {f"192.0.2.{last}" for last in range(256) if networks.holds(held, f"192.0.2.{last}")} == counted(
        outer
    )


@given(st.ip_addresses(), st.integers(0, 128))
def test_what_is_written_as_python_writes_it_is_a_range_and_holds_its_first_and_last_address(
    address: object, bits: int
) -> None:
    found = ip_address(str(address))
    kind = IPv4Network if found.version == 4 else IPv6Network
    network = kind((int(found), min(bits, found.max_prefixlen)), strict=False)
    if "write it as IPv4" in "".join(reasons(str(network))):
        return
    assert reasons(str(network)) == []
    held = networks.parsed([str(network)])
    mapped = IPv6Network("::ffff:0:0/96")
    assert all(networks.holds(held, str(it)) for it in (network[0], network[-1]) if it not in mapped)
