"""Open Inference Protocol v2 over gRPC: an infer request, judged and written anew. Pure.

What we judge is what we send. The head, which is all but `raw_input_contents`, is merged by protobuf itself (of two model names the last
counts, parts of one message are joined) and serialized again without what is unknown. The tensors behind it pass as they are: as one slice
of the client's message where they lie at its end, as official clients write them, and copied otherwise.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from hashlib import sha256
from typing import Any, Final

from google.protobuf.message import DecodeError
from msgspec import Struct

from gateway.call import Sequence
from gateway.errors import Code, GatewayError
from gateway.wire.oip import (
    MODEL_NAME,
    MOST_BODY_BYTES,
    SEQUENCE,
    Judged,
    judge_parameters,
    public_text,
    take_sequence,
)
from gateway.wire.oip_messages import message_class

# What a message may hold of each: inputs, outputs, raw contents, parameters in one place, and sides of a shape.
MOST_OF_EACH: Final = 1_000
_MOST_SIDES: Final = 100
_MOST_FIELDS: Final = 5 * MOST_OF_EACH
_FINAL: Final = "triton_enable_empty_final_response"  # asked for on a stream, and harmless: the one name of Triton's that passes
_RAW: Final = 7  # raw_input_contents
_RAW_TAG: Final = b"\x3a"
_LENGTH_DELIMITED: Final = 2
_FIXED: Final = {1: 8, 5: 4}  # wire types and their sizes
_MOST_VARINT_BYTES: Final = 10
_MOST_TAG: Final = 2**32 - 1
_MODEL: Final = re.compile(MODEL_NAME)
_VERSION: Final = re.compile(r"[0-9]{0,9}")

InferRequest: Final = message_class("ModelInferRequest")
StreamResponse: Final = message_class("ModelStreamInferResponse")
_ERROR: Final = b"\x0a"  # a message of a stream that begins so tells an error
_NOT_FOUND: Final = "Request for unknown model"


class Split(Struct, frozen=True):
    """A message's head and, serialized as protobuf does, its tensors: `contents` of them."""

    head: bytes
    tensors: bytes | memoryview
    contents: int


class Asked(Struct, frozen=True):
    """An infer request that has been read and not yet judged."""

    request: Any
    tensors: bytes | memoryview
    contents: int

    @property
    def model(self) -> str:
        """The model's name, "" for what can be none."""
        return model_name(self.request.model_name)


def model_name(name: str) -> str:
    return name if _MODEL.fullmatch(name) else ""


def version_of(text: str) -> str:
    """A model's version, "" for the newest. Raises BAD_REQUEST."""
    if not _VERSION.fullmatch(text):
        raise _bad("the model's version must be a number")
    return text


def parse(kind: Any, message: bytes) -> Any:
    """A message of this class without what is unknown in it. Raises BAD_REQUEST."""
    try:
        found = kind.FromString(message)
    except DecodeError as fault:
        raise _bad("the message is not one of the protocol") from fault
    found.DiscardUnknownFields()
    return found


def read_infer(message: bytes) -> Asked:
    """Raises BAD_REQUEST."""
    found = split(message)
    return Asked(parse(InferRequest, found.head), found.tensors, found.contents)


def fingerprint(asked: Asked) -> bytes:
    """SHA-256 over all that is asked. The head is written in one order: protobuf gives the entries of a map in any."""
    head = asked.request.SerializeToString(deterministic=True)
    digest = sha256(b"%d:" % len(head) + head)
    digest.update(asked.tensors)
    return digest.digest()


def judge_infer(asked: Asked, *, is_stream: bool) -> Judged:
    """Raises BAD_REQUEST."""
    request = asked.request
    inputs, outputs, parameters = (
        request.inputs,
        request.outputs,
        request.parameters,
    )  # protobuf makes each anew
    if max(len(inputs), len(outputs)) > MOST_OF_EACH:
        raise _bad(f"more than {MOST_OF_EACH} inputs or outputs")
    if asked.contents and asked.contents != len(inputs):
        raise _bad(f"{len(inputs)} inputs and raw contents of {asked.contents}")
    sequence = None
    if parameters:
        sequence = _take_sequence(request)
        _judge_own(parameters, is_stream=is_stream)
    for place, tensor in enumerate(inputs):
        _judge_tensor(tensor, f"inputs[{place}]")
    if outputs:
        _judge_outputs(outputs)
    return Judged(_serialized(request), sequence)


