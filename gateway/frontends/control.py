"""The control API at our doors: what `tenants.api` needs of a listener, and how a stop is said to its clients."""

from collections import OrderedDict
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from starlette.types import ASGIApp

from gateway.audit.reading import Keys
from gateway.auth.authenticator import KEY_MARK, Authenticator
from gateway.auth.conditions import conditions
from gateway.auth.credentials import credential
from gateway.auth.known import networks_of
from gateway.envelope.keyring import KeyDestroyed
from gateway.envelope.ports import KeyRefused, KeysUnavailable
from gateway.envelope.series import series_key
from gateway.errors import Code, GatewayError
from gateway.frontends.http_downstream import HttpDownstream
from gateway.frontends.http_exchange import Message, Receive
from tenants import tenant
from tenants.api import problems
from tenants.api.application import Listener
from tenants.api.asked import Who, who
from tenants.api.problems import Problem
from tenants.directory import Directory, Identity
from tenants.errors import TenantsError
from tenants.keys import Secret, hashed, is_well_formed
from tenants.ports import RecordKey

CONTROL: Final = (b"/control/", b"/audit/")
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
    """Whose credential it is, and whether it may be used from there now; then the key's use is noted. Who guesses keys is held back as at
    the other doors, and in one sum with them.

    A key is looked up for each request here, and so is a token's tenant. A key that was met is not counted again: guesses do not lock out
    who shares their network. A token's holder, and their role, is who the other doors take them for (`Authenticator`).
    """

    directory: Directory
    authenticator: Authenticator
    _met: OrderedDict[str, None] = field(default_factory=OrderedDict)
    """Digests; beyond so many the longest unused is forgotten."""

    async def identify(self, credential: Secret, address: str, now_us: int, listener: Listener) -> Who | None:
        """Raises Problem: rate_limited, forbidden, table_unavailable, issuer_unavailable; TableUnavailable; fails closed."""
        text = credential.reveal()
        if text.startswith(KEY_MARK):
            return await self._key(hashed(credential), address, now_us) if is_well_formed(text) else None
        with _as_problems():
            if listener == "operator":
                own_id = await self.authenticator.tokens.operator_id(credential, address)
                return None if own_id is None else Who(own_id, "operator", None)
            return await self._of_tenant(credential, address, now_us)

    async def _of_tenant(self, credential: Secret, address: str, now_us: int) -> Who | None:
        """A token's tenant is read anew, as a key's is: who was let in by what is remembered sees a closed one no more."""
        principal = await self.authenticator.authenticate(credential, address)
        owner = await self.directory.tenants.show(principal.tenant_name)
        if owner.id != principal.tenant_id or tenant.state(owner, now_us) == "closed":
            return None
        return Who(principal.id, principal.subject.role or "none", owner)

    async def _key(self, digest: str, address: str, now_us: int) -> Who | None:
        if digest in self._met:
            found = await self.directory.keys.identify(digest, now_us)
        else:
            with _as_problems():
                found = await self._stranger(digest, address, now_us)
        self._met.pop(digest, None)
        if found is None:
            return None
        self._met[digest] = None
        if len(self._met) > _MOST_MET:
            self._met.popitem(last=False)
        _check_conditions(found, address, now_us)
        self.authenticator.used[found.key.id] = (found.key.tenant_id, now_us)
        return who(found)

    async def _stranger(self, digest: str, address: str, now_us: int) -> Identity | None:
        """An unknown key costs its network a look-up; a known one, and one of which nobody could say, nothing."""
        networks = self.authenticator.look_ups.networks
        networks.take(address)
        try:
            found = await self.directory.keys.identify(digest, now_us)
        except TenantsError:
            networks.give_back(address)
            raise
        if found is not None:
            networks.give_back(address)
        return found


@dataclass(frozen=True, slots=True)
class DerivedKeys:
    """Keys of audit records, from the data keys of the keyring. RecordKeys of `tenants.ports`."""

    keyring: Keys

    async def derived(self, tenant_id: str, key_id: str, series: Sequence[str]) -> list[RecordKey]:
        """Raises Problem: destroyed, sealing_unavailable."""
        try:
            key = await self.keyring.opening(tenant_id, key_id)
        except KeyDestroyed as fault:
            raise Problem(
                "destroyed", "the data key is, and what it sealed opens for nobody", private=str(fault)
            ) from fault
        except (KeysUnavailable, KeyRefused) as fault:
            sentence = "your records are sealed, and their key cannot be had now"
            raise Problem(
                "sealing_unavailable",
                sentence,
                private=str(fault),
                retry_after_seconds=fault.retry_after_seconds,
            ) from fault
        found = (series_key(key, tenant_id, name) for name in series)
        return [RecordKey(it.segment, it.key.reveal(), it.commitment) for it in found]


@contextmanager
def _as_problems() -> Iterator[None]:
    """What the other doors refuse, as this API says it."""
    try:
        yield
    except GatewayError as error:
        if error.code is Code.UNAUTHENTICATED:
            raise problems.unauthenticated() from error
        code = "table_unavailable" if error.code is Code.DIRECTORY_UNAVAILABLE else error.code.value
        wait = error.retry_after_seconds
        raise Problem(code, error.sentence, private=error.private, retry_after_seconds=wait) from error


def _check_conditions(found: Identity, address: str, now_us: int) -> None:
    """Raises Problem: forbidden, where it may not be used; unauthenticated for one whose conditions cannot be read here."""
    key = found.key
    try:
        bounds = conditions(key.networks, key.hours, networks_of(found.tenant) if found.tenant else None)
    except ValueError as fault:
        raise problems.unauthenticated() from fault
    if bounds is not None and (why := bounds.refusal(address, now_us)):
        raise Problem("forbidden", why, private=f"key:{key.id} from {address}: {why}")
