"""A directory in a table whose answers can be watched and held back, what one process knows of it, and a clock that is driven by hand."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence

import pytest

from gateway.auth.authenticator import Authenticator
from gateway.auth.known import Known
from gateway.auth.look_ups import LookUps
from gateway.auth.networks import Networks
from gateway.auth.principal import Principal
from gateway.auth.tokens import Tokens
from gateway.cluster.feed import Feed
from gateway.errors import Code, GatewayError
from tenants.acts import Act
from tenants.directory import Directory, Minted
from tenants.fleet import Fleet
from tenants.keys import Secret, hashed
from tenants.plans import Limits, Plan, Rate
from tenants.ports import MOST_KEYS, Key, Page, Row
from tests.worlds.issuer import IssuerWorld, key_sets
from tests.worlds.table import MemoryTable

NOW_US = 1_700_000_000_000_000
ACT = Act("test", NOW_US)
HERE = "192.0.2.1"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def at_once(_: str) -> None:
    """Each answer comes when it is there."""


class WatchedTable(MemoryTable):
    """`reads` are the partitions that were asked for. An answer, as it was when it was made, comes when `answer` lets it."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[str] = []
        self.answer: Callable[[str], Awaitable[None]] = at_once

    async def get(self, key: Key) -> Row | None:
        found = await super().get(key)
        await self._answered(key.partition)
        return found

    async def get_many(self, keys: Sequence[Key]) -> dict[Key, Row]:
        found = await super().get_many(keys)
        for key in keys:
            await self._answered(key.partition)
        return found

    async def list(
        self, partition: str, prefix: str = "", after: str | None = None, limit: int = MOST_KEYS
    ) -> Page:
        found = await super().list(partition, prefix, after, limit)
        await self._answered(partition)
        return found

    async def _answered(self, partition: str) -> None:
        self.reads.append(partition)
        await self.answer(partition)

    def looked_up(self) -> Sequence[str]:
        """The digests that were asked for since the last time, and nothing else is remembered either."""
        found = [it.removeprefix("digest/") for it in self.reads if it.startswith("digest/")]
        self.reads.clear()
        return sorted(found)


class Held:
    """An `answer` that holds back what is read of some partitions, until it is let go."""

    def __init__(self, table: WatchedTable, prefix: str) -> None:
        self.prefix, self.reached, self.released = prefix, asyncio.Event(), asyncio.Event()
        table.answer = self

    async def __call__(self, partition: str) -> None:
        if partition.startswith(self.prefix):
            self.reached.set()
            await self.released.wait()


class World:
    """Tenant acme on the plan team, globex on the plan big, and one gateway's knowledge of them."""

    def __init__(
        self,
        most_keys: int = 100,
        limit: Rate | None = None,
        answer_seconds: float = 60.0,
        entropy: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self.table, self.clock, self.now_us = WatchedTable(), Clock(), NOW_US
        self.directory = Directory(self.table, entropy)
        self.known = Known(self.clock, most_keys=most_keys)
        self.feed = Feed(self.directory, self.known, answer_seconds)
        self.networks = Networks(limit, self.clock)
        look_ups = LookUps(self.directory, self.known, self.feed, self.networks, answer_seconds)
        self.issuer = IssuerWorld()
        self.key_sets = key_sets(self.issuer, self.known, self.clock)
        tokens = Tokens(look_ups, self.key_sets, lambda: self.now_us)
        self.keys = Authenticator(self.known, look_ups, tokens, lambda: self.now_us)

    async def open(self) -> "World":
        for plan, tenant in (("team", "acme"), ("big", "globex")):
            await self.directory.values.put(Plan(plan, 1, Limits(body_bytes=10)), act=ACT)
            await self.directory.tenants.create(tenant, plan, act=ACT)
        await self.directory.values.put(Fleet("local"), act=ACT)
        await self.feed.look()
        return self

    async def key(
        self, tenant: str = "acme", *, expires_us: int | None = None, account_id: str | None = None
    ) -> Minted:
        return await self.directory.keys.create(tenant, act=ACT, expires_us=expires_us, account_id=account_id)

    async def warm(self, tenant: str = "acme", account_id: str | None = None) -> Minted:
        minted = await self.key(tenant, account_id=account_id)
        await self.seen()
        await self.called(minted.secret)
        return minted

    async def seen(self) -> None:
        """All that was changed is seen, and was seen twice: no look has anything left to do."""
        for _ in range(2):
            await self.feed.look()

    async def revoke(self, minted: Minted, tenant: str = "acme") -> None:
        await self.directory.keys.revoke(tenant, minted.key.id, act=ACT)

    async def revoke_unseen(self, minted: Minted, tenant: str = "acme") -> None:
        """By somebody whose own reads are not held back."""
        another = MemoryTable(self.table.rows)
        await Directory(another, secrets.token_bytes).keys.revoke(tenant, minted.key.id, act=ACT)

    async def called(self, secret: Secret, address: str = HERE) -> Principal:
        return await self.keys.authenticate(secret, address)

    async def refused(self, secret: Secret | None, address: str = HERE) -> Code:
        with pytest.raises(GatewayError) as caught:
            await self.keys.authenticate(secret, address)
        return caught.value.code

    def is_warm(self, minted: Minted) -> bool:
        return self.known.warm(hashed(minted.secret)) is not None


async def settled() -> None:
    """Return once every task has come as far as it can without an answer that is held back."""
    for _ in range(50):
        await asyncio.sleep(0)
