"""Which denials get a record of their own, and how the others are counted. Pure; bounded in memory."""

import ipaddress
from functools import lru_cache
from typing import NamedTuple

from gateway.audit.record import Denial, DenialsBody

SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
OTHER = "other"


class Group(NamedTuple):
    """What one count is about: a principal in a second, or a network in a minute."""

    tenant: str | None
    key: str | None
    network: str | None
    from_us: int
    until_us: int


class Count(NamedTuple):
    tenant: str | None
    key: str | None
    body: DenialsBody


@lru_cache(maxsize=4096)
def network(address: str) -> str:
    """The /24 or /48 around an address; `other` when it is none."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return OTHER
    if isinstance(parsed, ipaddress.IPv6Address):
        parsed = parsed.ipv4_mapped or parsed
    length = 24 if isinstance(parsed, ipaddress.IPv4Address) else 48
    return str(ipaddress.ip_network((parsed, length), strict=False))


class Tally:
    """Counts per principal and second beyond the first `singles`, and per network and minute for the rest."""

    def __init__(self, *, singles: int = 10, groups: int = 10_000) -> None:
        self._singles = singles
        self._groups = groups
        self._second = -1
        self._seen: dict[tuple[str, str | None], int] = {}
        self._counts: dict[Group, dict[str, int]] = {}

    def __bool__(self) -> bool:
        return bool(self._counts)

    def is_single(self, denial: Denial, now_us: int) -> bool:
        """Whether it gets its own record; if not, count it."""
        if denial.tenant is None:
            return False
        if self._second != now_us // SECOND_US:
            self._second = now_us // SECOND_US
            self._seen.clear()
        principal = (denial.tenant, denial.key)
        seen = self._seen[principal] = self._seen.get(principal, 0) + 1
        return seen <= self._singles

    def count(self, denial: Denial, now_us: int) -> None:
        group = _group(denial, now_us)
        if group not in self._counts and len(self._counts) >= self._groups:
            group = _window(None, None, OTHER, now_us, MINUTE_US)
        reasons = self._counts.setdefault(group, {})
        reasons[denial.reason] = reasons.get(denial.reason, 0) + 1

    def take(self, now_us: int | None) -> list[Count]:
        """Removes and returns the counts whose window is not the present one; all of them for None."""
        over = [g for g in self._counts if now_us is None or not g.from_us <= now_us < g.until_us]
        return [
            Count(
                g.tenant,
                g.key,
                DenialsBody(
                    reasons=self._counts.pop(g), network=g.network, from_us=g.from_us, until_us=g.until_us
                ),
            )
            for g in over
        ]


def _group(denial: Denial, now_us: int) -> Group:
    if denial.tenant is None:
        return _window(None, None, network(denial.address), now_us, MINUTE_US)
    return _window(denial.tenant, denial.key, None, now_us, SECOND_US)


def _window(tenant: str | None, key: str | None, where: str | None, now_us: int, length_us: int) -> Group:
    start = now_us - now_us % length_us
    return Group(tenant, key, where, start, start + length_us)
