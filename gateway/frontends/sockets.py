"""The sockets of listeners, bound before anybody listens on them, and where they are."""

import logging
import socket
from dataclasses import dataclass
from ipaddress import ip_address

from gateway.settings import CLOSED, Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a gateway listens; "" or None for a door that it has not."""

    http: str
    operator: str
    grpc: str | None


def bound_socket(host: str, port: int) -> socket.socket:
    """A socket bound to this address. Raises OSError that names the address."""
    listener = socket.socket(_family(host))
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as fault:
        listener.close()
        raise _refused(host, port, fault) from fault
    return listener


def reserved_socket(host: str, port: int) -> socket.socket:
    """Nobody binds this address while the socket is open but who shares it (SO_REUSEPORT) and is of this user, as our workers do.

    It never listens, so no connection comes to it. It shares only once it is bound, so it is refused where somebody has the address that
    shares it too: another supervisor. Raises OSError that names the address.
    """
    reserved = socket.socket(_family(host))
    try:
        reserved.bind((host, port))
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except OSError as fault:
        reserved.close()
        raise _refused(host, port, fault) from fault
    return reserved


def is_loopback(host: str) -> bool:
    """Whether what listens there is reached from this machine alone; of a name other than localhost nobody knows."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def tell_what_is_in_the_clear(settings: Settings) -> None:
    """A line for each listener that others reach and that has no TLS."""
    if settings.tls.certificate is not None:
        return
    listeners = [("public", settings.host), ("operator", settings.operator_host)]
    if settings.grpc_port != CLOSED:
        listeners.append(("gRPC", settings.grpc_host))
    for name, host in listeners:
        if not is_loopback(host):
            log.warning(
                "the %s listener on %s is in the clear: keys go by as they are. Name tls.certificate and tls.key, or have a proxy "
                "that speaks TLS in front",
                name,
                host,
            )


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _refused(host: str, port: int, fault: OSError) -> OSError:
    return OSError(fault.errno, f"cannot listen on {host}:{port}: {fault.strerror}; choose another port")
