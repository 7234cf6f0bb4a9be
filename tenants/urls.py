"""Which URLs of an identity provider are fetched: one strict form, which every program reads alike, and public addresses alone. Pure.

Fails closed: what is not of the form is refused, whatever a browser makes of it. A name is judged again where it is connected to, by the
addresses that it has then; `is_public` is for both.

An issuer whose document says `insecure: true` may be reached over http and at any address. The form is the same for all.
"""

import re
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

MOST_CHARACTERS: Final = 2048
_MOST_HOST_CHARACTERS: Final = 253
_MOST_PORT: Final = 65_535

# RFC 3986: scheme, host (3.2.2), port, path (3.3), query (3.4). No user information, no fragment, no "%" in a host.
_PCHAR = r"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})"
_FORM: Final = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?"
    rf"(?P<path>(?:/{_PCHAR}*)*)(?P<query>\?(?:{_PCHAR}|[/?])*)?"
)
_LABEL: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_NUMBER: Final = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")  # as a last label: then programs read an address

Address = IPv4Address | IPv6Address

# IANA's registries of special-purpose addresses, read strictly: also what is reachable from everywhere but where no provider can be.
_NOT_PUBLIC: Final = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",  # this network: Linux connects to itself
            "10.0.0.0/8",
            "100.64.0.0/10",  # carriers' own; 100.100.100.200 is a cloud's metadata
            "127.0.0.0/8",
            "168.63.129.16/32",  # looks public, and is the host of an Azure machine
            "169.254.0.0/16",  # link-local; 169.254.169.254 is a cloud's metadata
            "172.16.0.0/12",
            "192.0.0.0/24",  # protocols'; 192.0.0.192 is a cloud's metadata
            "192.0.2.0/24",  # documentation
            "192.88.99.0/24",  # relays of 6to4
            "192.168.0.0/16",
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, broadcast
        ),
    )
)
_PUBLIC_V6: Final = IPv6Network("2000::/3")
_NOT_PUBLIC_V6: Final = tuple(
    map(
        IPv6Network,
        (
            "2001::/23",  # protocols', Teredo among them: it carries an IPv4 address of anybody's
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4, as Teredo
            "3fff::/20",  # documentation
        ),
    )
)
_WITHIN_V6: Final = (IPv6Network("::ffff:0:0/96"), IPv6Network("64:ff9b::/96"))
"""IPv4 in IPv6's clothes: as a socket maps it, and as NAT64 translates it, which networks without IPv4 reach all of it by."""


def is_public(address: Address) -> bool:
    """Whether everybody reaches the same machine there. A NAT64 prefix of a network's own is not known here: that network guards it."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC)
    if address.scope_id is not None:
        return False
    if any(address in network for network in _WITHIN_V6):
        return is_public(IPv4Address(int(address) & 0xFFFF_FFFF))
    return address in _PUBLIC_V6 and not any(address in network for network in _NOT_PUBLIC_V6)


def faults(url: str, *, insecure: bool) -> Iterator[str]:
    """What is wrong with the form of this URL, to complete "the URL ..."; the URL is in none of it. None: it may be connected to."""
    if len(url) > MOST_CHARACTERS:
        yield f"must have at most {MOST_CHARACTERS} characters"
        return
    parts = _FORM.fullmatch(url)
    if parts is None:
        yield (
            "must be https://host, with a port, a path and a query if need be: no user name, no fragment, no other characters"
            " than RFC 3986 has"
        )
        return
    if parts["scheme"] != "https" and not insecure:
        yield "must start with https:// (http:// is for an issuer with insecure: true)"
    if parts["port"] is not None and not 0 < int(parts["port"]) <= _MOST_PORT:
        yield "must have a port from 1 to 65535"
    yield from _host_faults(parts["host"], insecure=insecure)


def issuer_faults(url: str, *, insecure: bool) -> Iterator[str]:
    """The same of an issuer's own name, which has no query either (OpenID Connect Core 1.0, section 2)."""
    yield from faults(url, insecure=insecure)
    if "?" in url:
        yield "must have no query"


def discovery_url(issuer: str) -> str:
    """Where an issuer's document is: one slash at the end of its name is not doubled (OpenID Connect Discovery 1.0, section 4.1)."""
    return issuer.removesuffix("/") + "/.well-known/openid-configuration"


def host_of(url: str) -> str:
    """The host with its port, for a log. Of what is no such URL nothing is told: it may hold anything."""
    parts = _FORM.fullmatch(url)
    if parts is None:
        return "a malformed URL"
    return parts["host"] if parts["port"] is None else f"{parts['host']}:{parts['port']}"


def _host_faults(host: str, *, insecure: bool) -> Iterator[str]:
    labels = host.split(".")
    if host.startswith("[") or _NUMBER.fullmatch(labels[-1]):
        try:
            address = IPv6Address(host[1:-1]) if host.startswith("[") else IPv4Address(host)
        except ValueError:
            yield "must write an IP address in full: 192.168.1.2, [2001:db8::1]"
            return
        if not insecure and not is_public(address):
            yield "must not lead to a private or special address, unless its issuer has insecure: true"
    elif len(host) > _MOST_HOST_CHARACTERS or not all(map(_LABEL.fullmatch, labels)):
        yield "must have a host name of labels of 1 to 63 letters, digits and '-', with no dot at the end"
    elif not insecure and labels[-1].lower() == "localhost":
        yield "must not lead to this machine, unless its issuer has insecure: true"
