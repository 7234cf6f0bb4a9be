"""A key whose text somebody has: whose it is, which keys it made, and their end."""

from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from tenants import keys
from tenants.acts import Act
from tenants.directory.keys import Keys
from tenants.directory.uses import KeyRecord, Uses
from tenants.errors import Invalid, NotFound
from tenants.keys import WORKING, ApiKey, Secret
from tenants.rows import OPERATOR, KeyPointer, digest_at, key_at, read, tenant_at
from tenants.tenant import Tenant

REASON: Final = "its text has leaked"


@dataclass(frozen=True, slots=True)
class Leak:
    """A key that is revoked, and the keys that it made, and those that they made, oldest first."""

    key: "Owned"
    made: tuple["Owned", ...]


@dataclass(frozen=True, slots=True)
class Owned:
    """`tenant` is its name, None the operators."""

    tenant: str | None
    record: KeyRecord


@dataclass(frozen=True, slots=True)
class Leaks:
    keys: Keys
    uses: Uses

    async def find(self, secret: Secret) -> ApiKey:
        """The key of this text, in whatever state. Raises Invalid for what cannot be one, NotFound; neither repeats the text."""
        digest = keys.digest(secret.reveal())
        if digest is None:
            raise Invalid("api_key", "is no API key of this gateway: a character is wrong or missing")
        journal = self.keys.journal
        row = await journal.table.get(digest_at(digest))
        pointer = read(row, KeyPointer) if row else None
        found = await journal.table.get(key_at(pointer.tenant_id, pointer.key_id)) if pointer else None
        if found is None:
            raise NotFound("key", "of this text")
        return read(found, ApiKey)

    async def revoke(self, found: ApiKey, act: Act) -> ApiKey:
        """Ends it, for a leak where the act has no reason of its own. Repeated: the same, without another event."""
        return await self.keys.revoke(await self._tenant_name(found), found.id, _for_leak(act))

    async def answer(self, found: ApiKey, act: Act, *, and_made: bool) -> Leak:
        """What is to be known of a key that was revoked; what it made is ended too if `and_made`. Repeated: it ends what is left."""
        made = await self._made(found)
        if and_made:
            once_each = replace(_for_leak(act), once=None)
            working = [it for it in made if keys.state(it, act.at_us) in WORKING]
            ended = {it.id: await self.revoke(it, once_each) for it in working}
            made = [ended.get(it.id, it) for it in made]
        now = await self.keys.show(await self._tenant_name(found), found.id)
        first, *rest = [
            Owned(await self._tenant_name(it.key), it) for it in await self.uses.records([now, *made])
        ]
        return Leak(first, tuple(rest))

    async def _made(self, key: ApiKey) -> list[ApiKey]:
        """All that the key made, and that those made. An operator's may have made keys of every tenant."""
        by_maker: defaultdict[str, list[ApiKey]] = defaultdict(list)
        async for other in self._keys_of(await self._reach(key)):
            if other.made_by is not None:
                by_maker[other.made_by].append(other)
        found: dict[str, ApiKey] = {}
        makers = [key.id]
        while makers:
            new = [it for it in by_maker[makers.pop()] if it.id not in found and it.id != key.id]
            found |= {it.id: it for it in new}
            makers += [it.id for it in new]
        return sorted(found.values(), key=lambda it: (it.created_us, it.id))

    async def _reach(self, key: ApiKey) -> Sequence[str | None]:
        if key.tenant_id != OPERATOR:
            return [await self._tenant_name(key)]
        names: list[str | None] = [None]
        after: str | None = None
        while True:
            page = await self.keys.tenants.list(after)
            names += [it.name for it in page.values]
            after = page.next_after
            if after is None:
                return names

    async def _keys_of(self, names: Sequence[str | None]) -> AsyncIterator[ApiKey]:
        for name in names:
            after: str | None = None
            while True:
                page = await self.keys.list(name, after)
                for it in page.values:
                    yield it
                after = page.next_after
                if after is None:
                    break

    async def _tenant_name(self, key: ApiKey) -> str | None:
        if key.tenant_id == OPERATOR:
            return None
        row = await self.keys.journal.table.get(tenant_at(key.tenant_id))
        if row is None:
            raise NotFound("tenant", key.tenant_id)
        return read(row, Tenant).name


def _for_leak(act: Act) -> Act:
    return replace(act, reason=act.reason or REASON)
