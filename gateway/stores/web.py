"""Fetches a document of an identity provider over HTTP, from where its URL says and from nowhere else.

Fails closed, at each of these:

1. the URL      one strict form (`tenants/urls`), https unless its issuer is insecure; what was judged is what is connected to
2. addresses    each is judged at the moment a socket is made for it, so that no second answer of the name's can come in between
3. TLS          the certificate is verified, for insecure issuers too; SSL_CERT_FILE names a company's own CA (OpenSSL)
4. the answer   200 and nothing else: no redirect is followed; JSON by its type, not encoded, of a bounded size, and so is all that comes
5. time         all of it in `answer_seconds`, however slowly it drips

A connection is made for one fetch. There are no cookies, no proxies and no credentials from the environment.
"""

import asyncio
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from functools import partial
from http import HTTPStatus
from ipaddress import ip_address
from threading import Thread
from typing import Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from aiohttp.typedefs import LooseHeaders
from yarl import URL

from gateway.auth.key_sets import Unreachable
from tenants.urls import faults, host_of, is_public

_HEADERS: Final[LooseHeaders] = {
    "Accept": "application/json",
    "Accept-Encoding": "identity",
    "User-Agent": "model-gateway",
}
_JSON: Final = re.compile(r"application/(?:json|[a-z0-9.-]+\+json)")
_MOST_AROUND_BYTES: Final = 64 * 1024
"""What may come around a body: heads, also preliminary ones, and the framing of chunks."""
_MOST_ADDRESSES: Final = 8
"""Of a name that are tried."""
_MOST_TOLD: Final = 80
_NUMERIC: Final = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
_MOST_NAMES: Final = 64
"""Names that are looked up at once, each in a thread: as many name servers may never answer, and the others' names are still found."""

# The addresses of a name, as numbers. Raises OSError.
Names = Callable[[str], Awaitable[Sequence[str]]]


class SystemNames:
    """Names as the system knows them. A look-up cannot be ended: whoever asks for a name meanwhile shares it, and it does not hold up the
    end of the process, as one in an executor would."""

    def __init__(
        self, look_up: Callable[[str], Sequence[str]] | None = None, most: int = _MOST_NAMES
    ) -> None:
        self._look_up = look_up or _look_up
        self._most = most
        self._under_way: dict[str, Future[Sequence[str]]] = {}

    async def __call__(self, host: str) -> Sequence[str]:
        answer = self._under_way.get(host)
        if answer is None:
            if len(self._under_way) >= self._most:
                raise OSError("too many names are being looked up that got no answer")
            answer = Future()
            answer.set_running_or_notify_cancel()  # from now on who leaves cancels it for nobody
            thread = Thread(target=self._answer, args=(host, answer), name=f"look up {host}", daemon=True)
            self._under_way[host] = answer
            try:
                thread.start()
            except RuntimeError as fault:  # this machine has no more; who asks later may find one
                del self._under_way[host]
                raise OSError(f"its name cannot be looked up: {fault}") from fault
        return await asyncio.wrap_future(answer)

    def _answer(self, host: str, answer: "Future[Sequence[str]]") -> None:
        try:
            found = self._look_up(host)
        except Exception as fault:  # noqa: BLE001 - who waits is told, whatever it is
            del self._under_way[host]
            answer.set_exception(fault)
        else:
            del self._under_way[host]
            answer.set_result(found)


class Web:
    """`names` gives the addresses of a name, `tls` says whose certificates are trusted; None: as the system has them."""

    def __init__(
        self,
        names: Names | None = None,
        tls: ssl.SSLContext | None = None,
        answer_seconds: float = 5.0,
    ) -> None:
        self._names = names or SystemNames()
        self._tls = tls or ssl.create_default_context()
        self._answer_seconds = answer_seconds

    async def get(self, url: str, *, insecure: bool, most_bytes: int) -> bytes:
        """The body of what is there, if it is JSON. Raises Unreachable, which tells the host and neither path nor query."""
        host = host_of(url)
        for fault in faults(url, insecure=insecure):
            raise Unreachable(f"{host}: the URL {fault}")
        try:
            async with asyncio.timeout(self._answer_seconds):
                return await self._get(URL(url, encoded=True), insecure=insecure, most_bytes=most_bytes)
        except _Unfit as fault:
            reason = str(fault)
        except TimeoutError:
            reason = f"no answer in {self._answer_seconds:g} s"
        except (aiohttp.ClientError, OSError, ValueError) as fault:
            reason = _reason(fault)
        raise Unreachable(f"{host}: {reason}")

    async def _get(self, url: URL, *, insecure: bool, most_bytes: int) -> bytes:
        connector = _Connector(
            most_bytes=most_bytes + _MOST_AROUND_BYTES,
            resolver=_Resolver(self._names),
            socket_factory=None if insecure else _public_socket,
            tls=self._tls,
        )
        session = aiohttp.ClientSession(
            connector=connector,
            headers=_HEADERS,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            auto_decompress=False,
            trust_env=False,
        )
        content = b""
        try:
            async with session, session.get(url, allow_redirects=False) as response:
                _judge(response)
                content = await response.read()  # as much as the connector lets in
        except aiohttp.ClientError:
            if connector.left_bytes >= 0:
                raise
        if connector.left_bytes < 0 or len(content) > most_bytes:
            raise _Unfit(f"answered more than {most_bytes} bytes")
        return content


