"""The body of a request of OpenAI's API: it names the model, and becomes what Triton is asked."""

import asyncio
from functools import partial
from types import MappingProxyType

from msgspec.structs import replace

from gateway.call import Endpoint, InferenceCall, Outgoing, Passed
from gateway.errors import Code, GatewayError
from gateway.frontends.http_body import Collected, Incoming, JsonMemory
from gateway.frontends.openai_downstream import OpenAiDownstream
from gateway.frontends.openai_models import Offer, Offers
from gateway.frontends.screening import beside
from gateway.privacy.mask import Screen
from gateway.wire.chat import Unfit
from gateway.wire.openai import (
    ChatRequest,
    CompletionRequest,
    EmbeddingsRequest,
    Kind,
    judge,
    model_named,
    refused,
)
from gateway.wire.openai_passed import PassedRequest, judge_passed, most_of_passed, passed_body
from gateway.wire.openai_readings import Embedded, Reading, Streamed, Whole, most_allowed
from gateway.wire.openai_relayed import Relayed, RelayedStream
from gateway.wire.openai_replies import Answering
from gateway.wire.openai_replies import Kind as AnswerKind
from gateway.wire.openai_to_oip import generate_body, infer_body, most_tokens
from gateway.wire.screened import masked_json
from gateway.wire.tokens import AT_ONCE_CHARACTERS, Count, counted, estimated
from tenants.openai import Generate, Infer, PassThrough, Section

# What a server that speaks this API itself is asked, and what is answered.
_PASSED: MappingProxyType[Kind, Passed] = MappingProxyType(
    {ChatRequest: "chat/completions", CompletionRequest: "completions", EmbeddingsRequest: "embeddings"}
)
_ANSWERS: MappingProxyType[Kind, AnswerKind] = MappingProxyType(
    {ChatRequest: "chat", CompletionRequest: "completion", EmbeddingsRequest: "embeddings"}
)


class OpenAiBody(Collected):
    """Payload and naming of one call; `downstream` is told how the reply is to be read. `created` are seconds since the Unix epoch."""

    def __init__(
        self,
        incoming: Incoming,
        declared: int | None,
        coding: bytes,
        memory: JsonMemory,
        *,
        kind: Kind,
        offers: Offers,
        downstream: OpenAiDownstream,
        created: int,
        can_stream: bool,
        with_key: bool = False,
    ) -> None:
        super().__init__(incoming, declared, coding, memory, with_key=with_key)
        self._kind = kind
        self._offers = offers
        self._downstream = downstream
        self._created = created
        self._can_stream = can_stream
        self._model = ""
        self._body = b""

    async def name(self, call: InferenceCall, limit_bytes: int, tenant_id: str) -> InferenceCall:
        """Raises BAD_REQUEST, JSON_TOO_LARGE, BODY_TOO_LARGE, TOO_MANY_AT_ONCE, OVERLOADED."""
        self._tenant_id = tenant_id
        self._body = await self._collect(None, limit_bytes)
        self._model = model_named(self._body)
        return replace(call, model=self._model, endpoint=self._endpoint(self._offers.section(self._model)))

    def _endpoint(self, section: Section | None) -> Endpoint:
        if isinstance(section, PassThrough):
            return _PASSED[self._kind]
        return "infer" if isinstance(section, Infer) else "generate_stream"

    async def judge(self, limit_bytes: int, tenant_id: str, screen: Screen | None) -> Outgoing:
        """Raises MODEL_NOT_FOUND, BAD_REQUEST, NotScreened."""
        offer = await self._offers.offer(self._model)
        body, self._body = self._body, b""
        if screen is not None:
            body = await beside(tenant_id, body, screen, partial(masked_json, body, screen))
            self.hold(screen.remembered_bytes)
        if isinstance(offer.section, PassThrough):
            return self._pass(judge_passed(body, self._kind), offer.section, screen)
        match judge(body, self._kind), offer.section:
            case EmbeddingsRequest() as request, Infer() as section:
                tokens, count = await _tokens(request.texts, offer.count)
                embedded = Embedded(section, request, tokens, counted=count is not None)
                return self._asked(infer_body(section, request.texts), embedded, tokens)
            case (ChatRequest() | CompletionRequest()) as request, Generate() as section:
                self._judge_stream(request.stream)
                if (refusal := most_allowed(section, request)) is not None:
                    raise refusal
                prompt = _prompt(request, offer)
                tokens, count = await _tokens([prompt], offer.count)
                kind = Streamed if request.stream else Whole
                reading = kind(section, request, self._answering, tokens, count, screen=screen)
                most = tokens + most_tokens(section, request)
                return self._asked(generate_body(section, request, prompt), reading, most)
        gives = "embeddings" if isinstance(offer.section, Infer) else "texts"
        raise refused(f"this model gives {gives} and nothing else", "model")

    def _pass(self, request: PassedRequest, section: PassThrough, screen: Screen | None) -> Outgoing:
        streams = not isinstance(request, EmbeddingsRequest) and bool(request.stream)
        self._judge_stream(streams)
        kind = RelayedStream if streams else Relayed
        reading = kind(request, self._answering, screen)
        return self._asked(
            passed_body(request, section.model or self._model), reading, most_of_passed(request)
        )

    def _judge_stream(self, streams: bool | None) -> None:  # noqa: FBT001 - the value of a key
        if streams and not self._can_stream:
            raise refused("a reply that comes bit by bit needs HTTP/1.1", "stream")

    @property
    def _answering(self) -> Answering:
        return Answering(_ANSWERS[self._kind], self._downstream.request_id, self._created, self._model)

    def _asked(self, body: bytes, reading: Reading, most_tokens: int) -> Outgoing:
        self._downstream.expect(reading, self.hold)
        return Outgoing(head=body, most_tokens=most_tokens)


def _prompt(request: ChatRequest | CompletionRequest, offer: Offer) -> str:
    if isinstance(request, CompletionRequest):
        return request.text
    if offer.chat is None:
        raise GatewayError(Code.BAD_REQUEST, detail=offer.why_no_chat, param="model")
    roles = {"developer": "system"}  # the newer name of the same, which templates do not know
    messages = [{"role": roles.get(it.role, it.role), "content": it.text} for it in request.messages]
    try:
        return offer.chat.prompt(messages)
    except Unfit as fault:
        raise refused(str(fault), "messages") from fault


async def _tokens(texts: list[str], count: Count | None) -> tuple[int, Count | None]:
    """How many, and what goes on counting: nothing where they had to be guessed."""
    if sum(map(len, texts)) <= AT_ONCE_CHARACTERS:
        found = counted(texts, count)
    else:
        found = await asyncio.to_thread(counted, texts, count)
    return (sum(map(estimated, texts)), None) if found is None else (found, count)
