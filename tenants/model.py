"""A model that tenants may call: its name in Triton, the folder it is in, whose it is, and how it scales. Pure."""

import math
from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Final, Literal
from unicodedata import category

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from tenants import names
from tenants.errors import Invalid
from tenants.fleet import Fleet, Seconds
from tenants.names import FleetName, ModelName, RegionName, Tag, TenantName
from tenants.openai import PassThrough, Section, section_faults

MOST_TENANTS: Final = 1000
MOST_DESCRIPTION_CHARACTERS: Final = 2000
# An event holds the row before and after, and a row of a table has 350,000 bytes.
MOST_ROW_BYTES: Final = 150_000

# What a model has not that is elsewhere, and what stands for that.
ABSENT_ELSEWHERE: Final[dict[str, str | None]] = {"repository": "", "fleet": "", "canary": None}
ELSEWHERE: Final = (
    "has no meaning for a model behind a server that somebody else runs (openai.backend is pass-through)"
)

_CONTROLS: Final = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
_NOT_SHOWN: Final = "must be printable characters, tabs and line ends"

# Those of the Open Inference Protocol, and Triton's BF16.
Datatype = Literal[
    "BOOL", "BYTES", "FP16", "BF16", "FP32", "FP64",
    "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64",
]  # fmt: skip

# What one element of each datatype is in JSON. FP16 and BF16 have no JSON form in the protocol.
_ELEMENT: Final[dict[str, type]] = {
    "BOOL": bool,
    "BYTES": str,
    **dict.fromkeys(("FP32", "FP64"), float),
    **{f"{sign}INT{bits}": int for sign in ("", "U") for bits in (8, 16, 32, 64)},
}


class Scaling(Struct, frozen=True):
    """`target_concurrency` calls at once are what one replica should have; with more there come more replicas."""

    max_replicas: Annotated[int, Meta(ge=1, le=100)] = 1
    target_concurrency: Annotated[float, Meta(gt=0, le=100_000)] = 8.0
    idle_seconds: Seconds = 60.0
    """Without a call for so long it is unloaded."""
    start_deadline_seconds: Seconds = 30.0
    """A call is held at most so long for a place."""


class CanaryInput(Struct, frozen=True):
    """One input tensor in the words of the Open Inference Protocol; `data` is flat, in row-major order."""

    name: Annotated[str, Meta(min_length=1, max_length=256)]
    datatype: Annotated[str, Meta(pattern="^[A-Z0-9]{1,8}$")]
    shape: Annotated[tuple[Annotated[int, Meta(ge=0, le=2**31 - 1)], ...], Meta(max_length=16)]
    data: Annotated[tuple[bool | int | float | str, ...], Meta(max_length=65_536)]


class Canary(Struct, frozen=True):
    """A request that this model answers with 200 while it is well."""

    inputs: Annotated[tuple[CanaryInput, ...], Meta(min_length=1, max_length=64)]


class TensorMetadata(Struct, frozen=True):
    """A tensor as people are told of it; -1 in the shape is any number."""

    name: Annotated[str, Meta(min_length=1, max_length=256)]
    datatype: Datatype
    shape: Annotated[tuple[Annotated[int, Meta(ge=-1, le=2**31 - 1)], ...], Meta(max_length=16)]
    description: Annotated[str, Meta(max_length=500)] = ""


Tensors = Annotated[tuple[TensorMetadata, ...], Meta(max_length=64)]


class Model(Struct, frozen=True, tag_field="v", tag=1):
    """A model; `repository` is the folder that holds `<name>/config.pbtxt`. One that is elsewhere has no folder and no fleet: both are "".

    Stored as JSON, version 1. A field may be added with a default that means what its absence meant before;
    any other change is version 2. Readers refuse versions they do not know.
    """

    id: str
    name: ModelName
    repository: str
    tenants: tuple[TenantName, ...] | Literal["*"]
    """The names of the tenants that have it, or "*" for all."""
    fleet: FleetName = "local"
    memory_bytes: Annotated[int, Meta(ge=1, le=2**50)] = 64 * 1024**2
    """What it takes of its replica's memory."""
    scaling: Scaling = Scaling()
    canary: Canary | None = None
    """None: one is made of zeros, where the model's inputs allow that."""
    openai: Section | None = None
    """None: it is not offered through OpenAI's API."""
    description: Annotated[str, Meta(max_length=MOST_DESCRIPTION_CHARACTERS)] = ""
    tags: Annotated[tuple[Tag, ...], Meta(max_length=32)] = ()
    inputs: Tensors = ()
    outputs: Tensors = ()
    """These four are for the catalogue that people read. They change nothing of how it is served."""
    region: RegionName | None = None
    """Where it runs, in the operator's word: for tenants that keep to some regions. None: nobody says."""

    @property
    def is_elsewhere(self) -> bool:
        """Whether a server that somebody else runs has it: nothing of it is started, loaded or unloaded here."""
        return isinstance(self.openai, PassThrough)

    def is_served_like(self, other: "Model") -> bool:
        """Whether the two differ at most in what the catalogue and the policies are told of them."""
        return _as_served(self) == _as_served(other)

    def serves(self, tenant: str) -> bool:
        """Whether the tenant of that name has this model."""
        return self.tenants == "*" or tenant in self.tenants


