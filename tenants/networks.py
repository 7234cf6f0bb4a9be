"""Network ranges, as a key or a tenant is bound to them: how one is written, and which addresses it holds. Pure.

    192.0.2.0/24   2001:db8::/32   198.51.100.7/32

A range has one spelling, that of RFC 4632 and RFC 5952: what is written is what is kept and shown. An IPv4 address in IPv6's clothes
(`::ffff:192.0.2.1`, as a socket of both kinds has it) is judged as IPv4, so no range is written in them.
"""

from collections.abc import Iterable, Iterator, Sequence
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    collapse_addresses,
    ip_address,
    ip_network,
)
from typing import Annotated, Final

from msgspec import Meta

from tenants.errors import Invalid

MOST: Final = 50
LONGEST: Final = 43
"""Characters of a range: 39 of an address, and `/128`."""

_RULE: Final = "must be a range of addresses like 192.0.2.0/24 or 2001:db8::/32"
_MAPPED: Final = IPv6Network("::ffff:0:0/96")

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

Ranges = Annotated[tuple[Annotated[str, Meta(max_length=LONGEST)], ...], Meta(min_length=1, max_length=MOST)]
"""As documents and bodies have them; `faults` says what the type does not."""


def faults(ranges: Sequence[str], path: str) -> Iterator[Invalid]:
    """What is wrong with a list of ranges, each with its place. No range at all is a fault: it would be a door for nobody."""
    if not ranges:
        yield Invalid(path, "names no range: leave it out, and every address may come")
    if len(ranges) > MOST:
        yield Invalid(path, f"has {len(ranges)} ranges: {MOST} at most")
        return
    for number, text in enumerate(ranges):
        at = f"{path}[{number}]"
        if reason := _fault(text):
            yield Invalid(at, reason)
        elif text in ranges[:number]:
            yield Invalid(at, f"{text} is there twice")


def parsed(ranges: Iterable[str]) -> tuple[Network, ...]:
    """The ranges of a list without faults. ValueError for what is no range."""
    return tuple(map(ip_network, ranges))


def address_of(text: str) -> Address | None:
    """The address that a text is, IPv4 also in IPv6's clothes; None for what is none, as the peer of a unix socket."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def holds(networks: Iterable[Network], address: str) -> bool:
    """Whether one of them has this address. Closed: what is no address is in none."""
    found = address_of(address)
    return found is not None and any(found in network for network in networks)


def are_within(inner: Iterable[str], outer: Iterable[str]) -> bool:
    """Whether each address of the one list is in the other, in one range or in some side by side. ValueError as of `parsed`."""
    wider = [*_joined(outer)]
    return all(any(_is_within(network, other) for other in wider) for network in parsed(inner))


def _joined(ranges: Iterable[str]) -> Iterator[Network]:
    """The same addresses in the fewest ranges. Then a range that many hold together is in one of them."""
    networks = parsed(ranges)
    yield from collapse_addresses(it for it in networks if isinstance(it, IPv4Network))
    yield from collapse_addresses(it for it in networks if isinstance(it, IPv6Network))


def _is_within(one: Network, other: Network) -> bool:
    if isinstance(one, IPv4Network):
        return isinstance(other, IPv4Network) and one.subnet_of(other)
    return isinstance(other, IPv6Network) and one.subnet_of(other)


def _fault(text: str) -> str:
    """Why this is no range; "" for one."""
    try:
        network = ip_network(text, strict=False) if len(text) <= LONGEST and "%" not in text else None
    except ValueError:
        network = None
    if network is None:
        return _RULE
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        return f"{text} is of IPv4 in IPv6's clothes: write it as IPv4"
    if str(network) == text:
        return ""
    alone = ip_network(text.partition("/")[0])
    return f"must be written {network}" + (f", or {alone}" if alone[0] != network[0] else "")
