"""What a credential is bound to beside its end: from where it may be used, and when. Pure.

Who meets a bound has the right credential, so they hear which one it is. Fails closed: an address that is none, as the peer of a unix
socket has, is in no network.
"""

from dataclasses import dataclass
from typing import Final

from tenants import hours as weekly
from tenants import networks as ranges
from tenants.hours import Hours, Week
from tenants.networks import Network

ELSEWHERE: Final = "this credential may not be used from this address"
AT_ANOTHER_HOUR: Final = "this key may not be used at this hour"


@dataclass(frozen=True, slots=True)
class Conditions:
    """None: no such bound. Parsed once for each credential, judged at each call. Where its tenant has networks too, both must hold."""

    networks: tuple[Network, ...] | None = None
    hours: Week | None = None
    tenant_networks: tuple[Network, ...] | None = None

    def refusal(self, address: str, now_us: int) -> str | None:
        """Why it may not be used from there at that microsecond since 1970, UTC: a public sentence. None: it may."""
        for bound in (self.networks, self.tenant_networks):
            if bound is not None and not ranges.holds(bound, address):
                return ELSEWHERE
        if self.hours is not None and not self.hours.holds(now_us):
            return AT_ANOTHER_HOUR
        return None


def conditions(
    networks: tuple[str, ...] | None, hours: Hours | None, tenant_networks: tuple[str, ...] | None = None
) -> Conditions | None:
    """Of stored bounds; None without any. ValueError for what cannot be read here: then nobody is to be served by it."""
    if networks is None and hours is None and tenant_networks is None:
        return None
    return Conditions(
        None if networks is None else ranges.parsed(networks),
        None if hours is None else weekly.parsed(hours),
        None if tenant_networks is None else ranges.parsed(tenant_networks),
    )
