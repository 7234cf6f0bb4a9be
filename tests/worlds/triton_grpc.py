"""The gRPC side of a small Triton: a real grpc.aio server on loopback that answers what it is told to, and records what it is sent."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Self

import grpc
from tritonclient.grpc import service_pb2 as official

from gateway.scaling.scalers.process import free_port

SERVICE = "/inference.GRPCInferenceService/"
Context = Any


async def answers(request: Any, _: Context) -> bytes:
    reply = official.ModelInferResponse(model_name=request.model_name, model_version="3", id=request.id)
    message: bytes = reply.SerializeToString()
    return message


async def answers_once(request: Any, context: Context) -> AsyncIterator[bytes]:
    reply = official.ModelInferResponse.FromString(await answers(request, context))
    yield official.ModelStreamInferResponse(infer_response=reply).SerializeToString()


@dataclass(slots=True)
class GrpcWorld(grpc.GenericRpcHandler):
    """`infer` answers a unary call, `stream` the one message of a stream. `asked` are the serialized requests, `told` their metadata."""

    infer: Callable[[Any, Context], Awaitable[bytes]] = answers
    stream: Callable[[Any, Context], AsyncIterator[bytes]] = answers_once
    port: int = 0
    asked: list[bytes] = field(default_factory=list)
    told: list[dict[str, str]] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    departed: asyncio.Event = field(default_factory=asyncio.Event)
    server: Any = None

    async def __aenter__(self) -> Self:
        # Else two servers of two test processes could have one port, and each would get calls of the other's.
        options = [("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)]
        self.server = grpc.aio.server(handlers=[self], options=options)
        self.port = self.server.add_insecure_port(f"127.0.0.1:{free_port(secrets.choice)}")
        await self.server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.server.stop(0)

    async def die(self) -> None:
        """As kill -9 does."""
        await self.server.stop(0)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        match handler_call_details.method.removeprefix(SERVICE):
            case "ModelInfer" | "ModelMetadata":
                return grpc.unary_unary_rpc_method_handler(self._infer)
            case "ModelStreamInfer":
                return grpc.stream_stream_rpc_method_handler(self._stream)
        return None

    async def _infer(self, message: bytes, context: Context) -> bytes:
        return await self.infer(self._note(message, context), context)

    async def _stream(self, messages: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        async for message in messages:
            async for reply in self.stream(self._note(message, context), context):
                yield reply

    def _note(self, message: bytes, context: Context) -> Any:
        self.asked.append(message)
        self.told.append(dict(context.invocation_metadata()))
        self.arrived.set()
        return official.ModelInferRequest.FromString(message)

    async def hold(self, *_: object) -> bytes:
        """Until the caller leaves."""
        try:
            await asyncio.Event().wait()
        finally:
            self.departed.set()
        return b""