def faults(model: Model) -> Iterator[Invalid]:
    """What is wrong with it beyond the types of its fields, each with the path to it."""
    yield from names.MODEL.faults(model.name, "name")
    if model.region is not None:
        yield from names.REGION.faults(model.region, "region")
    if model.is_elsewhere:
        yield from _stray(model)
    else:
        yield from names.FLEET.faults(model.fleet, "fleet")
        yield from _folder_faults(model.repository)
    if len(model.tenants) > MOST_TENANTS:
        yield Invalid("tenants", f'more than {MOST_TENANTS}; "*" means all')
    for position, name in enumerate(() if model.tenants == "*" else model.tenants):
        yield from names.TENANT.faults(name, f"tenants[{position}]")
    for position, tensor in enumerate(model.canary.inputs if model.canary else ()):
        yield from _tensor_faults(tensor, f"canary.inputs[{position}]")
    for fault in section_faults(model.openai) if model.openai else ():
        yield Invalid(f"openai.{fault.path}", fault.reason)
    yield from _catalogue_faults(model)
    size = len(msgspec.json.encode(model))
    if size > MOST_ROW_BYTES:
        path = max(model.__struct_fields__, key=lambda name: len(msgspec.json.encode(getattr(model, name))))
        yield Invalid(path, f"the model takes {size} bytes as JSON, and may take {MOST_ROW_BYTES}")


def _folder_faults(repository: str) -> Iterator[Invalid]:
    if "://" in repository:
        yield Invalid("repository", "must be a folder; s3:// and the like are not built yet")
    elif not repository.isprintable() or not repository:
        yield Invalid("repository", "must be the path of a folder")


def _as_served(model: Model) -> Model:
    return replace(model, description="", tags=(), inputs=(), outputs=(), region=None)


def _catalogue_faults(model: Model) -> Iterator[Invalid]:
    """What people read has letters that can be shown, and names nothing twice."""
    if not _is_shown(model.description):
        yield Invalid("description", _NOT_SHOWN)
    for position, tag in enumerate(model.tags):
        yield from names.TAG.faults(tag, f"tags[{position}]")
    twice = {
        "tags": Counter(model.tags),
        "inputs": Counter(tensor.name for tensor in model.inputs),
        "outputs": Counter(tensor.name for tensor in model.outputs),
    }
    for path, counted in twice.items():
        yield from (Invalid(path, f"names {name!r} twice") for name, many in counted.items() if many > 1)
    for path, tensors in (("inputs", model.inputs), ("outputs", model.outputs)):
        for position, tensor in enumerate(tensors):
            if not tensor.name.isprintable():
                yield Invalid(f"{path}[{position}].name", "must be printable characters")
            if not _is_shown(tensor.description):
                yield Invalid(f"{path}[{position}].description", _NOT_SHOWN)


def _is_shown(text: str) -> bool:
    """No controls, which a terminal or a browser obeys; spaces of every script."""
    return all(char in "\n\t" or category(char) not in _CONTROLS for char in text)


def _stray(model: Model) -> Iterator[Invalid]:
    """What only a model has that is run here."""
    for field, nothing in ABSENT_ELSEWHERE.items():
        if getattr(model, field) != nothing:
            yield Invalid(field, ELSEWHERE)


def misfits(model: Model, fleet: Fleet) -> Iterator[Invalid]:
    """Why the model could not be on this fleet as it asks to be."""
    if model.scaling.max_replicas > fleet.replicas.max:
        yield Invalid(
            "scaling.max_replicas",
            f"is {model.scaling.max_replicas}, more than the {fleet.replicas.max} of fleet {fleet.name!r}",
        )
    if model.memory_bytes > fleet.memory_bytes:
        yield Invalid(
            "memory_bytes",
            f"is {model.memory_bytes}, more than the {fleet.memory_bytes} of a replica of fleet {fleet.name!r}",
        )


def _tensor_faults(tensor: CanaryInput, path: str) -> Iterator[Invalid]:
    kind = _ELEMENT.get(tensor.datatype)
    if kind is None:
        yield Invalid(f"{path}.datatype", f"must be one of {', '.join(sorted(_ELEMENT))}")
        return
    if math.prod(tensor.shape) != len(tensor.data):
        yield Invalid(
            f"{path}.data", f"has {len(tensor.data)} elements, and the shape {math.prod(tensor.shape)}"
        )
    for position, element in enumerate(tensor.data):
        if not _is_element(element, kind, tensor.datatype):
            yield Invalid(f"{path}.data[{position}]", f"is no {tensor.datatype}")
            return  # one says enough of 65,536


def _is_element(element: object, kind: type, datatype: str) -> bool:
    if kind is float:
        return isinstance(element, int | float) and type(element) is not bool and math.isfinite(element)
    if kind is int and type(element) is int:
        bits = int(datatype.rpartition("INT")[2])
        least, most = (0, 2**bits) if datatype.startswith("U") else (-(2 ** (bits - 1)), 2 ** (bits - 1))
        return bool(least <= element < most)
    return type(element) is kind
