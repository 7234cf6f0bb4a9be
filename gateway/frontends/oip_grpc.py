"""Open Inference Protocol v2 over gRPC: what its methods do, over serialized messages.

Every method is taken as one whose requests are a stream: of such a one a message is read when we ask for it, and not before its caller is
known. One that is not here looks, to who is not known, like one that is.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn, TypeAlias

import grpc
from msgspec.structs import replace

from gateway import __version__
from gateway.call import GRPC, InferenceCall, Outgoing, Reply, Standing
from gateway.errors import Code, GatewayError
from gateway.frontends.answering import idempotency_key
from gateway.frontends.grpc_call import CODES, Caller, Context, caller, infer_call, peer, refuse, told
from gateway.frontends.grpc_memory import Held, MessageMemory
from gateway.frontends.grpc_stream import Stream
from gateway.frontends.http import EXTENSIONS, Readiness
from gateway.frontends.http_body import NoBody
from gateway.frontends.routes import INFERENCE
from gateway.kept.answer import MOST_BYTES, Answer
from gateway.loops import Outliving
from gateway.pipeline import Pipeline
from gateway.privacy.mask import Screen
from gateway.triton.grpc_client import GrpcReply
from gateway.triton.grpc_status import Status, http_status
from gateway.wire import oip_grpc as wire
from gateway.wire.oip import public_text
from gateway.wire.oip_grpc_models import config_response, statistics_response
from gateway.wire.oip_messages import message_class

Handler: TypeAlias = "grpc.RpcMethodHandler[bytes, bytes]"
Act = Callable[[Context, Caller], Awaitable[bytes]]

_LIVE: Final = message_class("ServerLiveResponse")(live=True).SerializeToString()
_MODEL_READY: Final = message_class("ModelReadyResponse")(ready=True).SerializeToString()
_NO_KEY_ON_STREAMS: Final = "a stream has many calls: Idempotency-Key goes with ModelInfer only"
_METADATA: Final = message_class("ServerMetadataResponse")(
    name="triton", version=__version__, extensions=EXTENSIONS
).SerializeToString()
_ReadyReply: Final = message_class("ServerReadyResponse")
_ModelRequest: Final = message_class("ModelMetadataRequest")  # ModelReadyRequest has the same fields


@dataclass(slots=True)
class OipGrpc:
    """The methods. `request_seconds` is the deadline of a call, `at_once` how many messages of a stream are served at once."""

    pipeline: Pipeline
    memory: MessageMemory
    new_id: Callable[[], str]
    readiness: Callable[[], Readiness]
    request_seconds: float
    at_once: int
    shows_config: bool = False  # tenants may read how their models are configured
    streams: set[Stream] = field(default_factory=set)
    outliving: Outliving = field(default_factory=Outliving)  # the calls with an Idempotency-Key
    _under_way: "set[asyncio.Task[Any]]" = field(default_factory=set)

    def methods(self) -> dict[str, Handler]:
        """By full name."""
        found = {
            "ServerLive": grpc.stream_unary_rpc_method_handler(self._live),
            "ServerReady": grpc.stream_unary_rpc_method_handler(self._ready),
            "ServerMetadata": self._method(self._metadata),
            "ModelReady": self._method(self._model_ready),
            "ModelMetadata": self._method(self._model_metadata),
            "ModelInfer": self._method(self._infer),
            "ModelStreamInfer": grpc.stream_stream_rpc_method_handler(self._stream),
            "ModelConfig": self._method(self._config),
            "ModelStatistics": self._method(self._statistics),
        }
        return {rpc.path: found[rpc.name] for rpc in INFERENCE}

    def nowhere(self) -> Handler:
        """Of every other name."""

        async def act(context: Context, who: Caller) -> bytes:
            await self._deny(who, GatewayError(Code.NO_SUCH_PATH))

        return self._method(act)

    def drain(self) -> None:
        """Streams end behind what they have been asked."""
        for stream in self.streams:
            stream.drain()

    async def over(self) -> None:
        """Return when all that was under way has been settled; its server has ended it."""
        self.outliving.end()
        await self.outliving.over()
        if self._under_way:
            await asyncio.wait(self._under_way)

    def _noted(self) -> "asyncio.Task[Any]":
        """The task of the RPC that begins, which is to be dropped from `_under_way` when it ends."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("grpc.aio serves each RPC in a task")
        self._under_way.add(task)
        return task

    def _method(self, act: Act) -> Handler:
        """One that a known caller calls, with one message each way."""

        async def answer(_: object, context: Context) -> bytes:
            request_id, task = self.new_id(), self._noted()
            try:
                return await act(context, await self._recognised(context, request_id))
            except GatewayError as error:
                await refuse(context, request_id, error)
            finally:
                self._under_way.discard(task)

        return grpc.stream_unary_rpc_method_handler(answer)

    async def _recognised(self, context: Context, request_id: str) -> Caller:
        """Steps 2 and 3. Raises GatewayError."""
        try:
            who = caller(context, request_id, self.pipeline.clock(), self.request_seconds)
        except GatewayError as error:
            self.pipeline.refused(request_id, peer(context), error)
            raise
        principal = await self.pipeline.recognise(who.credential, who.address, lambda: who.call(NoBody()))
        return replace(who, principal=principal)

    # Calls to models

    async def _infer(self, context: Context, who: Caller) -> bytes:
        message = await self._read(context, who)
        held = Held(self.memory, who.tenant_id)
        try:
            try:
                held.take(len(message))
                once = idempotency_key(who.keys) if who.keys else ""
                call = infer_call(wire.read_infer(message), len(message), who, GRPC, held.take, once=once)
            except GatewayError as error:
                await self._deny(who, error)
            downstream = UnaryDownstream()
            if once:
                of_call, held = held, Held(self.memory, who.tenant_id)
                await self.outliving.run(self._serve_on(call, downstream, of_call))
            else:
                await self.pipeline.serve(call, downstream)
            reply = await self._answer(context, call, downstream)
            self.memory.keep(who.tenant_id, len(reply))
            return reply
        finally:
            held.close()

    async def _serve_on(self, call: InferenceCall, downstream: "UnaryDownstream", held: Held) -> None:
        """Also when its client has left; until then what is held for it is on the account."""
        try:
            await self.pipeline.serve(call, downstream)
        finally:
            held.close()

    async def _model_metadata(self, context: Context, who: Caller) -> bytes:
        call, downstream = await self._about_model(context, who), UnaryDownstream()
        await self.pipeline.serve(call, downstream)
        return await self._answer(context, call, downstream)

    async def _model_ready(self, context: Context, who: Caller) -> bytes:
        call = await self._about_model(context, who)
        examined = await self.pipeline.examine(call, "describe")
        return _answered(context, who, _MODEL_READY, examined.standing)

    async def _stream(self, _: object, context: Context) -> None:
        request_id, task = self.new_id(), self._noted()
        try:
            who = await self._recognised(context, request_id)
            if who.keys:
                await self._deny(who, GatewayError(Code.BAD_REQUEST, detail=_NO_KEY_ON_STREAMS))
            stream = Stream(
                context,
                self.pipeline,
                self.memory,
                who,
                at_once=self.at_once,
                request_seconds=self.request_seconds,
            )
            self.streams.add(stream)
            try:
                await stream.run()
            finally:
                self.streams.discard(stream)
        except GatewayError as error:
            await refuse(context, request_id, error)
        finally:
            self._under_way.discard(task)
        context.set_trailing_metadata(tuple(told(request_id)))

    async def _answer(self, context: Context, call: InferenceCall, downstream: "UnaryDownstream") -> bytes:
        """Triton's answer, an error of its own included."""
        metadata = (*told(call.request_id, downstream.standing), *downstream.metadata)
        if downstream.code is not Status.OK:
            await context.abort(CODES[downstream.code.name], downstream.body.decode(), metadata)
        context.set_trailing_metadata(metadata)
        return downstream.body

    # What we answer ourselves

    async def _live(self, _: object, context: Context) -> bytes:
        context.set_trailing_metadata(tuple(told(self.new_id())))
        return bytes(_LIVE)

    async def _ready(self, _: object, context: Context) -> bytes:
        context.set_trailing_metadata(tuple(told(self.new_id())))
        return bytes(_ReadyReply(ready=self.readiness().ready).SerializeToString())

    async def _metadata(self, context: Context, who: Caller) -> bytes:
        examined = await self.pipeline.examine(who.call(NoBody()), None)
        return _answered(context, who, _METADATA, examined.standing)

    async def _config(self, context: Context, who: Caller) -> bytes:
        if not self.shows_config:
            await self._deny(who, GatewayError(Code.NO_SUCH_PATH))
        config, standing = await self.pipeline.configure(await self._about_model(context, who))
        return _answered(context, who, config_response(config), standing)

    async def _statistics(self, context: Context, who: Caller) -> bytes:
        call = await self._about_model(context, who)
        examined = await self.pipeline.examine(call, "describe")
        rows = self.pipeline.shares.rows(examined.tenant_id, call.model, call.version)
        return _answered(context, who, statistics_response(rows), examined.standing)

    # Requests

    async def _read(self, context: Context, who: Caller) -> bytes:
        """The one message of a request. Raises GatewayError."""
        message: Any = None
        try:
            within = self.pipeline.deadlines.within(who.deadline - self.pipeline.clock())
            with within, self.memory.awaiting(who.tenant_id):
                message = await context.read()
        except TimeoutError:
            await self._deny(who, GatewayError(Code.DEADLINE_EXCEEDED))
        except GatewayError as error:
            await self._deny(who, error)
        if not isinstance(message, bytes):
            await self._deny(who, GatewayError(Code.BAD_REQUEST, detail="a request without a message"))
        if len(message) > who.body_bytes:  # said before it is read any further
            await self._deny(who, GatewayError(Code.BODY_TOO_LARGE))
        return message

    async def _about_model(self, context: Context, who: Caller) -> InferenceCall:
        message = await self._read(context, who)
        try:
            asked = wire.parse(_ModelRequest, message)
            model, version = wire.model_name(asked.name), wire.version_of(asked.version)
        except GatewayError as error:
            await self._deny(who, error)
        return who.call(Question(asked.SerializeToString()), model=model, version=version)

    async def _deny(self, who: Caller, refusal: GatewayError) -> NoReturn:
        """Raises GatewayError: a refusal of what a known caller asked, which is admitted like anything else."""
        await self.pipeline.examine(who.call(NoBody()), None, refusal)
        raise refusal


