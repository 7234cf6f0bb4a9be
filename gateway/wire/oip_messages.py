"""Open Inference Protocol v2 over gRPC: its messages, as far as they are read or written here. Pure.

Each line is `number name type`; `*` is repeated, `{}` a map from strings, `|` a member of the message's only oneof, and what is not of
protobuf's own types is a message of this table. Numbers and types are those of the specification with Triton's extensions; a test
compares them with those of the official client. What a message has beyond its lines is unknown here, and is dropped.
"""

from types import MappingProxyType
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE: Final = "inference"

TABLE: Final = MappingProxyType(
    {
        "InferParameter": """
            1 bool_param |bool
            2 int64_param |int64
            3 string_param |string
            4 double_param |double
            5 uint64_param |uint64""",
        "InferTensorContents": """
            1 bool_contents *bool
            2 int_contents *int32
            3 int64_contents *int64
            4 uint_contents *uint32
            5 uint64_contents *uint64
            6 fp32_contents *float
            7 fp64_contents *double
            8 bytes_contents *bytes""",
        "ModelInferRequest.InferInputTensor": """
            1 name string
            2 datatype string
            3 shape *int64
            4 parameters {}InferParameter
            5 contents InferTensorContents""",
        "ModelInferRequest.InferRequestedOutputTensor": """
            1 name string
            2 parameters {}InferParameter""",
        "ModelInferRequest": """
            1 model_name string
            2 model_version string
            3 id string
            4 parameters {}InferParameter
            5 inputs *ModelInferRequest.InferInputTensor
            6 outputs *ModelInferRequest.InferRequestedOutputTensor
            7 raw_input_contents *bytes""",
        "ModelInferResponse.InferOutputTensor": """
            1 name string
            2 datatype string
            3 shape *int64
            4 parameters {}InferParameter
            5 contents InferTensorContents""",
        "ModelInferResponse": """
            1 model_name string
            2 model_version string
            3 id string
            4 parameters {}InferParameter
            5 outputs *ModelInferResponse.InferOutputTensor
            6 raw_output_contents *bytes""",
        "ModelStreamInferResponse": """
            1 error_message string
            2 infer_response ModelInferResponse""",
        "ServerLiveResponse": "1 live bool",
        "ServerReadyResponse": "1 ready bool",
        "ModelReadyRequest": """
            1 name string
            2 version string""",
        "ModelReadyResponse": "1 ready bool",
        "ServerMetadataResponse": """
            1 name string
            2 version string
            3 extensions *string""",
        "ModelMetadataRequest": """
            1 name string
            2 version string""",
        # As far as a model's tenants may see it; an enum is a number here.
        "StatisticDuration": """
            1 count uint64
            2 ns uint64""",
        "InferStatistics": """
            1 success StatisticDuration
            2 fail StatisticDuration
            3 queue StatisticDuration
            4 compute_input StatisticDuration
            5 compute_infer StatisticDuration
            6 compute_output StatisticDuration
            7 cache_hit StatisticDuration
            8 cache_miss StatisticDuration""",
        "ModelStatistics": """
            1 name string
            2 version string
            3 last_inference uint64
            4 inference_count uint64
            5 execution_count uint64
            6 inference_stats InferStatistics""",
        "ModelStatisticsResponse": "1 model_stats *ModelStatistics",
        "ModelInput": """
            1 name string
            2 data_type int32
            4 dims *int64
            6 is_shape_tensor bool
            8 optional bool""",
        "ModelOutput": """
            1 name string
            2 data_type int32
            3 dims *int64""",
        "ModelSequenceBatching": "1 max_sequence_idle_microseconds uint64",
        "ModelTransactionPolicy": "1 decoupled bool",
        "ModelConfig": """
            1 name string
            2 platform string
            17 backend string
            4 max_batch_size int32
            5 input *ModelInput
            6 output *ModelOutput
            13 sequence_batching |ModelSequenceBatching
            19 model_transaction_policy ModelTransactionPolicy""",
        "ModelConfigResponse": "1 config ModelConfig",
        # grpc.health.v1, whose package no byte on the wire tells
        "HealthCheckRequest": "1 service string",
        "HealthCheckResponse": "1 status int32",
    }
)

_FIELD = descriptor_pb2.FieldDescriptorProto


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="oip.proto", package=PACKAGE, syntax="proto3")
    made: dict[str, descriptor_pb2.DescriptorProto] = {}
    for name in sorted(TABLE):  # an outer message before its inner ones
        outer, _, inner = name.rpartition(".")
        made[name] = (made[outer].nested_type if outer else file.message_type).add(name=inner)
        for line in TABLE[name].split("\n"):
            if line.strip():
                _add_field(made[name], name, *line.split())
    return file


def _add_field(
    message: descriptor_pb2.DescriptorProto, owner: str, number: str, name: str, kind: str
) -> None:
    field = message.field.add(name=name, number=int(number), label=_FIELD.LABEL_OPTIONAL)
    if kind.startswith("|"):
        if not message.oneof_decl:
            message.oneof_decl.add(name="choice")
        field.oneof_index = 0
    if kind.startswith("*"):
        field.label = _FIELD.LABEL_REPEATED
    if kind.startswith("{}"):
        entry = message.nested_type.add(name=f"{name.title()}Entry")
        entry.options.map_entry = True
        _add_field(entry, owner, "1", "key", "string")
        _add_field(entry, owner, "2", "value", kind.removeprefix("{}"))
        field.label, kind = _FIELD.LABEL_REPEATED, f"{owner}.{entry.name}"
    bare = kind.lstrip("|*")
    own = f"TYPE_{bare.upper()}"
    if own in _FIELD.Type.keys():  # noqa: SIM118 - an enum of protobuf's is no mapping
        field.type = _FIELD.Type.Value(own)
    else:
        field.type, field.type_name = _FIELD.TYPE_MESSAGE, f".{PACKAGE}.{bare}"


_pool = descriptor_pool.DescriptorPool()  # of our own: the official client has its messages in the common one
_pool.Add(_file())


def message_class(name: str) -> Any:
    """The class of one of the table's messages."""
    return message_factory.GetMessageClass(_pool.FindMessageTypeByName(f"{PACKAGE}.{name}"))
