"""OpenAI's requests as they go on to a server that speaks this API itself: decoded to typed values, judged, and written anew. Pure.

Such a server knows what no model behind Triton's generate does: tools, formats, images, several answers at once. What is an object of the
client's own, a schema or a table of tokens, goes on as it came: well-formed, shallow, and never built here, where millions of small values
would hold up everybody. An image must be in the request: nothing is fetched for a client from where we are.
"""

from collections.abc import Iterator
from types import MappingProxyType
from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType
from msgspec.structs import replace

from gateway.wire.oip import MOST_NESTED, is_shallow
from gateway.wire.openai import (
    MOST_INPUTS,
    MOST_MESSAGES,
    ChatRequest,
    CompletionRequest,
    EmbeddingsRequest,
    Kind,
    Sampled,
    StreamOptions,
    TextPart,
    Whole,
    judge,
    refused,
)
from gateway.wire.tokens import REPLY_TOKENS, estimated

MOST_ANSWERS: Final = 128
MOST_TOOLS: Final = 128

_NOT_SAID: Final = Raw()
_Answers = Annotated[int, Meta(ge=1, le=MOST_ANSWERS)]

_encode = msgspec.json.Encoder().encode


class _Part(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Of a request; what is not said is not said to the server either."""


class ImageUrl(_Part, frozen=True):
    url: Annotated[str, Meta(pattern="^data:image/")]
    detail: Literal["auto", "low", "high"] | None = None


class ImagePart(_Part, frozen=True, tag_field="type", tag="image_url"):
    image_url: ImageUrl


class Called(_Part, frozen=True):
    name: str
    arguments: str


class ToolCall(_Part, frozen=True):
    id: str
    type: Literal["function"]
    function: Called


class PassedMessage(_Part, frozen=True):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: (
        str | Annotated[list[TextPart | ImagePart], Meta(max_length=MOST_MESSAGES)] | UnsetType | None
    ) = UNSET
    name: str | None = None
    tool_call_id: str | None = None
    tool_calls: Annotated[list[ToolCall], Meta(max_length=MOST_TOOLS)] | None = None
    function_call: Called | None = None
    refusal: str | None = None
    audio: None = None

    def texts(self) -> Iterator[str]:
        if isinstance(self.content, str):
            yield self.content
        elif isinstance(self.content, list):
            yield from (it.text for it in self.content if isinstance(it, TextPart))


class Function(_Part, frozen=True):
    name: str
    description: str | None = None
    parameters: Raw = _NOT_SAID
    strict: bool | None = None

    def __post_init__(self) -> None:
        _expect_object("parameters", self.parameters)


class Tool(_Part, frozen=True):
    type: Literal["function"]
    function: Function


class Named(_Part, frozen=True):
    name: str


class NamedTool(_Part, frozen=True):
    type: Literal["function"]
    function: Named


class JsonSchema(_Part, frozen=True):
    name: str
    schema: Raw = _NOT_SAID
    description: str | None = None
    strict: bool | None = None

    def __post_init__(self) -> None:
        _expect_object("schema", self.schema)


class ResponseFormat(_Part, frozen=True):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class PassedChat(Sampled, frozen=True, kw_only=True, omit_defaults=True):
    """`POST /v1/chat/completions`"""

    messages: Annotated[list[PassedMessage], Meta(min_length=1, max_length=MOST_MESSAGES)]
    max_completion_tokens: Whole | None = None
    n: _Answers | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    logit_bias: Raw = _NOT_SAID
    response_format: ResponseFormat | None = None
    tools: Annotated[list[Tool], Meta(max_length=MOST_TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    functions: Annotated[list[Function], Meta(max_length=MOST_TOOLS)] | None = None
    function_call: Literal["none", "auto"] | Named | None = None

    @property
    def texts(self) -> list[str]:
        return [text for message in self.messages for text in message.texts()]


class PassedCompletion(Sampled, frozen=True, kw_only=True, omit_defaults=True):
    """`POST /v1/completions`"""

    prompt: str | Annotated[list[str], Meta(min_length=1, max_length=MOST_INPUTS)]
    n: _Answers | None = None
    best_of: _Answers | None = None
    logprobs: Annotated[int, Meta(ge=0, le=5)] | None = None
    logit_bias: Raw = _NOT_SAID
    echo: bool | None = None
    suffix: str | None = None

    @property
    def texts(self) -> list[str]:
        return [self.prompt] if isinstance(self.prompt, str) else self.prompt


PassedRequest = PassedChat | PassedCompletion | EmbeddingsRequest

_KINDS: Final[MappingProxyType[Kind, type[PassedChat] | type[PassedCompletion] | type[EmbeddingsRequest]]] = (
    MappingProxyType(
        {ChatRequest: PassedChat, CompletionRequest: PassedCompletion, EmbeddingsRequest: EmbeddingsRequest}
    )
)


def _expect_object(name: str, value: Raw) -> None:
    """Raises ValueError, which msgspec tells with the path to it."""
    if not _is_object(value):
        raise ValueError(f"{name} must be an object")


def _is_object(value: Raw) -> bool:
    """Well-formed it is; null is what is not said."""
    return bytes(memoryview(value)[:1]) in (b"", b"{", b"n")


def judge_passed(body: bytes, kind: Kind) -> PassedRequest:
    """The request that this body is. Raises BAD_REQUEST, with the key that is at fault."""
    request: PassedRequest = judge(body, _KINDS[kind])
    if not is_shallow(body):
        raise refused(f"the body is nested more than {MOST_NESTED} deep")
    if not isinstance(request, EmbeddingsRequest) and not _is_object(request.logit_bias):
        raise refused("logit_bias must be an object", "logit_bias")
    return request


def most_of_passed(request: PassedRequest) -> int:
    """Tokens of prompt and answers at most, by our own count: the server has its own bounds, which nobody tells us."""
    prompt = sum(map(estimated, request.texts))
    if isinstance(request, EmbeddingsRequest):
        return prompt
    most = request.max_completion_tokens if isinstance(request, PassedChat) else None
    answers = (
        max(request.n or 1, request.best_of or 1) if isinstance(request, PassedCompletion) else request.n or 1
    )
    return prompt + answers * (most or request.max_tokens or REPLY_TOKENS)


def passed_body(request: PassedRequest, model: str) -> bytes:
    """What the server gets, where the model has this name. A stream is always to tell its usage: it is accounted for."""
    if isinstance(request, EmbeddingsRequest):
        return _encode(replace(request, model=model))
    options = StreamOptions(include_usage=True) if request.stream else None
    return _encode(replace(request, model=model, stream_options=options))
