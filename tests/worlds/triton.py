"""A small Triton: a real HTTP server on loopback that keeps the part of the protocol that the gateway uses, and can misbehave.

It is a fake: it runs no model. Its replies are what the wheel's server answers to the same requests, so far as the gateway looks at them.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Literal, Self

from gateway.scaling.scaler import Replica, StartFailed

Mood = Literal["answers", "holds", "closes before", "closes within", "cannot read", "closes within an error"]
UNREADABLE = (
    b'{"error":"failed to parse the request JSON buffer: Number too big to be stored in double. at 62"}'
)
ANSWER = b'{"model_name":"digits","model_version":"3","outputs":[]}'


@dataclass(slots=True)
class TritonWorld:
    """Serves `models` with version 3. `asked` are the bodies of the infer requests that arrived whole;"""

    models: tuple[str, ...] = ("digits",)
    mood: Mood = "answers"
    asked: list[bytes] = field(default_factory=list)
    released: asyncio.Event = field(default_factory=asyncio.Event)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    departed: asyncio.Event = field(default_factory=asyncio.Event)
    port: int = 0
    server_id: str = ""
    _server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._converse, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = 0
                for line in head.lower().split(b"\r\n"):
                    if line.startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                await self._answer(
                    head.split(b" ")[1].decode(), await reader.readexactly(length), reader, writer
                )
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    async def _answer(
        self, path: str, body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if not path.endswith("/infer"):
            if path == "/v2":
                writer.write(_reply(200, b'{"name":"%s"}' % self.server_id.encode()))
            elif path.removeprefix("/v2/models/") in self.models:
                writer.write(_reply(200, b'{"versions":["1","3"]}'))
            else:
                writer.write(_reply(404, b'{"error":"unknown model"}'))
            return
        self.asked.append(body)
        self.arrived.set()
        if self.mood == "closes before":
            raise ConnectionError
        if self.mood == "holds":
            await self._hold(reader)
        if self.mood == "cannot read":
            writer.write(_reply(500, UNREADABLE))
            return
        if self.mood == "closes within an error":
            writer.write(_reply(500, UNREADABLE)[:-10])
            raise ConnectionError
        whole = _reply(200, ANSWER)
        writer.write(whole[:-10] if self.mood == "closes within" else whole)
        await writer.drain()
        if self.mood == "closes within":
            raise ConnectionError

    async def _hold(self, reader: asyncio.StreamReader) -> None:
        """Until released, or until the caller leaves."""
        gone = asyncio.ensure_future(reader.read(1))
        released = asyncio.ensure_future(self.released.wait())
        await asyncio.wait((gone, released), return_when=asyncio.FIRST_COMPLETED)
        has_left = gone.done()
        for task in (gone, released):
            task.cancel()
        await asyncio.wait((gone, released))
        if has_left:
            self.departed.set()
            raise ConnectionError


def _reply(status: int, body: bytes) -> bytes:
    return b"HTTP/1.1 %d OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
        status,
        len(body),
        body,
    )


@dataclass(slots=True)
class ScalerWorld:
    """The Scaler port over worlds that run already: each start gives the next one. Keeps the contract: ids are unique, stop is final."""

    worlds: list[TritonWorld]
    started: list[str] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    gone: dict[str, str] = field(default_factory=dict)
    fails: str = ""
    impostor: str = ""  # what answers on the port is another server, of this id

    async def start(self) -> Replica:
        if self.fails:
            raise StartFailed(self.fails)
        world = self.worlds[min(len(self.started), len(self.worlds) - 1)]
        replica = Replica(f"replica-{len(self.started)}", "127.0.0.1", world.port)
        world.server_id = self.impostor or replica.id
        self.started.append(replica.id)
        return replica

    def why_gone(self, replica: Replica) -> str | None:
        if replica.id in self.stopped:
            return "stopped"
        return self.gone.get(replica.id)

    async def stop(self, replica: Replica) -> None:
        assert replica.id not in self.stopped
        self.stopped.append(replica.id)
