"""KServe's two clients over every datatype that they know, as a process of its own: they bring the same messages as tritonclient, and
protobuf takes those once. Asks what the environment names, the gateway and the Triton behind it, and prints what both said, as JSON.
"""

import asyncio
import json
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig
from kserve.protocol.infer_type import RequestedOutput
from kserve.utils.numpy_codec import to_np_dtype

# All of the protocol's.
KINDS = (
    *("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64"),
    *("FP16", "FP32", "FP64", "BF16", "BYTES"),
)
_KEY = {"x-api-key": os.environ["KEY"]}


def given(kind: str) -> Iterator[Any]:
    """Some values of the datatype, and none; nothing where the clients do not know it."""
    dtype = to_np_dtype(kind)
    if dtype is None:
        return
    if kind == "BYTES":
        yield np.array(["", "text", "漢🙂", 'a"\\\n'], dtype)
    elif kind == "BOOL":
        yield np.array([True, False], dtype)
    else:
        limits: Any = np.iinfo(dtype) if "INT" in kind else np.finfo(dtype)
        yield np.array([0, 1, limits.min, limits.max], dtype)
    yield np.array([], dtype)


class Rest:
    def __init__(self, address: str) -> None:
        self._url = f"http://{address}"
        self._client = InferenceRESTClient(RESTConfig(protocol="v2"))

    async def ask(self, request: Any) -> Any:
        return await self._client.infer(self._url, request, model_name="identity", headers=dict(_KEY))

    async def is_ready(self) -> bool:
        found: bool = await self._client.is_model_ready(self._url, "identity", headers=dict(_KEY))
        return found


class Grpc:
    def __init__(self, address: str) -> None:
        self._client = InferenceGRPCClient(address)

    async def ask(self, request: Any) -> Any:
        return await self._client.infer(request, headers=list(_KEY.items()))

    async def is_ready(self) -> bool:
        found: bool = await self._client.is_model_ready("identity", headers=list(_KEY.items()))
        return found


async def said(client: Rest | Grpc, kind: str, values: Any, *, binary: bool) -> list[Any]:
    """The whole reply as the client has it, or the error that it raised."""
    try:
        tensor = InferInput(kind, list(values.shape), kind)
        tensor.set_data_from_numpy(values, binary_data=binary)
        wanted = RequestedOutput(f"{kind}_OUT", {"binary_data": binary} if isinstance(client, Rest) else None)
        request = InferRequest("identity", [tensor], request_id="7", request_outputs=[wanted])
        reply = await client.ask(request)
        (out,) = reply.outputs
    except Exception as fault:  # noqa: BLE001 - whatever the client makes of it
        return [type(fault).__name__, str(fault).partition(" for url ")[0]]
    values = out.as_numpy()
    return [
        reply.model_name,
        reply.model_version,
        reply.id,
        out.name,
        out.datatype,
        out.shape,
        repr(values.tolist()),
    ]


async def main() -> None:
    ways = {
        name: (made(os.environ[name]), made(os.environ[f"DIRECT_{name}"]))
        for name, made in (("REST", Rest), ("GRPC", Grpc))
    }
    found = []
    for name, (ours, theirs) in ways.items():
        assert await ours.is_ready()
        for kind in KINDS:
            for values in given(kind):
                for binary in (True, False):
                    told = [await said(client, kind, values, binary=binary) for client in (ours, theirs)]
                    found.append([name, kind, "binary" if binary else "plain", len(values), *told])
    print(json.dumps(found))


if __name__ == "__main__":
    asyncio.run(main())