def _judge_tensor(tensor: Any, path: str) -> None:
    parameters = tensor.parameters
    if parameters:
        _judge(parameters, f"{path}.parameters")
    if len(tensor.shape) > _MOST_SIDES:
        raise _bad(f"{path}.shape has more than {_MOST_SIDES} sides")
    shape = list(tensor.shape)
    if shape and not 0 <= min(shape) <= max(shape) <= MOST_BODY_BYTES:
        raise _bad(f"{path}.shape has a side that no tensor has")
    if math.prod(shape) > MOST_BODY_BYTES:
        raise _bad(f"{path}.shape has more elements than a body can hold")


def _judge_outputs(outputs: Any) -> None:
    for place, output in enumerate(outputs):
        if output.parameters:
            _judge(output.parameters, f"outputs[{place}].parameters")
    if len({output.name for output in outputs}) < len(outputs):
        raise _bad("an output is asked for twice")


def _serialized(request: Any) -> bytes:
    written: bytes = request.SerializeToString(deterministic=True)  # maps in order: one way to write it
    return written


def sequence_of(asked: Asked) -> int | str:
    """The id of the sequence that it says it belongs to, before anybody judged that; 0 or "" for none."""
    found = asked.request.parameters
    value = _value(found["sequence_id"]) if "sequence_id" in found else 0
    return value if isinstance(value, int | str) else 0


def _take_sequence(request: Any) -> Sequence | None:
    found = {name: _value(request.parameters[name]) for name in SEQUENCE if name in request.parameters}
    for name in found:
        del request.parameters[name]
    return take_sequence(found, partial(_tagged, request))


def _value(parameter: Any) -> Any:
    """None for one without a value."""
    choice = parameter.WhichOneof("choice")
    return getattr(parameter, choice) if choice else None


def _tagged(request: Any, tags: Mapping[str, int | str | bool]) -> bytes:
    tagged = InferRequest()
    tagged.CopyFrom(request)
    for name, value in tags.items():
        kind = "bool" if isinstance(value, bool) else "int64" if isinstance(value, int) else "string"
        setattr(tagged.parameters[name], f"{kind}_param", value)
    return _serialized(tagged)


def _judge_own(parameters: Any, *, is_stream: bool) -> None:
    wanted = is_stream and _FINAL in parameters
    if wanted and parameters[_FINAL].WhichOneof("choice") != "bool_param":
        raise _bad(f"parameters.{_FINAL} must be a bool_param")
    value = wanted and parameters[_FINAL].bool_param
    _judge(parameters, "parameters")
    if wanted:
        parameters[_FINAL].bool_param = value


def _judge(parameters: Any, path: str) -> None:
    if len(parameters) > MOST_OF_EACH:
        raise _bad(f"more than {MOST_OF_EACH} of {path}")
    judge_parameters(parameters, path)


# The wire format (protobuf's "Encoding"), as far as the fields of the message itself go


class Field(Struct, frozen=True, gc=False):
    """Where one lies in a message: `body` behind its tag and its length."""

    start: int
    body: int
    end: int


def split(message: bytes) -> Split:
    """Tell a message's tensors from the rest of it. Raises BAD_REQUEST."""
    tensors = list(_tensors(message))
    if not tensors:
        return Split(message, b"", 0)
    ends = [field.end for field in tensors]
    is_as_written = all(_is_as_written(message, field) for field in tensors)
    if is_as_written and [field.start for field in tensors[1:]] + [len(message)] == ends:
        first = tensors[0].start
        return Split(message[:first], memoryview(message)[first:], len(tensors))
    starts = [*(field.start for field in tensors), len(message)]
    head = [message[end:start] for end, start in zip([0, *ends], starts, strict=True)]
    whole = [part for field in tensors for part in (_opening(field), message[field.body : field.end])]
    return Split(b"".join(head), b"".join(whole), len(tensors))


