"""From a call to its capture: what goes to the model and comes back is gathered as it goes by, and sealed and put beside the requests.

    drawn -> gathered, by reference -> settled, and waits -> a writer seals it under its tenant's data key -> put under its day

What is captured is what the model sees and says: behind masking, and before a reply is restored or told in another API's form.

Best effort: the door stays open. A call is served whether or not it can be captured; what cannot is lost, counted by its reason and told in
the log at most once in ten seconds. Nothing is ever stored unsealed. A capture that was lost to the store may be there all the same: its
answer may have been lost, not its bytes.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Final, Literal, Protocol, get_args

from msgspec.structs import replace

from gateway.call import Outgoing, Source, Take
from gateway.envelope.keys import Context, DataKey, Purpose
from gateway.envelope.ports import KeyRefused, KeysUnavailable
from gateway.envelope.sealed import SALT_BYTES, seal
from gateway.kept.capture import MOST_BYTES, Head, written
from gateway.kept.expiry import CAPTURE
from gateway.kept.ports import Blobs, BlobsUnavailable
from gateway.loops import running

PURPOSE: Final[Purpose] = "capture"
MEMORY_BYTES: Final = 64 << 20
"""Of all captures of this process, under way and waiting; a tenant's may have half of it."""
WRITERS: Final = 4
DRAIN_SECONDS: Final = 5.0

Reason = Literal["memory", "key", "store", "stopped"]
REASONS: Final[tuple[Reason, ...]] = get_args(Reason)

_OWN_BYTES: Final = 1024  # what a capture takes besides its bodies
_SMALL_BYTES: Final = 1024  # pieces up to here are joined, as each on its own takes some sixty bytes more
_LARGE_BYTES: Final = 64 * 1024  # from here on sealing would be felt by the requests
_TOLD_SECONDS: Final = 10.0

log = logging.getLogger(__name__)


class Keyring(Protocol):
    """Who has the tenants' data keys."""

    def held(self, tenant_id: str, purpose: Purpose) -> DataKey | None:
        """The newest one, if it is here and may be used this moment."""

    async def key(self, tenant_id: str, purpose: Purpose) -> DataKey:
        """The newest one; made if the tenant has none. Raises KeysUnavailable and KeyRefused."""


class Body:
    """One of the two: its beginning, and how long it was."""

    __slots__ = ("kept", "pieces", "size")

    def __init__(self) -> None:
        self.pieces: list[bytes | bytearray] = []
        self.kept = 0
        self.size = 0

    def add(self, piece: bytes | memoryview) -> int:
        """How much more is kept. A view is copied, as it may keep something far larger alive, and so is the part of a piece that is cut."""
        self.size += len(piece)
        left = MOST_BYTES - self.kept
        if not left or not piece:
            return 0
        part = piece[:left]  # the piece itself, where it is bytes and fits
        if len(part) <= _SMALL_BYTES:
            if not self.pieces or not isinstance(self.pieces[-1], bytearray):
                self.pieces.append(bytearray())
            self.pieces[-1] += part
        else:
            self.pieces.append(bytes(part))
        self.kept += len(part)
        return len(part)

    def clear(self) -> None:
        self.pieces.clear()
        self.kept = 0


class Capture:
    """One call's, from the draw to the store. None of its methods waits or raises."""

    __slots__ = ("_captures", "_head_bytes", "head", "held_bytes", "is_lost", "reply", "request", "tenant_id")

    def __init__(self, captures: "Captures", tenant_id: str) -> None:
        self._captures = captures
        self.tenant_id = tenant_id
        self.request = Body()
        self.reply = Body()
        self.head: Head | None = None  # once it is settled
        self.held_bytes = 0
        self.is_lost = False
        self._head_bytes = 0

    def asked(self, outgoing: Outgoing) -> Outgoing:
        """What is sent instead: the same, whose rest is seen as it goes by. The ids of sequences are the client's."""
        sequence = outgoing.sequence
        head = outgoing.head if sequence is None else sequence.head(sequence.id)
        self._head_bytes = len(head) if outgoing.binary else 0
        self._keep(self.request, head)
        self._keep(self.request, outgoing.first)
        return outgoing if outgoing.rest is None else replace(outgoing, rest=Seen(outgoing.rest, self))

    def replied(self, take: Take) -> Take:
        """What takes the reply instead."""

        def seen(piece: bytes) -> bool | None:
            self._keep(self.reply, piece)
            return take(piece)

        return seen

    def went(self, piece: bytes) -> None:
        """More of the request."""
        self._keep(self.request, piece)

    def settled(self, head: Head | None) -> None:
        """The call is over, and this is said of it, but for the request's and the reply's sizes; None: no model was asked, so there is
        nothing to be kept.
        """
        if head is not None:
            self.head = replace(
                head,
                request_bytes=self.request.size,
                request_kept=self.request.kept,
                request_head_bytes=self._head_bytes,
                reply_bytes=self.reply.size,
                reply_kept=self.reply.kept,
            )
        self._captures.settled(self)

    def _keep(self, body: Body, piece: bytes | memoryview) -> None:
        if not self.is_lost:
            self._captures.hold(self, body.add(piece))


class Seen:
    """The rest of a request, seen as it goes by."""

    __slots__ = ("_capture", "_source")

    def __init__(self, source: Source, capture: Capture) -> None:
        self._source = source
        self._capture = capture

    async def pour(self, take: Take) -> None:
        def seen(piece: bytes) -> bool | None:
            self._capture.went(piece)
            return take(piece)

        await self._source.pour(seen)

    def pause(self) -> None:
        self._source.pause()

    def resume(self) -> None:
        self._source.resume()