class _Unfit(Exception):
    """An answer that is not taken, and why."""


class _Connector(aiohttp.TCPConnector):
    """For one fetch. Behind `left_bytes`, whatever they are, it gives up: aiohttp bounds no preliminary answers (1xx) and no extensions of
    chunks, and would read them without a pause as fast as they come."""

    def __init__(
        self,
        *,
        most_bytes: int,
        resolver: AbstractResolver,
        socket_factory: Callable[[aiohttp.AddrInfoType], socket.socket] | None,
        tls: ssl.SSLContext,
    ) -> None:
        super().__init__(
            resolver=resolver,
            socket_factory=socket_factory,
            ssl=tls,
            use_dns_cache=False,
            force_close=True,
            limit=1,
        )
        self.left_bytes = most_bytes
        self._factory = partial(self._bounded)

    def _bounded(self) -> ResponseHandler:
        return _Bounded(self._loop, self)


class _Bounded(ResponseHandler):
    def __init__(self, loop: asyncio.AbstractEventLoop, connector: _Connector) -> None:
        super().__init__(loop)
        self._connector = connector

    def data_received(self, data: bytes) -> None:
        self._connector.left_bytes -= len(data)
        if self._connector.left_bytes >= 0:
            super().data_received(data)
        elif self.transport is not None:
            self.transport.abort()


class _Resolver(AbstractResolver):
    def __init__(self, names: Names) -> None:
        self._names = names

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Addresses that are connected to as they are; a family is not asked for."""
        addresses = await self._names(host)
        if not addresses:
            raise OSError("the name has no address")
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=_NUMERIC)
            for address in addresses[:_MOST_ADDRESSES]
        ]

    async def close(self) -> None:
        """It holds nothing."""


def _public_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """A socket that is connected to this address and no other, next. Raises OSError unless it is public."""
    family, kind, protocol, _, place = address
    host = str(place[0])
    if not is_public(ip_address(host)):
        raise OSError(f"{host} is not a public address, and its issuer is not insecure: true")
    return socket.socket(family, kind, protocol)


def _judge(response: aiohttp.ClientResponse) -> None:
    """Raises _Unfit. What of the answer is told is escaped and short: it is a stranger's."""
    if response.status != HTTPStatus.OK:
        redirects = (
            " (redirects are not followed)"
            if HTTPStatus.MULTIPLE_CHOICES <= response.status < HTTPStatus.BAD_REQUEST
            else ""
        )
        raise _Unfit(f"answered {response.status}{redirects}")
    encodings = ", ".join(response.headers.getall("Content-Encoding", ["identity"]))
    if encodings.strip().lower() != "identity":
        raise _Unfit(f"answered with the content encoding {encodings[:_MOST_TOLD]!a}")
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if not _JSON.fullmatch(kind):
        raise _Unfit(f"answered with the content type {kind[:_MOST_TOLD]!a}, which is not JSON")


def _reason(fault: Exception) -> str:
    """Without the URL, which aiohttp's own texts have, and without what the server sent."""
    match fault:
        case aiohttp.ClientConnectorCertificateError(
            certificate_error=ssl.SSLCertVerificationError() as error
        ):
            return f"its certificate is not good: {error.verify_message}"
        case aiohttp.ClientConnectorDNSError():
            return f"its name was not found: {fault.os_error.strerror or fault.os_error}"
        case aiohttp.ClientConnectorError():
            return f"cannot be connected to: {fault.os_error}"
        case aiohttp.ClientError() | ValueError():
            return f"answered no HTTP that is whole and of a sensible size ({type(fault).__name__})"
        case _:
            return str(fault)


def _look_up(host: str) -> list[str]:
    return [str(place[0]) for *_, place in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]
