"""Model control of one server: load, unload, and what is there. Its APIs ask for the replica's control headers.

What Triton 2.51 does with them, measured: a load of a READY model changes nothing, also when its process is dead. An unload is taken at
once, always; the model is UNLOADING until its requests are done and its memory is free, and for ever when one of them met a dead process.
"""

import asyncio
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from gateway.scaling.scaler import Replica
from gateway.triton.client import Answer, Client, UpstreamFailed

T = TypeVar("T")
State = Literal["READY", "LOADING", "UNLOADING", "UNAVAILABLE", ""]

_OK = 200
_NOT_FOUND = 404
_IDLE_SECONDS = 1.0  # Triton's default
# The largest id that a model may be told, by the type of its control. A signed one has no negative ids.
_LARGEST: dict[str, int | None] = {
    "TYPE_STRING": None,
    "TYPE_INT32": 2**31 - 1,
    "TYPE_UINT32": 2**31 - 1,
    "TYPE_INT64": 2**63 - 1,
    "TYPE_UINT64": 2**63 - 1,
}
_ANSWER_SECONDS = 5.0
# Of several versions the first of these counts.
_STATES: tuple[State, ...] = ("READY", "LOADING", "UNLOADING", "UNAVAILABLE")


class LoadFailed(Exception):
    """Triton tried to load the model and could not. The text is Triton's, for the operator: it holds paths."""


class Input(msgspec.Struct, frozen=True):
    """An input tensor as the configuration has it: `dims` without the batch, -1 where the model takes any size."""

    name: str
    data_type: str
    dims: tuple[int, ...] = ()
    optional: bool = False
    is_shape_tensor: bool = False

    @property
    def datatype(self) -> str:
        """The word of the Open Inference Protocol."""
        return "BYTES" if self.data_type == "TYPE_STRING" else self.data_type.removeprefix("TYPE_")


class Output(msgspec.Struct, frozen=True):
    name: str
    data_type: str
    dims: tuple[int, ...] = ()


class _Transactions(msgspec.Struct, frozen=True):
    decoupled: bool = False


class _Control(msgspec.Struct, frozen=True):
    kind: str = ""
    data_type: str = ""


class _ControlInput(msgspec.Struct, frozen=True):
    control: tuple[_Control, ...] = ()


class _Sequences(msgspec.Struct, frozen=True):
    max_sequence_idle_microseconds: int = 0
    control_input: tuple[_ControlInput, ...] = ()


class Correlation(msgspec.Struct, frozen=True):
    """How a model knows its sequences: by texts, or by numbers up to `largest`. Triton forgets one that no call came of for
    `idle_seconds`.
    """

    idle_seconds: float
    largest: int | None = None  # None: texts


class ModelConfig(msgspec.Struct, frozen=True):
    """What of a model's configuration says how it can be called, and no more: tenants may be shown it. Paths, parameters and how it is
    deployed are left out. `max_batch_size` 0: Triton adds no batch dimension.
    """

    name: str
    platform: str = ""
    backend: str = ""
    max_batch_size: int = 0
    inputs: tuple[Input, ...] = msgspec.field(name="input", default=())
    outputs: tuple[Output, ...] = msgspec.field(name="output", default=())
    sequence_batching: _Sequences | None = None
    model_transaction_policy: _Transactions = _Transactions()

    @property
    def is_decoupled(self) -> bool:
        return self.model_transaction_policy.decoupled

    @property
    def has_sequences(self) -> bool:
        return self.sequence_batching is not None

    @property
    def correlation(self) -> Correlation | None:
        """None for a model without sequences. One that is not told the ids is given numbers."""
        batching = self.sequence_batching
        if batching is None:
            return None
        kinds = [
            control.data_type
            for entry in batching.control_input
            for control in entry.control
            if control.kind == "CONTROL_SEQUENCE_CORRID"
        ]
        idle_seconds = batching.max_sequence_idle_microseconds / 1e6 or _IDLE_SECONDS
        return Correlation(idle_seconds, _LARGEST[kinds[0]] if kinds else _LARGEST["TYPE_UINT64"])


class _Instances(msgspec.Struct, frozen=True):
    count: int = 1
    gpus: tuple[int, ...] = ()


