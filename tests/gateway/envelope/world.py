"""Processes with keyrings and caretakers over one directory, one table of wrapped keys and one KeyService, and a clock."""

from dataclasses import dataclass, field
from random import Random

from gateway.envelope.caretaker import Caretaker
from gateway.envelope.keyring import Keyring
from gateway.envelope.keys import DataKey
from gateway.loops import Spawn
from tenants.acts import Act
from tenants.directory import Directory
from tenants.plans import Limits, Plan, Rate
from tests.worlds.key_service import MemoryKeyService
from tests.worlds.table import MemoryTable


@dataclass
class World:
    spawn: Spawn
    rows: MemoryTable = field(default_factory=MemoryTable)
    wrapped: MemoryTable = field(default_factory=MemoryTable)
    service: MemoryKeyService = field(default_factory=MemoryKeyService)
    now: float = 1_700_000_000.0

    def __post_init__(self) -> None:
        self.directory = Directory(self.rows, Random(2).randbytes, has_kms=True)

    def act(self) -> Act:
        return Act("cli:test", int(self.now * 1_000_000))

    def keyring(self, seed: int = 3, *, is_told: bool = False) -> Keyring:
        """Its feed tells nothing unless the test does, or it `is_told` at any time that nothing is new."""
        entropy = Random(seed).randbytes
        return Keyring(
            Directory(self.rows, entropy).data_keys,
            self.wrapped,
            self.service,
            clock=lambda: self.now,
            confirmed_at=lambda: self.now if is_told else -1.0,
            now_us=lambda: int(self.now * 1_000_000),
            entropy=entropy,
            spawn=self.spawn,
        )

    def caretaker(self, seed: int = 5) -> Caretaker:
        directory = Directory(self.rows, Random(seed).randbytes).data_keys
        return Caretaker(directory, self.wrapped, self.service, lambda: int(self.now * 1_000_000))


async def made(spawn: Spawn) -> World:
    found = World(spawn)
    await found.directory.values.put(Plan("team", 2, Limits(1000, Rate(50.0, 100), 20)), act=found.act())
    await found.directory.tenants.create("acme", "team", found.act())
    return found


async def tenant_id(world: World) -> str:
    return (await world.directory.tenants.show("acme")).id


def secret(key: DataKey) -> bytes:
    return key.material.reveal()
