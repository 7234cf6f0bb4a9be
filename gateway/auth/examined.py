"""What a gateway would make of a token, step by step, for whoever has it: the same rules in the same order, and what to do about each that
it fails. Nothing is remembered.

What is said of a token is its `iss`, `aud`, `kid`, times, tenant and role, and the names of its claims; never the token, its signature, or
what another claim says.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Protocol

from gateway.auth.authenticator import KEY_MARK
from gateway.auth.claims import SKEW_SECONDS
from gateway.auth.jose import MOST_CHARACTERS, KeySet, Rejected, Token, check_times, read, verify
from gateway.auth.key_sets import Fetcher, KeySets, KeysUnavailable
from gateway.auth.known import networks_of
from gateway.auth.tokens import meant_by, member_of, principal_of, source_of
from gateway.authz.cedar import SubjectRole
from tenants import issuers, tenant
from tenants.directory.issuers import Belonging, Trusted
from tenants.issuers import Issuer
from tenants.urls import host_of

_MOST_NAMES: Final = 40
_MOST_NAME: Final = 60
_MAY: Final[dict[SubjectRole | None, str]] = {
    "admin": "calls models, and controls its tenant: people, accounts, keys, restrictions",
    "developer": "calls models, and keeps keys that are no admin's",
    "viewer": "sees its tenant and what models there are, and calls none",
    "billing": "sees its tenant and its plan, and no model",
    "none": "may do nothing (403)",
    None: "calls models, and controls nothing",
}
_NO_FORM: Final = (
    f"Send a signed JWT as the provider gave it: three parts, at most {MOST_CHARACTERS // 1024} KiB, RS256, PS256, ES256 or EdDSA, "
    "with iss, sub, aud and exp. Some access tokens are for the provider alone: ask it for one of an audience of your own, or send the "
    "ID token."
)
_NO_KEYS: Final = (
    "From this machine the provider must answer at its configuration, or at the issuer's jwks_url. One in a private network, or "
    "without https, needs insecure: true; a company's own certificate authority is named by SSL_CERT_FILE."
)


@dataclass(frozen=True, slots=True)
class Step:
    """`found` is what is so, `do` what to do about it where it is not `good`."""

    name: str
    good: bool
    found: str
    do: str = ""


class Directory(Protocol):
    """What is asked of the tenants' directory."""

    async def trusted(self, url: str) -> tuple[Trusted, ...]:
        """Every issuer of this URL."""

    async def belonging(self, *, tenant_id: str | None = None, name: str | None = None) -> Belonging | None:
        """The tenant of this id, or of this name; None for none that is served."""


@dataclass(slots=True)
class Hosts:
    """A fetcher that knows which hosts it was sent to."""

    fetcher: Fetcher
    asked: list[str] = field(default_factory=list)

    async def get(self, url: str, *, insecure: bool, most_bytes: int) -> bytes:
        self.asked.append(host_of(url))
        return await self.fetcher.get(url, insecure=insecure, most_bytes=most_bytes)


