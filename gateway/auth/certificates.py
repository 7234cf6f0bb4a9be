"""Client certificates of the connection, mapped to the tenants that have them: the credential of who has shown no key and no token.

    presented   its form, its names, its key             auth/presented, once for each connection
    mapped      names in it that are somebody's          the directory: exactly one, else it is nobody's
    principal   the tenant, and the models there         no role: it calls models, and controls nothing

Fails closed: 401 for whatever is wrong with it. It is remembered by its fingerprint as tokens are (`Trust`), and a change of any tenant's
certificates drops all that are: one that is taken from its tenant works for `FRESH_SECONDS` at most, whatever connection it is on.
"""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from gateway.auth.conditions import conditions
from gateway.auth.known import end_of, networks_of, subject_of
from gateway.auth.look_ups import LookUps
from gateway.auth.presented import Certificate
from gateway.auth.principal import Principal
from gateway.errors import Code, GatewayError
from tenants import tenant
from tenants.certificates import Identity, TenantCertificate
from tenants.directory.issuers import Belonging
from tenants.ids import new_id

AMBIGUOUS: Final = "names in this client certificate are mapped more than once; show one that has one of them"


@dataclass(frozen=True, slots=True)
class Certificates:
    """`now_us` gives microseconds since the Unix epoch, which is what certificates expire by."""

    look_ups: LookUps
    now_us: Callable[[], int]

    async def principal(self, certificate: Certificate, address: str) -> Principal:
        """Who of a tenant shows it, remembered from now on. Raises GatewayError: 401, 429, 503; fails closed."""
        if certificate.why or not certificate.identities:
            raise refusal(certificate.why or "it has no name that could be mapped")
        await self.look_ups.feed.catch_up()
        known = self.look_ups.known
        held = known.warm(certificate.digest)  # which a look may have brought back
        if held is not None:
            return held
        principal = await self.look_ups.unchanged(lambda: self._principal(certificate, address))
        known.trust.learn_token(certificate.digest, principal)
        return principal

    async def _principal(self, certificate: Certificate, address: str) -> Principal:
        since = self.look_ups.known.since
        if self.now_us() < certificate.begins_us:
            raise refusal("it does not hold yet")
        found = await self.look_ups.mapped(certificate, address)
        if not found:
            raise refusal("of no tenant")
        if len(found) > 1:
            raise GatewayError(
                Code.UNAUTHENTICATED, detail=AMBIGUOUS, private="a certificate that is mapped more than once"
            )
        belonging = await self.look_ups.tenant(found[0].tenant_id, None, address)
        if belonging is None or tenant.state(belonging.tenant, self.now_us()) == "closed":
            raise refusal("of no tenant that is served")
        return principal_of(certificate, found[0].certificate, belonging, since)


def principal_of(
    certificate: Certificate, mapping: TenantCertificate, belonging: Belonging, since: int = 0
) -> Principal:
    """Who shows a certificate with that name: always the same, whichever certificate it is in."""
    owner = belonging.tenant
    own_id = identity_id(owner.id, mapping.identity)
    return Principal(
        id=own_id,
        name=mapping.name,
        tenant_id=owner.id,
        tenant_name=owner.name,
        plan=belonging.plan,
        subject=subject_of(own_id, owner, models=mapping.models, role=None),
        expires_us=end_of(certificate.ends_us, owner),
        certificate=certificate.fingerprint,
        conditions=conditions(None, None, networks_of(owner)),
        privacy=belonging.privacy,
        since=since,
    )


def identity_id(owner_id: str, identity: Identity) -> str:
    """What stands for a name in certificates in the audit log; of no use without the tenant's id."""
    return new_id("p", sha256("\0".join((owner_id, *identity)).encode()).digest())


def refusal(why: str) -> GatewayError:
    return GatewayError(Code.UNAUTHENTICATED, private=f"a client certificate: {why}")
