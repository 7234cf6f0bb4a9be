"""The certificate that a listener shows: judged at the start, and replaced when its files have become others that are as good.

    a look finds                          then
    what is shown                         nothing
    what the look before did not find     it waits for the next look: somebody may have written one file of two
    the same as the look before           it is judged as at the start: new handshakes show it at once, or it is refused

Connections under way go on with what they began with. What is refused is logged and counted, and the one before is shown on, also when it
is over: clients decide about that, and a mistake here closes no door that was open. At the start, it is refused to listen at all.
"""

import asyncio
import logging
import os
import ssl
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Self

from gateway.settings import Tls
from gateway.tls.errors import TlsRefused
from gateway.tls.material import Material, Pems, judged, moment

LOOK_SECONDS: Final = 2.0
_MOST_BYTES: Final = 1024 * 1024
_OTHERS: Final = stat.S_IRWXO | stat.S_IWGRP  # a group may read it, as Kubernetes mounts a secret for one
# TLS 1.2 with what has forward secrecy and is an AEAD; those of 1.3 are all such.
CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
_SHOWN: Final = 12
"""So much of a fingerprint is told."""

Clients = Literal["off", "optional", "required"]
_VERIFY: Final = {"off": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}

_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Files:
    """Where the PEM is."""

    certificate: Path
    key: Path
    authorities: Path | None
    """None: no client is asked for a certificate."""


@dataclass(slots=True)
class Shown:
    """What one kind of listener shows. Take `context` anew for each handshake: it is another one after a change."""

    files: Files
    clients: Clients
    now_us: Callable[[], int]
    material: Material
    context: ssl.SSLContext
    replaced: int = 0
    refused: int = 0
    """Changes that were refused, each once however often it is looked at."""
    _in_use: Pems | str = ""
    _seen: Pems | str = ""
    _bad: Pems | str = ""
    _warned_of: str = ""

    @classmethod
    def load(cls, files: Files, clients: Clients, now_us: Callable[[], int]) -> Self:
        """Raises TlsRefused."""
        found = _look(files)
        material, context = _made(found, clients, now_us())
        shown = cls(files, clients, now_us, material, context, _in_use=found, _seen=found)
        shown._warn()
        return shown

    @property
    def left_seconds(self) -> float:
        """Until the certificate is over; below 0 it is."""
        return (self.material.not_after - moment(self.now_us())).total_seconds()

    async def look(self) -> None:
        """Look at the files once, on a thread, as a disk may hang. Never raises for what they hold; OSError if this process may open no
        more files.
        """
        found = await asyncio.to_thread(_look, self.files)
        is_settled, self._seen = found == self._seen, found
        self._warn()
        if not is_settled:
            return
        if found == self._in_use:
            self._bad = ""
        elif found != self._bad:
            await self._judge(found)

    async def _judge(self, found: Pems | str) -> None:
        try:
            material, context = await asyncio.to_thread(_made, found, self.clients, self.now_us())
        except TlsRefused as fault:
            self.refused += 1
            self._bad = found
            _log.error("a new certificate is refused, and %s is shown on: %s", self._name, fault)
            return
        before = self._name
        self.material, self.context = material, context
        self._in_use, self._bad = found, ""
        self.replaced += 1
        _log.info(
            "certificate %s (until %s) replaces %s",
            self._name,
            f"{material.not_after:%Y-%m-%d %H:%M}",
            before,
        )
        self._warn()

    @property
    def _name(self) -> str:
        return self.material.fingerprint[:_SHOWN]

    def _warn(self) -> None:
        """Once for each certificate."""
        if self._warned_of == self._name or not self.material.is_ending(moment(self.now_us())):
            return
        self._warned_of = self._name
        end = f"{self.material.not_after:%Y-%m-%d %H:%M} UTC"
        _log.warning("%s is valid until %s; put a new one there", self.files.certificate, end)


