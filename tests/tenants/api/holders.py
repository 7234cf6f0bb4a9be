"""Who holds tokens: a tenant's of every role, a member's, the operators', and a stranger's, of issuers that the directory trusts."""

from typing import Any, Final

from tenants.acts import Act
from tenants.issuers import Issuer, TenantIssuer
from tenants.members import ROLES
from tests.tenants.api.worlds import World
from tests.tenants.conftest import BY, NOW

KEYS: Final = "https://login.example/keys"
ACME, PEOPLE, GLOBEX, STAFF, SHARED = (
    f"https://{name}.example" for name in ("login.acme", "people.acme", "login.globex", "staff", "many")
)
"""`PEOPLE` gives no roles: there its members' are theirs. `SHARED` names the tenant in a claim."""
MAY: Final[dict[str, str]] = {
    "operator": "operator",
    **{role: role for role in ROLES},
    "stranger": "stranger",
    "plain": "plain",
}
"""Callers with a token, and the caller with a key who may as much."""


async def trusting(world: World) -> None:
    """The issuers are trusted, and `world.keys` has a token of each caller as `"<caller> token"`."""
    act = Act(BY, NOW)
    told: dict[str, Any] = {"audience": world.issuer.audience, "jwks_url": KEYS}
    own = (TenantIssuer(ACME, roles_claim="roles", **told), TenantIssuer(PEOPLE, **told))
    await world.directory.issuers.put("acme", own, act)
    await world.directory.issuers.put("globex", (TenantIssuer(GLOBEX, roles_claim="roles", **told),), act)
    await world.directory.values.put(
        Issuer(STAFF, roles_claim="roles", operators=True, **told),
        Issuer(SHARED, roles_claim="roles", tenant_claim="tenant", **told),
        act=act,
    )
    for role in ROLES:
        world.keys[f"{role} token"] = world.issuer.token(iss=ACME, sub=role, roles=[role])
    world.keys["operator token"] = world.issuer.token(iss=STAFF, sub="root", roles=["operator"])
    world.keys["stranger token"] = world.issuer.token(iss=GLOBEX, sub="eve", roles="admin")
    world.keys["plain token"] = world.issuer.token(iss=ACME, sub="nobody")


def member_token(world: World, email: str = "ada@acme.example", **claims: Any) -> str:
    """Of a person whom the issuer has verified to have that address, and who may be a member."""
    return world.issuer.token(iss=PEOPLE, email=email, email_verified=True, **claims)


async def glass(world: World, caller: str = "glass", **more: Any) -> str:
    """A break-glass key of the operators', as a caller; its id."""
    minted = await world.directory.keys.create(None, Act(BY, NOW), name=caller, break_glass=True, **more)
    world.keys[caller] = minted.secret.reveal()
    return minted.key.id
