"""What this room needs from outside: Blobs, a place for things that never change."""

from collections.abc import Sequence
from typing import Protocol


class BlobsUnavailable(Exception):
    """No answer came, or the place cannot be read or written. A put was then made, wholly and once, or was not."""


class Blobs(Protocol):
    """Immutable objects by name, for any number of processes. A name is 1 to 200 characters of `0-9A-Za-z._-` and `/`, with no empty part
    and none that starts with `.`; anything else is a ValueError. An object has at most 64 MiB. Every method raises BlobsUnavailable.
    """

    async def put(self, name: str, data: bytes) -> bool:
        """It is there, wholly and durably; False, and nothing was changed, when something of that name was there before."""

    async def get(self, name: str) -> bytes | None:
        """All of it, as it was put; None when there is none."""

    async def delete(self, name: str) -> None:
        """It is durably gone, or was not there."""

    async def names(self, prefix: str, after: str | None = None, limit: int = 1000) -> Sequence[str]:
        """Those that start so and come behind `after`, in the order of their bytes, `limit` at most; fewer means that there are no more."""
