"""Keys that are not warm: each is looked up once however many ask, in a bounded time, and strangers are held back.

Fails closed: a table that gives no answer in time is 503, and a network that asked for too many unknown keys 429 without a look-up.
"""

import asyncio
from dataclasses import dataclass, field

from gateway.auth.known import FRESH_SECONDS, Known, principal_of
from gateway.auth.networks import Networks
from gateway.auth.principal import Principal
from gateway.cluster.feed import Feed
from gateway.errors import Code, GatewayError
from tenants.directory.keys import Keys
from tenants.errors import TableUnavailable


@dataclass(slots=True)
class LookUps:
    """`answer_seconds`: a look-up that takes longer has no answer. Not shared between loops."""

    keys: Keys
    known: Known
    feed: Feed
    networks: Networks
    answer_seconds: float = 1.0
    _flights: "dict[str, asyncio.Future[Principal | GatewayError | None]]" = field(default_factory=dict)

    async def principal(self, digest: str, address: str) -> Principal | None:
        """Who the key with this digest stands for; None for nobody. Raises DIRECTORY_UNAVAILABLE, RATE_LIMITED."""
        await self.feed.catch_up()
        if self.known.is_stale:
            raise GatewayError(Code.DIRECTORY_UNAVAILABLE, retry_after_seconds=1)
        principal = self.known.warm(digest)
        if principal is not None or self.known.is_unknown(digest):
            return principal
        while (flight := self._flights.get(digest)) is not None:
            await asyncio.wait([flight])
            if not flight.cancelled():  # else whoever looked has left
                return _landed(flight.result())
        return await self._fly(digest, address)

    async def _fly(self, digest: str, address: str) -> Principal | None:
        """Look the key up, for all who ask meanwhile."""
        flight = self._flights[digest] = asyncio.get_running_loop().create_future()
        try:
            flight.set_result(await self._find(digest, address))
        except GatewayError as refusal:
            flight.set_result(refusal)
            raise
        finally:
            del self._flights[digest]
            flight.cancel()
        return _landed(flight.result())

    async def _find(self, digest: str, address: str) -> Principal | None:
        """An unknown key costs its network a look-up, a known one nothing: who has keys may have any number that are not warm."""
        self.networks.take(address)
        started = self.known.clock()
        epoch = self.known.epoch
        try:
            async with asyncio.timeout(self.answer_seconds):
                credentials = await self.keys.find(digest)
        except (TableUnavailable, TimeoutError) as fault:
            self.networks.give_back(address)
            private = str(fault) or f"no answer in {self.answer_seconds:g} s"
            raise GatewayError(Code.DIRECTORY_UNAVAILABLE, private=private, retry_after_seconds=1) from fault
        if self.known.clock() >= started + FRESH_SECONDS:  # the machine slept over it
            self.networks.give_back(address)
            return await self._find(digest, address)
        remembers = self.known.epoch == epoch
        principal = self.known.learn(digest, credentials) if remembers else principal_of(credentials)
        if principal is not None:
            self.networks.give_back(address)
        return principal


def _landed(outcome: Principal | GatewayError | None) -> Principal | None:
    """Each raises an error of their own: what becomes of one is noted in it."""
    if isinstance(outcome, GatewayError):
        raise GatewayError(
            outcome.code, private=outcome.private, retry_after_seconds=outcome.retry_after_seconds
        )
    return outcome
