"""Over what a client reaches its server, HTTP as it is and HTTPS: what is promised of the one is of the other."""

import ssl
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.tls.trusted import Trusted
from gateway.triton.client import Client
from gateway.triton.reach import Reach
from tests.gateway.triton.worlds import Script, ScriptedServer, served
from tests.worlds.certificates import Authority, Pair

REACH = Reach.of(("127.0.0.0/8",)).over_tls()


class Secured:
    """A server with a certificate, and a client that trusts what the file of authorities holds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority()
        self.file = folder / "authorities.pem"
        self.file.write_bytes(self.authority.pem)
        self.trusted = Trusted.load(self.file)

    def server(self, pair: Pair | None = None) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_alpn_protocols(["h2", "http/1.1"])
        context.load_cert_chain(*(pair or self.authority.gives()).write(self.folder))
        return context

    @property
    def options(self) -> dict[str, Any]:
        """A client's."""
        return {"reach": REACH, "trust": self.trusted.context, "names": _here}

    def client(self, port: int, host: str = "127.0.0.1", connect_seconds: float = 5.0) -> Client:
        return Client(host, port, connect_seconds=connect_seconds, **self.options)


async def _here(_: str) -> list[str]:
    return ["127.0.0.1"]


@dataclass(frozen=True, slots=True)
class Transport:
    tls: ssl.SSLContext | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @staticmethod
    def secured(folder: Path) -> "Transport":
        world = Secured(folder)
        return Transport(world.server(), world.options)

    def served(self, script: Script) -> AbstractAsyncContextManager[ScriptedServer]:
        return served(script, self.tls)

    def client(self, port: int, **more: Any) -> Client:
        return Client("127.0.0.1", port, **self.options, **more)
