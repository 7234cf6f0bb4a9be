"""The texts of a request, masked before anything else is done with it: of JSON every string, of tensors every element. Pure.

Nothing is left out for what it is called: an id, a parameter, a key or a tool's description is masked as the prompt is. No text,
and passed: an image in base64, an element of a tensor that is written in no encoding that we read, a tensor of numbers, numbers in JSON.
"""

import json
import re
from collections import Counter
from typing import Any, Final

import msgspec

from gateway.errors import Code, GatewayError
from gateway.privacy.mask import MASKED, Screen
from gateway.wire import oip_grpc
from gateway.wire.oip import SEQUENCE_ID, STRING, bad_request, judge_infer, read_infer

NUMBERS: Final = frozenset(
    {
        *("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64"),
        *("FP16", "BF16", "FP32", "FP64"),
    }
)
"""Datatypes that hold no text. Whatever is written otherwise is taken for texts: for Triton a name may end before ours does."""
_SIZE_BYTES: Final = 4
# Nothing that a person would write can stand in it.
_IMAGE: Final = re.compile(r"data:image/[a-z0-9.+-]{1,40};base64,[A-Za-z0-9+/]*={0,2}")

_BEFORE_A_VALUE: Final = re.compile(rb"[ \t\r\n]*:")
# Of texts in any encoding of bytes; data that is no text has some of them, unless it is short.
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
_MARKS: Final = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}

_text = msgspec.json.Decoder(str)
_encode = msgspec.json.Encoder().encode


def masked_json(body: bytes, screen: Screen) -> bytes:
    """With every string masked, keys as well; all between them stays byte for byte. Raises BAD_REQUEST, NOT_MASKED, NotScreened."""
    is_key_masked = False

    def masked(found: "re.Match[bytes]") -> bytes:
        try:
            text = _text.decode(found[0])
        except (msgspec.DecodeError, UnicodeDecodeError) as fault:
            raise bad_request(f"the body is not valid JSON: {fault}") from fault
        told = text if _IMAGE.fullmatch(text) else screen.text(text)
        if told == text:
            return found[0]
        nonlocal is_key_masked
        is_key_masked = is_key_masked or _BEFORE_A_VALUE.match(body, found.end()) is not None
        return _encode(told)

    told = STRING.sub(masked, body)
    if is_key_masked:
        _judge_keys(told)
    return told


def _judge_keys(body: bytes) -> None:
    """Two keys of one object that masking made one would cost the model a value. Raises BAD_REQUEST, NOT_MASKED."""

    def judge(pairs: list[tuple[str, Any]]) -> None:
        if any(times > 1 and MASKED.search(key) for key, times in Counter(key for key, _ in pairs).items()):
            raise GatewayError(
                Code.NOT_MASKED, detail="two keys of one object would be the same when they are masked"
            )

    try:
        json.loads(body, object_pairs_hook=judge)
    except (ValueError, RecursionError) as fault:
        raise bad_request(f"the body is not valid JSON: {fault}") from fault


def masked_head(head: bytes, screen: Screen) -> bytes:
    """The same of an infer request. The id of its sequence stays: no model sees it, and masked it could be another sequence's.
    Raises BAD_REQUEST, NotScreened.
    """
    masked = masked_json(head, screen)
    if masked == head or not isinstance(named := read_infer(head).parameters.get(SEQUENCE_ID), str):
        return masked
    request = read_infer(masked)
    request.parameters[SEQUENCE_ID] = named
    return _encode(request)


def has_texts_behind(head: bytes) -> bool:
    """Whether an infer request has texts among the tensors behind its head. Raises BAD_REQUEST."""
    inputs = read_infer(head).inputs
    return any(it.datatype not in NUMBERS and it.parameters.get("binary_data_size") for it in inputs)


