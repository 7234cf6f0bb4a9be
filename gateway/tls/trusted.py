"""Whose certificates the gateway takes as a client: of a file that the operator names, else as the system has them.

A look at the file goes as one at what a listener shows (`current`): what two looks found alike is judged, and trusted from then on at the
next call, or refused, logged once, and what was trusted before stays.
"""

import asyncio
import logging
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from gateway.tls.current import CIPHERS, read
from gateway.tls.errors import TlsRefused
from gateway.tls.material import certificates, pem_of

_log: Final = logging.getLogger(__name__)


@dataclass(slots=True)
class Trusted:
    """Ask for the `context` at each connection: it is another one after a change."""

    file: Path | None
    refused: int = 0
    """Changes that were refused, each once however often it is looked at."""
    _context: ssl.SSLContext | None = None
    _in_use: bytes | str = ""
    _seen: bytes | str = ""
    _bad: bytes | str = ""

    @classmethod
    def load(cls, file: Path | None) -> Self:
        """Raises TlsRefused."""
        if file is None:
            return cls(None)
        found = _look(file)
        return cls(file, _context=_made(found, file), _in_use=found, _seen=found)

    def context(self) -> ssl.SSLContext:
        """Those of the system are read when somebody first needs them: that takes some 50 ms, and most gateways call nobody so."""
        if self._context is None:
            self._context = client_context(ssl.create_default_context())
        return self._context

    async def look(self) -> None:
        """Look at the file once, on a thread, as a disk may hang. Never raises for what it holds."""
        if self.file is None:
            return
        found = await asyncio.to_thread(_look, self.file)
        is_settled, self._seen = found == self._seen, found
        if not is_settled:
            return
        if found == self._in_use:
            self._bad = ""
        elif found != self._bad:
            await self._judge(found, self.file)

    async def _judge(self, found: bytes | str, file: Path) -> None:
        try:
            context = await asyncio.to_thread(_made, found, file)
        except TlsRefused as fault:
            self.refused += 1
            self._bad = found
            _log.error("new authorities of servers are refused, and those before are trusted on: %s", fault)
            return
        self._context, self._in_use, self._bad = context, found, ""
        _log.info("servers are known by the authorities that %s has now", file)


def client_context(context: ssl.SSLContext) -> ssl.SSLContext:
    """The same, for HTTP/1.1 to servers: the certificate and the name are verified, TLS 1.2 at least, forward secrecy and AEADs alone."""
    context.verify_mode, context.check_hostname = ssl.CERT_REQUIRED, True
    # The alternative names alone are what an authority vouches for (RFC 9525, section 2).
    context.hostname_checks_common_name = False
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_ciphers(CIPHERS)
    context.set_alpn_protocols(["http/1.1"])
    return context


def _look(file: Path) -> bytes | str:
    """What the file holds, or why it cannot be used."""
    try:
        return read(file)
    except TlsRefused as fault:
        return str(fault)


def _made(found: bytes | str, file: Path) -> ssl.SSLContext:
    """Raises TlsRefused. A file without a certificate is refused: no server would be known by it."""
    if isinstance(found, str):
        raise TlsRefused(found)
    trusted = pem_of(certificates(found, str(file)))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata=trusted.decode("ascii"))
    except ssl.SSLError as fault:
        raise TlsRefused(f"{file} cannot be used: {fault.reason or fault}") from fault
    return client_context(context)
