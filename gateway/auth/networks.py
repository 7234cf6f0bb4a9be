"""How many unknown keys a client network may have looked up: a token bucket for each, so that strangers do not keep the table busy.

A look-up takes a token, and gives it back unless the key turns out unknown; so keys that exist are held up only beside guesses from
the same network, or where more than the whole burst are looked up at the same moment. A warm key never comes here.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from typing import Final

from gateway.errors import Code, GatewayError
from tenants import quotas
from tenants.networks import address_of
from tenants.plans import Rate

_MOST_NETWORKS: Final = 10_000
_V4_BITS, _V6_BITS = 8, 64
"""What of an address tells one client of a network from another: the rest is the network, a /24 or a /64."""


@dataclass(slots=True)
class Networks:
    """`limit` None: none is held back. Beyond `most` networks the one that asked longest ago is forgotten; its bucket is full again."""

    limit: Rate | None
    clock: Callable[[], float]
    most: int = _MOST_NETWORKS
    refused: int = 0
    _spent: OrderedDict[str, float] = field(default_factory=OrderedDict)

    def take(self, address: str) -> None:
        """One look-up for this address. Raises RATE_LIMITED."""
        if self.limit is None:
            return
        network = network_of(address)
        admission = quotas.admit(self.limit, self._spent.pop(network, 0.0), self.clock())
        self._spent[network] = admission.tat
        if len(self._spent) > self.most:
            self._spent.popitem(last=False)
        if not admission.admitted:
            self.refused += 1
            raise GatewayError(
                Code.RATE_LIMITED,
                private="too many unknown keys from this network",
                retry_after_seconds=admission.retry_after_seconds,
            )

    def give_back(self, address: str) -> None:
        """The look-up is not counted after all."""
        network = network_of(address) if self.limit is not None else ""
        if self.limit is not None and network in self._spent:
            self._spent[network] -= 1 / self.limit.rate


def network_of(address: str) -> str:
    """The /24 of an IPv4 address, also of one in IPv6's clothes, and the /64 of an IPv6 address; what is none is its own."""
    ip = address_of(address)
    if ip is None:
        return address
    bits = _V6_BITS if isinstance(ip, IPv6Address) else _V4_BITS
    return f"{ip.version}/{int(ip) >> bits:x}"
