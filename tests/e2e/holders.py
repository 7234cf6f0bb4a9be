"""Who comes to the gateway with a token: of each role and of none, of others, the operators, and whose token is worth nothing."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final

from tenants.acts import Act
from tenants.directory import Directory
from tenants.issuers import Issuer, TenantIssuer
from tenants.members import ROLES
from tests.worlds.issuer import IssuerWorld
from tests.worlds.key_server import publishing

ROLELESS: Final = "no-roles"
"""An audience: for it the issuer says no roles, so that they are the members'."""


@dataclass(frozen=True, slots=True)
class Providers:
    """The tenants' issuer, the operators', and one that signs in the name of the first with keys of its own."""

    people: IssuerWorld
    operators: IssuerWorld
    forger: IssuerWorld

    async def trusted(self, directory: Directory, act: Act, *tenants: str) -> None:
        """Each of the tenants trusts it for an audience of its own name, the first for `ROLELESS` too."""
        for name in tenants:
            own = [TenantIssuer(self.people.url, name, roles_claim="roles", insecure=True)]
            if name == tenants[0]:
                own.append(TenantIssuer(self.people.url, ROLELESS, insecure=True))
            await directory.issuers.put(name, own, act)
        shared = Issuer(self.operators.url, "operators", roles_claim="groups", insecure=True, operators=True)
        await directory.values.put(shared, act=act)

    def of(self, tenant: str, **claims: Any) -> str:
        return self.people.token(**(_times() | {"aud": tenant} | claims))

    def operator(self, **claims: Any) -> str:
        return self.operators.token(**(_times() | {"aud": "operators", "groups": ["operator"]} | claims))

    def of_roles(self, tenant: str) -> dict[str, str]:
        return {role: self.of(tenant, sub=role, roles=[role]) for role in ROLES}

    def worthless(self, tenant: str) -> dict[str, str]:
        """As an admin's or an operator's but for one thing each."""
        admin: dict[str, Any] = {"roles": ["admin"]}
        now = int(time.time())
        forged = self.forger.token(**(_times() | {"aud": tenant} | admin))
        stranger = self.people.token(
            **(_times() | {"aud": tenant, "iss": "https://login.evil.example"} | admin)
        )
        return {
            "token, expired": self.of(tenant, iat=now - 4000, exp=now - 100, **admin),
            "token, for another audience": self.of("elsewhere", **admin),
            "token, forged": forged,
            "token, of an issuer that nobody trusts": stranger,
            "token, of the operators' issuer for a tenant": self.operator(aud=tenant, **admin),
            "token, for operators by a tenant's issuer": self.of("operators", groups=["operator"]),
            "token, of an operator's issuer who is none": self.operator(groups=["developer"]),
        }


@contextmanager
def providers() -> Iterator[Providers]:
    """Issuers that serve their keys until the block ends."""
    with ExitStack() as stack:
        servers = [stack.enter_context(publishing()) for _ in range(2)]
        people, operators = worlds = [IssuerWorld(it.url) for it in servers]
        for server, world in zip(servers, worlds, strict=True):
            server.keys = world.jwks
        forger = IssuerWorld(people.url, keys=dict(operators.keys))
        yield Providers(people, operators, forger)


def _times() -> dict[str, Any]:
    now = int(time.time())
    return {"iat": now, "exp": now + 3600}
