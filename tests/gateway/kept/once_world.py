"""Processes with an Idempotency-Key's claims over one table, one place of blobs and one keyring, and a clock for all."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from hashlib import sha256
from random import Random
from typing import Any

from gateway.kept.once import Once
from tenants.errors import TableUnavailable
from tenants.ports import Item
from tests.worlds.blobs import BlobWorld
from tests.worlds.keyring import KeyringWorld
from tests.worlds.table import MemoryTable

NOW_US = 1_700_000_000_000_000
DAY_US = 86_400_000_000
TENANT = "t_1"
ASKED = sha256(b"asked").digest()
OTHER = sha256(b"other").digest()


@dataclass(slots=True)
class LateTable(MemoryTable):
    """The next `most` writes have no answer, and may be made when it pleases: they are `late`."""

    most: int = 0
    late: list[tuple[Item, ...]] = field(default_factory=list)

    async def transact(self, *items: Item) -> None:
        if self.most:
            self.most -= 1
            self.late.append(items)
            raise TableUnavailable("late")
        await MemoryTable.transact(self, *items)


@dataclass
class OnceWorld:
    """`jobs` go on beside the requests."""

    table: MemoryTable = field(default_factory=MemoryTable)
    blobs: BlobWorld = field(default_factory=BlobWorld)
    keyring: KeyringWorld = field(default_factory=KeyringWorld)
    now_us: int = NOW_US
    jobs: list["asyncio.Task[None]"] = field(default_factory=list)

    def process(self, seed: int = 1, ahead_us: int = 0, answer_seconds: float = 5.0) -> Once:
        return Once(
            self.table,
            self.blobs,
            self.keyring,
            lambda: self.now_us + ahead_us,
            Random(seed).randbytes,
            self.spawn,
            answer_seconds,
        )

    def spawn(self, _: str, job: Coroutine[Any, Any, None]) -> None:
        self.jobs.append(asyncio.get_running_loop().create_task(job))

    async def rest(self) -> None:
        """Until what goes on beside the requests is over."""
        while self.jobs:
            await self.jobs.pop()
