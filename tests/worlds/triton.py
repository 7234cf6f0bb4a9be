"""A small Triton: a real HTTP server on loopback that keeps the part of the protocol that the gateway uses, and can misbehave.

It is a fake: it runs no model. Its replies are what the wheel's server answers to the same requests, so far as the gateway looks at them.
It keeps explicit model control as that server does, and notes in `misuses` what a caller of it must never do.
"""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Self

import msgspec

from gateway.scaling.scaler import Replica, StartFailed
from gateway.triton.canary import ID as CANARY_ID
from tenants.model import Model
from tests.worlds.loading import Loading, Mood, Refused, State, reply

__all__ = ["ANSWER", "CONFIG", "Loading", "Mood", "ScalerWorld", "State", "TritonWorld"]

UNREADABLE = (
    b'{"error":"failed to parse the request JSON buffer: Number too big to be stored in double. at 62"}'
)
CRASHED = b'{"error":"Stub process \'digits_0\' is not healthy."}'
NOTHING_FOUND = b'{"error":"no such user"}'  # a model may choose its status
RAISED = b'{"error":"Failed to process the request(s) for model \'digits_0\', message: ValueError: 7"}'
RESTRICTED = b'{"error":"This API is restricted, expecting header \'x-gateway-control\'"}'
ANSWER = b'{"model_name":"digits","model_version":"3","outputs":[]}'
EVENT = b'data: {"model_name":"digits","model_version":"3","text_output":"a"}\n\n'
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
)
CONFIG = {
    "name": "digits",
    "backend": "python",
    "max_batch_size": 64,
    "input": [{"name": "image", "data_type": "TYPE_FP32", "dims": [1, 28, 28], "optional": False}],
    "output": [{"name": "scores", "data_type": "TYPE_FP32", "dims": [10]}],
}

_CONTROL_HEADER = "x-gateway-control"


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request that arrived whole, and where its answer goes."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @property
    def words(self) -> tuple[str, ...]:
        return (self.method, *self.path.strip("/").split("/"))

    def write(self, data: bytes) -> None:
        if self.writer.is_closing():
            raise ConnectionResetError
        self.writer.write(data)


