"""Bodies: a source whose pieces a test gives, and one read whole."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from gateway.call import Source, Take


@dataclass(slots=True)
class Pieces:
    """A source of what the iterator gives, and of its failure. It waits while it is paused."""

    given: AsyncIterator[bytes]
    goes: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.goes.set()

    async def pour(self, take: Take) -> None:
        async for piece in self.given:
            await self.goes.wait()
            if take(piece):
                return

    def pause(self) -> None:
        self.goes.clear()

    def resume(self) -> None:
        self.goes.set()


async def whole(source: Source) -> bytes:
    """All of it."""
    pieces: list[bytes] = []
    await source.pour(pieces.append)
    return b"".join(pieces)
