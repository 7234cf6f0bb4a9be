"""The bare pass-through: a plain ASGI application over the gateway's own pool. No key, no policy, no limit, no record.

    python -m tests.bench.passthrough PORT TRITON_PORT

What it costs is what any proxy in Python costs here; what the gateway costs beyond it is the gateway's work. It collects a reply before
it sends it: ASGI would wake a task for each piece.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

import uvicorn

from gateway.call import InferenceCall, Outgoing, Take
from gateway.frontends.http_body import NoBody
from gateway.triton.client import Client

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

_HEAD_LENGTH = b"inference-header-content-length"


@dataclass(frozen=True, slots=True)
class PassThrough:
    """Takes POST /v2/models/MODEL/infer with a Content-Length, and trusts it."""

    client: Client

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        length = int(headers[b"content-length"])
        head_length = int(headers.get(_HEAD_LENGTH, length))
        data, more = b"", True
        while more and len(data) < head_length:
            message = await receive()
            data, more = data + message["body"], message["more_body"]
        body = Outgoing(
            head=data[:head_length],
            first=data[head_length:],
            rest=_Rest(receive) if more else None,
            tensor_bytes=length - head_length,
            binary=_HEAD_LENGTH in headers,
        )
        reply = await self.client.send(_call(scope["path"].split("/")[3]), body)
        try:
            answer = [
                (b"content-type", reply.content_type),
                (b"content-length", str(reply.length_bytes).encode()),
                *([(_HEAD_LENGTH, reply.head_length)] if reply.head_length else []),
            ]
            await send({"type": "http.response.start", "status": reply.status, "headers": answer})
            pieces: list[bytes] = []
            await reply.pour(pieces.append)
            await send({"type": "http.response.body", "body": b"".join(pieces)})
        finally:
            self.client.release(reply)


@dataclass(slots=True)
class _Rest:
    """What ASGI still brings of a body, as the source that the pool asks for."""

    receive: Receive
    goes: asyncio.Event = field(default_factory=asyncio.Event)

    async def pour(self, take: Take) -> None:
        self.goes.set()
        more = True
        while more:
            message = await self.receive()
            more = message["more_body"]
            if take(message["body"]):
                return
            await self.goes.wait()

    def pause(self) -> None:
        self.goes.clear()

    def resume(self) -> None:
        self.goes.set()


def _call(model: str) -> InferenceCall:
    return InferenceCall(
        request_id="",
        endpoint="infer",
        model=model,
        version="",
        credential=None,
        address="",
        protocol="",
        payload=NoBody(),
        deadline=0.0,
    )


def serve(app: Application, port: int) -> None:
    """Serve until SIGTERM; uvicorn is configured as the gateway configures it, with its own protocol."""
    uvicorn.run(
        app,
        port=port,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_config=None,
    )


if __name__ == "__main__":
    serve(PassThrough(Client("127.0.0.1", int(sys.argv[2]))), int(sys.argv[1]))
