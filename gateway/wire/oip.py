"""Open Inference Protocol v2 over REST: the JSON head of an infer request, judged and written anew.

What we judge is what we send: the client's head is decoded to a typed value and re-encoded, so that duplicate keys, a NUL or a BOM have
one reading. `data` stays as raw bytes that are known to be well-formed JSON. Unknown keys are dropped, as Triton ignores them.

Specification: KServe "Open Inference Protocol" v2 with Triton's extensions for binary data, classification, parameters.
"""

import math
import re
from collections.abc import Callable, Mapping, MutableMapping
from enum import Enum, auto
from functools import partial
from types import MappingProxyType
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from gateway.call import Sequence
from gateway.errors import Code, GatewayError

MODEL_NAME = r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}"
# Triton counts the bytes of a body in 32 bits with a sign, and every element of a tensor takes at least one of them.
MOST_BODY_BYTES = 2**31 - 1
MOST_NESTED = 100

Side = Annotated[int, Meta(ge=0, le=MOST_BODY_BYTES)]
Number = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Parameters = dict[str, str | int | float | bool]


class Judgement(Enum):
    REFUSED = auto()  # answered with 400
    SEQUENCE = (
        auto()
    )  # of an infer request, taken out and put in again with an id of ours; anywhere else refused
    STRIPPED = auto()  # taken out: it would let a tenant jump the queue or steer the shared server


# Names that mean something to Triton; one that ends in _ stands for all that begin so. All others are the client's own and pass.
RESERVED: MappingProxyType[str, Judgement] = MappingProxyType(
    {
        "shared_memory_": Judgement.REFUSED,
        "sequence_id": Judgement.SEQUENCE,
        "sequence_start": Judgement.SEQUENCE,
        "sequence_end": Judgement.SEQUENCE,
        "priority": Judgement.STRIPPED,
        "timeout": Judgement.STRIPPED,
        "headers": Judgement.STRIPPED,
        "triton_": Judgement.STRIPPED,
    }
)
SEQUENCE = tuple(name for name, judgement in RESERVED.items() if judgement is Judgement.SEQUENCE)
SEQUENCE_ID = SEQUENCE[0]
_MOST_ID_CHARACTERS = 128
_PREFIXES = tuple(name for name in RESERVED if name.endswith("_"))


class Input(msgspec.Struct, omit_defaults=True):
    name: str
    shape: Annotated[list[Side], Meta(max_length=MOST_NESTED)]
    datatype: str
    parameters: Parameters = {}
    data: msgspec.Raw = msgspec.Raw(b"")


class Output(msgspec.Struct, omit_defaults=True):
    name: str
    parameters: Parameters = {}


class InferRequest(msgspec.Struct, omit_defaults=True):
    inputs: list[Input]
    id: str = ""
    parameters: Parameters = {}
    outputs: list[Output] = []


_decoder = msgspec.json.Decoder(InferRequest)
_encoder = msgspec.json.Encoder()


class Judged(msgspec.Struct, frozen=True):
    """The head that Triton gets; of a call in a sequence it has no id yet."""

    head: bytes
    sequence: Sequence | None = None


def read_infer(head: bytes) -> InferRequest:
    """A head that nobody has judged yet. Raises BAD_REQUEST."""
    try:
        if not head.isascii():
            head.decode()  # msgspec looks into `data` for its form only
        return _decoder.decode(head)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as fault:
        raise bad_request(f"the inference request is not valid JSON of the protocol: {fault}") from fault


def judge_infer(head: bytes, tensor_bytes: int) -> Judged:
    """The client's `head`, with `tensor_bytes` of binary tensors behind it. Raises BAD_REQUEST."""
    request = read_infer(head)
    sequence = None
    if request.parameters:
        sequence = take_sequence(request.parameters, partial(_tagged, request))
        judge_parameters(request.parameters, "parameters")
    promised = 0
    for place, tensor in enumerate(request.inputs):
        path = f"inputs[{place}]"
        if tensor.parameters:
            judge_parameters(tensor.parameters, f"{path}.parameters")
            promised += _binary_bytes(tensor.parameters, f"{path}.parameters")
        if math.prod(tensor.shape) > MOST_BODY_BYTES:
            raise bad_request(f"{path}.shape has more elements than a body can hold")
        data = bytes(tensor.data)
        if not is_shallow(data) or has_objects(data):
            raise bad_request(f"{path}.data is nested more than {MOST_NESTED} deep, or holds objects")
    if request.outputs:
        _judge_outputs(request.outputs)
    if promised != tensor_bytes:
        raise bad_request(
            f"the inputs promise {promised} bytes of binary tensors and the body has {tensor_bytes}"
        )
    return Judged(_encoder.encode(request), sequence)


def _tagged(request: InferRequest, tags: Mapping[str, int | str | bool]) -> bytes:
    return _encoder.encode(msgspec.structs.replace(request, parameters={**request.parameters, **tags}))


