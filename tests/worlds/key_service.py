"""A world with a KeyService in it: it wraps truly, its keys are enabled, disabled or deleted, and it can be out of reach."""

import asyncio
from dataclasses import dataclass, field
from random import Random
from typing import Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.envelope.keys import Context, Material
from gateway.envelope.ports import KeyRefused, KeysUnavailable

KeyState = Literal["Enabled", "Disabled", "Deleted"]


@dataclass(slots=True)
class MemoryKeyService:
    """`states` are those of its keys by name (None: the deployment's); who is not named is enabled. While it is `gone` nothing is answered,
    and while `go` is not set everybody waits. `calls` counts.
    """

    random: Random = field(default_factory=lambda: Random(1))
    states: dict[str | None, KeyState] = field(default_factory=dict)
    gone: bool = False
    go: asyncio.Event = field(default_factory=asyncio.Event)
    calls: int = 0
    _keys: dict[str | None, AESGCM] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.go.set()

    async def wrap(self, material: Material, context: Context, with_key: str | None = None) -> bytes:
        key, nonce = await self._key(with_key), self.random.randbytes(12)
        return nonce + key.encrypt(nonce, material.reveal(), repr(tuple(context)).encode())

    async def unwrap(self, wrapped: bytes, context: Context, with_key: str | None = None) -> Material:
        key = await self._key(with_key)
        try:
            return Material(key.decrypt(wrapped[:12], wrapped[12:], repr(tuple(context)).encode()))
        except InvalidTag as fault:
            raise KeyRefused("what was wrapped is another thing, or damaged") from fault

    async def _key(self, name: str | None) -> AESGCM:
        self.calls += 1
        await self.go.wait()
        if self.gone:
            raise KeysUnavailable("gone")
        if (state := self.states.get(name, "Enabled")) != "Enabled":
            raise KeyRefused(f"the key is {state}")
        return self._keys.setdefault(name, AESGCM(self.random.randbytes(32)))