def masked_infer(head: bytes, tensors: bytes, screen: Screen) -> tuple[bytes, bytes]:
    """A masked head and its tensors, those of texts masked and their sizes told anew. Raises BAD_REQUEST, NotScreened."""
    judge_infer(head, len(tensors))  # from here on the sizes are right
    request, at, pieces = read_infer(head), 0, list[bytes]()
    for tensor in request.inputs:
        size = tensor.parameters.get("binary_data_size", 0)
        assert isinstance(size, int), "it has been judged"  # noqa: S101
        piece = tensors[at : at + size]
        at += size
        if size and tensor.datatype not in NUMBERS:
            piece = masked_elements(piece, screen)
            tensor.parameters["binary_data_size"] = len(piece)
        pieces.append(piece)
    return _encode(request), b"".join(pieces)


def masked_elements(tensor: bytes, screen: Screen) -> bytes:
    """A BYTES tensor in binary: each element behind its size in 4 bytes, little-endian. Raises BAD_REQUEST, NotScreened."""
    pieces, at = list[bytes](), 0
    while at < len(tensor):
        start = at + _SIZE_BYTES
        at = start + int.from_bytes(tensor[at:start], "little")
        if at > len(tensor):
            raise bad_request("a binary tensor of BYTES breaks off within an element")
        element = masked_bytes(tensor[start:at], screen)
        pieces += (len(element).to_bytes(_SIZE_BYTES, "little"), element)
    return b"".join(pieces)


def masked_bytes(element: bytes, screen: Screen) -> bytes:
    """In the encoding that it is in; all that is not masked stays byte for byte. Raises NotScreened."""
    encoding = _encoding(element)
    if encoding is None:
        return element
    masked = screen.text(element.decode(encoding, "surrogatepass")).encode(encoding, "surrogatepass")
    # What may be UTF-16 may be UTF-8 with zeros in it as well: which of them the model reads nobody knows.
    return _as_utf_8(masked, screen) if encoding.startswith("utf-16") else masked


def _as_utf_8(element: bytes, screen: Screen) -> bytes:
    try:
        return screen.text(element.decode()).encode()
    except UnicodeDecodeError:
        return element


def _encoding(element: bytes) -> str | None:
    """UTF-8, or UTF-16 where its mark or its zeros show it. What has no control characters is taken for a text of one byte a character, as
    Latin-1, of which others share what is ASCII. None: it is no text.
    """
    if (found := _utf_16(element)) is not None:
        return found
    try:
        element.decode()
    except UnicodeDecodeError:
        return "latin-1" if _CONTROL.search(element) is None else None
    return "utf-8"


def _utf_16(element: bytes) -> str | None:
    if len(element) % 2 or b"\0" not in element:
        return None
    for ascii_, zeros, name in ((0, 1, "utf-16-le"), (1, 0, "utf-16-be")):
        if element[zeros::2].count(0) > len(element) // 3 and not _CONTROL.search(
            element[ascii_::2].replace(b"\0", b"")
        ):
            return name
    return _MARKS.get(element[:2])


def masked_message(asked: oip_grpc.Asked, screen: Screen) -> oip_grpc.Asked:
    """The same of gRPC; the request is changed in place. Raises BAD_REQUEST, NOT_MASKED, NotScreened."""
    request = asked.request
    request.id = screen.text(request.id)
    _mask_parameters(request.parameters, screen, keep=SEQUENCE_ID)
    for tensor in (*request.inputs, *request.outputs):
        _mask_parameters(tensor.parameters, screen)
    for tensor in request.inputs:
        told = [masked_bytes(element, screen) for element in tensor.contents.bytes_contents]
        if told:
            tensor.contents.bytes_contents[:] = told
    if all(tensor.datatype in NUMBERS for tensor in request.inputs):
        return asked
    contents = oip_grpc.contents_of(asked)
    for place, tensor in enumerate(request.inputs[: len(contents)]):
        if tensor.datatype not in NUMBERS:
            contents[place] = masked_elements(contents[place], screen)
    return oip_grpc.Asked(request, oip_grpc.serialized_contents(contents), asked.contents)


def _mask_parameters(parameters: Any, screen: Screen, keep: str = "") -> None:
    for name in parameters:
        if name == keep:
            continue
        if screen.text(name) != name:
            raise GatewayError(Code.NOT_MASKED, detail="the name of a parameter holds personal data")
        if parameters[name].WhichOneof("choice") == "string_param":
            parameters[name].string_param = screen.text(parameters[name].string_param)
