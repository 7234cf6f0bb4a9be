"""Questions of our own to a Triton server: is it ready, and what does it serve?"""

import asyncio
from typing import Annotated

import msgspec

from gateway.triton.client import Client, NotSent, UpstreamFailed

Loaded = dict[str, tuple[str, ...]]  # model -> the versions that are served

_OK = 200
_ANSWER_SECONDS = 1.0


class _Server(msgspec.Struct):
    name: str = ""


class _Metadata(msgspec.Struct):
    versions: tuple[Annotated[str, msgspec.Meta(pattern="^[0-9]{1,18}$")], ...] = ()


_server = msgspec.json.Decoder(_Server)
_metadata = msgspec.json.Decoder(_Metadata)


async def is_ready(client: Client, server_id: str) -> bool:
    """Whether the server of this id answers. One that is not there yet is not ready, and neither is another one on its port.

    Triton listens only once it has tried to load every model that it was started with.
    """
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            status, body = await client.get("/v2")
        return status == _OK and _server.decode(body).name == server_id
    except (NotSent, UpstreamFailed, TimeoutError, msgspec.DecodeError, UnicodeDecodeError):
        return False


async def loaded(client: Client, models: list[str]) -> Loaded:
    """Which of these models the server serves. Raises NotSent, UpstreamFailed, TimeoutError."""
    found: Loaded = {}
    for model in models:
        async with asyncio.timeout(_ANSWER_SECONDS):
            status, body = await client.get(f"/v2/models/{model}")
        if status == _OK:
            try:
                found[model] = _metadata.decode(body).versions
            except (msgspec.DecodeError, UnicodeDecodeError) as fault:
                raise UpstreamFailed(f"not the metadata of a model: {fault}") from fault
    return found
