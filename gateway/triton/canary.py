"""A request that a model answers while it is well, and what its answer says.

The ready endpoint does not do: a model whose process crashed stays READY in Triton while each of its requests fails.
"""

import asyncio
import math
import re
from enum import Enum, auto

import msgspec

from gateway.call import Outgoing
from gateway.triton.client import Client, Headers, NotSent, UpstreamFailed
from gateway.triton.control import Input, ModelConfig
from tenants.model import Model

ID = "canary"
"""The `id` of every such request, by which a server's log tells it from a call."""

_MOST_BYTES = 4 * 1024**2
_SIZES = {
    **dict.fromkeys(("BOOL", "INT8", "UINT8"), 1),
    **dict.fromkeys(("INT16", "UINT16", "FP16", "BF16"), 2),
    **dict.fromkeys(("INT32", "UINT32", "FP32"), 4),
    **dict.fromkeys(("INT64", "UINT64", "FP64"), 8),
}
_OK = 200
_FAILED = 500
_BUSY = 503
_BAD = 400
# As a body of HTTP's, as a status of gRPC's, and as the error in a message of a gRPC stream.
_DEAD = re.compile(rb'(?:\{"error":"|\n.{1,2})?Stub process ', re.DOTALL)
_GONE = re.compile(rb"""(?:data: )?\{"error":"Stub process '[\w.-]{1,200}' is not healthy\."\}""")


class Health(Enum):
    WELL = auto()
    DEAD = auto()
    """Triton says that the model's process is gone."""
    FAILING = auto()
    """Triton says that the model could not run it."""
    SILENT = auto()
    """The answer did not come, or Triton had no room for the request: it says nothing of the model but that it does not serve."""
    UNUSABLE = auto()
    """Triton answers, but the request is not one that this model takes."""


# Pure: the request


def request(model: Model, config: ModelConfig) -> Outgoing | None:
    """The canary of the model's document, else one of zeros; None where there can be none.

    Triton takes no plain inference for a decoupled model. A sequence would be a state in the model. Zeros can be given to inputs of
    numbers with fixed dimensions; a first one that is not fixed is taken for the model's own batch.
    """
    if config.is_decoupled or config.has_sequences:
        return None
    if model.canary is not None:
        return Outgoing(head=_head(model.canary.inputs))
    inputs = [entry for entry in config.inputs if not entry.optional]
    tensors = [_zeros(entry, is_batched=config.max_batch_size > 0) for entry in inputs]
    wanted = [tensor for tensor in tensors if tensor is not None]
    total_bytes = sum(tensor.parameters["binary_data_size"] for tensor in wanted)
    if not wanted or len(wanted) < len(inputs) or total_bytes > _MOST_BYTES:
        return None
    return Outgoing(head=_head(wanted), first=bytes(total_bytes), tensor_bytes=total_bytes, binary=True)


class _Zeros(msgspec.Struct, frozen=True):
    name: str
    datatype: str
    shape: tuple[int, ...]
    parameters: dict[str, int]


def _zeros(entry: Input, *, is_batched: bool) -> _Zeros | None:
    size = _SIZES.get(entry.datatype)
    if size is None or entry.is_shape_tensor:
        return None
    shape = (1, *entry.dims) if is_batched else entry.dims
    if shape[:1] == (-1,):
        shape = (1, *shape[1:])
    if any(dimension < 1 for dimension in shape):
        return None
    return _Zeros(entry.name, entry.datatype, shape, {"binary_data_size": size * math.prod(shape)})


def _head(inputs: object) -> bytes:
    """Outputs are asked for in binary: nobody reads them, and they cost Triton less so."""
    return msgspec.json.encode({"id": ID, "inputs": inputs, "parameters": {"binary_data_output": True}})


# The answer


async def answer(client: Client, model: str, body: Outgoing, seconds: float) -> Health:
    """What the model makes of the request, within that many seconds."""
    kind: Headers = (("Content-Type", "application/json"),)
    if body.binary:
        length = str(len(body.head))
        kind = (("Content-Type", "application/octet-stream"), ("Inference-Header-Content-Length", length))
    try:
        async with asyncio.timeout(seconds):
            got = await client.ask("POST", f"/v2/models/{model}/infer", body.head + body.first, kind)
    except (NotSent, UpstreamFailed, TimeoutError):
        return Health.SILENT
    return judge(got.status, got.content_type, got.body)


def judge(status: int, content_type: bytes, body: bytes = b"") -> Health:
    """Pure. What a model could not run is text in Triton, what Triton could not read is JSON; both are a 500.

    Of all failures one is never brought about by raising in the model, whatever a request holds: that its process is gone (2.51).
    """
    if status == _OK:
        return Health.WELL
    if status == _BUSY:
        return Health.SILENT
    if status == _BAD and _GONE.match(body):  # what generate says of it
        return Health.DEAD
    if status != _FAILED or not content_type.startswith(b"text/plain"):
        return Health.UNUSABLE
    return Health.DEAD if _DEAD.match(body) else Health.FAILING
