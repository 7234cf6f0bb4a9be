"""A keyring in memory, with real keys: what is warm is held, what is not must be fetched, and there may be no answer."""

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import product
from typing import get_args

from gateway.envelope.keyring import CONFIRM_SECONDS, ENDED, KeyDestroyed, Lease
from gateway.envelope.keys import DataKey, Material, Purpose
from gateway.envelope.ports import KeyFault, KeyRefused, KeysUnavailable


@dataclass
class KeyringWorld:
    """`refused`, `unavailable` and `silent` (no answer ever comes) are tenants, `destroyed` ids of keys. A rotation is another number.
    While the directory is `gone` nobody can tell which keys are destroyed.
    """

    warm: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    unavailable: set[str] = field(default_factory=set)
    silent: set[str] = field(default_factory=set)
    destroyed: set[str] = field(default_factory=set)
    number: int = 1
    fetches: int = 0
    retry_after_seconds: float = 1.0
    gone: bool = False
    clock: Callable[[], float] = lambda: 0.0

    def made(self, tenant_id: str, purpose: Purpose) -> DataKey:
        return self._numbered(tenant_id, self.number, purpose)

    def _numbered(self, tenant_id: str, number: int, purpose: Purpose = "audit") -> DataKey:
        name = f"d_{tenant_id}_{purpose}_{number}"
        return DataKey(name, Material(hashlib.sha256(name.encode()).digest()))

    def __len__(self) -> int:
        """Nothing is here at first, as in the true one, which is there all the same."""
        return len(self.warm)

    @property
    def version(self) -> int:
        """Another one whenever a test changed something."""
        return hash((self.number, *map(frozenset, (self.warm, self.refused, self.destroyed))))

    def held(self, tenant_id: str, purpose: Purpose) -> DataKey | None:
        return self.made(tenant_id, purpose) if tenant_id in self.warm else None

    def lease(self, tenant_id: str, purpose: Purpose) -> Lease | None:
        held = self.held(tenant_id, purpose)
        return Lease(held, self.clock() + CONFIRM_SECONDS, self.version) if held else None

    async def key(self, tenant_id: str, purpose: Purpose) -> DataKey:
        self.fetches += 1
        if tenant_id in self.silent:
            await asyncio.get_running_loop().create_future()
        if tenant_id in self.unavailable:
            raise self._told(KeysUnavailable("no answer"))
        if tenant_id in self.refused:
            raise self._told(KeyRefused("disabled"))
        self.warm.add(tenant_id)
        return self.made(tenant_id, purpose)

    def lasts(self, tenant_id: str, key_id: str) -> float | None:
        if self.gone:
            return None
        return ENDED if key_id in self.destroyed else self.clock() + CONFIRM_SECONDS

    async def lasting(self, tenant_id: str, key_id: str) -> float:
        if (until := self.lasts(tenant_id, key_id)) is None:
            raise self._told(KeysUnavailable("no answer"))
        return until

    def _told(self, fault: KeyFault) -> KeyFault:
        fault.retry_after_seconds = self.retry_after_seconds
        return fault

    async def opening(self, tenant_id: str, key_id: str) -> DataKey:
        """Of whatever number."""
        numbers = range(1, self.number + 1)
        made = [self._numbered(tenant_id, *it) for it in product(numbers, get_args(Purpose))]
        found = {it.id: it for it in made}
        if tenant_id in self.unavailable:
            raise self._told(KeysUnavailable("no answer"))
        if tenant_id in self.refused:
            raise self._told(KeyRefused("disabled"))
        if key_id not in found or key_id in self.destroyed:
            raise KeyDestroyed(f"the data key {key_id} is destroyed")
        return found[key_id]
