"""A request's body as a Payload: nothing is read before the call is admitted, nothing goes to disk.

A JSON head is collected whole, out of one memory budget for the process; binary tensors behind it stream. A chunked body has no length
to promise to Triton, so it is collected whole as well, and sent on with a Content-Length of ours.
"""

from dataclasses import dataclass, field
from typing import Protocol

from gateway.call import Outgoing, Source, Take
from gateway.errors import Code, GatewayError
from gateway.frontends.http_exchange import Message
from gateway.wire.oip import judge_infer


class Incoming(Source, Protocol):
    """The body of a request as the connection has it: piece by piece for whoever asks, or poured, which ends early without an error when
    the client leaves. An Exchange is one.
    """

    async def receive(self) -> Message:
        """As ASGI's."""

    @property
    def is_gone(self) -> bool:
        """The client has left."""


@dataclass(slots=True)
class JsonMemory:
    """What the JSON heads of all requests under way may take together; refused beyond it. The encoded copies take as much again.

    One tenant has no more than a quarter of it, so that the others are served whatever it sends.
    """

    budget_bytes: int
    most_head_bytes: int
    taken_bytes: int = 0
    _taken_by: dict[str, int] = field(default_factory=dict)

    def take(self, tenant_id: str, size: int) -> None:
        """Raises TOO_MANY_AT_ONCE when the tenant's part is spent, OVERLOADED when all is."""
        # The largest head always fits in, however small the budget was set.
        taken_by = self._taken_by.get(tenant_id, 0)
        if taken_by + size > max(self.budget_bytes // 4, self.most_head_bytes):
            private = "the tenant's part of the memory for JSON heads is spent"
            raise GatewayError(Code.TOO_MANY_AT_ONCE, private=private, retry_after_seconds=1)
        if self.taken_bytes + size > self.budget_bytes:
            private = "the memory for JSON heads is spent"
            raise GatewayError(Code.OVERLOADED, private=private, retry_after_seconds=1)
        self._taken_by[tenant_id] = taken_by + size
        self.taken_bytes += size

    def give_back(self, tenant_id: str, size: int) -> None:
        self.taken_bytes -= size
        left = self._taken_by.pop(tenant_id, 0) - size
        if left > 0:
            self._taken_by[tenant_id] = left


class NoBody:
    """The payload of a call that has none."""

    declared_bytes = 0
    received_bytes = 0

    async def judge(self, limit_bytes: int, tenant_id: str) -> Outgoing:
        return Outgoing()


class InferBody:
    """The body of an infer request of `declared` bytes, None when chunked; its JSON has `head_length`, None when all is. Once that is
    judged, it is the source of the tensors behind it.
    """

    def __init__(
        self, incoming: Incoming, declared: int | None, head_length: int | None, memory: JsonMemory
    ) -> None:
        self._incoming = incoming
        self._memory = memory
        self._head_length = head_length
        self._tenant_id = ""
        self._taken_bytes = 0
        self._more = True
        self.declared_bytes = declared
        self.received_bytes = 0

    async def judge(self, limit_bytes: int, tenant_id: str) -> Outgoing:
        """Read the JSON head and judge it; the rest streams.

        Raises BAD_REQUEST, JSON_TOO_LARGE, BODY_TOO_LARGE, TOO_MANY_AT_ONCE, OVERLOADED.
        """
        self._tenant_id = tenant_id
        declared, head_length = self.declared_bytes, self._head_length
        if declared is None or head_length is None:
            data = await self._collect(None, limit_bytes)
            declared = len(data)
        elif head_length <= declared:
            data = await self._collect(head_length, limit_bytes)
        if head_length is None:
            return Outgoing(head=judge_infer(data, 0))
        if head_length > declared:
            raise GatewayError(
                Code.BAD_REQUEST, detail="Inference-Header-Content-Length is more than the body has"
            )
        tensor_bytes = declared - head_length
        # A head of length 0 is Triton's raw binary request: one tensor, no JSON.
        head = judge_infer(data[:head_length], tensor_bytes) if head_length else b""
        return Outgoing(
            head=head,
            first=memoryview(data)[head_length:],
            rest=self if self._more else None,
            tensor_bytes=tensor_bytes,
            binary=True,
        )

    def close(self) -> None:
        """Give the memory back."""
        self._memory.give_back(self._tenant_id, self._taken_bytes)
        self._taken_bytes = 0

    async def _collect(self, wanted: int | None, limit_bytes: int) -> bytes:
        """At least `wanted` bytes, or all there are, and what came along with them."""
        promised = (self.declared_bytes or 0) if wanted is None else wanted
        if promised > self._memory.most_head_bytes:
            raise GatewayError(Code.JSON_TOO_LARGE)
        collected: bytes | bytearray = b""
        while self._more and (wanted is None or len(collected) < wanted):
            data = await self._next()
            if self.received_bytes > limit_bytes:
                raise GatewayError(Code.BODY_TOO_LARGE)
            self._memory.take(self._tenant_id, len(data))
            self._taken_bytes += len(data)
            if not collected:
                collected = data
            else:
                if isinstance(collected, bytes):
                    collected = bytearray(collected)
                collected += data
            if wanted is None and len(collected) > self._memory.most_head_bytes:
                raise GatewayError(Code.JSON_TOO_LARGE)
        return bytes(collected)

    async def _next(self) -> bytes:
        message = await self._incoming.receive()
        if message["type"] == "http.disconnect":
            raise GatewayError(Code.CLIENT_CLOSED)
        self._more = message["more_body"]
        body: bytes = message["body"]
        self.received_bytes += len(body)
        return body

    async def pour(self, take: Take) -> None:
        """Raises CLIENT_CLOSED when the client leaves before the end."""

        def counted(piece: bytes) -> bool | None:
            self.received_bytes += len(piece)
            return take(piece)

        await self._incoming.pour(counted)
        if self._incoming.is_gone:
            raise GatewayError(Code.CLIENT_CLOSED)

    def pause(self) -> None:
        self._incoming.pause()

    def resume(self) -> None:
        self._incoming.resume()
