"""The other end of a connection to Triton: in memory, where every byte is placed by the test, and over loopback, as a script."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from gateway.call import Endpoint, InferenceCall
from gateway.frontends.http_body import NoBody
from gateway.triton.connection import Connection

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter
Script = Callable[[Reader, Writer], Awaitable[None]]

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5\r\n\r\n"
REPLY = HEAD + b"hello"


class MemoryTransport(asyncio.Transport):
    """Remembers what was written and asked for. Closes when told to, and tells its protocol at once."""

    def __init__(self, protocol: Connection) -> None:
        super().__init__()
        self.protocol = protocol
        self.written = b""
        self.is_closed = False
        self.is_paused = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.is_closed, "a write after the close"
        self.written += data

    def abort(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            self.protocol.connection_lost(None)

    def is_closing(self) -> bool:
        return self.is_closed

    def pause_reading(self) -> None:
        assert not self.is_paused, "paused twice"
        self.is_paused = True

    def resume_reading(self) -> None:
        assert self.is_paused, "resumed twice"
        self.is_paused = False


def connected() -> tuple[Connection, MemoryTransport]:
    connection = Connection(asyncio.get_running_loop())
    transport = MemoryTransport(connection)
    connection.connection_made(transport)
    return connection, transport


@dataclass(slots=True)
class ScriptedServer:
    """Plays its script to each connection. `accepted` counts them, `open` those that neither side has closed."""

    script: Script
    port: int = 0
    accepted: int = 0
    open: int = 0
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def serve(self, reader: Reader, writer: Writer) -> None:
        self.accepted += 1
        self.open += 1
        try:
            await self.script(reader, writer)
            await reader.read()  # until the gateway closes
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            pass
        finally:
            writer.close()
            self.open -= 1
            async with self._changed:
                self._changed.notify_all()

    async def quiet(self) -> None:
        """Return once no connection is open; fail when that takes too long."""
        async with asyncio.timeout(5), self._changed:
            await self._changed.wait_for(lambda: not self.open)


@asynccontextmanager
async def served(script: Script, tls: ssl.SSLContext | None = None) -> AsyncIterator[ScriptedServer]:
    world = ScriptedServer(script)
    server = await asyncio.start_server(world.serve, "127.0.0.1", 0, ssl=tls)
    world.port = server.sockets[0].getsockname()[1]
    try:
        yield world
    finally:
        server.close()


async def read_request(reader: Reader) -> bytes:
    """One whole request, as its bytes. Raises IncompleteReadError when there is none."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = 0
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            length = int(line.partition(b":")[2])
    return head + await reader.readexactly(length)


async def until(is_so: Callable[[], bool]) -> None:
    """Return once it is so; fail when it is not within five seconds."""
    async with asyncio.timeout(5):
        while not is_so():
            await asyncio.sleep(0)


# Scripts


def answers(reply: bytes = REPLY) -> Script:
    """To every request the same bytes."""

    async def script(reader: Reader, writer: Writer) -> None:
        while True:
            await read_request(reader)
            writer.write(reply)

    return script


def parts(*steps: bytes | asyncio.Event | None) -> Script:
    """Read the head of one request, then send bytes, wait for events, close on None."""

    async def script(reader: Reader, writer: Writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for step in steps:
            if step is None:
                raise ConnectionError
            if isinstance(step, bytes):
                writer.write(step)
                await writer.drain()
            else:
                await step.wait()

    return script


def call(endpoint: Endpoint = "infer", version: str = "", encoding: str = "") -> InferenceCall:
    return InferenceCall(
        request_id="r1",
        model="digits",
        version=version,
        credential=None,
        address="192.0.2.1",
        protocol="test",
        payload=NoBody(),
        deadline=0.0,
        endpoint=endpoint,
        encoding=encoding,
    )
