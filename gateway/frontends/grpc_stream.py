"""A bidirectional stream of inference: every message on it is a call of its own, admitted, recorded and settled for itself.

Up to `at_once` of them are served at once; then no more are read, and gRPC's windows hold the client back. Replies keep the order that
Triton keeps: those of a decoupled model come as they are made, all others in the order of their requests. What one message does wrong is
told in a message, and the stream goes on; it ends with a status where its model failed and the client asked for that
(`triton_grpc_error`), where an upstream broke off within a reply, and where nothing more would be served.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final

from msgspec.structs import replace

from gateway.call import GRPC_STREAM, Reply, Standing
from gateway.errors import Code, GatewayError, forget_frames
from gateway.frontends.grpc_call import Caller, Context, infer_call
from gateway.frontends.grpc_memory import SMALL_BYTES, Held, MessageMemory
from gateway.frontends.http_body import NoBody
from gateway.kept.answer import Answer
from gateway.loops import jobs
from gateway.pipeline import Cut, Pipeline
from gateway.triton.grpc_client import GrpcReply
from gateway.wire import oip_grpc as wire
from gateway.wire.oip import public_text

_ENDING: Final = frozenset(
    {Code.UNAUTHENTICATED, Code.UPSTREAM_FAILED, Code.AUDIT_UNAVAILABLE, Code.STOPPING, Code.INTERNAL}
)
_MOST_ID_CHARACTERS: Final = 1_000  # of a request's, in what tells that it was refused
_MOST_UNWRITTEN_BYTES: Final = 1024 * 1024  # until replies are held


Start = Callable[[str, Coroutine[Any, Any, None]], None]


class Turns:
    """Who may answer next, of those that answer in order."""

    def __init__(self) -> None:
        self._waiting: dict[int, asyncio.Event] = {}

    def queue(self, number: int) -> None:
        self._waiting[number] = asyncio.Event()
        self._call_first()

    async def come(self, number: int) -> None:
        """Return when all that queued before have left."""
        if number in self._waiting:
            await self._waiting[number].wait()

    def leave(self, number: int) -> None:
        self._waiting.pop(number, None)
        self._call_first()

    def _call_first(self) -> None:
        for event in self._waiting.values():
            event.set()
            return


class Outbox:
    """What is to be written to the client, in order, on its tenant's account. Replies that come faster than it reads are held."""

    def __init__(self, context: Context, memory: MessageMemory, tenant_id: str) -> None:
        self._context = context
        self._memory = memory
        self._tenant_id = tenant_id
        self._items: deque[bytes | asyncio.Event | GatewayError] = deque()
        self._bytes = 0
        self._kept_bytes = 0  # on the account
        self._unwritten = 0
        self._filled = asyncio.Event()
        self._held: set[GrpcReply] = set()

    def put(self, message: bytes, reply: GrpcReply | None = None) -> None:
        self._items.append(message)
        self._unwritten += 1
        self._bytes += len(message)
        if len(message) > SMALL_BYTES:
            self._kept_bytes += len(message)
            self._memory.add(self._tenant_id, len(message))
        self._filled.set()
        if reply is not None and self._bytes > _MOST_UNWRITTEN_BYTES:
            self._held.add(reply)
            reply.pause()

    def end(self, error: GatewayError) -> None:
        """Behind what is there, the stream ends so."""
        self._items.append(error)
        self._filled.set()

    async def flushed(self) -> None:
        """Return once all that is there has been written."""
        if not self._unwritten:
            return
        mark = asyncio.Event()
        self._items.append(mark)
        self._filled.set()
        await mark.wait()

    async def write(self) -> None:
        """Write what comes. Raises GatewayError where the stream is to end."""
        while True:
            while self._items:
                await self._write(self._items.popleft())
            self._filled.clear()
            await self._filled.wait()

    async def _write(self, item: bytes | asyncio.Event | GatewayError) -> None:
        if isinstance(item, GatewayError):
            raise item
        if isinstance(item, asyncio.Event):
            item.set()
            return
        await self._context.write(item)
        self._unwritten -= 1
        self._bytes -= len(item)
        if len(item) > SMALL_BYTES:
            self._give_back(len(item))
        if self._held and self._bytes <= _MOST_UNWRITTEN_BYTES:
            for reply in self._held:
                reply.resume()
            self._held.clear()

    def close(self) -> None:
        """Nothing more is written."""
        self._give_back(self._kept_bytes)

    def _give_back(self, size: int) -> None:
        self._kept_bytes -= size
        self._memory.give_back(self._tenant_id, size)


