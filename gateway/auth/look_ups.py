"""What is not known here is looked up in the directory: once however many ask, in a bounded time, and strangers are held back.

Fails closed: a table that gives no answer in time is 503, and a network that asked for too many unknown keys or issuers 429 without a
look-up.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from gateway.auth.known import FRESH_SECONDS, Known, principal_of
from gateway.auth.networks import Networks
from gateway.auth.presented import Certificate
from gateway.auth.principal import Principal
from gateway.cluster.feed import Feed
from gateway.errors import Code, GatewayError
from tenants.directory import Directory, Mapped
from tenants.directory.issuers import Belonging, Trusted
from tenants.errors import TableUnavailable

_RETRY_SECONDS: Final = 1.0
_MOST_TRIES: Final = 10

_Found = TypeVar("_Found")


@dataclass(frozen=True, slots=True)
class _Question(Generic[_Found]):
    """`held` is the answer where it is known already, None where it is not. `read` gives a new one, and how to remember it; an answer of
    None is nobody.
    """

    name: str
    held: Callable[[], _Found | None]
    read: Callable[[], Awaitable[tuple[_Found | None, Callable[[], object]]]]


@dataclass(slots=True)
class LookUps:
    """`answer_seconds`: a look-up that takes longer has no answer. Not shared between loops."""

    directory: Directory
    known: Known
    feed: Feed
    networks: Networks
    answer_seconds: float = 1.0
    _flights: "dict[str, asyncio.Future[Any]]" = field(default_factory=dict)

    async def principal(self, digest: str, address: str) -> Principal | None:
        """Who the key with this digest stands for; None for nobody. Raises DIRECTORY_UNAVAILABLE, RATE_LIMITED."""

        async def read() -> tuple[Principal | None, Callable[[], object]]:
            since = self.known.since
            credentials = await self.directory.keys.find(digest)
            return principal_of(credentials, since), lambda: self.known.learn(digest, credentials)

        return await self._ask(_Question(digest, lambda: self.known.warm(digest), read), address)

    async def issuers(self, url: str, address: str) -> tuple[Trusted, ...] | None:
        """Who trusts the issuer with this URL; None: nobody. Raises DIRECTORY_UNAVAILABLE, RATE_LIMITED."""
        trust = self.known.trust

        async def read() -> tuple[tuple[Trusted, ...] | None, Callable[[], object]]:
            found = await self.directory.issuers.trusted(url)
            return found or None, lambda: trust.learn_issuers(url, found) if found else None

        return await self._ask(_Question(f"issuer {url}", lambda: trust.issuers(url), read), address)

    async def tenant(self, tenant_id: str | None, tenant_name: str | None, address: str) -> Belonging | None:
        """A tenant by its id, or else its name, with what its tokens are judged by; None: none is served under it. Raises as the others."""
        trust, name = self.known.trust, tenant_id or f"name {tenant_name}"

        async def read() -> tuple[Belonging | None, Callable[[], object]]:
            found = await self.directory.issuers.belonging(tenant_id=tenant_id, name=tenant_name)
            return found, lambda: None if found is None else trust.learn_tenant(name, found)

        return await self._ask(_Question(f"tenant {name}", lambda: trust.tenant(name), read), address)

    async def mapped(self, certificate: Certificate, address: str) -> tuple[Mapped, ...] | None:
        """Whose the names in it are; None: nobody's. What comes of it is remembered by who asks. Raises as the others."""

        async def read() -> tuple[tuple[Mapped, ...] | None, Callable[[], object]]:
            return await self.directory.certificates.mapped(certificate.identities) or None, lambda: None

        return await self._ask(_Question(certificate.digest, lambda: None, read), address)

    async def unchanged(self, judge: Callable[[], Awaitable[_Found]]) -> _Found:
        """What was judged while nothing changed: an issuer's keys may take seconds, and what it was judged by may be over by then.

        Raises DIRECTORY_UNAVAILABLE where changes come faster than the table answers.
        """
        known = self.known
        for _ in range(_MOST_TRIES):
            before = known.epoch, known.trust.rekeyings
            judged = await judge()
            if before == (known.epoch, known.trust.rekeyings) and known.clock() < known.serves_until:
                return judged
        raise GatewayError(
            Code.DIRECTORY_UNAVAILABLE,
            private=f"changed while it was judged, {_MOST_TRIES} times",
            retry_after_seconds=_RETRY_SECONDS,
        )

    async def _ask(self, asked: _Question[_Found], address: str) -> _Found | None:
        await self.feed.catch_up()
        if self.known.is_stale:
            raise GatewayError(Code.DIRECTORY_UNAVAILABLE, retry_after_seconds=1)
        held = asked.held()
        if held is not None or self.known.is_unknown(asked.name):
            return held
        while (flight := self._flights.get(asked.name)) is not None:
            await asyncio.wait([flight])
            if not flight.cancelled():  # else whoever looked has left
                landed: _Found | GatewayError | None = flight.result()
                return _landed(landed)
        return await self._fly(asked, address)

    async def _fly(self, asked: _Question[_Found], address: str) -> _Found | None:
        """Look it up, for all who ask meanwhile."""
        flight = self._flights[asked.name] = asyncio.get_running_loop().create_future()
        try:
            found = await self._find(asked, address)
            flight.set_result(found)
        except GatewayError as refusal:
            flight.set_result(refusal)
            raise
        finally:
            del self._flights[asked.name]
            flight.cancel()
        return found

    async def _find(self, asked: _Question[_Found], address: str) -> _Found | None:
        """What is unknown costs its network a look-up, what is known nothing: who has keys may have any number that are not warm."""
        self.networks.take(address)
        started = self.known.clock()
        epoch = self.known.epoch
        try:
            async with asyncio.timeout(self.answer_seconds):
                found, remember = await asked.read()
        except (TableUnavailable, TimeoutError) as fault:
            self.networks.give_back(address)
            private = str(fault) or f"no answer in {self.answer_seconds:g} s"
            raise GatewayError(Code.DIRECTORY_UNAVAILABLE, private=private, retry_after_seconds=1) from fault
        if self.known.clock() >= started + FRESH_SECONDS:  # the machine slept over it
            self.networks.give_back(address)
            return await self._find(asked, address)
        if self.known.epoch == epoch:
            remember()
            if found is None:
                self.known.learn_unknown(asked.name)
        if found is not None:
            self.networks.give_back(address)
        return found


def _landed(outcome: _Found | GatewayError) -> _Found:
    """Each raises an error of their own: what becomes of one is noted in it."""
    if isinstance(outcome, GatewayError):
        raise GatewayError(
            outcome.code, private=outcome.private, retry_after_seconds=outcome.retry_after_seconds
        )
    return outcome
