"""What is told over gRPC of a model: its configuration and a tenant's own statistics, out of the values that REST tells as JSON. Pure."""

from typing import Any, Final

import msgspec

from gateway.wire.oip_messages import message_class

_Config: Final = message_class("ModelConfigResponse")
_Statistics: Final = message_class("ModelStatisticsResponse")
# inference.DataType, in the order of its numbers
_DATA_TYPES: Final = (
    *("INVALID", "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64"),
    *("FP16", "FP32", "FP64", "STRING", "BF16"),
)
_NUMBERS: Final = {f"TYPE_{name}": number for number, name in enumerate(_DATA_TYPES)}


def config_response(config: msgspec.Struct) -> bytes:
    """`config`: a ModelConfig of triton/control."""
    told: dict[str, Any] = msgspec.to_builtins(config)
    for tensor in (*told["input"], *told["output"]):
        tensor["data_type"] = _NUMBERS.get(tensor["data_type"], 0)
    batching = told.pop("sequence_batching")
    if batching is not None:
        name = "max_sequence_idle_microseconds"
        told["sequence_batching"] = {name: batching[name]}
    return _written(_Config(config=told))


def statistics_response(rows: list[Any]) -> bytes:
    """`rows`: what telemetry/shares has of one model."""
    told: list[dict[str, Any]] = msgspec.to_builtins(rows)
    for row in told:
        del row["batch_stats"]
    return _written(_Statistics(model_stats=told))


def _written(message: Any) -> bytes:
    written: bytes = message.SerializeToString()
    return written
