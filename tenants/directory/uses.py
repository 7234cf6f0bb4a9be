"""When keys were last used, noted beside the order of changes; and keys as they are shown, with that."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from tenants import keys
from tenants.directory.journal import Journal
from tenants.keys import ApiKey
from tenants.members import Account
from tenants.ports import MOST_ITEMS, Put
from tenants.rows import Used, account_at, encoded, readable, used_at

Use = tuple[str, int]
"""The tenant id of the key's row, and when, in microseconds since 1970, UTC."""


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A key with what its row does not say: its last use, None when none is known, and whether its service account is gone."""

    key: ApiKey
    used_us: int | None = None
    is_orphan: bool = False

    def state(self, now_us: int) -> keys.Shown:
        found = keys.state(self.key, now_us)
        return "orphaned" if self.is_orphan and found in keys.WORKING else found


@dataclass(frozen=True, slots=True)
class Uses:
    """Notes are no changes: they move no number, have no event, and of two gateways' the last written stays. That of a key which was
    revoked stays too, like its row: it tells whether somebody used it to the end.
    """

    journal: Journal

    async def note(self, uses: Mapping[str, Use]) -> None:
        """The last uses of some keys, by their ids, are kept. Raises TableUnavailable: then some may be, and to ask again does no harm."""
        left = iter(uses.items())
        while batch := list(islice(left, MOST_ITEMS)):
            rows = (
                Put(used_at(tenant_id, key_id), encoded(Used(at_us)), None)
                for key_id, (tenant_id, at_us) in batch
            )
            await self.journal.table.transact(*rows)

    async def records(self, found: Sequence[ApiKey]) -> tuple[KeyRecord, ...]:
        """The keys with what else is to be shown of them."""
        many = self.journal.many
        used = readable(await many(used_at(key.tenant_id, key.id) for key in found), Used)
        owned = [account_at(key.tenant_id, key.account_id) for key in found if key.account_id]
        accounts = readable(await many(owned), Account)

        def record(key: ApiKey) -> KeyRecord:
            use = used.get(used_at(key.tenant_id, key.id))
            is_orphan = (
                bool(key.account_id) and account_at(key.tenant_id, key.account_id or "") not in accounts
            )
            return KeyRecord(key, use.at_us if use else None, is_orphan)

        return tuple(map(record, found))

    async def record(self, key: ApiKey) -> KeyRecord:
        (found,) = await self.records([key])
        return found