class Question(NoBody):
    """The payload of a question about a model: what we have read of it, written anew."""

    def __init__(self, message: bytes) -> None:
        self._message = message

    async def judge(self, limit_bytes: int, tenant_id: str, screen: Screen | None) -> Outgoing:
        return Outgoing(head=self._message)


class UnaryDownstream:
    """The client's side of a call with one message each way: it is told when all is known."""

    tokens = guessed_tokens = pieces = 0  # nobody counts any
    has_failed = False  # an error is a status

    def __init__(self) -> None:
        self.standing: Standing = ()
        self.code = Status.OK
        self.metadata: tuple[tuple[str, str], ...] = ()
        self.body = b""  # the message, or an error's sentence
        self.started = False

    async def start(self, reply: Reply, standing: Standing) -> None:
        if not isinstance(reply, GrpcReply):
            raise TypeError("a reply of another protocol")
        self.code, self.metadata, self.standing = reply.code, reply.metadata, standing

    def take(self, piece: bytes) -> None:
        self.body = piece

    async def end(self) -> int:
        self.started = True
        if self.code is not Status.OK:
            self.body = public_text(self.body.decode(errors="replace")).encode()
        return http_status(self.code)

    @property
    def told(self) -> Answer | None:
        if len(self.body) > MOST_BYTES:
            return None
        metadata = tuple((name.encode(), value.encode()) for name, value in self.metadata)
        return Answer(int(self.code), metadata, self.body)

    async def replay(self, answer: Answer, standing: Standing) -> int:
        self.code, self.body, self.standing = Status.of(answer.status), answer.body, standing
        kept = tuple((name.decode(), value.decode()) for name, value in answer.headers)
        self.metadata = (("idempotent-replayed", "true"), *kept)
        self.started = True
        return http_status(self.code)


def _answered(context: Context, who: Caller, message: bytes, standing: Standing) -> bytes:
    context.set_trailing_metadata(tuple(told(who.request_id, standing)))
    return message