@dataclass(frozen=True, slots=True)
class Certificates:
    """Of the public listeners and of the operator's. None: in the clear."""

    public: Shown | None = None
    operator: Shown | None = None

    @classmethod
    def load(cls, knobs: Tls, now_us: Callable[[], int]) -> Self:
        """What the settings name. Raises TlsRefused."""
        if knobs.certificate is None or knobs.key is None:
            return cls()
        public = _files(knobs.certificate, knobs.key, knobs.client_authorities, knobs.client_certificates)
        operator = _files(
            knobs.operator_certificate or knobs.certificate,
            knobs.operator_key or knobs.key,
            knobs.operator_client_authorities or knobs.client_authorities,
            knobs.operator_client_certificates,
        )
        shown = Shown.load(public, _clients(knobs.client_certificates), now_us)
        same = (public, knobs.client_certificates) == (operator, knobs.operator_client_certificates)
        return cls(
            shown,
            shown if same else Shown.load(operator, _clients(knobs.operator_client_certificates), now_us),
        )

    def by_listener(self) -> dict[str, Shown]:
        found = {"public": self.public, "operator": self.operator}
        return {name: shown for name, shown in found.items() if shown is not None}

    async def look(self) -> None:
        """Look at the files of each once. Raises OSError."""
        for shown in {id(it): it for it in self.by_listener().values()}.values():
            await shown.look()


def _files(certificate: Path, key: Path, authorities: Path | None, clients: str) -> Files:
    return Files(certificate, key, authorities if clients != "off" else None)


def _clients(text: str) -> Clients:
    match text:
        case "optional":
            return "optional"
        case "required":
            return "required"
    return "off"


def _look(files: Files) -> Pems | str:
    """What the files hold, or why they cannot be used."""
    try:
        key = read(files.key, is_secret=True)
        authorities = read(files.authorities) if files.authorities else b""
        certificate = read(files.certificate)
    except TlsRefused as fault:
        return str(fault)
    if files.authorities and not authorities:
        return f"{files.authorities} is empty, and no client would be known by it"
    return Pems(
        certificate, key, authorities, (str(files.certificate), str(files.key), str(files.authorities))
    )


def read(path: Path, *, is_secret: bool = False) -> bytes:
    """Raises TlsRefused."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe must not hold us
        with open(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise TlsRefused(f"{path} is no file")
            if is_secret and found.st_mode & _OTHERS:
                raise TlsRefused(f"others may read or change {path}, and it is a private key: chmod 600 it")
            content = file.read(_MOST_BYTES + 1)
    except OSError as fault:
        raise TlsRefused(f"{path}: {fault.strerror}") from fault
    if len(content) > _MOST_BYTES:
        raise TlsRefused(f"{path} has more than {_MOST_BYTES} bytes")
    return content


def _made(found: Pems | str, clients: Clients, now_us: int) -> tuple[Material, ssl.SSLContext]:
    """Raises TlsRefused."""
    if isinstance(found, str):
        raise TlsRefused(found)
    material = judged(found, moment(now_us))
    try:
        return material, server_context(material, clients)
    except ssl.SSLError as fault:
        raise TlsRefused(f"{found.names[0]} cannot be shown: {fault.reason or fault}") from fault


def server_context(material: Material, clients: Clients) -> ssl.SSLContext:
    """For the HTTP listeners. Tickets and sessions are the context's own, so none outlives the authorities that its client was judged by.
    Raises ssl.SSLError.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_ciphers(CIPHERS)
    context.set_alpn_protocols(["http/1.1"])
    # OpenSSL takes a key from files alone; what was judged is what it gets, and no disk sees it.
    memory = os.memfd_create("tls", os.MFD_CLOEXEC)
    with open(memory, "wb") as file:
        file.write(material.key.rstrip() + b"\n" + material.chain)
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{memory}")
    context.verify_mode = _VERIFY[clients]
    if material.authorities:
        context.load_verify_locations(cadata=material.authorities.decode("ascii"))
    return context
