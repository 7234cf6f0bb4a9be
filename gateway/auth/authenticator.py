"""Who is calling: what starts with `gw_` is an API key, any other text a token; a certificate is who showed neither. One that was met
before is known by its digest alone.

A missing, malformed, unknown, revoked, expired and foreign credential all end in the same UNAUTHENTICATED. One that is right, and bound to
another address or hour, is FORBIDDEN and says so.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from gateway.auth.certificates import Certificates
from gateway.auth.known import Known
from gateway.auth.look_ups import LookUps
from gateway.auth.presented import Certificate, Credential
from gateway.auth.principal import Principal
from gateway.auth.tokens import Tokens
from gateway.errors import Code, GatewayError
from tenants.directory.uses import Use
from tenants.keys import Secret, hashed, is_well_formed

KEY_MARK: Final = "gw_"


@dataclass(frozen=True, slots=True)
class Authenticator:
    """`now_us` gives microseconds since the Unix epoch, which is what credentials expire by. In `used` each key's last use is noted."""

    known: Known
    look_ups: LookUps
    tokens: Tokens
    now_us: Callable[[], int]
    used: dict[str, Use] = field(default_factory=dict)

    async def authenticate(self, credential: Credential | None, address: str) -> Principal:
        """Who is calling from there. Raises UNAUTHENTICATED, FORBIDDEN, DIRECTORY_UNAVAILABLE, RATE_LIMITED; fails closed."""
        if credential is None:
            raise _refusal("no credential")
        digest = credential.digest if isinstance(credential, Certificate) else hashed(credential)
        principal = self.known.warm(digest)
        if (
            principal is not None
            and principal.source is not None
            and not self.tokens.may_use(principal.source)
        ):
            principal = None
        if principal is None:
            if isinstance(credential, Certificate):
                principal = await Certificates(self.look_ups, self.now_us).principal(credential, address)
            elif credential.reveal().startswith(KEY_MARK):
                principal = await self._key(credential, digest, address)
            else:
                principal = await self.tokens.principal(credential, digest, address)
        now_us = self.now_us()
        if principal.expires_us is not None and principal.expires_us <= now_us:
            raise _refusal("expired, or its tenant is closed")
        if principal.conditions is not None and (why := principal.conditions.refusal(address, now_us)):
            raise GatewayError(Code.FORBIDDEN, detail=why, who=principal)
        if principal.source is None and principal.certificate is None:
            self.used[principal.id] = (principal.tenant_id, now_us)
        return principal

    async def _key(self, credential: Secret, digest: str, address: str) -> Principal:
        """The checksum is proved before any look-up, so that guesses and truncated keys cost nothing."""
        if not is_well_formed(credential.reveal()):
            raise _refusal("not of an API key's form")
        principal = await self.look_ups.principal(digest, address)
        if principal is None:
            raise _refusal("unknown or revoked")
        return principal


def _refusal(why: str) -> GatewayError:
    return GatewayError(Code.UNAUTHENTICATED, private=why)
