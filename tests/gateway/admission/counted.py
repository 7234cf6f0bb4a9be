"""A table that counts what it is asked."""

from collections import Counter
from dataclasses import dataclass, field

from tenants.ports import Item, Key, Row
from tests.worlds.table import MemoryTable


@dataclass(slots=True)
class Counted(MemoryTable):
    calls: Counter[str] = field(default_factory=Counter)

    async def get(self, key: Key) -> Row | None:
        self.calls["get"] += 1
        return await MemoryTable.get(self, key)

    async def transact(self, *items: Item) -> None:
        self.calls["transact"] += 1
        await MemoryTable.transact(self, *items)
