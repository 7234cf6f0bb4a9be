"""What the placeholders of a request stand for is put back into replies over gRPC: one for itself, or all of a stream. Pure."""

from collections.abc import Callable, Iterable
from typing import Any, Final

from google.protobuf.message import DecodeError
from msgspec import Struct

from gateway.privacy.mask import BytesRestorer, NotRestored, Screen
from gateway.wire.oip_grpc import StreamResponse, is_error
from gateway.wire.oip_messages import message_class
from gateway.wire.restored import MOST_HELD, MOST_NAME_CHARACTERS, elements, tensor_of
from gateway.wire.screened import NUMBERS

MOST_STREAMED_BYTES: Final = 1024 * 1024
"""Of texts in one message of a decoupled model's: they are restored where they arrive, and everybody waits for it."""
_MOST_SIDES: Final = 8  # of the shape of an output that goes on
_MOST_FRAME_BYTES: Final = 64 * 1024
_FINAL: Final = "triton_final_response"

_Response = message_class("ModelInferResponse")
_Texts = Callable[[Any, list[bytes]], Iterable[bytes]]
"""What becomes of the elements of an output."""


def restored_message(message: bytes, screen: Screen, *, is_stream: bool) -> bytes:
    """A reply for itself; an error stays as it is. Raises NotRestored."""
    if b"[" not in message or (is_stream and is_error(message)):
        return message
    found = _read(StreamResponse if is_stream else _Response, message)
    restorer = BytesRestorer(screen.restore)
    _restore(
        found.infer_response if is_stream else found, screen, lambda _, texts: map(restorer.whole, texts)
    )
    return _written(found)


def _read(kind: Any, message: bytes) -> Any:
    try:
        return kind.FromString(message)
    except DecodeError as fault:
        raise NotRestored("the reply is no message of the protocol") from fault


def _written(message: Any) -> bytes:
    written: bytes = message.SerializeToString(deterministic=True)
    return written


def _restore(response: Any, screen: Screen, texts: _Texts) -> None:
    response.id = screen.restore(response.id)
    for parameters in (response.parameters, *(output.parameters for output in response.outputs)):
        for name in parameters:
            if parameters[name].WhichOneof("choice") == "string_param":
                parameters[name].string_param = screen.restore(parameters[name].string_param)
    raw = response.raw_output_contents
    for place, output in enumerate(response.outputs):
        if output.datatype in NUMBERS:
            continue
        if given := list(output.contents.bytes_contents):
            output.contents.bytes_contents[:] = texts(output, given)
        if place < len(raw):
            raw[place] = tensor_of(texts(output, list(elements(raw[place]))))


def _text_bytes(response: Any) -> int:
    raw, found = response.raw_output_contents, 0
    for place, output in enumerate(response.outputs):
        if output.datatype not in NUMBERS:
            found += sum(map(len, output.contents.bytes_contents)) + (
                len(raw[place]) if place < len(raw) else 0
            )
    return found


class _Held(Struct):
    """An output whose text may have begun a placeholder."""

    restorer: BytesRestorer
    datatype: str
    shape: tuple[int, ...]


class MessageTexts:
    """The replies of a decoupled model to one request. Where an output has one element, its text goes on from one message to the next, as
    models give their tokens; of several each is whole. What may have begun a placeholder is told with the output's next text, or in a
    message of its own: before the last one, where that says it is the last, else behind it.
    """

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._held: dict[str, _Held] = {}
        self._frame: Any = None  # of the newest message that has begun one: what is not outputs
        self._is_last = False

    def feed(self, message: bytes) -> list[bytes]:
        """What is to be told now. Raises NotRestored."""
        if is_error(message):
            return [*self.end(), message]
        if not self._held and b"[" not in message:
            return [message]
        found = _read(StreamResponse, message)
        response = found.infer_response
        if len(message) > MOST_STREAMED_BYTES and _text_bytes(response) > MOST_STREAMED_BYTES:
            raise NotRestored(
                f"a message of a stream has at most {MOST_STREAMED_BYTES} bytes of texts to be restored"
            )
        parameters = response.parameters
        self._is_last = _FINAL in parameters and parameters[_FINAL].bool_param
        goes_on = {output.name for output in response.outputs}
        before = self._ended(set(self._held) - goes_on) if self._is_last else []
        _restore(response, self._screen, self._texts)
        if self._held:
            self._frame = _frame(response)
        return [*before, _written(found)]

    def end(self) -> list[bytes]:
        """What is still to be told."""
        return self._ended(set(self._held))

    def _texts(self, output: Any, texts: list[bytes]) -> list[bytes]:
        held = self._held.pop(output.name, None)
        restorer = held.restorer if held else BytesRestorer(self._screen.restore)
        told = [restorer.feed(text) if len(texts) == 1 else restorer.whole(text) for text in texts]
        if not restorer.holds:
            return told
        shape = tuple(output.shape)
        can_go_on = len(self._held) < MOST_HELD and len(output.name) <= MOST_NAME_CHARACTERS
        if not self._is_last and can_go_on and len(texts) <= 1 and len(shape) <= _MOST_SIDES:
            self._held[output.name] = _Held(restorer, output.datatype, shape)
        elif told:
            told[-1] += restorer.end()
        return told

    def _ended(self, names: set[str]) -> list[bytes]:
        if not names:
            return []
        message = StreamResponse()
        message.infer_response.CopyFrom(self._frame)
        for name in sorted(names):
            held = self._held.pop(name)
            message.infer_response.outputs.add(name=name, datatype=held.datatype, shape=held.shape)
            message.infer_response.raw_output_contents.append(tensor_of([held.restorer.end()]))
        return [_written(message)]


def _frame(response: Any) -> Any:
    frame = _Response(model_name=response.model_name, model_version=response.model_version, id=response.id)
    for name in response.parameters:
        frame.parameters[name].CopyFrom(response.parameters[name])
    if frame.ByteSize() > _MOST_FRAME_BYTES:
        frame.ClearField("parameters")
    return frame