@dataclass(slots=True, eq=False)
class TritonWorld(Loading):
    """Its host has the files of `models`. `mood` befalls every model that has none of its own in `moods`.

    `asked` are the bodies of the infer requests that arrived whole, `canaries` those of the gateway's own. `answer` is what a model says at
    once, `event` what it says twice in a stream.
    """

    models: tuple[str, ...] = ("digits",)
    mood: Mood = "answers"
    configs: dict[str, dict[str, Any]] = field(default_factory=dict)
    boots: asyncio.Event | None = None  # not set yet: the process runs, and does not listen
    answer: bytes = ANSWER
    event: bytes = EVENT
    secret: str = ""
    port: int = 0
    grpc_port: int = 0  # of a GrpcWorld, for those who call that way
    server_id: str = ""
    asked: list[bytes] = field(default_factory=list)
    canaries: list[bytes] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    departed: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)
    _thawed: asyncio.Event = field(default_factory=asyncio.Event)
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    # The process

    async def __aenter__(self) -> Self:
        await self.boot()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.die()

    async def boot(self, server_id: str = "", secret: str = "") -> None:
        """A new process of this server: no model is loaded."""
        self.server_id, self.secret = server_id, secret
        self.forget()
        self._thawed.set()
        if self._server is None:
            self._server = await asyncio.start_server(
                self._converse, "127.0.0.1", self.port, start_serving=False
            )
            self.port = self._server.sockets[0].getsockname()[1]
            self._spawn(self._listen(self._server))
            await asyncio.sleep(0)

    async def _listen(self, server: asyncio.Server) -> None:
        if self.boots is not None:
            await self.boots.wait()
        await server.start_serving()

    def die(self) -> None:
        """As kill -9 does: whoever waits for an answer sees the connection close, and nobody listens any more."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.port = 0
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()
        self._thawed.set()
        self.forget()

    def freeze(self) -> None:
        """As SIGSTOP does: connections are taken, and nothing is answered until `thaw`."""
        self._thawed.clear()

    def thaw(self) -> None:
        self._thawed.set()

    # HTTP

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode().split("\r\n")
                headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                await self._thawed.wait()
                if writer not in self._writers:
                    raise ConnectionResetError
                method, path, _ = lines[0].split(" ")
                try:
                    await self._answer(Exchange(method, path, headers, body, reader, writer))
                except Refused as refused:
                    writer.write(refused.reply)
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answer(self, exchange: Exchange) -> None:
        match exchange.words:
            case "GET", "v2":
                exchange.write(_json({"name": self.server_id, "version": "2.51.0"}))
            case ("GET", "v2", "models", model) | ("GET", "v2", "models", model, "versions", _):
                self.serves(model)
                exchange.write(_json({"versions": ["1", "3"]}))
            case ("POST", "v2", "models", model, *_, "infer" | "generate" | "generate_stream"):
                self.serves(model, kind="text/plain")
                self.begin(model)
                try:
                    await self._infer(model, exchange)
                finally:
                    self.finish(model)
            case _:
                exchange.write(await self._control(exchange))

    async def _control(self, exchange: Exchange) -> bytes:
        """The restricted APIs."""
        if self.secret and exchange.headers.get(_CONTROL_HEADER) != self.secret:
            raise Refused(403, RESTRICTED, "text/plain")
        match exchange.words:
            case "GET", "v2", "health", "live" | "ready":
                return reply(200, b"", "text/plain")
            case "GET", "v2", "models", model, "config":
                self.serves(model)
                return _json(self.configs.get(model, CONFIG) | {"name": model})
            case "POST", "v2", "repository", "index":
                return _json(self.index())
            case "POST", "v2", "repository", "models", model, "load":
                await self.load(model)
                return reply(200, b"")
            case "POST", "v2", "repository", "models", model, "unload":
                self.unload(model)
                return reply(200, b"")
        raise Refused(404, b'{"error":"Not Found"}')

    # Inference

    async def _infer(self, model: str, exchange: Exchange) -> None:
        mood = self.moods.get(model, self.mood)
        is_canary = b'"id":"%s"' % CANARY_ID.encode() in exchange.body
        (self.canaries if is_canary else self.asked).append(exchange.body)
        if not is_canary:
            self.arrived.set()
        if mood in ("crashes", "silent"):
            self.wedge(model)
        if mood == "crashes":
            raise Refused(500, CRASHED, "text/plain")
        if mood == "silent":
            await self._hold(asyncio.Event(), exchange.reader)
        if is_canary:
            exchange.write(reply(200, ANSWER))
            return
        if mood == "closes before":
            raise ConnectionError
        if mood == "holds":
            await self._hold(self.released, exchange.reader)
        if mood == "finds nothing":
            raise Refused(404, NOTHING_FOUND, "text/plain")
        if mood == "raises":
            raise Refused(500, RAISED, "text/plain")
        if mood == "cannot read":
            raise Refused(500, UNREADABLE)
        if mood == "closes within an error":
            exchange.write(reply(500, UNREADABLE)[:-10])
            raise ConnectionError
        await (self._stream if exchange.words[-1] == "generate_stream" else self._reply)(mood, exchange)

    async def _reply(self, mood: Mood, exchange: Exchange) -> None:
        whole = reply(200, self.answer)
        exchange.write(whole[:-10] if mood == "closes within" else whole)
        await exchange.writer.drain()
        if mood == "closes within":
            raise ConnectionError

    async def _stream(self, mood: Mood, exchange: Exchange) -> None:
        """Two events, or one and what is amiss."""
        exchange.write(STREAM_HEAD + chunk(self.event))
        if mood == "closes within":
            raise ConnectionError
        if mood == "stops within":
            await self._hold(self.released, exchange.reader)
        exchange.write(chunk(self.event) + chunk(b""))
        await exchange.writer.drain()

    async def _hold(self, released: asyncio.Event, reader: asyncio.StreamReader) -> None:
        """Until released, or until the caller leaves."""
        gone = asyncio.ensure_future(reader.read(1))
        release = asyncio.ensure_future(released.wait())
        try:
            await asyncio.wait((gone, release), return_when=asyncio.FIRST_COMPLETED)
            has_left = gone.done()
        finally:
            for task in (gone, release):
                task.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.wait((gone, release))
        if has_left:
            self.departed.set()
            raise ConnectionError


def chunk(data: bytes) -> bytes:
    """Of a chunked body; its end without any."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def _json(value: object) -> bytes:
    return reply(200, msgspec.json.encode(value))


@dataclass(slots=True, eq=False)
class HostWorld:
    """What runs on one host, and in whose hand: of several scalers, each in a process of its own."""

    worlds: list[TritonWorld]
    numbers: Iterator[int] = field(default_factory=count)
    running: dict[str, TritonWorld] = field(default_factory=dict)
    replicas: dict[str, Replica] = field(default_factory=dict)
    ended: dict[str, asyncio.Future[str]] = field(default_factory=dict)
    hands: "dict[str, ScalerWorld]" = field(default_factory=dict)


