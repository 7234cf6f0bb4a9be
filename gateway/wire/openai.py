"""OpenAI's API: requests, decoded to typed values and judged. What a backend gets is written anew from these.

Each key of a request is one that its type has, or is in a table here: dropped, as no backend of ours knows it and a reply is right
without it; or refused, as a reply would not be what was asked for, unless its value asks for nothing. Any other key is refused.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from types import MappingProxyType
from typing import Annotated, Final, Literal, TypeVar

import msgspec
from msgspec import Meta, Raw, Struct

from gateway.errors import Code, GatewayError

MOST_MESSAGES: Final = 2_048
MOST_INPUTS: Final = 2_048
MOST_STOPS: Final = 4

# Hints, and names for things that we do not keep.
DROPPED: Final = frozenset(
    {
        *("user", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "metadata", "store"),
        *("service_tier", "parallel_tool_calls", "reasoning_effort", "verbosity"),
    }
)
_NOTHING: Final = (b"null", b"false", b"[]", b"{}")
# What no model here can do, and the values that do not ask for it.
REFUSED: Final[MappingProxyType[str, tuple[bytes, ...]]] = MappingProxyType(
    {
        "tools": _NOTHING,
        "tool_choice": (*_NOTHING, b'"none"', b'"auto"'),
        "functions": _NOTHING,
        "function_call": (*_NOTHING, b'"none"', b'"auto"'),
        "response_format": (*_NOTHING, b'{"type":"text"}'),
        "logprobs": _NOTHING,
        "top_logprobs": (*_NOTHING, b"0"),
        "logit_bias": _NOTHING,
        "modalities": (*_NOTHING, b'["text"]'),
        "audio": _NOTHING,
        "prediction": _NOTHING,
        "moderation": _NOTHING,
        "web_search_options": (b"null",),
        "n": (b"null", b"1"),
        "best_of": (b"null", b"1"),
        "echo": _NOTHING,
        "suffix": (*_NOTHING, b'""'),
    }
)

Whole = Annotated[int, Meta(ge=1, le=2**31 - 1)]
_Penalty = Annotated[float, Meta(ge=-2, le=2)]
_Stop = Annotated[str, Meta(min_length=1, max_length=1_024)]
_Name = Annotated[str, Meta(max_length=256)]


class StreamOptions(Struct, frozen=True, omit_defaults=True):
    include_usage: bool | None = None


class Sampled(Struct, frozen=True, kw_only=True):
    """What both kinds of generation take."""

    model: _Name
    max_tokens: Whole | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    presence_penalty: _Penalty | None = None
    frequency_penalty: _Penalty | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: _Stop | Annotated[list[_Stop], Meta(max_length=MOST_STOPS)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @property
    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def includes_usage(self) -> bool:
        return self.stream_options is not None and bool(self.stream_options.include_usage)


class TextPart(Struct, frozen=True, tag_field="type", tag="text"):
    text: str


class Message(Struct, frozen=True, kw_only=True):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[TextPart], Meta(max_length=MOST_MESSAGES)]
    name: str | None = None
    # What an answer of ours or another's has, and comes back in the next request.
    refusal: None = None
    audio: None = None
    function_call: None = None
    tool_calls: Annotated[list[Raw], Meta(max_length=0)] | None = None

    @property
    def text(self) -> str:
        return self.content if isinstance(self.content, str) else "".join(it.text for it in self.content)


class ChatRequest(Sampled, frozen=True, kw_only=True):
    """`POST /v1/chat/completions`"""

    messages: Annotated[list[Message], Meta(min_length=1, max_length=MOST_MESSAGES)]
    max_completion_tokens: Whole | None = None

    @property
    def most_tokens(self) -> int | None:
        """The newer name goes before the older one."""
        return self.max_completion_tokens or self.max_tokens


class CompletionRequest(Sampled, frozen=True, kw_only=True):
    """`POST /v1/completions`"""

    prompt: str | Annotated[list[str], Meta(min_length=1, max_length=1)]

    @property
    def text(self) -> str:
        return self.prompt if isinstance(self.prompt, str) else self.prompt[0]

    @property
    def most_tokens(self) -> int | None:
        return self.max_tokens


_Text = Annotated[str, Meta(min_length=1)]


class EmbeddingsRequest(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`POST /v1/embeddings`"""

    model: _Name
    input: _Text | Annotated[list[_Text], Meta(min_length=1, max_length=MOST_INPUTS)]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Whole | None = None

    @property
    def texts(self) -> list[str]:
        return [self.input] if isinstance(self.input, str) else self.input


Generation = ChatRequest | CompletionRequest
Request = Generation | EmbeddingsRequest

Kind = type[ChatRequest] | type[CompletionRequest] | type[EmbeddingsRequest]


class _Named(Struct):
    model: _Name


_Judged = TypeVar("_Judged", bound=Sampled | EmbeddingsRequest)

_keys = msgspec.json.Decoder(dict[str, Raw])
_named = msgspec.json.Decoder(_Named)
_AT = re.compile(r" - at `\$\.?([^`]*)`")
_MISSING = re.compile(r"missing required field `(\w+)`")


def model_named(body: bytes) -> str:
    """The model that this body asks for: what else it may say depends on that. Raises BAD_REQUEST."""
    with _reading():
        body.decode()  # msgspec looks at what it passes over for its form only
        return _named.decode(body).model


def judge(body: bytes, kind: type[_Judged]) -> _Judged:
    """The request that this body is. Raises BAD_REQUEST, with the key that is at fault."""
    with _reading():
        body.decode()
        given = _keys.decode(body)
        _judge_keys(given, frozenset(kind.__struct_fields__))
        request: _Judged = msgspec.json.decode(body, type=kind)
    if (
        not isinstance(request, EmbeddingsRequest)
        and request.stream_options is not None
        and not request.stream
    ):
        raise refused("stream_options goes with stream only", "stream_options")
    return request


@contextmanager
def _reading() -> Iterator[None]:
    """What is wrong with a body becomes its refusal."""
    try:
        yield
    except msgspec.ValidationError as fault:
        raise _out_of_bounds(str(fault)) from fault
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
        raise refused(f"the body is not valid JSON: {fault}") from fault


def _judge_keys(given: dict[str, Raw], known: frozenset[str]) -> None:
    for name, value in given.items():
        if name in known or name in DROPPED:
            continue
        neutral = REFUSED.get(name)
        if neutral is None:
            raise refused(f"unknown key: {name[:64]}", name[:64])
        if msgspec.json.format(value, indent=-1) not in neutral:
            raise refused(f"{name} is not offered by this model", name)


def _out_of_bounds(fault: str) -> GatewayError:
    """A refusal from msgspec's words."""
    at, missing = _AT.search(fault), _MISSING.search(fault)
    path = at[1] if at else ""
    sentence = _AT.sub("", fault).replace("`", "")
    top = re.split(r"[.\[]", path, maxsplit=1)[0] or (missing[1] if missing else "")
    return refused(f"{path}: {sentence}" if path else sentence, top)


def refused(sentence: str, param: str = "") -> GatewayError:
    return GatewayError(Code.BAD_REQUEST, detail=sentence, param=param)