@dataclass(frozen=True, slots=True)
class Examination:
    """`told` is called with each step. `for_operators`: as the operators' listener takes it, else as all others do."""

    directory: Directory
    key_sets: KeySets[KeySet]
    hosts: Hosts
    now_us: int
    told: Callable[[Step], None]
    for_operators: bool = False

    async def run(self, text: str) -> bool:
        """Whether it would be taken."""
        token = self._form(text)
        if token is None:
            return False
        in_time = self._times(token)
        trusted = await self._trusted(token)
        if trusted is None or not await self._signed(token, trusted):
            return False
        if self.for_operators:
            return self._operator(token, trusted) and in_time
        belonging = await self._tenant(token, trusted)
        return belonging is not None and self._role(token, trusted, belonging) and in_time

    def _say(self, name: str, found: str, do: str = "") -> bool:
        """Good unless there is something to do."""
        self.told(Step(name, not do, found, do))
        return not do

    def _form(self, text: str) -> Token | None:
        if text.startswith(KEY_MARK):
            self._say("form", "an API key, not a token", "Ask `gateway keys show` about it, by its id.")
            return None
        try:
            token = read(text)
        except Rejected as fault:
            self._say("form", f"not what the gateway reads: {fault.reason}", _NO_FORM)
            return None
        named = "without a kid" if token.kid is None else f"kid {token.kid!r}"
        self._say("form", f"{token.algorithm}, {named}; it has the claims {_names(token)}")
        return token

    def _times(self, token: Token) -> bool:
        named = (
            ("issued", token.issued_us),
            ("holds from", token.not_before_us),
            ("holds until", token.expires_us),
        )
        found = ", ".join(f"{words} {_when(us)}" for words, us in named if us is not None)
        try:
            check_times(token, self.now_us)
        except Rejected as fault:
            if self.now_us >= token.expires_us:
                do = "Get a new one: tokens end, and their clients renew them."
            else:
                do = f"Set the clocks: the provider's is more than {SKEW_SECONDS} s before this machine's."
            return self._say("times", f"{found}; {fault.reason}", do)
        return self._say("times", found)

    async def _trusted(self, token: Token) -> Trusted | None:
        """As `Tokens.holder`: an issuer of exactly that URL, for an audience of exactly one owner."""
        aud = ", ".join(map(repr, token.audiences))
        found = await self.directory.trusted(token.issuer)
        if not found:
            self._say("issuer", f"nobody trusts {token.issuer!r}", await self._other_issuer(token))
            return None
        owners = [(await self._owner(one), one.issuer.audience) for one in found]
        self._say(
            "issuer", f"{token.issuer!r}, of {' and '.join(dict.fromkeys(owner for owner, _ in owners))}"
        )
        meant = meant_by(token, found)
        if len(meant) == 1:
            self._say("audience", f"{meant[0].issuer.audience!r}, of {await self._owner(meant[0])}")
            return meant[0]
        trusts = "; ".join(f"{owner} has {audience!r}" for owner, audience in owners)
        if meant:
            do = "Have it issued for one of them: what two could claim is nobody's."
        else:
            do = (
                f"Set the client's audience at the provider, or trust one of these: "
                f"gateway tenants trust NAME --issuer {token.issuer} --audience A."
            )
        self._say("audience", f"the token is for {aud}, and {trusts}", do)
        return None

    async def _other_issuer(self, token: Token) -> str:
        url = token.issuer
        other = url[:-1] if url.endswith("/") else f"{url}/"
        if await self.directory.trusted(other):
            return f"{other!r} is trusted: write the issuer as its tokens have it, to the letter, the slash at its end too."
        return f"If it is yours: gateway tenants trust NAME --issuer {url} --audience {token.audiences[0]}."

    async def _owner(self, one: Trusted) -> str:
        if one.tenant_id is not None:
            found = await self.directory.belonging(tenant_id=one.tenant_id)
            return f"the tenant {found.tenant.name if found else one.tenant_id}"
        is_operators = isinstance(one.issuer, Issuer) and one.issuer.operators
        return "the operators" if is_operators else "the platform, for many tenants"

    async def _signed(self, token: Token, trusted: Trusted) -> bool:
        try:
            keys = await self.key_sets.current(source_of(trusted))
        except KeysUnavailable as fault:
            return self._say("keys", f"the issuer's keys cannot be had: {fault}", _NO_KEYS)
        found = f"from {self.hosts.asked[-1]}: {len(keys)} can be used"
        if keys.rejected:
            found += f", {len(keys.rejected)} cannot ({'; '.join(keys.rejected)})"
        self._say("keys", found)
        key = keys.key_for(token)
        if key is None:
            named = (
                "names no key, and there is not just one"
                if token.kid is None
                else f"names the key {token.kid!r}, which is none"
            )
            do = "Get a new token: its key was taken back, or is none that can be used. If new ones fail too, they are of another issuer."
            return self._say("signature", f"the token {named} of these for {token.algorithm}", do)
        try:
            verify(token, key)
        except Rejected as fault:
            do = "Get a new token, and send it whole: it was changed, or somebody else signed it."
            return self._say("signature", fault.reason, do)
        return self._say("signature", "the issuer's")

    def _operator(self, token: Token, trusted: Trusted) -> bool:
        if trusted.tenant_id is not None:
            do = "Take one of an issuer with operators: true; a tenant's people come by the other listener."
            return self._say("role", "not an operator: the issuer is a tenant's", do)
        if issuers.role_of(trusted.issuer, token.claims) == "operator":
            return self._say(
                "role", f"operator, by the claim {trusted.issuer.roles_claim!r}: controls all tenants"
            )
        return self._say("role", "not an operator", _no_role(trusted))

    async def _tenant(self, token: Token, trusted: Trusted) -> Belonging | None:
        name = issuers.tenant_of(trusted.issuer, token.claims)
        if trusted.tenant_id is None and name is None:
            claim = trusted.issuer.tenant_claim if isinstance(trusted.issuer, Issuer) else None
            if claim is None:
                do = "They come by the operator listener: check it with --operator."
                self._say("tenant", "none: it is of the operators' issuer", do)
            else:
                do = "Have the provider put a tenant's name there, as one text."
                self._say("tenant", f"none: the claim {claim!r} is missing, or no name of a tenant", do)
            return None
        found = await self.directory.belonging(tenant_id=trusted.tenant_id, name=name)
        state = None if found is None else tenant.state(found.tenant, self.now_us)
        if found is None or state == "closed":
            told = "its issuer's" if name is None else repr(name)
            self._say("tenant", f"{told}, which is not served", "See: gateway tenants list.")
            return None
        if state != "active":
            do = f"It is not served until: gateway tenants {'resume' if state == 'suspended' else 'reopen'} {found.tenant.name}."
            self._say("tenant", f"{found.tenant.name}, which is {state}", do)
            return None
        bounds = networks_of(found.tenant)
        only = f", from {', '.join(bounds)} alone" if bounds is not None else ""
        self._say("tenant", f"{found.tenant.name}, on the plan {found.plan.name}{only}")
        return found

    def _role(self, token: Token, trusted: Trusted, belonging: Belonging) -> bool:
        role = principal_of(token, trusted, belonging).subject.role
        claim = trusted.issuer.roles_claim
        if role == "none":
            return self._say("role", f"none: {_MAY['none']}", _no_role(trusted))
        if role is None:
            return self._say("role", f"none, as its holder is no member: {_MAY[None]}")
        by_claim = issuers.role_of(trusted.issuer, token.claims) is not None
        member = member_of(token, belonging)
        by = f"by the claim {claim!r}" if by_claim else "as a member, by the e-mail address"
        known = f", known as the member {member.id}" if member else ""
        return self._say("role", f"{role}, {by}{known}: {_MAY[role]}")


def _no_role(trusted: Trusted) -> str:
    issuer = trusted.issuer
    there = f"the claim {issuer.roles_claim!r}"
    if isinstance(issuer, Issuer) and issuer.operators:
        return f"Have the provider put 'operator' into {there}, or map a value that is there: `roles` of the issuer's document."
    values = "a role" if issuer.roles is None else "a value that is mapped to a role"
    return (
        f"Have the provider put {values} into {there}, or map one that is there: `roles` of the issuer's document. Or invite the holder "
        "as a member, by an address that the provider has verified (email_verified)."
    )


def _names(token: Token) -> str:
    """Of strangers' making, so they are escaped and not many."""
    names = sorted(token.claims)
    told = ", ".join(ascii(name[:_MOST_NAME])[1:-1] for name in names[:_MOST_NAMES])
    return told + (f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else "")


def _when(us: int) -> str:
    return datetime.fromtimestamp(us / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
