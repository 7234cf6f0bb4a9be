"""The control API at our doors: what `tenants.api` needs of a listener, and how a stop is said to its clients."""

from collections import OrderedDict
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from typing import Final

from starlette.types import ASGIApp

from gateway.auth.conditions import conditions
from gateway.auth.credentials import credential
from gateway.auth.networks import Networks
from gateway.errors import Code, GatewayError
from gateway.frontends.http_downstream import HttpDownstream
from gateway.frontends.http_exchange import Message, Receive
from tenants.api import problems
from tenants.api.problems import Problem
from tenants.directory import Identity
from tenants.directory.keys import Keys
from tenants.directory.uses import Use
from tenants.errors import TenantsError
from tenants.keys import ApiKey, Secret

CONTROL: Final = b"/control/"
_MOST_MET: Final = 10_000


class ControlDownstream(HttpDownstream):
    """A refusal of the gateway's own is a problem too (RFC 9457)."""

    def asked(self, application: ASGIApp, scope: Message, receive: Receive) -> Awaitable[None]:
        """Paths are matched raw: no name here needs an escape."""
        scope["state"]["request_id"] = self.request_id
        scope["path"] = scope["raw_path"].decode("latin-1")
        return application(scope, receive, self.relay)

    async def refuse(self, error: GatewayError) -> None:
        problem = Problem(error.code, error.sentence)
        headers = [(name.encode(), value.encode()) for name, value in problem.headers.items()]
        body, kind = problem.details(self.request_id), problems.CONTENT_TYPE.encode()
        await self.answer(problem.kind.status, body, extra=headers, content_type=kind)


def control_credential(authorization: Sequence[bytes], api_key: Sequence[bytes]) -> Secret | None:
    """As everywhere (`credential`). Raises Problem."""
    try:
        return credential(authorization, api_key)
    except GatewayError as error:
        if error.code is Code.TWO_CREDENTIALS:
            raise Problem(error.code, error.sentence) from error
        raise problems.unauthenticated() from error


@dataclass(slots=True)
class Callers:
    """Whose key it is, and whether it may be used from there now; then that is noted in `used`. Who guesses is held back as at the other
    doors, and in one sum with them.

    Each request is a look-up here, so a key that was met is not counted again: guesses do not lock out who shares their network.
    """

    keys: Keys
    networks: Networks
    used: dict[str, Use] = field(default_factory=dict)
    _met: OrderedDict[str, None] = field(default_factory=OrderedDict)
    """Digests; beyond so many the longest unused is forgotten."""

    async def identify(self, digest: str, address: str, now_us: int) -> Identity | None:
        """`Keys.identify`. Raises Problem: rate_limited, forbidden, TableUnavailable; fails closed."""
        if digest in self._met:
            found = await self.keys.identify(digest, now_us)
        else:
            found = await self._stranger(digest, address, now_us)
        self._met.pop(digest, None)
        if found is not None:
            self._met[digest] = None
            if len(self._met) > _MOST_MET:
                self._met.popitem(last=False)
            _check_conditions(found.key, address, now_us)
            self.used[found.key.id] = (found.key.tenant_id, now_us)
        return found

    async def _stranger(self, digest: str, address: str, now_us: int) -> Identity | None:
        """An unknown key costs its network a look-up; a known one, and one of which nobody could say, nothing."""
        try:
            self.networks.take(address)
        except GatewayError as error:
            wait = error.retry_after_seconds
            raise Problem(
                error.code, error.sentence, private=error.private, retry_after_seconds=wait
            ) from error
        try:
            found = await self.keys.identify(digest, now_us)
        except TenantsError:
            self.networks.give_back(address)
            raise
        if found is not None:
            self.networks.give_back(address)
        return found


def _check_conditions(key: ApiKey, address: str, now_us: int) -> None:
    """Raises Problem: forbidden, where the key may not be used; unauthenticated for one whose conditions cannot be read here."""
    try:
        bounds = conditions(key.networks, key.hours)
    except ValueError as fault:
        raise problems.unauthenticated() from fault
    if bounds is not None and (why := bounds.refusal(address, now_us)):
        raise Problem("forbidden", why, private=f"key:{key.id} from {address}: {why}")