class Stream:
    """`request_seconds` is the deadline of each message's call."""

    def __init__(
        self,
        context: Context,
        pipeline: Pipeline,
        memory: MessageMemory,
        who: Caller,
        *,
        at_once: int,
        request_seconds: float,
    ) -> None:
        self._context = context
        self._pipeline = pipeline
        self._memory = memory
        self._who = who
        self._request_seconds = request_seconds
        self._room = asyncio.Semaphore(at_once)
        self._turns = Turns()
        self._in_sequence: dict[
            int | str, asyncio.Event
        ] = {}  # the newest message of each, set when it is answered
        self._outbox = Outbox(context, memory, who.tenant_id)
        self._under_way = 0
        self._taken_bytes = 0  # of messages on the tenant's account
        self._is_read = False  # the client sends no more
        self._end: GatewayError | None = None  # once nothing more is taken, though the client might send it
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Serve it to its end. Raises GatewayError where that is a status."""
        try:
            async with jobs() as start:
                start("write", self._outbox.write())
                start("read", self._read(start))
                while self._under_way or not (self._is_read or self._end):
                    self._changed.clear()
                    await self._changed.wait()
                await self._outbox.flushed()
        finally:
            self._give_back(self._taken_bytes)  # for a job that was cancelled before it began
            self._outbox.close()
        if self._end is not None and not self._is_read:
            raise self._end

    def drain(self) -> None:
        """Nothing more is taken; what is under way is finished."""
        self._end_with(GatewayError(Code.STOPPING, retry_after_seconds=1))

    def _end_with(self, error: GatewayError) -> None:
        self._end = self._end or error
        self._changed.set()

    async def _read(self, start: Start) -> None:
        number = 0
        while True:
            await self._room.acquire()
            message = await self._next()
            if message is None:
                return
            number += 1
            self._under_way += 1
            self._turns.queue(number)
            start(f"message {number}", self._serve(message, number))
            del message  # it is not to be kept until the next one comes

    async def _next(self) -> bytes | GatewayError | None:
        """The next message, on its tenant's account, or what it is refused with; None when no more is taken."""
        try:
            with self._memory.awaiting(self._who.tenant_id):
                message: Any = await self._context.read()
        except GatewayError as room_made:
            await self._refuse_more(room_made)
            return None
        if not isinstance(message, bytes) or self._end:
            self._is_read = not isinstance(message, bytes)
            self._changed.set()
            return None
        try:
            self._memory.take(self._who.tenant_id, len(message))
        except GatewayError as refusal:
            return refusal
        self._taken_bytes += len(message)
        return message

    def _give_back(self, size: int) -> None:
        self._memory.give_back(self._who.tenant_id, size)
        self._taken_bytes -= size

    async def _refuse_more(self, refusal: GatewayError) -> None:
        try:
            await self._pipeline.examine(self._who.call(NoBody()), None, refusal)
        except GatewayError as recorded:
            forget_frames(recorded)
            self._end_with(recorded)

    async def _serve(self, message: bytes | GatewayError, number: int) -> None:
        """One message, to its last reply."""
        who = replace(self._who, request_id=f"{self._who.request_id}-{number}")
        held = Held(self._memory, who.tenant_id)
        part = PartDownstream(self._outbox, self._turns, number, wants_status=who.wants_status)
        try:
            await self._ask(message, who, part, held)
        except Cut as cut:
            forget_frames(cut)
            self._outbox.end(cut.error)
        except GatewayError as error:
            forget_frames(error)
            await self._turns.come(number)
            if error.code in _ENDING:
                self._outbox.end(error)
            else:
                self._outbox.put(wire.error_message(error.sentence, part.id))
                await self._outbox.flushed()  # who does not read its refusals is not read any further
        finally:
            self._turns.leave(number)
            held.close()
            if isinstance(message, bytes):
                self._give_back(len(message))
            self._under_way -= 1
            self._room.release()
            self._changed.set()

    async def _ask(
        self, message: bytes | GatewayError, who: Caller, part: "PartDownstream", held: Held
    ) -> None:
        deadline = self._pipeline.clock() + self._request_seconds
        try:
            if isinstance(message, GatewayError):
                raise message
            asked = wire.read_infer(message)
            part.id = asked.request.id[:_MOST_ID_CHARACTERS]
            caller = replace(who, deadline=deadline)
            call = infer_call(asked, len(message), caller, GRPC_STREAM, held.take)
        except GatewayError as refusal:
            await self._pipeline.examine(who.call(NoBody()), None, refusal)
            raise
        async with self._behind(wire.sequence_of(asked)):
            await self._pipeline.serve(call, part)

    @asynccontextmanager
    async def _behind(self, sequence: int | str) -> AsyncIterator[None]:
        """The messages of one sequence are served one after the other, in the order in which they came."""
        if not sequence:
            yield
            return
        earlier, mine = self._in_sequence.get(sequence), asyncio.Event()
        self._in_sequence[sequence] = mine
        try:
            if earlier is not None:
                await earlier.wait()
            yield
        finally:
            mine.set()
            if self._in_sequence.get(sequence) is mine:
                del self._in_sequence[sequence]


class PartDownstream:
    """The client's side of one message: its part of the stream."""

    tokens = guessed_tokens = pieces = 0  # nobody counts any
    has_failed = False

    def __init__(self, outbox: Outbox, turns: Turns, number: int, *, wants_status: bool) -> None:
        self.id = ""
        self.started = False
        self._outbox = outbox
        self._turns = turns
        self._number = number
        self._wants_status = wants_status
        self._reply: GrpcReply | None = None

    async def start(self, reply: Reply, standing: Standing) -> None:
        if not isinstance(reply, GrpcReply):
            raise TypeError("a reply of another protocol")
        self._reply = reply
        if reply.is_ordered:
            await self._turns.come(self._number)
        else:
            self._turns.leave(self._number)
        await self._outbox.flushed()
        self.started = True

    def take(self, piece: bytes) -> None:
        if self._reply is None:
            return
        if self._reply.is_error:  # Triton ended its stream with it, and the piece is its text
            text = public_text(piece.decode(errors="replace"))
            self._outbox.end(GatewayError(Code.UPSTREAM_FAILED, detail=text))
            return
        self.has_failed |= wire.is_error(piece)
        if self._wants_status and (text := wire.failure(piece)):
            self._outbox.end(GatewayError(Code.INTERNAL, detail=text))
        else:
            self._outbox.put(wire.public_message(piece), self._reply)

    told: Answer | None = None  # a message of a stream has no Idempotency-Key

    async def replay(self, answer: Answer, standing: Standing) -> int:
        raise TypeError("a message of a stream is not replayed")

    async def end(self) -> int:
        self._turns.leave(self._number)
        await self._outbox.flushed()
        return self._reply.status if self._reply is not None else 0
