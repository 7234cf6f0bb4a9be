"""What the ledger needs from outside: a place for segments that says the truth about durability.

Work that may take long is returned as a future that has already been started: whoever waits may leave at its
deadline, or be cancelled, without changing what happens to the bytes.
"""

from asyncio import Future
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol


class SinkFailed(Exception):
    """Nothing can be made durable now. The request is refused with 503, before it is forwarded: fails closed."""


class SegmentFailed(Exception):
    """A segment could not be created, read, cut, replaced or appended to. What an append left behind is unknown."""


class Segment(Protocol):
    """An append-only run of commits that exactly one process may write."""

    @property
    def id(self) -> str: ...

    @property
    def left_bytes(self) -> int:
        """Prepared bytes not yet used. Advice: a larger append succeeds, only slower."""

    def append(self, frame: bytes) -> Future[None]:
        """Done when the frame is durable behind all earlier ones. One at a time.

        After an error, or once the future was cancelled, nothing is ever written to this segment again: every
        later append fails with SegmentFailed.
        """

    def close(self) -> Future[None]:
        """Done when it holds commits only, and its lock is free; at once if it is poisoned. Never fails."""


class Stored(NamedTuple):
    id: str
    is_locked: bool  # a living process owns it


class SegmentStore(Protocol):
    """All segments of one deployment, of living and of dead processes."""

    @property
    def place(self) -> str:
        """Where they are, for whoever must repair it."""

    def create(self, segment_id: str) -> Future[Segment]:
        """Done when an empty segment of that id exists durably, locked by this process."""

    async def stored(self) -> list[Stored]:
        """Every segment that exists, in the order of ids."""

    async def read(self, segment_id: str, limit_bytes: int | None = None) -> bytes:
        """Its bytes from the start, with whatever follows the last commit."""

    async def cut(self, segment_id: str, kept: bytes) -> None:
        """Durably it is `kept`, its first bytes as they were read, and nothing behind them. What is read may be what a sync that failed
        left in memory, which no later sync writes. SegmentFailed if a living process owns it.
        """

    async def replace(self, segment_id: str, data: bytes) -> None:
        """Durably it is `data`, and a crash at any moment leaves it whole, as it was or so. SegmentFailed if a living process owns it, or
        there is none.
        """

    def recovery(self) -> AbstractAsyncContextManager[None]:
        """While inside, no other process is: of the dead, each segment is taken over once."""

    def retention(self) -> AbstractAsyncContextManager[bool]:
        """Entered at once, with whether no other process is inside: so one of them forgets what is over."""
