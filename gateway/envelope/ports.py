"""What this room needs from outside: a KeyService, which alone knows the keys that wrap data keys."""

from typing import Protocol

from gateway.envelope.keys import Context, Material


class KeyFault(Exception):
    """A key cannot be had."""

    retry_after_seconds: float = 1.0
    """So soon the service may be asked again; before that the answer is this one."""


class KeysUnavailable(KeyFault):
    """No key can be had now: the service is out of reach, too slow, or has too much to do. What needs one is refused with 503; nothing is
    ever stored in the clear instead: fails closed. The text is for operators.
    """


class KeyRefused(KeyFault):
    """The service answered, and will not: its key is disabled, deleted or not ours to use, or what was wrapped is another thing or
    damaged. Asking again changes nothing until somebody changes that: fails closed. The text is for operators.
    """


class KeyService(Protocol):
    """Wraps data keys, each bound to its context. `with_key` names the wrapping key of a tenant that brings its own; None: the
    deployment's. Both raise KeysUnavailable and KeyRefused; repeating either is harmless.
    """

    async def wrap(self, material: Material, context: Context, with_key: str | None = None) -> bytes:
        """The key as it may be stored: at most 6,144 bytes, which only `unwrap` under an equal context opens."""

    async def unwrap(self, wrapped: bytes, context: Context, with_key: str | None = None) -> Material:
        """What was wrapped. KeyRefused when the context is not that of the wrapping, or not a bit is as it was."""
