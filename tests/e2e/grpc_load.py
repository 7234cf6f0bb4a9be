"""Calls over kept gRPC channels, each sending after the reply before, on a thread of their own, while a test breaks things."""

import asyncio
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc
from tritonclient.grpc import service_pb2 as official

_INFER = "/inference.GRPCInferenceService/ModelInfer"
_PAUSE_SECONDS = 0.01
_FOUR = struct.pack("<4f", 1.0, 2.0, 3.0, 4.0)


@dataclass(slots=True)
class GrpcLoad:
    """`failures` counts calls by what they got that is no right reply."""

    address: str
    key: str
    model: str
    calls: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    _stopped: threading.Event = field(default_factory=threading.Event)

    async def run(self, channels: int) -> None:
        await asyncio.gather(*(self._channel() for _ in range(channels)))

    def stop(self) -> None:
        self._stopped.set()

    async def _channel(self) -> None:
        own = [("grpc.use_local_subchannel_pool", 1)]  # else all channels of a process share one connection
        async with grpc.aio.insecure_channel(self.address, options=own) as channel:
            infer = channel.unary_unary(
                _INFER,
                request_serializer=official.ModelInferRequest.SerializeToString,
                response_deserializer=official.ModelInferResponse.FromString,
            )
            while not self._stopped.is_set():
                try:
                    reply = await infer(
                        _request(self.model), metadata=[("authorization", f"Bearer {self.key}")], timeout=60
                    )
                    if reply.raw_output_contents[0] != _FOUR:
                        self.failures["another reply"] += 1
                except grpc.aio.AioRpcError as fault:
                    self.failures[f"{fault.code().name}: {fault.details()}"] += 1
                self.calls += 1
                await asyncio.sleep(_PAUSE_SECONDS)


def _request(model: str) -> official.ModelInferRequest:
    """To a model that gives back what it gets."""
    tensor = official.ModelInferRequest.InferInputTensor(name="in", datatype="FP32", shape=[4])
    return official.ModelInferRequest(model_name=model, inputs=[tensor], raw_input_contents=[_FOUR])


@contextmanager
def loading_grpc(load: GrpcLoad, channels: int) -> Iterator[GrpcLoad]:
    """It runs while the block does; when the block has ended, so have all its calls."""
    thread = threading.Thread(target=lambda: asyncio.run(load.run(channels)))
    thread.start()
    try:
        yield load
    finally:
        load.stop()
        thread.join()
