"""Issuers of tenants and of the platform, each with its keys, over the world of keys; and a gateway that meets their tokens."""

import asyncio
from typing import Any

from gateway.auth.key_sets import Source, Unreachable
from gateway.errors import Code, GatewayError
from tenants.issuers import Issuer, TenantIssuer
from tenants.keys import Secret, hashed
from tenants.plans import Rate
from tests.gateway.auth.world import ACT, HERE, World, settled
from tests.worlds.issuer import IssuerWorld

ACME, GLOBEX, SHARED, OPERATORS = (
    f"https://login.{name}.example" for name in ("acme", "globex", "shared", "operators")
)


class TokenWorld(World):
    """Acme and globex have an issuer each, without a roles claim; `shared` is the platform's, `operators` the operators'. Which issuer is
    asked for its keys is told by the URL's beginning. `fetched` are the URLs that were asked for.
    """

    def __init__(self, limit: Rate | None = None, **given: Any) -> None:
        super().__init__(limit=limit, **given)
        self.issuers = {url: IssuerWorld(url) for url in (ACME, GLOBEX, SHARED, OPERATORS)}
        self.fetched: list[str] = []
        self.key_sets.fetcher = self

    async def get(self, url: str, *, insecure: bool, most_bytes: int) -> bytes:
        """What the gateway's `Web` would read there."""
        self.fetched.append(url)
        for issuer in self.issuers.values():
            if url.startswith(issuer.url + "/"):
                return await issuer.get(url, insecure=insecure, most_bytes=most_bytes)
        raise Unreachable("no such host")

    async def open(self) -> "TokenWorld":
        await super().open()
        await self.trust("acme", own(ACME))
        await self.trust("globex", own(GLOBEX))
        await self.share(shared())
        await self.share(Issuer(OPERATORS, "gateway", f"{OPERATORS}/jwks", "roles", operators=True))
        await self.seen()
        self.table.reads.clear()
        return self

    async def trust(self, tenant: str, *issuers: TenantIssuer) -> None:
        await self.directory.issuers.put(tenant, issuers, ACT)

    async def share(self, issuer: Issuer) -> None:
        await self.directory.values.put(issuer, act=ACT)

    def token(self, url: str = ACME, **claims: Any) -> Secret:
        if url == SHARED:
            claims = {"tenant": "acme", **claims}
        return Secret(self.issuers[url].token(**claims))

    async def met(self, url: str = ACME, **claims: Any) -> Secret:
        """A token that is warm."""
        token = self.token(url, **claims)
        await self.called(token)
        assert self.is_known(token)
        return token

    def is_known(self, token: Secret) -> bool:
        return self.known.trust.token(hashed(token)) is not None

    async def outcome(self, token: Secret, address: str = HERE) -> Code | None:
        """Why it is refused; None: it is served."""
        try:
            await self.called(token, address)
        except GatewayError as error:
            return error.code
        return None

    async def turned_out(self, url: str) -> None:
        """Its keys are others and none of those before, and the gateway has noticed."""
        self.issuers[url].rotate(f"{len(self.fetched)}", "ES256", keep=False)
        self.clock.now += self.key_sets.refresh_seconds - 1
        self.key_sets.held(Source(url, f"{url}/jwks", insecure=False))  # somebody still comes
        self.clock.now += 1
        await self.feed.look()
        await self.key_sets.refresh()
        await settled()


class Fetching:
    """Holds back what issuers answer."""

    def __init__(self, world: TokenWorld) -> None:
        self.world, self.reached, self.released = world, asyncio.Event(), asyncio.Event()
        world.key_sets.fetcher = self

    async def get(self, url: str, *, insecure: bool, most_bytes: int) -> bytes:
        found = await self.world.get(url, insecure=insecure, most_bytes=most_bytes)
        self.reached.set()
        await self.released.wait()
        return found


def own(url: str, **given: Any) -> TenantIssuer:
    return TenantIssuer(url, given.pop("audience", "gateway"), given.pop("jwks_url", f"{url}/jwks"), **given)


def shared(**given: Any) -> Issuer:
    told: dict[str, Any] = {"jwks_url": f"{SHARED}/jwks", "tenant_claim": "tenant", **given}
    return Issuer(SHARED, told.pop("audience", "gateway"), **told)