class Deployment(msgspec.Struct, frozen=True):
    """How many calls of a model can run at once. Kept apart from what tenants may be shown."""

    max_batch_size: int = 0
    instance_group: tuple[_Instances, ...] = ()
    dynamic_batching: dict[str, Any] | None = None
    sequence_batching: dict[str, Any] | None = None
    model_transaction_policy: _Transactions = _Transactions()

    @property
    def instances(self) -> int:
        """0 where nobody can say: of an ensemble, which is other models, and of a decoupled model, whose instance takes the next call
        while it still answers the last one."""
        if self.model_transaction_policy.decoupled:
            return 0
        return sum(group.count * max(1, len(group.gpus)) for group in self.instance_group)

    @property
    def batch(self) -> int:
        """Calls that one instance runs together; each by itself unless the scheduler puts them into batches."""
        is_batched = self.dynamic_batching is not None or self.sequence_batching is not None
        return max(1, self.max_batch_size) if is_batched else 1


class _Indexed(msgspec.Struct):
    name: str
    state: State = ""


class _Metadata(msgspec.Struct):
    versions: tuple[Annotated[str, msgspec.Meta(pattern="^[0-9]{1,18}$")], ...] = ()


class _Error(msgspec.Struct):
    error: str


_index = msgspec.json.Decoder(list[_Indexed])
_config = msgspec.json.Decoder(ModelConfig)
_deployment = msgspec.json.Decoder(Deployment)
_metadata = msgspec.json.Decoder(_Metadata)
_error = msgspec.json.Decoder(_Error)


async def load(client: Client, replica: Replica, model: str, seconds: float) -> None:
    """The model is READY. Raises LoadFailed; NotSent, UpstreamFailed, TimeoutError leave the load going on."""
    async with asyncio.timeout(seconds):
        answer = await client.ask("POST", _repository(model, "load"), headers=replica.control)
    if answer.status != _OK:
        raise LoadFailed(_words(answer))


async def unload(client: Client, replica: Replica, model: str) -> None:
    """The model takes no more requests; those that it has are finished. `state` tells when it is gone. Raises as `versions` does."""
    async with asyncio.timeout(_ANSWER_SECONDS):
        answer = await client.ask("POST", _repository(model, "unload"), headers=replica.control)
    _expect(answer)


async def state(client: Client, replica: Replica, model: str) -> State:
    """READY if any version is; "" for a model that was never loaded. Raises as `versions` does."""
    async with asyncio.timeout(_ANSWER_SECONDS):
        answer = await client.ask("POST", "/v2/repository/index", headers=replica.control)
    found = {entry.state for entry in _decoded(_index, answer) if entry.name == model}
    return next((name for name in _STATES if name in found), "")


async def loaded(client: Client, replica: Replica) -> tuple[str, ...]:
    """The models that are there, or on their way in. Raises as `versions` does."""
    async with asyncio.timeout(_ANSWER_SECONDS):
        answer = await client.ask("POST", "/v2/repository/index", headers=replica.control)
    found = _decoded(_index, answer)
    return tuple(sorted({entry.name for entry in found if entry.state in ("READY", "LOADING")}))


async def config(client: Client, replica: Replica, model: str) -> tuple[ModelConfig, Deployment]:
    """Of a model that is loaded. Raises as `versions` does."""
    async with asyncio.timeout(_ANSWER_SECONDS):
        answer = await client.ask("GET", f"/v2/models/{model}/config", headers=replica.control)
    return _decoded(_config, answer), _decoded(_deployment, answer)


async def versions(client: Client, model: str) -> tuple[str, ...]:
    """The versions that are served, the newest last; none for a model that is not loaded. Raises NotSent, UpstreamFailed, TimeoutError."""
    async with asyncio.timeout(_ANSWER_SECONDS):
        answer = await client.ask("GET", f"/v2/models/{model}")
    if answer.status == _NOT_FOUND:
        return ()
    return tuple(sorted(_decoded(_metadata, answer).versions, key=int))


def _repository(model: str, action: str) -> str:
    return f"/v2/repository/models/{model}/{action}"


def _decoded(decoder: "msgspec.json.Decoder[T]", answer: Answer) -> T:
    _expect(answer)
    try:
        return decoder.decode(answer.body)
    except (msgspec.DecodeError, UnicodeDecodeError) as fault:
        raise UpstreamFailed(f"not an answer of Triton's: {fault}") from fault


def _expect(answer: Answer) -> None:
    if answer.status != _OK:
        raise UpstreamFailed(f"{answer.status}: {_words(answer)}")


def _words(answer: Answer) -> str:
    """Triton's own, of an error."""
    try:
        return _error.decode(answer.body).error.strip()
    except (msgspec.DecodeError, UnicodeDecodeError):
        return answer.body[:200].decode(errors="replace")
