"""From the reply that a model's server sends to the answer that OpenAI's API has: whole, streamed, or embeddings. Pure.

A reading takes the reply's body piece by piece and gives what may be sent now; it raises Failed or Unreadable (`openai_to_oip`), or
TooLong (`sse`), when the reply is not to be gone on with.
"""

from typing import Protocol

from gateway.errors import GatewayError
from gateway.privacy.mask import Screen
from gateway.wire.openai import EmbeddingsRequest, Generation, refused
from gateway.wire.openai_replies import DONE, Answering, Failure, Finish, Usage, embeddings, usage
from gateway.wire.openai_to_oip import Rows, Speech, Unreadable, triton_failure
from gateway.wire.sse import Events, event
from gateway.wire.tokens import Count, counted, extrapolated
from tenants.openai import Generate, Infer

_MOST_BODY_BYTES = 32 * 1024**2
_CHARACTER_BYTES = 4  # of a text in memory, at most
_ESCAPED_BYTES = 6  # of a character in JSON, at most
_NUMBER_BYTES = 25  # of an FP32 in JSON, with its comma, at most


class Reading(Protocol):
    is_stream: bool
    """The answer is told as the reply comes."""
    content_type: bytes
    """What that of the reply must begin with."""

    def take(self, piece: bytes) -> bytes:
        """The next piece of the reply; what may be sent of the answer now."""

    @property
    def is_over(self) -> bool:
        """Nothing that comes later changes the answer."""

    def end(self, head_length: bytes) -> bytes:
        """The reply is whole; the rest of the answer. Raises GatewayError for an answer that is a refusal after all."""

    @property
    def tokens(self) -> int:
        """Prompt and answer until now, as the model's own tokenizer counts them; 0 where nobody does. Never raises, and takes no time."""

    @property
    def guessed_tokens(self) -> int:
        """As `tokens`, by our own count where nobody else's is there. Takes as little time."""

    def failure(self, status: int, content_type: bytes, error: bytes) -> Failure:
        """What is told of an error of the server's, before the reply or within it."""

    @property
    def kept_bytes(self) -> int:
        """What it keeps of the reply, at most. With much of it `end` takes a while, and may be called in a thread."""

    @property
    def answer_bytes(self) -> int:
        """How large what `end` gives can be."""


class _Spoken:
    """What both kinds of generation have."""

    content_type = b"text/event-stream"
    failure = staticmethod(triton_failure)

    def __init__(
        self,
        section: Generate,
        request: Generation,
        answering: Answering,
        prompt_tokens: int,
        count: Count | None,
        *,
        screen: Screen | None = None,
    ) -> None:
        self.speech = Speech(section, request, screen)
        self.answering = answering
        self.is_over = False
        self._events = Events()
        self._prompt_tokens = prompt_tokens
        self._count = count
        self._counted: int | None = None
        self._is_whole = False
        self._includes_usage = request.includes_usage

    @property
    def tokens(self) -> int:
        found = self._counted if self._is_whole else extrapolated(self.speech.texts, self._count)
        return 0 if found is None else self._prompt_tokens + found

    @property
    def guessed_tokens(self) -> int:
        return self.tokens or self._prompt_tokens + self.speech.guess

    @property
    def kept_bytes(self) -> int:
        return _CHARACTER_BYTES * self.speech.characters

    def _ended(self) -> tuple[Finish, Usage]:
        self._counted = counted(["".join(self.speech.texts)], self._count)
        self._is_whole = True
        answer_tokens = self.speech.guess if self._counted is None else self._counted
        used = usage(self._prompt_tokens, answer_tokens, estimated=self._counted is None)
        return self.speech.finish(self._counted), used

    def _told(self, piece: bytes) -> list[str]:
        """The texts that may be told now."""
        texts = [self.speech.push(data) for data in self._events.feed(piece)]
        self.is_over = self.speech.is_over
        return [text for text in texts if text]


class Whole(_Spoken):
    """A generation that is answered when the model is done."""

    is_stream = False

    def take(self, piece: bytes) -> bytes:
        self._told(piece)
        return b""

    def end(self, head_length: bytes) -> bytes:
        self.speech.end()
        return self.answering.whole("".join(self.speech.texts), *self._ended())

    @property
    def answer_bytes(self) -> int:
        return _ESCAPED_BYTES * self.speech.characters


class Streamed(_Spoken):
    """A generation that is told as it comes."""

    is_stream = True
    answer_bytes = 0  # as good as nothing
    _has_begun = False

    def take(self, piece: bytes) -> bytes:
        return b"".join(map(self._chunk, self._told(piece)))

    def end(self, head_length: bytes) -> bytes:
        rest = self.speech.end()
        pieces = [self._chunk(rest)] if rest or not self._has_begun else []
        finish, used = self._ended()
        pieces.append(event(self.answering.last(finish)))
        if self._includes_usage:
            pieces.append(event(self.answering.counted(used)))
        return b"".join(pieces) + event(DONE)

    def _chunk(self, text: str) -> bytes:
        is_first, self._has_begun = not self._has_begun, True
        return event(self.answering.chunk(text, is_first=is_first))


class Kept:
    """A reply that is kept until it is whole, of which nothing is told before."""

    is_stream = False
    is_over = False

    def __init__(self) -> None:
        self._body = bytearray()

    def take(self, piece: bytes) -> bytes:
        self._body += piece
        if len(self._body) > _MOST_BODY_BYTES:
            raise Unreadable(f"a reply of more than {_MOST_BODY_BYTES} bytes")
        return b""

    @property
    def kept_bytes(self) -> int:
        return len(self._body)


class Embedded(Kept):
    """Embeddings, of an infer reply."""

    content_type = b"application/octet-stream"
    failure = staticmethod(triton_failure)

    def __init__(self, section: Infer, request: EmbeddingsRequest, tokens: int, *, counted: bool) -> None:
        """`tokens` of the texts; `counted`, or guessed."""
        super().__init__()
        self.tokens = tokens if counted else 0
        self.guessed_tokens = tokens
        self._used = Usage(tokens, total_tokens=tokens, estimated=not counted)
        self._section = section
        self._request = request

    @property
    def answer_bytes(self) -> int:
        numbers = len(self._body) // 4
        return numbers * 6 if self._request.encoding_format == "base64" else numbers * _NUMBER_BYTES

    def end(self, head_length: bytes) -> bytes:
        request = self._request
        rows = Rows(self._section, len(request.texts), head_length, self._body)
        if request.dimensions not in (None, rows.dimensions):
            raise refused(f"this model's embeddings have {rows.dimensions} dimensions", "dimensions")
        return embeddings(request.model, rows.told(request.encoding_format), self._used)


def most_allowed(section: Generate, request: Generation) -> GatewayError | None:
    """The refusal of a request for more than the model gives."""
    if (request.most_tokens or 0) <= section.max_tokens:
        return None
    param = "max_completion_tokens" if getattr(request, "max_completion_tokens", None) else "max_tokens"
    return refused(f"{param}: this model gives at most {section.max_tokens} tokens", param)
