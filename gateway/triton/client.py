"""Calls to one server over HTTP: a Triton, or one that speaks OpenAI's API itself."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Literal

from gateway.call import PASSED, InferenceCall, Outgoing, Source
from gateway.triton.connection import Connection, NotSent, Untrusted, UpstreamFailed, UpstreamReply
from gateway.triton.pool import Pool

_ANSWER_BYTES = 4 * 1024**2

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """The reply to a question of our own, whole; of a body above 4 MiB only its beginning."""

    status: int
    content_type: bytes
    body: bytes


@dataclass(slots=True)
class Client(Pool[Connection]):
    """The pool of one server, and what is asked over it. `authority` is what it is called by in `Host`."""

    authority: str = "triton"

    def _new(self, loop: asyncio.AbstractEventLoop) -> Connection:
        return Connection(loop)

    def send(self, call: InferenceCall, body: Outgoing) -> Coroutine[Any, Any, UpstreamReply]:
        """Send a judged call; give its reply, which must be released. Raises NotSent if it cannot have run, else UpstreamFailed."""
        return self._send(request_head(call, body, self.authority) + body.head, body.rest, first=body.first)

    def release(self, reply: UpstreamReply) -> None:
        """The caller is done with this reply, read to its end or not."""
        self._release(reply.connection)

    async def ask(
        self, method: Literal["GET", "POST"], path: str, body: bytes = b"", headers: Headers = ()
    ) -> Answer:
        """A question of our own. Raises NotSent, UpstreamFailed."""
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
        head = f"{method} {path} HTTP/1.1\r\nHost: {self.authority}\r\n{lines}Content-Length: {len(body)}\r\n\r\n"
        reply = await self._send(head.encode() + body)
        try:
            kept = bytearray()
            await reply.pour(lambda piece: kept.extend(piece[: _ANSWER_BYTES - len(kept)]))
            return Answer(reply.status, reply.content_type, bytes(kept))
        finally:
            self.release(reply)

    async def _send(
        self, head: bytes, rest: Source | None = None, *, first: bytes | memoryview = b""
    ) -> UpstreamReply:
        connection = await self._taken()
        try:
            await connection.send(head, rest, first=first)
            return await connection.reply()
        except BaseException:
            self._release(connection)
            raise


def request_head(call: InferenceCall, body: Outgoing, authority: str = "triton") -> bytes:
    """The head that the server gets: ours alone, of the client's headers only what was judged is in it."""
    path = "/v1" if call.endpoint in PASSED else f"/v2/models/{call.model}"
    if call.version:
        path += f"/versions/{call.version}"
    extra = f"traceparent: {call.traceparent}\r\n" if call.traceparent else ""
    if call.endpoint == "metadata":
        return f"GET {path} HTTP/1.1\r\nHost: {authority}\r\n{extra}\r\n".encode()
    if call.encoding and body.restores is None:  # what is compressed cannot be restored
        extra += f"Accept-Encoding: {call.encoding}\r\n"
    kind = "application/json"
    if body.binary:
        kind = "application/octet-stream"
        extra += f"Inference-Header-Content-Length: {len(body.head)}\r\n"
    length = len(body.head) + body.tensor_bytes
    return (
        f"POST {path}/{call.endpoint} HTTP/1.1\r\nHost: {authority}\r\nContent-Type: {kind}\r\n{extra}Content-Length: {length}\r\n\r\n"
    ).encode()


__all__ = ["Answer", "Client", "Headers", "NotSent", "Untrusted", "UpstreamFailed", "UpstreamReply"]
