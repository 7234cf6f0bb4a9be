"""From OpenAI's requests to what Triton is sent, and from what Triton says back to texts and rows. Pure."""

import struct
from base64 import b64encode
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from gateway.errors import Code
from gateway.privacy.mask import Restorer, Screen
from gateway.wire.oip import public_error
from gateway.wire.openai import Generation
from gateway.wire.openai_replies import Failure, Finish
from gateway.wire.stops import Stops
from gateway.wire.tokens import estimated
from tenants.openai import Generate, Infer

MOST_TEXT_CHARACTERS: Final = 4 * 1024**2

_LOGGED_BYTES = 500
_FAILED = 500

_encode = msgspec.json.Encoder().encode


class Unreadable(Exception):
    """Triton's reply is not what the model's document promises. Private words."""


class Failed(Exception):
    """The model said within its reply that it failed. `event` has its own words, not cleaned yet."""

    def __init__(self, event: bytes) -> None:
        super().__init__(repr(event[:_LOGGED_BYTES]))
        self.event = event


def triton_failure(status: int, content_type: bytes, error: bytes) -> Failure:
    """An error of Triton's."""
    status, sentence = public_error(status, content_type, error)
    return Failure(status, Code.MODEL_FAILED if status >= _FAILED else Code.BAD_REQUEST, sentence)


# Generate


def generate_body(section: Generate, request: Generation, prompt: str) -> bytes:
    """What generate_stream is asked: the prompt, and of the request what the model takes."""
    body: dict[str, Any] = {section.input: prompt}
    for name in section.parameters:
        match name:
            case "max_tokens":
                value: object = most_tokens(section, request)
            case "stream":
                value = True
            case _:
                value = getattr(request, name)
        if value is not None:
            body[name] = value
    return _encode(body)


def most_tokens(section: Generate, request: Generation) -> int:
    return section.max_tokens if request.most_tokens is None else request.most_tokens


class Speech:
    """What a model says to one request, event by event."""

    def __init__(self, section: Generate, request: Generation, screen: Screen | None = None) -> None:
        """`screen`: what masked the request, if the reply is to be restored. Its stop sequences are looked for in what is restored."""
        restores = screen is not None and screen.restores
        self._restorer = Restorer(screen.restore) if screen is not None and restores else None
        self._output = section.output
        self._most = most_tokens(section, request)
        self._cuts = "max_tokens" not in section.parameters
        self._stops = Stops([screen.restore(it) for it in request.stops] if screen else request.stops)
        self.texts: list[str] = []
        """All that was told."""
        self.characters = 0
        self._pieces = 0

    def push(self, event: bytes) -> str:
        """What may be told of the text of this event's data. Raises Failed, Unreadable."""
        if self.is_over:
            return ""
        piece = self._text(event)
        self._pieces += 1
        told = self._stops.push(piece if self._restorer is None else self._restorer.feed(piece))
        if self.is_over:
            told += self._rest()
        return self._keep(told)

    def end(self) -> str:
        """What is still to be told, as Triton is done."""
        return self._keep(self._rest())

    def _rest(self) -> str:
        """What was held back."""
        told = "" if self._restorer is None else self._stops.push(self._restorer.end())
        return told + self._stops.end()

    @property
    def is_over(self) -> bool:
        """Nothing more of it will be told, whatever the model goes on to say."""
        return self._stops.stopped or (self._cuts and self._pieces >= self._most)

    @property
    def guess(self) -> int:
        """The tokens of what was told, where nobody has counted them. Who says one piece a token is believed."""
        return self._pieces if self._pieces > 1 else estimated("".join(self.texts))

    def finish(self, tokens: int | None) -> Finish:
        """Triton does not say why a model ended. Who has as many pieces as it was allowed, or tokens where those were counted, was cut."""
        if self._stops.stopped:
            return "stop"
        return "length" if self._pieces == self._most or (tokens or 0) >= self._most else "stop"

    def _keep(self, told: str) -> str:
        self.characters += len(told)
        if self.characters > MOST_TEXT_CHARACTERS:
            raise Unreadable(f"more than {MOST_TEXT_CHARACTERS} characters of text")
        self.texts.append(told)
        return told

    def _text(self, event: bytes) -> str:
        try:
            said = msgspec.json.decode(event.decode(errors="replace"), type=dict[str, Any])
        except (msgspec.DecodeError, RecursionError) as fault:
            raise Unreadable(f"an event that is no JSON object: {fault}") from fault
        if "error" in said and self._output not in said:
            raise Failed(event)
        found = said.get(self._output)
        if isinstance(found, list):
            found = "".join(map(str, found))
        if not isinstance(found, str):
            raise Unreadable(f"an event without the output {self._output!r}")
        return found


# Infer


class _Tensor(msgspec.Struct):
    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, Any] = {}


class _Reply(msgspec.Struct):
    outputs: list[_Tensor]


def infer_body(section: Infer, texts: list[str]) -> bytes:
    """An infer request for rows in binary, which are exact and short."""
    shape = [len(texts), 1] if section.batched else [len(texts)]
    tensor = {"name": section.input, "datatype": "BYTES", "shape": shape, "data": texts}
    output = {"name": section.output, "parameters": {"binary_data": True}}
    return _encode({"inputs": [tensor], "outputs": [output]})


class Rows:
    """Embeddings as Triton gave them: `many` rows of `dimensions` little-endian FP32."""

    def __init__(self, section: Infer, many: int, head_length: bytes, body: bytes | bytearray) -> None:
        """Raises Unreadable."""
        length = int(head_length or 0)
        try:
            outputs = msgspec.json.decode(bytes(body[:length]), type=_Reply).outputs
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
            raise Unreadable(f"an infer reply without a binary output: {fault}") from fault
        found = [it for it in outputs if it.name == section.output]
        if len(outputs) != 1 or not found or found[0].datatype != "FP32":
            raise Unreadable(f"an infer reply without one FP32 output {section.output!r}")
        self._data = memoryview(body)[length:]
        shape = found[0].shape
        if len(shape) < 2 or shape[0] != many or not self._data or len(self._data) % (4 * many):  # noqa: PLR2004 - rows of numbers
            raise Unreadable(f"embeddings of the shape {shape} for {many} texts")
        self._row_bytes = len(self._data) // many
        self.dimensions = self._row_bytes // 4

    def told(self, form: str | None) -> Iterator[bytes]:
        """Each row as JSON, one at a time: as numbers a row is many times as large, and a thread that makes them lets others run."""
        step = self._row_bytes
        for start in range(0, len(self._data), step or 1):
            row = self._data[start : start + step]
            packed = b64encode(row).decode() if form == "base64" else None
            yield _encode(packed or struct.unpack(f"<{self.dimensions}f", row))
