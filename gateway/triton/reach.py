"""Where HTTP in the clear may go: to this host, and to networks that the operator has declared to be their own. Pure.

Fails closed: what is no address is out of reach.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self

from tenants.networks import Network, address_of, parsed


@dataclass(frozen=True, slots=True)
class Reach:
    networks: tuple[Network, ...] = ()
    """Beside loopback."""

    @classmethod
    def of(cls, ranges: Iterable[str]) -> Self:
        """Of ranges without faults."""
        return cls(parsed(ranges))

    def holds(self, address: str) -> bool:
        """Whether this address, a number and no name, may be called in the clear."""
        found = address_of(address)
        return found is not None and (found.is_loopback or any(found in it for it in self.networks))

    def refusal(self, host: str, addresses: Iterable[str]) -> str:
        """Why none of a host's addresses is called; for operators alone."""
        found = ", ".join(addresses)
        at = f"{host} is at {found}" if found != host else host
        return f"{at}: neither this host nor in a network of upstream.private_networks, and HTTP in the clear goes nowhere else"


LOOPBACK: Final = Reach()
