"""grpc.health.v1: whether calls are served, told to whoever asks. Nobody needs a credential for it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, TypeAlias

import grpc

from gateway.errors import Code, GatewayError
from gateway.frontends.grpc_call import Context, refuse, told
from gateway.frontends.grpc_memory import MessageMemory
from gateway.frontends.http import Readiness
from gateway.frontends.routes import CHECKS
from gateway.triton.grpc_client import SERVICE
from gateway.wire.oip_grpc import parse
from gateway.wire.oip_messages import message_class

Handler: TypeAlias = "grpc.RpcMethodHandler[bytes, bytes]"

_SERVED: Final = ("", SERVICE)
_SERVING, _NOT_SERVING, _SERVICE_UNKNOWN = 1, 2, 3
_LOOK_SECONDS: Final = 1.0
_NOBODY: Final = ""  # the tenant of who need not be known
_MOST: Final = 100  # questions and watchers at once
_Request: Final = message_class("HealthCheckRequest")
_Response: Final = message_class("HealthCheckResponse")


@dataclass(slots=True)
class Health:
    """`stopping` is set when no new calls are taken."""

    readiness: Callable[[], Readiness]
    stopping: asyncio.Event
    new_id: Callable[[], str]
    memory: MessageMemory
    _under_way: int = 0

    def methods(self) -> "dict[str, Handler]":
        """By full name."""
        found: dict[str, Handler] = {
            "Check": grpc.stream_unary_rpc_method_handler(self._check),
            "Watch": grpc.stream_stream_rpc_method_handler(self._watch),
        }
        return {rpc.path: found[rpc.name] for rpc in CHECKS}

    async def _check(self, _: object, context: Context) -> bytes:
        request_id = self.new_id()
        async with self._counted(context, request_id):
            return await self._checked(context, request_id)

    async def _checked(self, context: Context, request_id: str) -> bytes:
        if await self._service(context, request_id) not in _SERVED:
            metadata = tuple(told(request_id))
            await context.abort(grpc.StatusCode.NOT_FOUND, "there is no such service", metadata)
        context.set_trailing_metadata(tuple(told(request_id)))
        return _response(self._status())

    async def _watch(self, _: object, context: Context) -> None:
        """The status now, and whenever it is another, until the client leaves or we stop."""
        request_id = self.new_id()
        async with self._counted(context, request_id):
            await self._watched(context, request_id)

    async def _watched(self, context: Context, request_id: str) -> None:
        is_served = await self._service(context, request_id) in _SERVED
        last = 0
        while True:
            status = self._status() if is_served else _SERVICE_UNKNOWN
            if status != last:
                last = status
                await context.write(_response(status))
            if self.stopping.is_set():
                return
            try:
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self.stopping.wait()
            except TimeoutError:
                continue

    @asynccontextmanager
    async def _counted(self, context: Context, request_id: str) -> AsyncIterator[None]:
        """Nobody has to be known here, so what all of them hold is bounded: they must not take the calls' place."""
        if self._under_way >= _MOST:
            await refuse(context, request_id, GatewayError(Code.OVERLOADED, retry_after_seconds=1))
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1

    def _status(self) -> int:
        return _SERVING if self.readiness().ready and not self.stopping.is_set() else _NOT_SERVING

    async def _service(self, context: Context, request_id: str) -> str:
        message: object = None
        try:
            async with asyncio.timeout(_LOOK_SECONDS):
                with self.memory.awaiting(_NOBODY):
                    message = await context.read()
        except TimeoutError:
            await refuse(context, request_id, GatewayError(Code.BODY_TOO_SLOW))
        except GatewayError as error:
            await refuse(context, request_id, error)
        try:
            service: str = parse(_Request, message if isinstance(message, bytes) else b"").service
        except GatewayError as error:
            await refuse(context, request_id, error)
        return service


def _response(status: int) -> bytes:
    return bytes(_Response(status=status).SerializeToString())
