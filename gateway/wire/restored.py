"""What the placeholders of a request stand for is put back into the reply: JSON, events of a stream, tensors behind a head. Pure.

Of JSON nothing is built: it is restored as it is written, so that all else in it stays byte for byte. An error of the model's stays as it
is. What cannot be restored is not told: NotRestored.
"""

from collections.abc import Iterable, Iterator
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Raw, Struct

from gateway.errors import Code, GatewayError
from gateway.privacy.mask import BytesRestorer, NotRestored, Screen
from gateway.wire.oip import MOST_BODY_BYTES
from gateway.wire.screened import NUMBERS
from gateway.wire.sse import Events, TooLong, event

MOST_HELD: Final = 64
"""Fields of a stream, or outputs, whose texts may have begun a placeholder; of more the beginnings are told as they are."""
MOST_NAME_CHARACTERS: Final = 128
_ERROR: Final = b'{"error":'
_SIZE: Final = "binary_data_size"
_SIZE_BYTES: Final = 4
_FAULTS: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError)

_fields = msgspec.json.Decoder(dict[str, Raw])
_list = msgspec.json.Decoder(list[dict[str, Raw]])
_text = msgspec.json.Decoder(str)
_size = msgspec.json.Decoder(Annotated[int, Meta(ge=0, le=MOST_BODY_BYTES)])
_encode = msgspec.json.Encoder().encode


class JsonTexts:
    """JSON that comes in pieces."""

    __slots__ = ("_begun", "_passes", "_restorer")

    def __init__(self, screen: Screen) -> None:
        self._restorer = BytesRestorer(screen.restore_json)
        self._begun: bytes | None = b""  # until it is known whether it tells an error
        self._passes = False

    def feed(self, piece: bytes) -> bytes:
        """What may be told now."""
        if self._begun is not None:
            piece = self._begun + piece
            if len(piece) < len(_ERROR):
                self._begun = piece
                return b""
            self._begun, self._passes = None, piece.startswith(_ERROR)
        return piece if self._passes else self._restorer.feed(piece)

    def end(self) -> bytes:
        """What is still to be told."""
        return (self._begun or b"") + self._restorer.end()


class EventTexts:
    """The events of generate_stream. A field's text goes on from one event to the next, and a placeholder may be cut between them: what
    may have begun one is told with the next text of the field, or behind all others in an event of its own. A text in a list is whole.
    """

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._events = Events()
        self._held: dict[str, BytesRestorer] = {}
        self._named: dict[str, Raw] = {}

    def feed(self, piece: bytes) -> bytes:
        """Raises MODEL_FAILED for an event that does not end."""
        try:
            return b"".join(map(self._told, self._events.feed(piece)))
        except TooLong as fault:
            raise GatewayError(Code.MODEL_FAILED, private=str(fault)) from fault

    def end(self) -> bytes:
        if not self._held:
            return b""
        held, self._held = self._held, {}
        return event(_encode({**self._named, **{name: _string(it.end()) for name, it in held.items()}}))

    def _told(self, data: bytes) -> bytes:
        if data.startswith(_ERROR):
            return self.end() + _event(data)
        if b"[" not in data and not self._held:
            return _event(data)
        try:
            said = _fields.decode(data)
        except _FAULTS:
            return self.end() + _event(data)
        self._named = {
            name: said[name]
            for name in ("model_name", "model_version")
            if name in said and len(bytes(said[name])) <= 2 * MOST_NAME_CHARACTERS
        }
        return event(_encode({name: self._field(name, bytes(value)) for name, value in said.items()}))

    def _field(self, name: str, value: bytes) -> Raw:
        if not value.startswith(b'"'):
            return Raw(BytesRestorer(self._screen.restore_json).whole(value))
        restorer = self._held.pop(name, None) or BytesRestorer(self._screen.restore_json)
        told = restorer.feed(value[1:-1])
        if restorer.holds and len(self._held) < MOST_HELD and len(name) <= MOST_NAME_CHARACTERS:
            self._held[name] = restorer
        else:
            told += restorer.end()
        return _string(told)


def _string(inside: bytes) -> Raw:
    return Raw(b'"' + inside + b'"')


def _event(data: bytes) -> bytes:
    """As it came, though it had several lines."""
    return event(data.replace(b"\n", b"\ndata: "))


# Infer


class Output(Struct):
    """One of a reply's, in its head: `size` bytes of its tensor are behind it."""

    fields: dict[str, Raw]
    parameters: dict[str, Raw]
    size: int
    is_text: bool

    def resized(self, size: int) -> None:
        self.parameters["binary_data_size"] = Raw(b"%d" % size)
        self.fields["parameters"] = Raw(_encode(self.parameters))


def outputs(head: bytes) -> list[Output]:
    """Raises NotRestored."""
    try:
        return [_output(it) for it in _list.decode(_fields.decode(head).get("outputs", b"[]"))]
    except _FAULTS as fault:
        raise NotRestored("the reply has a head that cannot be read") from fault


def _output(fields: dict[str, Raw]) -> Output:
    parameters = _fields.decode(fields.get("parameters", b"{}"))
    size = _size.decode(parameters.get(_SIZE, b"0"))
    return Output(fields, parameters, size, bool(size) and _text.decode(fields["datatype"]) not in NUMBERS)


def restored_json(body: bytes, screen: Screen) -> bytes:
    """JSON that is here as a whole."""
    return body if body.startswith(_ERROR) else BytesRestorer(screen.restore_json).whole(body)


def restored_infer(head: bytes, tensors: bytes, screen: Screen) -> tuple[bytes, bytes]:
    """A head and its tensors, those of texts restored and their sizes told anew. Raises NotRestored."""
    found, at, pieces = outputs(head), 0, list[bytes]()
    for output in found:
        piece = tensors[at : at + output.size]
        at += output.size
        if output.is_text:
            piece = restored_elements(piece, screen)
            output.resized(len(piece))
        pieces.append(piece)
    if at != len(tensors):
        raise NotRestored("the reply has another size than its outputs say")
    told = _encode({**_fields.decode(head), "outputs": [it.fields for it in found]})
    return restored_json(told, screen), b"".join(pieces)


def restored_elements(tensor: bytes, screen: Screen) -> bytes:
    """A tensor of BYTES in binary, each element for itself. Raises NotRestored."""
    if b"[" not in tensor:
        return tensor
    restorer = BytesRestorer(screen.restore)
    return tensor_of(map(restorer.whole, elements(tensor)))


def elements(tensor: bytes) -> Iterator[bytes]:
    """Of a tensor of BYTES in binary: each is behind its size in 4 bytes, little-endian. Raises NotRestored."""
    at = 0
    while at < len(tensor):
        start = at + _SIZE_BYTES
        at = start + int.from_bytes(tensor[at:start], "little")
        if at > len(tensor):
            raise NotRestored("an output of BYTES breaks off within an element")
        yield tensor[start:at]


def tensor_of(those: Iterable[bytes]) -> bytes:
    """A tensor of BYTES in binary with these elements."""
    return b"".join(part for it in those for part in (len(it).to_bytes(_SIZE_BYTES, "little"), it))
