"""From the reply of a server that speaks OpenAI's API itself to the answer of ours: whole, or streamed. Pure.

Each answer and each event is decoded and written anew: with our name of the model, and the request's id, by which it is found in the audit
log. What the server counted is taken as it is; where it did not count, usage is a guess, and marked as one.
"""

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Raw, Struct

from gateway.errors import Code
from gateway.privacy.mask import Screen
from gateway.wire.oip import public_text
from gateway.wire.openai import EmbeddingsRequest
from gateway.wire.openai_passed import PassedChat, PassedRequest
from gateway.wire.openai_readings import Kept
from gateway.wire.openai_replies import DONE, Answering, Failure, Usage, usage
from gateway.wire.openai_to_oip import Failed, Unreadable
from gateway.wire.restored_choices import ChoiceTexts, restored_choice
from gateway.wire.sse import Events, event
from gateway.wire.tokens import estimated

_FAILED = 500
_MOST_PARAM = 256  # characters of a key's path
_TOO_MANY = 429
# What the server has against us, and no client can help: that we have no key there, or the model not this name.
_NOT_THE_CLIENTS: Final = frozenset({401, 403, 404, 405, 407})
_UNSAID = "the model server answered with an error that is not in the protocol"
_FRAME = ("id", "object", "created", "model")
_LISTS = frozenset({"choices", "data"})
_FAULTS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.decode
_whole = msgspec.json.Decoder(dict[str, Raw])
_list = msgspec.json.Decoder(list[Raw])
_Tokens = Annotated[int, Meta(ge=0, le=2**31 - 1)]


class _Counted(Struct):
    """What of a `usage` goes into the log."""

    prompt_tokens: _Tokens
    completion_tokens: _Tokens = 0

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