def contents_of(asked: Asked) -> list[bytes]:
    """Its raw contents one by one."""
    tensors = bytes(asked.tensors)
    return [tensors[field.body : field.end] for field in _tensors(tensors)]


def serialized_contents(contents: Iterable[bytes]) -> bytes:
    return b"".join(part for one in contents for part in (_RAW_TAG, _encoded(len(one)), one))


def _tensors(message: bytes) -> Iterator[Field]:
    """All that are among the message's fields, each of which is looked at."""
    at, end, left = 0, len(message), _MOST_FIELDS
    while at < end:
        start, tag = at, message[at]
        if tag < 0x80:  # noqa: PLR2004 - of one byte, as most are
            at += 1
        else:
            tag, at = _varint(message, at)
        kind = tag & 7
        if kind == _LENGTH_DELIMITED:
            size, at = _varint(message, at)
        elif kind == 0:
            size = _varint(message, at)[1] - at
        elif kind in _FIXED:
            size = _FIXED[kind]
        else:
            raise _bad("the message holds a group, or what is no field")
        left -= 1
        if not 8 <= tag <= _MOST_TAG or size > end - at or left < 0:  # noqa: PLR2004 - the first tag of a field
            raise _bad("the message breaks off, or holds too much")
        if tag >> 3 == _RAW:
            if kind != _LENGTH_DELIMITED:
                raise _bad("raw_input_contents is of the wrong type")
            yield Field(start, at, at + size)
        at += size


def _is_as_written(message: bytes, tensor: Field) -> bool:
    """Whether its tag and length are as short as protobuf writes them: a number ends in a zero only if that is all of it."""
    return message[tensor.start] == _RAW_TAG[0] and (
        message[tensor.body - 1] > 0 or tensor.body - tensor.start == len(_RAW_TAG) + 1
    )


def _opening(field: Field) -> bytes:
    """A tensor's tag and length as protobuf writes them."""
    return _RAW_TAG + _encoded(field.end - field.body)


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """The number and where it ends. Raises BAD_REQUEST."""
    if at < len(message) and message[at] < 0x80:  # noqa: PLR2004 - of one byte, as most are
        return message[at], at + 1
    value = shift = 0
    for byte in message[at : at + _MOST_VARINT_BYTES]:
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004 - the last one
            return value, at
        shift += 7
    raise _bad("the message breaks off within a number")


def _encoded(value: int) -> bytes:
    coded = bytearray()
    while value >= 0x80:  # noqa: PLR2004
        coded.append(value & 0x7F | 0x80)
        value >>= 7
    coded.append(value)
    return bytes(coded)


def _bad(detail: str) -> GatewayError:
    return GatewayError(Code.BAD_REQUEST, detail=detail)


# What comes back on a stream


def is_error(message: bytes) -> bool:
    """Whether a message of Triton's tells an error: it writes that field first."""
    return message.startswith(_ERROR)


def stream_status(message: bytes) -> int:
    """What HTTP would say to who gets this as the first reply: a request that was refused names no model in its reply."""
    if not is_error(message):
        return 200
    found = parse(StreamResponse, message)
    if found.infer_response.model_name:
        return 500
    return 404 if found.error_message.startswith(_NOT_FOUND) else 400


def failure(message: bytes) -> str:
    """The text of an error that came while the model ran, as clients may see it; "" of any other message."""
    if not is_error(message):
        return ""
    found = parse(StreamResponse, message)
    return public_text(found.error_message) if found.infer_response.model_name else ""


def public_message(message: bytes) -> bytes:
    """A message of a stream as clients may see it."""
    if not is_error(message):
        return message
    found = parse(StreamResponse, message)
    found.error_message = public_text(found.error_message)
    cleaned: bytes = found.SerializeToString()
    return cleaned


def renamed(message: bytes, ours: str, own: str) -> bytes:
    """A message of a stream that tells an error, with another word in its text."""
    if not is_error(message):
        return message
    found = parse(StreamResponse, message)
    found.error_message = found.error_message.replace(ours, own)
    return _serialized(found)


def error_message(sentence: str, request_id: str) -> bytes:
    """What tells an error of one request on a stream, which goes on."""
    message: bytes = StreamResponse(
        error_message=sentence, infer_response={"id": request_id}
    ).SerializeToString()
    return message
