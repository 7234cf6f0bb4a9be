"""A keyring in memory, with real keys: what is warm is held, what is not must be fetched, and there may be no answer."""

import hashlib
from dataclasses import dataclass, field

from gateway.envelope.keys import DataKey, Material, Purpose
from gateway.envelope.ports import KeyRefused, KeysUnavailable


@dataclass
class KeyringWorld:
    """`refused` and `unavailable` are tenants. A rotation is another number."""

    warm: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    unavailable: set[str] = field(default_factory=set)
    number: int = 1
    fetches: int = 0

    def made(self, tenant_id: str, purpose: Purpose) -> DataKey:
        name = f"d_{tenant_id}_{purpose}_{self.number}"
        return DataKey(name, Material(hashlib.sha256(name.encode()).digest()))

    def held(self, tenant_id: str, purpose: Purpose) -> DataKey | None:
        return self.made(tenant_id, purpose) if tenant_id in self.warm else None

    async def key(self, tenant_id: str, purpose: Purpose) -> DataKey:
        self.fetches += 1
        if tenant_id in self.unavailable:
            raise KeysUnavailable("no answer")
        if tenant_id in self.refused:
            raise KeyRefused("disabled")
        self.warm.add(tenant_id)
        return self.made(tenant_id, purpose)
