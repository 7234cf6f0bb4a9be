"""What a commit is made of while it is under way: intents, batches, and the segments it goes to."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from msgspec import Struct

from gateway.audit.ports import Segment, SinkFailed
from gateway.audit.record import Owed, Previous, Record, Sealer
from gateway.audit.segment import COMMIT_HEAD_BYTES, RECORD_HEAD_BYTES, Frame


class Item(Struct, frozen=True):
    record: Record
    intent: "Intent | None"  # whose intent or outcome this is


class Batch:
    """The records of one commit, and who waits for it. `on_wanted` is told when somebody does."""

    __slots__ = ("intents", "is_durable", "is_wanted", "items", "on_wanted", "size_bytes", "waiters")

    def __init__(self, on_wanted: Callable[[], None]) -> None:
        self.items: list[Item] = []
        self.intents = 0  # so many of the records are
        self.size_bytes = COMMIT_HEAD_BYTES
        self.on_wanted = on_wanted
        self.is_wanted = False  # it should be on its way
        self.waiters: list[asyncio.Future[None]] = []
        self.is_durable = False

    def add(self, record: Record, intent: "Intent | None" = None) -> None:
        self.items.append(Item(record, intent))
        self.size_bytes += RECORD_HEAD_BYTES + len(record.entry) + len(record.body)

    def waiter(self) -> asyncio.Future[None]:
        """Done when the fate of the batch is known."""
        waiter = asyncio.get_running_loop().create_future()
        self.waiters.append(waiter)
        self.want()
        return waiter

    def want(self) -> None:
        self.is_wanted = True
        self.on_wanted()

    def land(self) -> None:
        """It is durable, and its records are let go: each names an intent, which names this batch, and in that circle they
        would all stay in memory until the collector comes by.
        """
        self.is_durable = True
        self.drop()

    def drop(self) -> None:
        """Its fate is known, and whoever waits is told."""
        self.items = []
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(None)
        self.waiters.clear()


class Intent:
    """A call that was announced. Only the ledger changes it."""

    __slots__ = ("batch", "is_lost", "owed", "sealer")

    def __init__(self, owed: Owed, batch: Batch, sealer: Sealer | None) -> None:
        self.owed = owed
        self.sealer = sealer  # its outcome is sealed as it was, while that key may be used
        self.batch = batch
        self.is_lost = False  # declared unknown: its reply must not start any more

    async def durable(self) -> None:
        """Returns once the intent is durable; SinkFailed if it is lost. Cancelling changes nothing."""
        if not self.is_lost and not self.batch.is_durable:
            await self.batch.waiter()
        if self.is_lost:
            raise SinkFailed("the audit sink failed while the call was open")


@dataclass(slots=True)
class Current:
    """The segment that takes commits, and where it durably ends."""

    segment: Segment
    chain: bytes
    commits: int = 0


class Flight(NamedTuple):
    """A commit whose fate is not known yet."""

    current: Current
    batch: Batch
    frame: Frame
    written: asyncio.Future[None]
    ends_at: float  # on the loop's clock: then it has failed


@dataclass(slots=True)
class Closed:
    """The segments that the next one must name; those of our own stay locked until it has."""

    named: list[Previous] = field(default_factory=list)
    held: list[Segment] = field(default_factory=list)

    def add(self, current: Current, *, poisoned: bool) -> None:
        chain = current.chain.hex()
        segment = current.segment
        self.named.append(
            Previous(segment=segment.id, commits=current.commits, chain=chain, poisoned=poisoned)
        )
        self.held.append(segment)

    def release(self) -> None:
        for segment in self.held:
            segment.close()
        self.named.clear()
        self.held.clear()