class ScalerWorld:
    """The Scaler port over worlds: each start boots one that no replica runs on, the one that rested longest.

    Polices the contract: ids are unique, a replica is stopped once and by who has it in hand, its files are provided while it runs.
    """

    def __init__(self, worlds: list[TritonWorld], host: HostWorld | None = None) -> None:
        self.host = host or HostWorld(worlds)
        self.worlds = self.host.worlds
        self.started: list[str] = []
        self.adopted: list[str] = []
        self.stopped: list[str] = []
        self.graces: list[float] = []
        self.fails = ""
        self.impostor = ""  # what answers on the port is another server, of this id
        self.stop_gate: asyncio.Event | None = None

    def heir(self) -> "ScalerWorld":
        """Another process of the same host."""
        return ScalerWorld([], self.host)

    def dies(self) -> None:
        """Its process ends by itself: what it has in hand goes on."""
        self.host.hands = {number: it for number, it in self.host.hands.items() if it is not self}

    def world(self, replica_id: str) -> TritonWorld:
        """The world of a replica that was started and not stopped."""
        return self.host.running[replica_id]

    def end(self, replica_id: str, sentence: str = "ended with 137") -> None:
        """Its process ends by itself."""
        self.host.running[replica_id].die()
        self._finish(replica_id, sentence)

    def _finish(self, replica_id: str, sentence: str) -> None:
        if not self.host.ended[replica_id].done():
            self.host.ended[replica_id].set_result(f"tritonserver {replica_id} {sentence}")

    # The port

    async def start(self, fleet: str) -> Replica:
        if self.fails:
            raise StartFailed(self.fails)
        taken = self.host.running.values()
        world = next((world for world in self.worlds if world not in taken), None)
        if world is None:
            raise StartFailed(f"this host has room for {len(self.worlds)} servers")
        self.worlds.remove(world)
        self.worlds.append(world)
        number = next(self.host.numbers)
        control = ((_CONTROL_HEADER, f"secret-{number}"),)
        server_id = f"replica-{number}"
        await world.boot(self.impostor or server_id, control[0][1])
        world.provided.clear()
        replica = Replica(server_id, "127.0.0.1", world.port, control, world.grpc_port, fleet)
        self.started.append(replica.id)
        self.host.running[replica.id] = world
        self.host.ended[replica.id] = asyncio.get_running_loop().create_future()
        self.host.replicas[replica.id], self.host.hands[replica.id] = replica, self
        return replica

    async def adopt(self) -> list[Replica]:
        found = []
        for number in self.host.running.keys() - self.host.hands.keys():
            if self.host.ended[number].done():
                del self.host.running[number]  # cleared away
            else:
                self.host.hands[number] = self
                found.append(self.host.replicas[number])
        self.adopted += [replica.id for replica in found]
        return found

    async def leave(self, replica: Replica) -> None:
        assert self.host.hands.pop(replica.id) is self, f"{replica.id} is in another's hand"

    async def provide(self, replica: Replica, model: Model) -> None:
        assert replica.id in self.host.running, f"{replica.id} does not run"
        if model.name not in self.host.running[replica.id].models:
            raise StartFailed(f"there is no {model.repository}/{model.name}/config.pbtxt")
        self.host.running[replica.id].provided.add(model.name)

    async def tidy(self, replica: Replica) -> None:
        """Nobody deletes files here."""

    async def gone(self, replica: Replica) -> str:
        return await asyncio.shield(self.host.ended[replica.id])

    async def stop(self, replica: Replica, grace_seconds: float) -> None:
        assert replica.id not in self.stopped, f"{replica.id} was stopped before"
        assert self.host.hands[replica.id] is self, f"{replica.id} is in another's hand"
        self.stopped.append(replica.id)
        self.graces.append(grace_seconds)
        if self.stop_gate is not None:
            await self.stop_gate.wait()
        world = self.host.running[replica.id]
        if grace_seconds:
            await self._drained(world, grace_seconds)
        del self.host.running[replica.id], self.host.hands[replica.id]
        world.die()
        self._finish(replica.id, "was stopped")

    @staticmethod
    async def _drained(world: TritonWorld, grace_seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_seconds):
                while any(world.in_flight.values()):
                    await asyncio.sleep(0)
