"""The bare pass-through of gRPC: a grpc.aio server over a grpc.aio channel on uvloop, with identity serializers. Nothing is read.

    python -m tests.bench.grpc_passthrough PORT TRITON_GRPC_PORT

What it costs is what any gRPC proxy in Python costs here; what the gateway costs beyond it is the gateway's work.
"""

import sys
from dataclasses import dataclass

import grpc
import uvloop

METHOD = "/inference.GRPCInferenceService/ModelInfer"
_MOST_BYTES = -1  # grpc's word for any


@dataclass(frozen=True, slots=True)
class PassThrough(grpc.GenericRpcHandler):
    """Takes unary calls of any method, each answered by Triton's ModelInfer."""

    handler: "grpc.RpcMethodHandler[bytes, bytes]"

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[bytes, bytes]":
        return self.handler


async def serve(port: int, triton: int) -> None:
    options = [
        ("grpc.max_receive_message_length", _MOST_BYTES),
        ("grpc.max_send_message_length", _MOST_BYTES),
    ]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{triton}", options=options) as channel:
        infer: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)

        async def forward(request: bytes, _: object) -> bytes:
            return await infer(request)

        server = grpc.aio.server(
            handlers=[PassThrough(grpc.unary_unary_rpc_method_handler(forward))], options=options
        )
        server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), int(sys.argv[2])))