class _Relayed:
    """What both kinds of answers have."""

    def __init__(self, request: PassedRequest, answering: Answering, screen: Screen | None = None) -> None:
        """`screen`: what masked the request, if the reply is to be restored."""
        has_texts = not isinstance(request, EmbeddingsRequest)
        self._screen = screen if screen is not None and screen.restores and has_texts else None
        form = request.response_format if isinstance(request, PassedChat) else None
        self._is_json = form is not None and form.type != "text"
        self._answering = answering
        self._prompt_tokens = sum(map(estimated, request.texts))
        self._characters = 0  # of the answer's texts
        self._usage: Any = None
        self.tokens = 0

    @property
    def guessed_tokens(self) -> int:
        return self.tokens or self._prompt_tokens + -(-self._characters // 4)

    def failure(self, status: int, content_type: bytes, error: bytes) -> Failure:
        """An error of the server's, in FastAPI's form or in OpenAI's."""
        sentence, param = _said(error)
        if status in _NOT_THE_CLIENTS:
            return Failure(
                _FAILED, Code.MODEL_FAILED, private=f"the server answered {status}: {sentence[:500]!r}"
            )
        if status == _TOO_MANY:
            return Failure(status, Code.TOO_MANY_AT_ONCE, public_text(sentence))
        code = Code.MODEL_FAILED if status >= _FAILED else Code.BAD_REQUEST
        return Failure(status, code, public_text(sentence), public_text(param)[:_MOST_PARAM])

    def _count(self, found: Any) -> None:
        """Take what the server says it used, if that can be so."""
        try:
            self.tokens = msgspec.convert(found, _Counted).tokens
        except msgspec.ValidationError:
            return
        self._usage = found

    @property
    def _used(self) -> Any:
        """What is told: the server's own words, else a guess."""
        if self._usage is not None:
            return self._usage
        if self._answering.kind == "embeddings":
            return Usage(self._prompt_tokens, total_tokens=self._prompt_tokens, estimated=True)
        return usage(self._prompt_tokens, -(-self._characters // 4), estimated=True)


class Relayed(_Relayed, Kept):
    """An answer that is whole."""

    content_type = b"application/json"

    def __init__(self, request: PassedRequest, answering: Answering, screen: Screen | None = None) -> None:
        _Relayed.__init__(self, request, answering, screen)
        Kept.__init__(self)

    @property
    def answer_bytes(self) -> int:
        return len(self._body)  # more or less

    def end(self, head_length: bytes) -> bytes:
        try:
            said = _whole.decode(self._body)
            found = {name: self._value(name, value) for name, value in said.items()}
        except _FAULTS as fault:
            raise Unreadable(f"an answer that is no JSON object: {fault}") from fault
        if not found.keys() & _LISTS:
            raise Unreadable("an answer without choices or data")
        self._count(found.get("usage"))
        return _encode({**found, **self._answering.ours, "usage": self._used})

    def _value(self, name: str, value: Raw) -> Any:
        """Lists one by one: of very large ones others get their turn in between."""
        if name not in _LISTS:
            return _decode(value)
        return [self._item(_decode(item)) for item in _list.decode(value)]

    def _item(self, item: Any) -> Raw:
        self._characters += _characters(item)
        if self._screen is not None:
            item = restored_choice(item, self._screen, is_json=self._is_json)
        return Raw(_encode(item))


class RelayedStream(_Relayed):
    """An answer that is told as it comes. It ends with [DONE], or has been cut."""

    is_stream = True
    content_type = b"text/event-stream"
    kept_bytes = 0
    answer_bytes = 0

    def __init__(self, request: PassedRequest, answering: Answering, screen: Screen | None = None) -> None:
        super().__init__(request, answering, screen)
        found = self._screen
        self._texts = ChoiceTexts(found, is_json=self._is_json) if found is not None else None
        self._frame: dict[str, Any] = {}  # of the newest event: what is not of its choices
        self.is_over = False
        self._events = Events()
        self._includes_usage = not isinstance(request, EmbeddingsRequest) and request.includes_usage

    def take(self, piece: bytes) -> bytes:
        return b"".join(map(self._event, self._events.feed(piece)))

    def end(self, head_length: bytes) -> bytes:
        if not self.is_over:
            raise Unreadable("a stream that ended without [DONE]")
        told = self._rest()
        if self._includes_usage:
            told += event(self._answering.counted(self._used))
        return told + event(DONE)

    def _rest(self) -> bytes:
        """What was held back to be restored, and nobody finished."""
        choices = self._texts.rest() if self._texts is not None else []
        return event(_encode({**self._frame, "choices": choices})) if choices else b""

    def _event(self, data: bytes) -> bytes:
        if self.is_over or data == DONE:
            self.is_over = True
            return b""
        try:
            said = _decode(data)
        except _FAULTS as fault:
            raise Unreadable(f"an event that is no JSON: {fault}") from fault
        choices = said.get("choices") if isinstance(said, dict) else None
        if isinstance(said, dict) and "error" in said and not choices:
            raise Failed(data)
        if not isinstance(choices, list):
            raise Unreadable("an event without choices")
        self._count(found := said.pop("usage", None))
        if not choices and found is not None:
            return b""  # told at the end, to whoever asked
        self._characters += sum(map(_characters, choices))
        said |= self._answering.ours
        if self._texts is not None:
            self._frame = {name: said[name] for name in _FRAME if name in said}
            for choice in choices:
                self._texts.restore(choice)
        return event(_encode(said))


def _characters(choice: Any) -> int:
    """Of the text in a choice, in whichever of the forms."""
    if not isinstance(choice, dict):
        return 0
    said = choice.get("message") or choice.get("delta")
    text = said.get("content") if isinstance(said, dict) else choice.get("text")
    return len(text) if isinstance(text, str) else 0


def _said(error: bytes) -> tuple[str, str]:
    """The sentence of an error, and the key of the request that it names."""
    try:
        found = _decode(error)
    except _FAULTS:
        return _UNSAID, ""
    found = found.get("error", found.get("detail", found)) if isinstance(found, dict) else found
    if isinstance(found, list) and found:  # FastAPI's, of a body that does not fit its types
        found = found[0]
    if isinstance(found, dict):
        sentence, param = found.get("message", found.get("msg")), found.get("param")
        return sentence if isinstance(sentence, str) else _UNSAID, param if isinstance(param, str) else ""
    return found if isinstance(found, str) else _UNSAID, ""
