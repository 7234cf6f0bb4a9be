"""A request's body as a Payload: nothing is read before the call is admitted, nothing goes to disk.

A JSON head is collected whole, out of one memory budget for the process; binary tensors behind it stream. A chunked or compressed body has
no length to promise to Triton, so it is collected whole as well, and sent on as it is inside, with a Content-Length of ours.
"""

from functools import partial
from hashlib import sha256
from typing import Protocol

from gateway.call import Outgoing, Source, Take
from gateway.errors import Code, GatewayError
from gateway.frontends.http_exchange import Message
from gateway.frontends.memory import Memory
from gateway.frontends.restoring import over_http
from gateway.frontends.screening import beside
from gateway.privacy.mask import Screen
from gateway.wire.encodings import Inflater
from gateway.wire.generate import judge_generate
from gateway.wire.oip import Judged, judge_infer
from gateway.wire.screened import has_texts_behind, masked_head, masked_infer, masked_json


class Incoming(Source, Protocol):
    """The body of a request as the connection has it: piece by piece for whoever asks, or poured, which ends early without an error when
    the client leaves. An Exchange is one.
    """

    async def receive(self) -> Message:
        """As ASGI's."""

    @property
    def is_gone(self) -> bool:
        """The client has left."""


class JsonMemory(Memory):
    """What the JSON heads of all requests under way may take together; refused beyond it. The encoded copies take as much again."""

    __slots__ = ()
    what = "JSON heads"


class NoBody:
    """The payload of a call that has none."""

    fingerprint = b""
    declared_bytes = 0
    received_bytes = 0

    async def judge(self, limit_bytes: int, tenant_id: str, screen: Screen | None) -> Outgoing:
        return Outgoing()


class Collected:
    """A body of `declared` bytes, None when chunked, that is compressed with `coding` or not (b""), and its part of the memory.
    `with_key`: its call has an Idempotency-Key.
    """

    def __init__(
        self,
        incoming: Incoming,
        declared: int | None,
        coding: bytes,
        memory: JsonMemory,
        *,
        with_key: bool = False,
    ) -> None:
        self._incoming = incoming
        self._memory = memory
        self._inflater = Inflater(coding) if coding else None
        self._digest = sha256() if with_key else None
        self._tenant_id = ""
        self._taken_bytes = 0
        self._more = True
        self.declared_bytes = declared
        self.received_bytes = 0

    @property
    def fingerprint(self) -> bytes:
        """Of the body as it is inflated."""
        return self._digest.digest() if self._digest is not None else b""

    def account(self, size: int) -> None:
        """So many bytes of the answer are here as well. None is refused for that: the call has run."""
        self._memory.add(self._tenant_id, size)
        self._taken_bytes += size

    def hold(self, size: int) -> None:
        """So many bytes more are here for this call. Raises TOO_MANY_AT_ONCE, OVERLOADED."""
        self._memory.take(self._tenant_id, size)
        self._taken_bytes += size

    def close(self) -> None:
        """Give the memory back."""
        self._memory.give_back(self._tenant_id, self._taken_bytes)
        self._taken_bytes = 0

    async def _collect(self, wanted: int | None, limit_bytes: int) -> bytes:
        """At least `wanted` bytes, or all there are, and what came along with them."""
        most_bytes = self._memory.most_bytes
        promised = (self.declared_bytes or 0) if wanted is None else wanted
        if promised > most_bytes:
            raise self._too_large()
        collected: bytes | bytearray = b""
        while self._more and (wanted is None or len(collected) < wanted):
            data = await self._next(limit_bytes - len(collected))
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
            if self._digest is not None:
                self._digest.update(data)
            if wanted is None and len(collected) > most_bytes:
                raise self._too_large()
        return bytes(collected)

    def _too_large(self) -> GatewayError:
        if self._digest is None:
            return GatewayError(Code.JSON_TOO_LARGE)
        most = f"a body with an Idempotency-Key has at most {self._memory.most_bytes} bytes"
        return GatewayError(Code.JSON_TOO_LARGE, detail=most)

    async def _next(self, room_bytes: int) -> bytes:
        message = await self._incoming.receive()
        if message["type"] == "http.disconnect":
            raise GatewayError(Code.CLIENT_CLOSED)
        self._more = message["more_body"]
        body: bytes = message["body"]
        self.received_bytes += len(body)
        if self._inflater is None:
            return body
        data = self._inflater.inflate(body, min(room_bytes, self._memory.most_bytes))
        if not self._more:
            self._inflater.end()
        return data


