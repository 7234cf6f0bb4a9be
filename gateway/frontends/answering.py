"""How an answer reaches its client over HTTP: at once, or, of a call with an Idempotency-Key, once it is whole and kept."""

import asyncio
from collections.abc import Callable, MutableMapping, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol, get_args

from gateway.admission.fair_queueing import Class
from gateway.call import Source
from gateway.errors import Code, GatewayError
from gateway.kept.answer import MOST_BYTES, Answer
from gateway.wire.generate import EVENT_STREAM
from gateway.wire.oip import bad_request
from gateway.wire.ratelimit import Headers
from tenants.api.heads import IDEMPOTENCY_KEY

_PIECE_BYTES: Final = 256 * 1024
_LENGTH: Final = b"content-length"
_OF_EACH_CALL: Final = frozenset({b"x-request-id", b"ratelimit", b"ratelimit-policy", _LENGTH})
_CLASSES: Final[dict[bytes, Class]] = {it.encode(): it for it in get_args(Class)}
_REPLAYED: Final = (b"idempotent-replayed", b"true")


def idempotency_key(given: Sequence[bytes]) -> str:
    """The one key among the headers of a request. Raises BAD_REQUEST."""
    key = given[0].decode("latin-1")
    if len(given) > 1 or not IDEMPOTENCY_KEY.fullmatch(key):
        raise bad_request("Idempotency-Key must be 1 to 255 printable ASCII characters, once")
    return key


def declared_class(given: Sequence[bytes]) -> Class:
    """The class that a request declares by its headers, or the metadata of its RPC. Raises BAD_REQUEST."""
    if not given:
        return "interactive"
    found = _CLASSES.get(given[0])
    if len(given) > 1 or found is None:
        raise bad_request("x-gateway-class must be interactive or batch, once")
    return found


class Answering(Protocol):
    """The answer to a request as the connection takes it: at once. An Exchange is one."""

    goes_on: bool
    """What is asked for is not cancelled when its client leaves."""

    @property
    def has_begun(self) -> bool:
        """The client has been told a status, or would have been, had it not left."""

    @property
    def is_gone(self) -> bool:
        """The client has left."""

    async def writable(self) -> None:
        """Wait until the client reads what was written to it."""

    def follow(self, source: Source) -> None:
        """The answer comes from there: it is paused while the client reads too slowly."""

    def begin(self, status: int, headers: Headers) -> None:
        """The status and headers; they leave with the first piece."""

    def write(self, body: bytes, *, more_body: bool) -> None: ...

    async def send(self, message: MutableMapping[str, Any]) -> None:
        """As ASGI's."""


class Held:
    """An Answering before the connection's that tells nothing until `release`, by when the answer has been kept; and its call goes on when
    its client leaves. What streams, or is larger than is kept, is passed on as it comes, and ends with its client as ever.

    `account` is told of the bytes that are held. Until the answer is whole it may begin anew: the client knows of nothing.
    """

    def __init__(self, behind: Answering, account: Callable[[int], None]) -> None:
        self.behind = behind
        behind.goes_on = True
        self.goes_on = True
        self.account = account
        self._passes_on = False
        self._is_whole = False
        self._source: Source | None = None
        self._status = 0
        self._headers: Headers = []
        self._body = bytearray()

    @property
    def has_begun(self) -> bool:
        """What the client is told has been decided."""
        return self._passes_on or self._is_whole

    @property
    def is_gone(self) -> bool:
        return self.behind.is_gone

    @property
    def told(self) -> Answer | None:
        """What `release` will tell; None where it is not whole, or was passed on."""
        if not self._is_whole:
            return None
        headers = tuple(header for header in self._headers if header[0] not in _OF_EACH_CALL)
        return Answer(self._status, headers, bytes(self._body))

    async def writable(self) -> None:
        if self._passes_on:
            await self.behind.writable()

    def follow(self, source: Source) -> None:
        self._source = source

    def begin(self, status: int, headers: Headers) -> None:
        """Raises CLIENT_CLOSED where it is to be passed on, and nobody is there."""
        self._status, self._headers = status, headers
        self._body.clear()
        found = dict(headers)
        length = int(found.get(_LENGTH, -1))
        if length > MOST_BYTES or (length < 0 and found[b"content-type"].startswith(EVENT_STREAM)):
            self._pass_on()

    def write(self, body: bytes, *, more_body: bool) -> None:
        """Raises CLIENT_CLOSED, as `begin`."""
        if not self._passes_on:
            self._body += body
            if len(self._body) <= MOST_BYTES:
                self.account(len(body))
                self._is_whole = not more_body
                return
            self._pass_on()
            body = bytes(self._body)
            self._body.clear()
        self.behind.write(body, more_body=more_body)

    def _pass_on(self) -> None:
        self._passes_on = True
        self.behind.goes_on = False
        if self.behind.is_gone:
            raise GatewayError(Code.CLIENT_CLOSED)
        if self._source is not None:
            self.behind.follow(self._source)
        self.behind.begin(self._status, self._headers)

    async def send(self, message: MutableMapping[str, Any]) -> None:
        raise TypeError("an answer of ASGI's is not held")

    async def release(self, seconds: float) -> None:
        """Tell what was held, if any was. The call is over, and its deadline with it: who has not read it in so many seconds is cut off."""
        if self._is_whole:
            headers = [header for header in self._headers if header[0] != _LENGTH]
            with suppress(TimeoutError):  # what is not whole then is cut by its connection
                async with asyncio.timeout(seconds):
                    await tell(self.behind, self._status, headers, bytes(self._body))


async def tell(answering: Answering, status: int, headers: Headers, body: bytes) -> None:
    """A whole answer, whose length is added. A large one is given out as fast as the client reads: returns when it has nearly all."""
    headers.append((_LENGTH, b"%d" % len(body)))
    await answering.writable()
    answering.begin(status, headers)
    last = max(0, len(body) - 1) // _PIECE_BYTES * _PIECE_BYTES
    for start in range(0, last, _PIECE_BYTES):
        answering.write(body[start : start + _PIECE_BYTES], more_body=True)
        await answering.writable()
    answering.write(body[last:], more_body=False)


def replayed(answer: Answer) -> Headers:
    """The headers of one that was kept, without those that each call has of its own."""
    return [_REPLAYED, *answer.headers]
