"""An act: who changes something, when, why, and under which idempotency key. Pure."""

from dataclasses import dataclass
from typing import Final

from tenants import keys
from tenants.errors import Invalid
from tenants.ids import is_id

REASON_CHARACTERS: Final = 500


@dataclass(frozen=True, slots=True)
class Once:
    """An idempotency key as it is stored: a digest of whose it is and its text, and one of what was asked under it."""

    key: str
    asked: str


@dataclass(frozen=True, slots=True)
class Act:
    """`actor` as in `cli:root` or `key:k_...`; `at_us` in microseconds since 1970, UTC. Every change takes one, and its events tell it."""

    actor: str
    at_us: int
    reason: str = ""
    once: Once | None = None

    def __post_init__(self) -> None:
        if len(self.reason) > REASON_CHARACTERS or not self.reason.isprintable():
            raise Invalid("reason", f"must be at most {REASON_CHARACTERS} printable characters")
        if keys.is_told_by(self.reason):
            raise Invalid("reason", keys.TOLD)

    @property
    def key_id(self) -> str | None:
        """The id of the key that acts, a break-glass key too; None where none does, as for a token."""
        kind, _, name = self.actor.partition(":")
        return name if kind in ("key", "break-glass") and is_id(name) else None