class GenerateBody(Collected):
    """The body of a generate request: JSON alone."""

    async def judge(self, limit_bytes: int, tenant_id: str, screen: Screen | None) -> Outgoing:
        """Raises BAD_REQUEST, JSON_TOO_LARGE, BODY_TOO_LARGE, TOO_MANY_AT_ONCE, OVERLOADED, NotScreened."""
        self._tenant_id = tenant_id
        body = await self._collect(None, limit_bytes)
        if screen is not None:
            body = await beside(tenant_id, body, screen, partial(masked_json, body, screen))
        return Outgoing(head=judge_generate(body), restores=over_http(screen, self.hold))


class InferBody(Collected):
    """The body of an infer request; its JSON has `head_length`, None when all is. Once that is judged, it is the source of the tensors
    behind it.
    """

    def __init__(
        self,
        incoming: Incoming,
        declared: int | None,
        head_length: int | None,
        memory: JsonMemory,
        coding: bytes = b"",
        *,
        with_key: bool = False,
    ) -> None:
        super().__init__(incoming, declared, coding, memory, with_key=with_key)
        self._head_length = head_length
        if self._digest is not None:
            self._digest.update(b"%d:" % (-1 if head_length is None else head_length))

    async def judge(self, limit_bytes: int, tenant_id: str, screen: Screen | None) -> Outgoing:
        """Read the JSON head and judge it; the rest streams, unless there are texts in it to be masked, or an Idempotency-Key.

        Raises BAD_REQUEST, NOT_MASKED, JSON_TOO_LARGE, BODY_TOO_LARGE, TOO_MANY_AT_ONCE, OVERLOADED, NotScreened.
        """
        self._tenant_id = tenant_id
        size, head_length = self.declared_bytes, self._head_length
        if size is None or head_length is None or self._inflater is not None or self._digest is not None:
            data = await self._collect(None, limit_bytes)
            size = len(data)
        elif head_length <= size:
            data = await self._collect(head_length, limit_bytes)
        if head_length is None:
            if screen is not None:
                data = await beside(tenant_id, data, screen, partial(masked_head, data, screen))
            judged = judge_infer(data, 0)
            return Outgoing(head=judged.head, sequence=judged.sequence, restores=over_http(screen, self.hold))
        if head_length > size:
            raise GatewayError(
                Code.BAD_REQUEST, detail="Inference-Header-Content-Length is more than the body has"
            )
        head, first = data[:head_length], memoryview(data)[head_length:]
        tensor_bytes = size - head_length
        if screen is not None:
            head, first = await self._masked(head, first, limit_bytes, screen)
            if not self._more:
                tensor_bytes = len(first)
        # A head of length 0 is Triton's raw binary request: one tensor, no JSON.
        judged = judge_infer(head, tensor_bytes) if head_length else Judged(b"")
        return Outgoing(
            head=judged.head,
            sequence=judged.sequence,
            first=first,
            rest=self if self._more else None,
            tensor_bytes=tensor_bytes,
            binary=True,
            restores=over_http(screen, self.hold),
        )

    async def _masked(
        self, head: bytes, first: memoryview, limit_bytes: int, screen: Screen
    ) -> tuple[bytes, memoryview]:
        """The head and what is here of the tensors: all, if there are texts among them."""
        if not head:
            raise GatewayError(
                Code.NOT_MASKED, detail="a raw binary request cannot be masked; send it with a JSON head"
            )
        head = await beside(self._tenant_id, head, screen, partial(masked_head, head, screen))
        if not has_texts_behind(head):
            return head, first
        tensors = bytes(first) + await self._collect(None, limit_bytes)
        head, masked = await beside(
            self._tenant_id, tensors, screen, partial(masked_infer, head, tensors, screen)
        )
        return head, memoryview(masked)

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
