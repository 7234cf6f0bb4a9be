"""Data keys as values: whose they are, what for, and what a sealed thing is bound to. Pure."""

from typing import Final, Literal, NamedTuple, NoReturn

from msgspec import Struct

Purpose = Literal["audit", "replies", "capture"]
"""What a tenant's data key is for: bodies of audit records, replies kept for repeated requests, captured payloads."""

KEY_BYTES: Final = 32


class Material:
    """The 32 secret bytes of a key. It prints nothing and does not pickle; only `reveal` shows them."""

    __slots__ = ("__secret",)

    def __init__(self, secret: bytes) -> None:
        if len(secret) != KEY_BYTES:
            raise ValueError(f"a key has {KEY_BYTES} bytes")
        self.__secret = secret

    def reveal(self) -> bytes:
        return self.__secret

    def __repr__(self) -> str:
        return "Material(...)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key is not copied into bytes")


class DataKey(Struct, frozen=True):
    """A key that data is sealed with, unwrapped; `id` is that of its row (`d_...`)."""

    id: str
    material: Material


class Context(NamedTuple):
    """What a sealed thing is bound to: whose it is, what for, and which one. Opening it as anything else fails."""

    tenant: str
    purpose: str
    record: str
