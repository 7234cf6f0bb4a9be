"""API keys. The checksum of a key that is not known here is proved before any look-up, so that guesses and truncated keys cost nothing.

A missing, malformed, unknown, revoked, expired and foreign key all end in the same UNAUTHENTICATED.
"""

from collections.abc import Callable
from dataclasses import dataclass

from gateway.auth.known import Known
from gateway.auth.look_ups import LookUps
from gateway.auth.principal import Principal
from gateway.errors import Code, GatewayError
from tenants.keys import Secret, hashed, is_well_formed


@dataclass(frozen=True, slots=True)
class ApiKeys:
    """`now_us` gives microseconds since the Unix epoch, which is what keys expire by."""

    known: Known
    look_ups: LookUps
    now_us: Callable[[], int]

    async def authenticate(self, credential: Secret | None, address: str) -> Principal:
        """Who is calling from there. Raises UNAUTHENTICATED, DIRECTORY_UNAVAILABLE, RATE_LIMITED; fails closed."""
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
        if principal.expires_us is not None and principal.expires_us <= self.now_us():
            raise _refusal("expired, or its tenant is closed")
        return principal


def _refusal(why: str) -> GatewayError:
    return GatewayError(Code.UNAUTHENTICATED, private=why)
