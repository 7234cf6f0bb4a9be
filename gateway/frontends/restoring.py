"""Between a reply and who is told it, where a tenant's privacy is reversible: what placeholders stand for is put back on the way.

Nothing of it is there for a request that holds no such placeholder. An error's words stay as the model gave them, and so does all that is
recorded. What is held back of a stream is some bytes of a text that may begin a placeholder; what must be whole first is on its
tenant's account.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol, TypeVar

from gateway.call import Listener, Reply, Standing, Take
from gateway.privacy.mask import NotRestored, Screen
from gateway.wire.generate import EVENT_STREAM
from gateway.wire.restored import EventTexts, JsonTexts, outputs, restored_infer, restored_json

MOST_GATHERED_BYTES: Final = 32 * 1024 * 1024
"""Of a reply that says its sizes before it tells what they are of."""
_PIECE_BYTES: Final = 256 * 1024
_BAD: Final = 400
_AT_ONCE_BYTES: Final = 64 * 1024
_Found = TypeVar("_Found")

Hold = Callable[[int], None]
"""Told of bytes that are kept. Raises GatewayError when they are too many."""


async def aside(size: int, act: Callable[[], _Found]) -> _Found:
    """What `act` gives, which goes through so many bytes: of many in a thread. Raises what it raises."""
    return act() if size <= _AT_ONCE_BYTES else await asyncio.to_thread(act)


class Resized(Listener, Protocol):
    """Who can still be told that a reply has another size."""

    def resize(self, length_bytes: int, head_length: int) -> None:
        """Before the first piece; a head of length 0 is none."""

    async def writable(self) -> None:
        """Wait until the client reads what was written to it."""


class _Unsized:
    """A reply whose length will be another, nobody knows which."""

    length_bytes = -1
    head_length = b""
    content_encoding = b""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self.status, self.content_type = reply.status, reply.content_type

    async def pour(self, take: Take) -> None:
        await self._reply.pour(take)

    def pause(self) -> None:
        self._reply.pause()

    def resume(self) -> None:
        self._reply.resume()


class RestoredHttp:
    """Replies to infer, generate and generate_stream. What comes bit by bit goes on so; of what has a length all is gathered first,
    unless its head says that no texts are behind it.
    """

    def __init__(self, listener: Resized, screen: Screen, hold: Hold) -> None:
        self._listener = listener
        self._screen = screen
        self._hold = hold
        self._texts: JsonTexts | EventTexts | None = None
        self._gathered: bytearray | None = None
        self._head_length = 0
        self._length_bytes = 0

    async def start(self, reply: Reply, standing: Standing) -> None:
        if reply.status >= _BAD:
            await self._listener.start(reply, standing)
            return
        if reply.content_encoding:
            raise NotRestored("the model server compressed its reply, though it was not asked to")
        self._head_length, self._length_bytes = int(reply.head_length or 0), reply.length_bytes
        if reply.content_type.startswith(EVENT_STREAM):
            self._texts = EventTexts(self._screen)
        elif reply.length_bytes < 0 and not self._head_length:
            self._texts = JsonTexts(self._screen)
        else:
            self._gathered = bytearray()
        await self._listener.start(reply if self._gathered is not None else _Unsized(reply), standing)

    def take(self, piece: bytes) -> bool | None:
        if self._texts is not None:
            told = self._texts.feed(piece)
            return self._listener.take(told) if told else None
        if self._gathered is None:
            return self._listener.take(piece)
        self._gather(piece)
        return None

    def _gather(self, piece: bytes) -> None:
        """Raises NotRestored, TOO_MANY_AT_ONCE, OVERLOADED."""
        gathered = self._gathered
        assert gathered is not None  # noqa: S101 - `take` has looked
        had_head = len(gathered) >= self._head_length
        self._hold(len(piece))
        gathered += piece
        if self._head_length and not had_head and len(gathered) >= self._head_length:
            self._read_head(bytes(gathered[: self._head_length]), bytes(gathered[self._head_length :]))
        if self._gathered is not None and len(gathered) > MOST_GATHERED_BYTES:
            raise NotRestored(
                f"a reply with texts that are to be restored has at most {MOST_GATHERED_BYTES} bytes; ask for fewer outputs"
            )

    def _read_head(self, head: bytes, behind: bytes) -> None:
        """Of a reply without texts behind its head the rest goes on as it comes."""
        if self._length_bytes < 0 or any(it.is_text for it in outputs(head)):
            return
        told = restored_json(head, self._screen)
        self._gathered = None
        self._listener.resize(self._length_bytes + len(told) - len(head), len(told))
        self._listener.take(told + behind)

    async def end(self) -> int:
        if self._texts is not None and (rest := self._texts.end()):
            self._listener.take(rest)
        if self._gathered:
            body, self._gathered = bytes(self._gathered), None
            await self._tell(body)
        return await self._listener.end()

    async def _tell(self, body: bytes) -> None:
        size = self._head_length
        if size:
            act = partial(restored_infer, body[:size], body[size:], self._screen)
            head, tensors = await aside(len(body), act)
            size, told = len(head), head + tensors
        else:
            told = await aside(len(body), partial(restored_json, body, self._screen))
        self._hold(len(told))
        self._listener.resize(len(told), size)
        for start in range(0, len(told), _PIECE_BYTES):
            await self._listener.writable()
            self._listener.take(told[start : start + _PIECE_BYTES])


def over_http(screen: Screen | None, hold: Hold) -> Callable[[Resized], Listener] | None:
    """What restores the reply to a request that `screen` has masked; None where nothing in it stands for anything. What is remembered of
    the request is kept as well. Raises TOO_MANY_AT_ONCE, OVERLOADED.
    """
    if screen is None or not screen.restores:
        return None
    hold(screen.remembered_bytes)
    return lambda listener: RestoredHttp(listener, screen, hold)
