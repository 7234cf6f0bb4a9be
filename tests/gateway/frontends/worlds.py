"""A door on loopback: a real uvicorn server with our protocol, and clients that place every byte themselves."""

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import uvicorn

from gateway.call import Source
from gateway.errors import GatewayError
from gateway.frontends.http import Readiness
from gateway.frontends.http_exchange import Headers
from gateway.frontends.http_protocol import GatewayProtocol, HttpLimits, http_protocol

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

# Long enough for a busy machine, short enough for a test: a period of each kind.
LIMITS = HttpLimits(
    head_bytes=4096,
    head_seconds=0.1,
    body_seconds=0.1,
    discard_bytes=65536,
    drain_seconds=0.1,
    linger_seconds=0.1,
)
PATIENCE_SECONDS = 10


async def nothing() -> str:
    """No figures."""
    return ""


async def ready() -> Readiness:
    return Readiness(ready=True, state="ok")


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> str:
        """The sentence of a refusal; fails when it is not one in the protocol, or has no id."""
        assert self.headers["content-type"] == "application/json"
        assert len(self.headers["x-request-id"]) == 32
        document = json.loads(self.body)
        assert list(document) == ["error"]
        return str(document["error"])


@dataclass(slots=True)
class Wire:
    """One connection of a client."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()

    async def answer(self, *, of: str = "GET") -> Answer:
        """The next answer, whole. Fails when it does not come, or is cut."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            head = await self.reader.readuntil(b"\r\n\r\n")
            first, *lines = head.decode().split("\r\n")[:-2]
            headers = dict(line.split(": ", 1) for line in lines)
            assert len(headers) == len(lines), "a header twice"
            status = int(first.split(" ")[1])
            length = 0 if of == "HEAD" or status == 100 else int(headers["content-length"])
            return Answer(status, headers, await self.reader.readexactly(length))

    async def ask(self, *pieces: bytes) -> Answer:
        await self.send(*pieces)
        return await self.answer()

    async def rest(self) -> bytes:
        """What still comes until the server closes."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""


@dataclass(slots=True)
class Door:
    port: int
    server: uvicorn.Server
    refused: list[tuple[str, str, GatewayError]]  # what was said of refusals without the application
    wires: list[Wire] = field(default_factory=list)

    async def connect(self, tls: ssl.SSLContext | None = None) -> Wire:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=tls)
        self.wires.append(wire := Wire(reader, writer))
        return wire

    async def ask(self, *pieces: bytes) -> Answer:
        """On a connection of its own."""
        return await (await self.connect()).ask(*pieces)

    async def patience_ends(self) -> None:
        """Return when a client that is late in every way, and starts now, has been refused."""
        assert (await self.ask(b"GET / HT")).status == 408

    def shutdown(self) -> None:
        for connection in list(self.server.server_state.connections):
            connection.shutdown()

    async def empty(self) -> None:
        """Return once no connection is open."""
        await self.empty_but(0)

    async def empty_but(self, number: int) -> None:
        """Return once no more than so many connections are open."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(self.server.server_state.connections) > number:
                await asyncio.sleep(0.001)

    async def begun(self) -> GatewayProtocol:
        """The protocol of the only connection, once there is one."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not self.server.server_state.connections:
                await asyncio.sleep(0.001)
        (connection,) = self.server.server_state.connections
        assert isinstance(connection, GatewayProtocol)
        return connection


@asynccontextmanager
async def door(
    app: App,
    limits: HttpLimits = LIMITS,
    *,
    keep_alive_seconds: float = 60,
    around: Callable[[type[asyncio.Protocol]], type[asyncio.Protocol]] = lambda protocol: protocol,
) -> AsyncIterator[Door]:
    """The app behind a listening socket. When the block ends every connection must go, or the test fails."""
    ids = count(1)
    refused: list[tuple[str, str, GatewayError]] = []
    config = uvicorn.Config(
        app,
        http=around(
            http_protocol(limits, lambda: f"{next(ids):032x}", lambda *refusal: refused.append(refusal))
        ),
        ws="none",
        lifespan="off",
        proxy_headers=False,
        server_header=False,
        date_header=False,
        access_log=False,
        log_config=None,
        timeout_keep_alive=keep_alive_seconds,  # type: ignore[arg-type]  # whole seconds are too long for a test
    )
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        await server.startup(sockets=[listener])
        world = Door(listener.getsockname()[1], server, refused)
        try:
            yield world
        finally:
            for wire in world.wires:
                wire.writer.close()
            for listening in server.servers:
                listening.close()
            try:
                await world.empty()
            finally:
                for task in server.server_state.tasks:
                    task.cancel()


async def answer(send: Send, status: int, body: bytes, **headers: str) -> None:
    """An answer of an app, with its length."""
    fields = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    fields.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})


async def read_body(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        assert message["type"] == "http.request"
        body += message["body"]
        more = message["more_body"]
    return body


# Applications, and what they are asked

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def post(body: bytes, *headers: bytes) -> bytes:
    head = [b"POST / HTTP/1.1", b"Host: a", b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


@dataclass(slots=True)
class Echo:
    """Reads every body and answers with its length and the raw path. Remembers what it was asked."""

    scopes: list[Message] = field(default_factory=list)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        body = await read_body(receive)
        await answer(send, 200, b"%d" % len(body), path=scope["raw_path"].decode("latin-1"))


@dataclass(slots=True)
class Holding:
    """Answers when told to. Says when it was asked and when it ended, however that came."""

    asked: asyncio.Event = field(default_factory=asyncio.Event)
    go: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    first: bytes = b""  # sent before it waits, of an answer of 1000 bytes
    reads: int = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if self.asked.is_set():
            await answer(send, 200, b"again")
            return
        try:
            if self.first:
                head = [(b"content-length", b"1000")]
                await send({"type": "http.response.start", "status": 200, "headers": head})
                await send({"type": "http.response.body", "body": self.first, "more_body": True})
            self.asked.set()
            await self.go.wait()
            self.reads = len(await read_body(receive))
            if self.first:
                await send({"type": "http.response.body", "body": b"x" * (1000 - len(self.first))})
            else:
                await answer(send, 200, b"held")
        except asyncio.CancelledError:
            return
        finally:
            self.ended.set()


async def refusing(scope: Message, receive: Receive, send: Send) -> None:
    """Answers at once, without reading."""
    await answer(send, 413, b"too large")


@dataclass(slots=True)
class Heard:
    """A connection that takes all: what the client heard, as ASGI messages."""

    messages: list[Any] = field(default_factory=list)
    goes_on: bool = False
    is_gone: bool = False

    @property
    def has_begun(self) -> bool:
        return bool(self.messages)

    async def writable(self) -> None:
        pass

    def follow(self, source: Source) -> None:
        pass

    def begin(self, status: int, headers: Headers) -> None:
        self.messages.append({"type": "http.response.start", "status": status, "headers": headers})

    def write(self, body: bytes, *, more_body: bool) -> None:
        self.messages.append({"type": "http.response.body", "body": body, "more_body": more_body})

    async def send(self, message: Message) -> None:
        self.messages.append(message)

    @property
    def status(self) -> int:
        return int(self.messages[0]["status"])

    @property
    def headers(self) -> dict[bytes, bytes]:
        headers = dict(self.messages[0]["headers"])
        assert len(headers) == len(self.messages[0]["headers"]), "a header twice"
        return headers

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.messages[1:])

    @property
    def is_whole(self) -> bool:
        return [message["more_body"] for message in self.messages[1:]][-1:] == [False]


@dataclass(slots=True)
class Asked(Heard):
    """An exchange without a connection: the whole body of a request is here, and the answer is kept."""

    body: bytes = b""

    async def receive(self) -> Message:
        return {"type": "http.request", "body": self.body, "more_body": False}
