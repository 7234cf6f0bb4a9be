"""API keys. The checksum of a key that is not known here is proved before any look-up, so that guesses and truncated keys cost nothing.

A missing, malformed, unknown, revoked, expired and foreign key all end in the same UNAUTHENTICATED. One that is right and not bound to this
address or hour is FORBIDDEN, and says so.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.auth.known import Known
from gateway.auth.look_ups import LookUps
from gateway.auth.principal import Principal
from gateway.errors import Code, GatewayError
from tenants.directory.uses import Use
from tenants.keys import Secret, hashed, is_well_formed


@dataclass(frozen=True, slots=True)
class ApiKeys:
    """`now_us` gives microseconds since the Unix epoch, which is what keys expire by. In `used` the last use of each is noted."""

    known: Known
    look_ups: LookUps
    now_us: Callable[[], int]
    used: dict[str, Use] = field(default_factory=dict)

    async def authenticate(self, credential: Secret | None, address: str) -> Principal:
        """Who is calling from there. Raises UNAUTHENTICATED, FORBIDDEN, DIRECTORY_UNAVAILABLE, RATE_LIMITED; fails closed."""
        if credential is None:
            raise _refusal("no credential")
        digest = hashed(credential)
        principal = self.known.warm(digest)
        if principal is None:
            if not is_well_formed(credential.reveal()):
                raise _refusal("not of an API key's form")
            principal = await self.look_ups.principal(digest, address)
        if principal is None:
            raise _refusal("unknown or revoked")
        now_us = self.now_us()
        if principal.expires_us is not None and principal.expires_us <= now_us:
            raise _refusal("expired, or its tenant is closed")
        if principal.conditions is not None and (why := principal.conditions.refusal(address, now_us)):
            raise GatewayError(Code.FORBIDDEN, detail=why, who=principal)
        self.used[principal.id] = (principal.tenant_id, now_us)
        return principal


def _refusal(why: str) -> GatewayError:
    return GatewayError(Code.UNAUTHENTICATED, private=why)
