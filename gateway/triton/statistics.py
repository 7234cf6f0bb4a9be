"""What a server says that its models computed. `batch_stats` counts each execution once; `inference_stats` counts that of a batch once for
each request in it, and is many times too much.
"""

import asyncio
from typing import Final

import msgspec
from msgspec import Struct

from gateway.scaling.scaler import Replica
from gateway.triton.client import Client, UpstreamFailed

_OK: Final = 200
_NO_MODEL: Final = (400, 404)
_ANSWER_SECONDS: Final = 2.0


class Totals(Struct, frozen=True):
    """Of one model, all its versions, since it was loaded there."""

    executions: int = 0
    compute_ns: int = 0

    def __add__(self, other: "Totals") -> "Totals":
        return Totals(self.executions + other.executions, self.compute_ns + other.compute_ns)


class _Time(Struct, frozen=True):
    ns: int = 0


class _Batch(Struct, frozen=True):
    compute_input: _Time = _Time()
    compute_infer: _Time = _Time()
    compute_output: _Time = _Time()


class _Model(Struct, frozen=True):
    name: str
    execution_count: int = 0
    batch_stats: tuple[_Batch, ...] = ()


class _Answer(Struct, frozen=True):
    model_stats: tuple[_Model, ...] = ()


_decode = msgspec.json.Decoder(_Answer).decode


async def statistics(client: Client, replica: Replica, model: str = "") -> dict[str, Totals]:
    """Of one model, or of all; a model that is not loaded is not there. Raises NotSent, UpstreamFailed, TimeoutError."""
    path = f"/v2/models/{model}/stats" if model else "/v2/models/stats"
    async with asyncio.timeout(_ANSWER_SECONDS):
        answer = await client.ask("GET", path, headers=replica.control)
    if answer.status in _NO_MODEL and model:
        return {}
    if answer.status != _OK:
        raise UpstreamFailed(f"statistics: {answer.status}")
    try:
        stats = _decode(answer.body).model_stats
    except (msgspec.DecodeError, UnicodeDecodeError) as fault:
        raise UpstreamFailed(f"not an answer of Triton's: {fault}") from fault
    found: dict[str, Totals] = {}
    for it in stats:
        ns = sum(
            each.compute_input.ns + each.compute_infer.ns + each.compute_output.ns for each in it.batch_stats
        )
        found[it.name] = found.get(it.name, Totals()) + Totals(it.execution_count, ns)
    return found
