"""Questions of our own to a Triton server: is it ready, and what does it serve?"""

import asyncio
from typing import Annotated

import msgspec

from gateway.triton.client import Client, NotSent, UpstreamFailed

Loaded = dict[str, tuple[str, ...]]  # model -> the versions that are served

_OK = 200
_ANSWER_SECONDS = 1.0


class _Metadata(msgspec.Struct):
    versions: tuple[Annotated[str, msgspec.Meta(pattern="^[0-9]{1,18}$")], ...] = ()


async def is_ready(client: Client) -> bool:
    """Whether the server answers and all models that it was started with are loaded. A server that is not there yet is not ready."""
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            status, _ = await client.get("/v2/health/ready")
    except (NotSent, UpstreamFailed, TimeoutError):
        return False
    return status == _OK


async def loaded(client: Client, models: list[str]) -> Loaded:
    """Which of these models the server serves. Raises NotSent, UpstreamFailed, TimeoutError."""
    found: Loaded = {}
    for model in models:
        async with asyncio.timeout(_ANSWER_SECONDS):
            status, body = await client.get(f"/v2/models/{model}")
        if status == _OK:
            try:
                found[model] = msgspec.json.decode(body, type=_Metadata).versions
            except msgspec.DecodeError as fault:
                raise UpstreamFailed(f"not the metadata of a model: {fault}") from fault
    return found
