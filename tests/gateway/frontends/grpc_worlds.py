"""The gRPC door over the real rooms and a small Triton, and a client of gRPC's own for it."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import grpc
from tritonclient.grpc import service_pb2 as official

from gateway.frontends.grpc_memory import MessageMemory
from gateway.frontends.grpc_server import GrpcDoor, GrpcServer, listening
from gateway.frontends.http import Readiness
from gateway.frontends.oip_grpc import OipGrpc
from gateway.scaling.scalers.process import free_port
from gateway.settings import Grpc, Http
from tenants.plans import Limits
from tests.gateway.house import LIMITS, House, house
from tests.worlds.triton import TritonWorld
from tests.worlds.triton_grpc import SERVICE, GrpcWorld


@dataclass(slots=True)
class Process:
    """What the kernel would say of the gateway's."""

    resident_bytes: int = 0
    used_bytes: int = 0


@dataclass(slots=True)
class Door:
    here: House
    upstream: GrpcWorld
    server: GrpcServer
    channel: Any
    ready: Readiness
    memory: MessageMemory
    process: Process

    @property
    def key(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.here.key.reveal()}"),)

    def call(self, method: str, message: bytes = b"", *more: tuple[str, str], **given: Any) -> Any:
        """A unary call with the key in its metadata, unless `metadata` is given."""
        metadata = given.pop("metadata", self.key + more)
        return self.channel.unary_unary(method if method[:1] == "/" else SERVICE + method)(
            message, metadata=metadata, **given
        )

    def stream(self, *more: tuple[str, str], **given: Any) -> Any:
        return self.channel.stream_stream(
            f"{SERVICE}ModelStreamInfer", None, official.ModelStreamInferResponse.FromString
        )(metadata=self.key + more, **given)


def infer(model: str = "digits", **fields: Any) -> bytes:
    message: bytes = official.ModelInferRequest(model_name=model, **fields).SerializeToString()
    return message


async def ended(call: Any) -> tuple[str, str]:
    """Status and text, however it ended."""
    return (await call.code()).name, await call.details()


async def trailing(call: Any) -> dict[str, str]:
    return dict(await call.trailing_metadata())


@asynccontextmanager
async def door(
    limits: Limits = LIMITS, grpc_knobs: Grpc | None = None, http_knobs: Http | None = None
) -> AsyncIterator[Door]:
    ids, ready, process = count(1), Readiness(ready=True, state="ok"), Process()
    http = http_knobs or Http()
    knobs = grpc_knobs or Grpc()
    async with (
        GrpcWorld() as upstream,
        TritonWorld(grpc_port=upstream.port) as triton,
        house(triton, limits=limits) as here,
    ):
        memory = MessageMemory(
            knobs.memory_bytes,
            knobs.message_bytes,
            lambda: process.resident_bytes,
            lambda: process.used_bytes,
        )
        oip = OipGrpc(
            here.pipeline,
            memory,
            lambda: f"request-{next(ids)}",
            lambda: made.ready,
            http.request_seconds,
            knobs.stream_calls,
        )
        served = GrpcDoor(oip, lambda: made.ready, lambda: f"request-{next(ids)}")
        port = free_port(secrets.choice)
        async with (
            listening(served, "127.0.0.1", port, knobs, http) as server,
            grpc.aio.insecure_channel(server.address) as channel,
        ):
            made = Door(here, upstream, server, channel, ready, memory, process)
            yield made
