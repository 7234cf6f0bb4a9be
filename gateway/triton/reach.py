"""Where calls to servers that somebody else runs may go. Pure.

    in the clear   this host, and networks that the operator has declared to be their own
    over TLS       public addresses, and the same networks; this host only where it is declared, as a name of somebody else's may lead here

Fails closed: what is no address is out of reach.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, Self

from tenants.networks import Network, address_of, parsed
from tenants.urls import is_public


@dataclass(frozen=True, slots=True)
class Reach:
    networks: tuple[Network, ...] = ()
    """What is declared."""
    is_tls: bool = False

    @classmethod
    def of(cls, ranges: Iterable[str]) -> Self:
        """In the clear; of ranges without faults."""
        return cls(parsed(ranges))

    def over_tls(self) -> Self:
        return replace(self, is_tls=True)

    def holds(self, address: str) -> bool:
        """Whether this address, a number and no name, may be called."""
        found = address_of(address)
        if found is None:
            return False
        return any(found in it for it in self.networks) or (
            is_public(found) if self.is_tls else found.is_loopback
        )

    def refusal(self, host: str, addresses: Iterable[str]) -> str:
        """Why none of a host's addresses is called; for operators alone."""
        found = ", ".join(addresses)
        at = f"{host} is at {found}" if found != host else host
        if self.is_tls:
            return f"{at}: neither public nor in a network of upstream.private_networks, and HTTPS goes nowhere else"
        return f"{at}: neither this host nor in a network of upstream.private_networks, and HTTP in the clear goes nowhere else"


LOOPBACK: Final = Reach()
