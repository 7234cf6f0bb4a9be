"""Triton's generate extension: a flat JSON object, judged and written anew, and the events of a stream.

Whatever the model has no input for is a parameter of the request, so every key is judged as one, and so is what stands in `parameters`.
Values keep to what Triton takes: texts, numbers, truth values, and lists of them for inputs.

A stream's status is fixed by its first event; an error behind that is an event as well: `data: {"error": ...}`.
"""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from gateway.errors import Code, GatewayError
from gateway.wire.oip import (
    MOST_NESTED,
    Number,
    Parameters,
    bad_request,
    error_body,
    has_objects,
    is_shallow,
    judge_parameters,
    public_error,
)
from gateway.wire.sse import event

EVENT_STREAM = b"text/event-stream"

_MOST_KEYS = 256
_ERROR = b'data: {"error":'
_END = b"\n\n"
_HELD_BYTES = 256 * 1024

_decoder = msgspec.json.Decoder(Annotated[dict[str, msgspec.Raw], Meta(max_length=_MOST_KEYS)])
_parameters = msgspec.json.Decoder(Annotated[Parameters, Meta(max_length=_MOST_KEYS)])
_scalar = msgspec.json.Decoder(str | Number | float | bool)
_text = msgspec.json.Decoder(str)


def judge_generate(body: bytes) -> bytes:
    """What Triton gets for the client's body. Raises BAD_REQUEST."""
    key = ""
    try:
        if not body.isascii():
            body.decode()  # msgspec looks into what it leaves raw for its form only
        request = _decoder.decode(body)
        judge_parameters(request, "the request")
        judged = {}
        for key, value in request.items():
            judged[key] = _value(key, value)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as fault:
        where = f"{key[:100]}: " if key else ""
        raise bad_request(
            f"the generate request is not valid JSON of the protocol: {where}{fault}"
        ) from fault
    return msgspec.json.encode(judged)


def _value(key: str, value: msgspec.Raw) -> Any:
    """Decoded, but for lists, which are known to be well-formed. Raises DecodeError, BAD_REQUEST."""
    if key == "id":
        return _text.decode(value)
    if key == "parameters":
        parameters = _parameters.decode(value)
        judge_parameters(parameters, "parameters")
        return parameters
    data = bytes(value)
    if not data.startswith(b"["):
        return _scalar.decode(value)
    if not is_shallow(data) or has_objects(data):
        raise bad_request(f"{key[:100]} is nested more than {MOST_NESTED} deep, or holds objects")
    return value


# What comes back


def error_event(sentence: str) -> bytes:
    """What tells within a stream that it failed."""
    return event(error_body(sentence))


def public_event(status: int, error: bytes) -> tuple[int, bytes]:
    """Status and event of Triton's error as a client may see them."""
    status, sentence = public_error(status, b"", error.removeprefix(b"data:").strip())
    return status, error_event(sentence)


class Events:
    """A stream on its way to the client: each event goes on once it is whole, the errors among them as a client may see them.

    An event above 256 KiB goes on as it comes. `is_between`: what was given out ends with the end of an event; `has_failed`: there was
    an error; `pieces`: so many events.
    """

    __slots__ = ("_held", "has_failed", "is_between", "pieces")

    def __init__(self) -> None:
        self._held = b""
        self.has_failed = False
        self.is_between = True
        self.pieces = 0

    def feed(self, piece: bytes) -> bytes:
        """What can go on now. Raises MODEL_FAILED for an error without an end."""
        data = self._held + piece
        end = data.rfind(_END) + len(_END)
        if end < len(_END):
            return self._unfinished(data)
        whole, self._held = data[:end], data[end:]
        self.has_failed |= _ERROR in whole
        self.pieces += whole.count(_END)
        if self.is_between:
            whole = _cleaned(whole)
        else:  # the end of a large one comes first
            first = whole.index(_END) + len(_END)
            whole = whole[:first] + _cleaned(whole[first:])
        self.is_between = True
        if len(self._held) > _HELD_BYTES:
            whole += self._unfinished(self._held)
        return whole

    def _unfinished(self, data: bytes) -> bytes:
        if self.is_between and len(data) <= _HELD_BYTES:
            self._held = data
            return b""
        if self.is_between and data.lstrip(b"\n").startswith(_ERROR):
            raise GatewayError(Code.MODEL_FAILED, private="an error event that does not end")
        self.is_between = False
        self._held = data[-1:]  # the first half of its end, perhaps
        return data[:-1]


def _cleaned(events: bytes) -> bytes:
    """In a text of the model's the quotes are escaped, so this is found only where an event begins."""
    if _ERROR not in events:
        return events
    return b"".join(
        public_event(0, one.lstrip())[1] if one.lstrip(b"\n").startswith(_ERROR) else one + _END
        for one in events.removesuffix(_END).split(_END)
    )
