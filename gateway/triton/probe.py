"""Is the server that we started the one that answers?"""

import asyncio

import msgspec

from gateway.triton.client import Client, NotSent, UpstreamFailed

_OK = 200


class _Server(msgspec.Struct):
    name: str = ""


_server = msgspec.json.Decoder(_Server)


async def is_ready(client: Client, server_id: str, seconds: float = 1.0) -> bool:
    """Whether the server of this id answers in time. One that is not there yet is not ready, and neither is another one on its port."""
    try:
        async with asyncio.timeout(seconds):
            answer = await client.ask("GET", "/v2")
        return answer.status == _OK and _server.decode(answer.body).name == server_id
    except (NotSent, UpstreamFailed, TimeoutError, msgspec.DecodeError, UnicodeDecodeError):
        return False
