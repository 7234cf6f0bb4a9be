"""Tokens (JWT, RFC 7519) of the issuers that tenants and operators trust. A token is read strictly, then verified, then somebody's.

    read        its form, its types, its times                   auth/jose; nothing of it is believed yet
    trusted     an issuer of that URL, for one of its audiences  the directory: exactly one owner, else it is nobody's
    verified    its signature, by the issuer's own keys          auth/key_sets
    principal   the tenant, and the role there                   the tenant that owns the issuer, or that the tenant claim names

Fails closed: 401 for whatever is wrong with it, all alike; 503 when the issuer's keys cannot be had, as nobody can tell then. An issuer's
keys are fetched for no token that is malformed, over, for another audience, or of an issuer that nobody trusts.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, NamedTuple

from gateway import settings
from gateway.auth.claims import SKEW_SECONDS
from gateway.auth.conditions import conditions
from gateway.auth.jose import (
    KeySet,
    Rejected,
    Token,
    check_times,
    issuer_document,
    key_set,
    read,
    verify,
)
from gateway.auth.key_sets import Fetcher, KeySets, KeysUnavailable, Source
from gateway.auth.known import end_of, networks_of, subject_of
from gateway.auth.look_ups import LookUps
from gateway.auth.principal import Principal
from gateway.authz.cedar import SubjectRole
from gateway.errors import Code, GatewayError
from gateway.loops import Spawn
from tenants import issuers, tenant
from tenants.directory.issuers import Belonging, Trusted
from tenants.ids import new_id
from tenants.issuers import Issuer, TenantIssuer
from tenants.keys import Secret
from tenants.members import Member
from tenants.rows import OPERATOR

log = logging.getLogger(__name__)

_RETRY_SECONDS: Final = 1.0


class Holder(NamedTuple):
    """A verified token, and by whose trust."""

    token: Token
    trusted: Trusted


@dataclass(frozen=True, slots=True)
class Tokens:
    """`now_us` gives microseconds since the Unix epoch, which is what tokens expire by."""

    look_ups: LookUps
    key_sets: KeySets[KeySet]
    now_us: Callable[[], int]

    async def principal(self, credential: Secret, digest: str, address: str) -> Principal:
        """Who of a tenant holds it, remembered from now on. Raises GatewayError: 401, 429, 503; fails closed."""
        await self.look_ups.feed.catch_up()
        known = self.look_ups.known
        held = known.warm(digest)  # which a look may have brought back
        if held is not None and held.source is not None and self.may_use(held.source):
            return held
        principal = await self.look_ups.unchanged(lambda: self._principal(credential, address))
        known.trust.learn_token(digest, principal)
        return principal

    async def _principal(self, credential: Secret, address: str) -> Principal:
        since = self.look_ups.known.since
        token, trusted = await self.holder(credential, address)
        name = issuers.tenant_of(trusted.issuer, token.claims)
        if trusted.tenant_id is None and name is None:
            raise _refusal("an operator's, or its tenant claim names no tenant")
        belonging = await self.look_ups.tenant(trusted.tenant_id, name, address)
        if belonging is None or tenant.state(belonging.tenant, self.now_us()) == "closed":
            raise _refusal("of no tenant that is served")
        return principal_of(token, trusted, belonging, since)

    def may_use(self, source: Source) -> bool:
        """Whether what was verified with the keys of this issuer still counts; asking keeps them fresh while nobody new comes."""
        return self.key_sets.held(source) is not None

    async def operator_id(self, credential: Secret, address: str) -> str | None:
        """The id of the operator who holds it; None for a holder who is none. Raises as `principal`."""
        token, trusted = await self.look_ups.unchanged(lambda: self.holder(credential, address))
        if trusted.tenant_id is not None or issuers.role_of(trusted.issuer, token.claims) != "operator":
            return None
        return subject_id(OPERATOR, token)

    async def holder(self, credential: Secret, address: str) -> Holder:
        """Whose it is, verified. Raises GatewayError."""
        try:
            token = read(credential.reveal())
            check_times(token, self.now_us())
            trusted = await self._trusted(token, address)
            await self._verify(token, source_of(trusted))
        except Rejected as rejected:
            raise _refusal(rejected.reason) from None  # its frames hold the token
        except KeysUnavailable as fault:
            raise GatewayError(
                Code.ISSUER_UNAVAILABLE, private=str(fault), retry_after_seconds=_RETRY_SECONDS
            ) from fault
        return Holder(token, trusted)

    async def _trusted(self, token: Token, address: str) -> Trusted:
        """The one owner of its issuer for its audience: a token that two could claim is nobody's."""
        found = await self.look_ups.issuers(token.issuer, address) or ()
        meant = meant_by(token, found)
        if len(meant) != 1:
            raise Rejected("of no trusted issuer, or for none of its audiences")
        return meant[0]

    async def _verify(self, token: Token, source: Source) -> None:
        """By the keys that are held; anew, where the token names one that is not among them. Raises Rejected, KeysUnavailable."""
        keys: KeySet | None = await self.key_sets.current(source)
        while keys is not None:
            key = keys.key_for(token)
            if key is not None:
                try:
                    return verify(token, key)
                except Rejected:
                    # Without a name it may be of another key than the one that fits.
                    if token.kid is not None:
                        raise
            keys = await self.key_sets.newer(source, keys)
        raise Rejected("of a key that its issuer has not")


