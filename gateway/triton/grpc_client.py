"""Calls to one Triton server over gRPC, each with a connection of its own out of the pool."""

import asyncio
import math
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from gateway.call import GRPC_STREAM, InferenceCall, Outgoing
from gateway.triton.grpc_connection import GrpcConnection, GrpcReply
from gateway.triton.http2 import literal
from gateway.triton.pool import Pool
from gateway.wire.oip_grpc import stream_status

SERVICE = "inference.GRPCInferenceService"
# :method POST, :scheme http (RFC 7541, Appendix A), :authority, te, content-type; only the path differs.
_ALIKE = b"\x83\x86" + b"".join(
    literal(name, value)
    for name, value in (
        (b":authority", b"triton"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
    )
)


def _opening(method: str) -> bytes:
    return _ALIKE[:2] + literal(b":path", f"/{SERVICE}/{method}".encode()) + _ALIKE[2:]


_INFER, _STREAM, _DESCRIBE = map(_opening, ("ModelInfer", "ModelStreamInfer", "ModelMetadata"))
# Our own deadline comes first and closes the connection; Triton's is for the day when we do not.
_SLACK_SECONDS = 1.0
_MOST_SECONDS = 99_999_999  # that gRPC has digits for


@dataclass(slots=True)
class GrpcClient(Pool[GrpcConnection]):
    """The pool of one model's place on a server. `clock` gives monotonic seconds, as deadlines are in."""

    clock: Callable[[], float] = lambda: 0.0
    is_decoupled: bool = False  # the model answers a request as often as it likes

    def _new(self, loop: asyncio.AbstractEventLoop) -> GrpcConnection:
        return GrpcConnection(loop)

    def send(self, call: InferenceCall, body: Outgoing) -> Coroutine[Any, Any, GrpcReply]:
        """Send a judged call; give its reply, which must be released. Raises NotSent if it cannot have run, else UpstreamFailed."""
        return self._send(
            opening(call, call.deadline - self.clock()), body, is_stream=call.protocol == GRPC_STREAM
        )

    async def _send(self, block: bytes, body: Outgoing, *, is_stream: bool) -> GrpcReply:
        connection = await self._taken()
        try:
            await connection.send(block, body.head, body.first)
            reply = await connection.reply(is_stream=is_stream)
        except BaseException:
            self._release(connection)
            raise
        reply.is_stream, reply.is_ordered = is_stream, not self.is_decoupled
        if is_stream and (first := connection.first_message):
            reply.status = stream_status(first)
        return reply

    def release(self, reply: GrpcReply) -> None:
        """The caller is done with this reply, read to its end or not."""
        self._release(reply.connection)


@lru_cache(maxsize=1024)  # of each method a few hundred: most deadlines are equally far
def _timed(method: bytes, seconds: int) -> bytes:
    return method + literal(b"grpc-timeout", b"%dS" % min(seconds, _MOST_SECONDS))


def opening(call: InferenceCall, seconds: float) -> bytes:
    """The header block that Triton gets: ours alone, of the client's metadata only a valid traceparent is in it."""
    method = _DESCRIBE if call.verb == "describe" else _STREAM if call.protocol == GRPC_STREAM else _INFER
    block = _timed(method, max(1, math.ceil(seconds + _SLACK_SECONDS)))
    return block + literal(b"traceparent", call.traceparent.encode()) if call.traceparent else block


__all__ = ["SERVICE", "GrpcClient", "GrpcReply"]