class Captures:
    """Of one process. `draw` gives a number from 0 up to 1 by chance, `clock` monotonic seconds, `entropy` so many random bytes. `stored`,
    `lost` and `held_bytes` are figures.
    """

    def __init__(
        self,
        keyring: Keyring,
        blobs: Blobs,
        *,
        draw: Callable[[], float],
        clock: Callable[[], float],
        entropy: Callable[[int], bytes],
    ) -> None:
        self.stored = 0
        self.lost: Counter[Reason] = Counter()
        self.held_bytes = 0
        self._held_by: Counter[str] = Counter()
        self._keyring = keyring
        self._blobs = blobs
        self._draw = draw
        self._clock = clock
        self._entropy = entropy
        self._waiting: asyncio.Queue[Capture] = asyncio.Queue()
        self._told_at = -_TOLD_SECONDS
        self._untold = 0

    # What the request path calls.

    def drawn(self, tenant_id: str, part: float) -> Capture | None:
        """The capture of a call, if it is one of this part (0 to 1) of its tenant's."""
        if part < 1 and self._draw() >= part:
            return None
        capture = Capture(self, tenant_id)
        self.hold(capture, _OWN_BYTES)
        return capture

    def hold(self, capture: Capture, size: int) -> None:
        """So much more of it is here, or there is no room for that, and it is lost."""
        capture.held_bytes += size
        self.held_bytes += size
        self._held_by[capture.tenant_id] += size
        if self.held_bytes > MEMORY_BYTES or self._held_by[capture.tenant_id] > MEMORY_BYTES // 2:
            capture.is_lost = True
            self._let_go(capture)
            self._lose("memory", "there is no room for more of them")

    def settled(self, capture: Capture) -> None:
        """It waits for a writer, unless there is nothing to be written."""
        if capture.is_lost:
            return
        if capture.head is None:
            self._let_go(capture)
            return
        self._waiting.put_nowait(capture)

    # What goes on beside it.

    @asynccontextmanager
    async def writing(self, drain_seconds: float = DRAIN_SECONDS) -> AsyncIterator[None]:
        """Writers work while the block runs, and after it until nothing waits, for so long at most; what waits then is lost."""
        async with running(**{f"captures {number}": self._write() for number in range(WRITERS)}):
            try:
                yield
            finally:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._waiting.join(), drain_seconds)
        while not self._waiting.empty():
            self._let_go(self._waiting.get_nowait())
            self._lose("stopped", "the gateway stopped before they were stored")

    async def _write(self) -> None:
        while True:
            await self._store(await self._waiting.get())

    async def _store(self, capture: Capture) -> None:
        """It is stored, or lost."""
        try:
            sealed = await self._sealed(capture)
            await self._blobs.put(name_of(capture.tenant_id, _said(capture)), sealed)
            self.stored += 1
        except (KeysUnavailable, KeyRefused) as fault:
            self._lose("key", str(fault))
        except BlobsUnavailable as fault:
            self._lose("store", str(fault))
        except asyncio.CancelledError:
            self._lose("stopped", "the gateway stopped before they were stored")
            raise
        finally:
            self._let_go(capture)
            self._waiting.task_done()

    async def _sealed(self, capture: Capture) -> bytes:
        """The key is not here any more when this is done, however long the store takes. Raises KeysUnavailable and KeyRefused."""
        key = self._keyring.held(capture.tenant_id, PURPOSE)
        key = key or await self._keyring.key(capture.tenant_id, PURPOSE)
        salt = self._entropy(SALT_BYTES)
        if capture.held_bytes < _LARGE_BYTES:
            return _sealed(capture, key, salt)
        return await asyncio.to_thread(_sealed, capture, key, salt)

    def _let_go(self, capture: Capture) -> None:
        """Nothing of it is here."""
        self.held_bytes -= capture.held_bytes
        self._held_by[capture.tenant_id] -= capture.held_bytes
        if not self._held_by[capture.tenant_id]:
            del self._held_by[capture.tenant_id]
        capture.held_bytes = 0
        capture.request.clear()
        capture.reply.clear()

    def _lose(self, reason: Reason, why: str) -> None:
        self.lost[reason] += 1
        self._untold += 1
        if self._clock() - self._told_at >= _TOLD_SECONDS:
            log.warning("%d captures are lost: %s", self._untold, why)
            self._told_at, self._untold = self._clock(), 0


def name_of(tenant_id: str, head: Head) -> str:
    """Where it is put: under the day (UTC) on which the model was asked."""
    day = datetime.fromtimestamp(head.asked_us / 1e6, UTC)
    return f"{CAPTURE}{tenant_id}/{day:%Y%m%d}/{head.request}"


def context_of(tenant_id: str, request: str) -> Context:
    """What it is bound to."""
    return Context(tenant_id, PURPOSE, request)


def _said(capture: Capture) -> Head:
    if capture.head is None:
        raise ValueError("a call that is not over has no capture yet")
    return capture.head


def _sealed(capture: Capture, key: DataKey, salt: bytes) -> bytes:
    head = _said(capture)
    plain = written(head, capture.request.pieces, capture.reply.pieces)
    return seal(key, context_of(capture.tenant_id, head.request), plain, salt)