def keys_of_issuers(
    fetcher: Fetcher,
    knobs: settings.Tokens,
    *,
    clock: Callable[[], float],
    spawn: Spawn,
    changed: Callable[[Source], None],
) -> KeySets[KeySet]:
    """The issuers' key sets, read strictly (`auth/jose`)."""
    return KeySets(
        fetcher=fetcher,
        read=key_set,
        discover=issuer_document,
        unreadable=Rejected,
        clock=clock,
        spawn=spawn,
        changed=changed,
        refresh_seconds=knobs.refresh_seconds,
        cooldown_seconds=knobs.cooldown_seconds,
        outage_seconds=knobs.outage_seconds,
        fetch_seconds=knobs.fetch_seconds,
    )


def meant_by(token: Token, found: Iterable[Trusted]) -> list[Trusted]:
    """Those of an issuer's owners whom the token is for. It is somebody's where there is one."""
    return [it for it in found if it.issuer.audience in token.audiences]


def principal_of(token: Token, trusted: Trusted, belonging: Belonging, since: int = 0) -> Principal:
    """Who the holder of a verified token is. A member, by the address that the issuer has verified, is known as that member."""
    owner, issuer = belonging.tenant, trusted.issuer
    member = member_of(token, belonging)
    own_id = member.id if member else subject_id(owner.id, token)
    return Principal(
        id=own_id,
        name="",
        tenant_id=owner.id,
        tenant_name=owner.name,
        plan=belonging.plan,
        subject=subject_of(own_id, owner, role=_role(token, issuer, member)),
        expires_us=end_of(token.expires_us + SKEW_SECONDS * 1_000_000, owner),
        source=source_of(trusted),
        conditions=conditions(None, None, networks_of(owner)),
        privacy=belonging.privacy,
        since=since,
    )


def source_of(trusted: Trusted) -> Source:
    issuer = trusted.issuer
    return Source(issuer.issuer, issuer.jwks_url, issuer.insecure)


def subject_id(owner_id: str, token: Token) -> str:
    """What stands for an issuer's subject in the audit log: always the same, and of no use without the tenant's id."""
    told = "\0".join((owner_id, token.issuer, token.subject))
    return new_id("p", sha256(told.encode()).digest())


def _role(token: Token, issuer: TenantIssuer | Issuer, member: Member | None) -> SubjectRole | None:
    """What the token says, else what the member is. An issuer that gives roles gave none: then it is `none`, who may do nothing; one that
    gives none leaves it to the members, and who is not among them is as a key without an account.
    """
    claimed = issuers.role_of(issuer, token.claims)
    if claimed is not None and claimed != "operator":
        return claimed
    if member is not None:
        return member.role
    return None if issuer.roles_claim is None else "none"


def member_of(token: Token, belonging: Belonging) -> Member | None:
    """Whom the issuer has verified to have a member's address (OpenID Connect Core, 5.1)."""
    email = token.claims.get("email")
    if not isinstance(email, str) or token.claims.get("email_verified") is not True:
        return None
    return belonging.member(email)


def _refusal(why: str) -> GatewayError:
    """None of the sentences has anything of the token in it."""
    log.debug("a token was refused: %s", why)
    return GatewayError(Code.UNAUTHENTICATED, private=why)