def take_sequence(
    parameters: MutableMapping[str, Any], tagged: Callable[[Mapping[str, int | str | bool]], bytes]
) -> Sequence | None:
    """Take what says that a request belongs to a sequence out of its parameters; an id of 0 or "" is none. Raises BAD_REQUEST.

    `tagged` gives the request's head with these parameters added.
    """
    found = {name: parameters.pop(name) for name in SEQUENCE if name in parameters}
    if not found:
        return None
    named, starts, ends = (
        found.get(name, absent) for name, absent in zip(SEQUENCE, (0, False, False), strict=True)
    )
    if not (isinstance(starts, bool) and isinstance(ends, bool)):
        raise bad_request("sequence_start and sequence_end must be true or false")
    is_number = isinstance(named, int) and not isinstance(named, bool) and 0 <= named < 2**64
    is_text = isinstance(named, str) and len(named) <= _MOST_ID_CHARACTERS and "\0" not in named
    if not (is_number or is_text):
        raise bad_request(
            "sequence_id must be an unsigned number of 64 bits or a text of at most 128 characters"
        )
    if not named:
        return None
    return Sequence(
        named, starts, ends, lambda ours: tagged(dict(zip(SEQUENCE, (ours, starts, ends), strict=True)))
    )


def _judge_outputs(outputs: list[Output]) -> None:
    for place, output in enumerate(outputs):
        if output.parameters:
            judge_parameters(output.parameters, f"outputs[{place}].parameters")
    if len({output.name.partition("\0")[0] for output in outputs}) < len(outputs):  # where a name may end
        raise bad_request("an output is asked for twice")


def judge_parameters(parameters: MutableMapping[str, Any], path: str) -> None:
    """Refuse or strip what is reserved, in place. Raises BAD_REQUEST."""
    for name in list(parameters):
        if "\0" in name:  # for Triton a name may end there
            raise bad_request(f"{path} has a name with a NUL in it")
        value = parameters[name]
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise bad_request(f"{path}.{name[:100]} has more than 64 bits")
        reserved = next((prefix for prefix in _PREFIXES if name.startswith(prefix)), name)
        judgement = RESERVED.get(reserved)
        if judgement in (Judgement.REFUSED, Judgement.SEQUENCE):
            raise bad_request(f"{path}.{reserved} is not offered here")
        if judgement is Judgement.STRIPPED:
            del parameters[name]


def _binary_bytes(parameters: Parameters, path: str) -> int:
    size = parameters.get("binary_data_size", 0)
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise bad_request(f"{path}.binary_data_size must be a number of bytes")
    return size


STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
"""One, as it is written in JSON."""


def has_objects(data: bytes) -> bool:
    """Whether there is an object in well-formed JSON; the data of a tensor has none, and two readers could read its keys in two ways."""
    return b"{" in data and b"{" in STRING.sub(b"", data)


_MARKS = bytes.maketrans(b"{}", b"[]")
_OTHERS = bytes(set(range(256)) - set(b'[]{}"'))


def _nested(depth: int) -> re.Pattern[bytes]:
    """Brackets and strings, nested at most so deep. It never goes back, so its time grows with the text alone."""
    string = rb'"[][]*+"'
    pattern = rb"(?:" + string + rb")*+"
    for _ in range(depth):
        pattern = rb"(?:\[" + pattern + rb"\]|" + string + rb")*+"
    return re.compile(pattern)


_SHALLOW = _nested(MOST_NESTED)


def is_shallow(data: bytes) -> bool:
    """Whether well-formed JSON keeps to the depth that Triton's recursive reader is trusted with."""
    if data.count(b"[") + data.count(b"{") <= MOST_NESTED:
        return True
    unescaped = data.replace(rb"\\", b"").replace(rb"\"", b"")
    return _SHALLOW.fullmatch(unescaped.translate(_MARKS, _OTHERS)) is not None


def bad_request(detail: str) -> GatewayError:
    return GatewayError(Code.BAD_REQUEST, detail=detail)


# Errors that come back from Triton


class _Error(msgspec.Struct):
    error: str


_error_decoder = msgspec.json.Decoder(_Error)

# Paths, shared-memory keys and addresses of the backend are nobody's business: an error that told a shared-memory key was the first
# link of CVE-2025-23319. No repeat in this pattern can be read in two ways, so no text makes it slow.
_INTERNALS = re.compile(
    r"(?<!\w)(?:/[\w.@+~-]+)+/?"
    r"|\btriton_python_backend_shm[\w-]*"
    r"|\b\d{1,3}(?:\.\d{1,3}){3}\b(?::\d+)?|\[(?=[^\]]{0,45}:)[0-9a-fA-F:.]{2,45}\](?::\d+)?|\blocalhost:\d+"
    r"|\b0x[0-9a-fA-F]{6,}"
)
_TRACEBACK = "\n\nAt:\n"
_ERROR_CHARACTERS = 1_000
_INTERNAL = 500
_JUDGED = b"application/json"


def public_error(status: int, content_type: bytes, body: bytes) -> tuple[int, str]:
    """Status and text of Triton's error as a client may see them: its own faults are 400, the server's internals are left out.

    Triton answers 500 to requests that it cannot read (measured on 2.51), with the content type of a judged request; what goes wrong
    while the model runs comes as text/plain. A model chooses the text of its errors, not their content type.
    """
    if status == _INTERNAL and content_type == _JUDGED:
        status = 400
    try:
        text = _error_decoder.decode(body).error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        text = "the model server answered with an error that is not in the protocol"
    return status, public_text(text)


def public_text(text: str) -> str:
    """A sentence of Triton's as clients may see it, whatever protocol it came in."""
    return _INTERNALS.sub("(internal)", text.partition(_TRACEBACK)[0])[:_ERROR_CHARACTERS]


def error_body(sentence: str) -> bytes:
    """An error in the protocol's shape."""
    return _encoder.encode(_Error(sentence))
