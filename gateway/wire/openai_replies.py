"""OpenAI's API: answers, chunks of streams, and errors, as JSON. Ids and times are arguments. Pure."""

from collections.abc import Iterable
from typing import Any, Final, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from gateway.errors import Code, GatewayError

Finish = Literal["stop", "length"]
Kind = Literal["chat", "completion", "embeddings"]

DONE: Final = b"[DONE]"

_encode = msgspec.json.Encoder().encode


class Usage(Struct, frozen=True, omit_defaults=True):
    """`estimated` is ours: neither the backend nor a tokenizer of the model's has counted."""

    prompt_tokens: int
    completion_tokens: int | UnsetType = UNSET
    total_tokens: int | UnsetType = UNSET
    estimated: bool = False


def usage(prompt_tokens: int, completion_tokens: int, *, estimated: bool) -> Usage:
    return Usage(prompt_tokens, completion_tokens, prompt_tokens + completion_tokens, estimated)


class Failure(Struct, frozen=True):
    """An error of a model's server, as a client is told it. With `private` words it is ours, and they are for the operator."""

    status: int
    code: Code
    sentence: str = ""
    param: str = ""
    private: str = ""


class Answering(Struct, frozen=True):
    """What every answer of one call has: which kind it is, the request's id, the time in seconds, and the model."""

    kind: Kind
    request_id: str
    created: int
    model: str

    @property
    def ours(self) -> dict[str, str]:
        """What an answer says that another server has made, whatever that said."""
        return {
            name: self._head("")[name]
            for name in (("model",) if self.kind == "embeddings" else ("id", "model"))
        }

    def whole(self, text: str, finish: Finish, used: Usage) -> bytes:
        """The answer that is not streamed."""
        said: dict[str, Any] = {"text": text}
        if self.kind == "chat":
            said = {"message": {"role": "assistant", "content": text, "refusal": None}}
        return _encode({**self._head(""), "choices": [self._choice(said, finish)], "usage": used})

    def chunk(self, text: str, *, is_first: bool = False) -> bytes:
        """A piece of a stream. A chat says who speaks in its first."""
        if self.kind == "completion":
            return self._piece({"text": text}, None)
        delta = {"role": "assistant", "content": text} if is_first else {"content": text}
        return self._piece({"delta": delta}, None)

    def last(self, finish: Finish) -> bytes:
        """The piece that says why there is no more."""
        return self._piece({"text": ""} if self.kind == "completion" else {"delta": {}}, finish)

    def counted(self, used: Usage | dict[str, Any]) -> bytes:
        """What a stream used, for whoever asked with `include_usage`."""
        return _encode({**self._head(".chunk"), "choices": [], "usage": used})

    def _piece(self, said: dict[str, Any], finish: Finish | None) -> bytes:
        return _encode({**self._head(".chunk"), "choices": [self._choice(said, finish)]})

    @staticmethod
    def _choice(said: dict[str, Any], finish: Finish | None) -> dict[str, Any]:
        return {"index": 0, **said, "logprobs": None, "finish_reason": finish}

    def _head(self, suffix: str) -> dict[str, Any]:
        is_chat = self.kind == "chat"
        return {
            "id": f"{'chatcmpl' if is_chat else 'cmpl'}-{self.request_id}",
            "object": f"chat.completion{suffix}" if is_chat else "text_completion",
            "created": self.created,
            "model": self.model,
        }


def embeddings(model: str, rows: Iterable[bytes], used: Usage) -> bytes:
    """`rows` are JSON: base64 or numbers, in the order of the inputs. Put together by hand: so very many bytes are copied once."""
    head = _encode({"object": "list", "model": model, "usage": used})
    parts = [head[:-1], b',"data":[']
    for place, row in enumerate(rows):
        parts += (
            b'%b{"object":"embedding","index":%d,"embedding":' % (b"," if place else b"", place),
            row,
            b"}",
        )
    return b"".join([*parts, b"]}"])


def model(name: str) -> dict[str, Any]:
    """When a model was made is not known here, and of two calls' answers neither may differ: it is the epoch."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "gateway"}


def models(names: list[str]) -> bytes:
    return _encode({"object": "list", "data": [model(name) for name in names]})


def one_model(name: str) -> bytes:
    return _encode(model(name))


def error_of(error: GatewayError) -> bytes:
    """A refusal, as the one table says it."""
    return error_body(error.sentence, error.rendering.openai, error.code.value, error.param)


def error_body(sentence: str, kind: str, code: str, param: str = "") -> bytes:
    return _encode({"error": {"message": sentence, "type": kind, "param": param or None, "code": code}})
