"""What says that a message belongs to a sequence is taken out of it, and put in again with an id of ours."""

from typing import Any

import pytest
from tritonclient.grpc import service_pb2 as official

from gateway.errors import Code, GatewayError
from gateway.wire.oip import Judged
from gateway.wire.oip_grpc import judge_infer, read_infer, renamed, sequence_of


def parameter(value: Any) -> Any:
    kind = {bool: "bool", int: "int64", str: "string", float: "double"}[type(value)]
    return official.InferParameter(**{f"{kind}_param": value})


def judged(**parameters: Any) -> Judged:
    found = {
        name: value if hasattr(value, "WhichOneof") else parameter(value)
        for name, value in parameters.items()
    }
    message = official.ModelInferRequest(model_name="m", parameters=found).SerializeToString()
    return judge_infer(read_infer(message), is_stream=False)


def told(head: bytes) -> dict[str, Any]:
    found = official.ModelInferRequest.FromString(head).parameters
    return {name: getattr(value, value.WhichOneof("parameter_choice")) for name, value in found.items()}


@pytest.mark.parametrize("named", [7, 2**63 - 1, "mine", official.InferParameter(uint64_param=2**64 - 1)])
@pytest.mark.parametrize(("starts", "ends"), [(True, False), (False, True)])
def test_a_message_of_a_sequence_is_known_and_told_triton_under_another_id(
    named: Any, *, starts: bool, ends: bool
) -> None:
    found = judged(sequence_id=named, sequence_start=starts, sequence_end=ends, mine=1, priority=2)
    assert told(found.head) == {"mine": 1}
    assert found.sequence is not None
    assert found.sequence.id == getattr(named, "uint64_param", named)
    for ours in (5, "ours"):
        tags = {"sequence_id": ours, "sequence_start": starts, "sequence_end": ends}
        assert told(found.sequence.head(ours)) == {"mine": 1, **tags}
    assert told(found.head) == {"mine": 1}


@pytest.mark.parametrize("named", [0, ""])
def test_an_id_of_nothing_is_no_sequence(named: Any) -> None:
    assert judged(sequence_id=named, sequence_start=True).sequence is None


@pytest.mark.parametrize(
    "parameters",
    [
        {"sequence_id": -1},
        {"sequence_id": 1.5},
        {"sequence_id": True},
        {"sequence_id": "x" * 129},
        {"sequence_id": official.InferParameter()},
        {"sequence_id": 1, "sequence_start": 1},
        {"sequence_id": 1, "sequence_end": "true"},
    ],
)
def test_what_is_no_id_is_refused(parameters: dict[str, Any]) -> None:
    with pytest.raises(GatewayError) as refused:
        judged(**parameters)
    assert refused.value.code is Code.BAD_REQUEST


def test_a_tensor_is_in_no_sequence() -> None:
    tensor = official.ModelInferRequest.InferInputTensor(name="in", parameters={"sequence_id": parameter(1)})
    message = official.ModelInferRequest(model_name="m", inputs=[tensor]).SerializeToString()
    with pytest.raises(GatewayError) as refused:
        judge_infer(read_infer(message), is_stream=False)
    assert refused.value.code is Code.BAD_REQUEST


@pytest.mark.parametrize(
    ("parameters", "id_"),
    [({"sequence_id": parameter(7)}, 7), ({"sequence_id": parameter("a")}, "a"), ({}, 0)],
)
def test_the_sequence_is_known_before_the_message_is_judged(
    parameters: dict[str, Any], id_: int | str
) -> None:
    message = official.ModelInferRequest(model_name="m", parameters=parameters).SerializeToString()
    assert sequence_of(read_infer(message)) == id_


def test_an_error_on_a_stream_names_the_clients_own_id() -> None:
    error = official.ModelStreamInferResponse(
        error_message="sequence 123456789 has not begun", infer_response={"id": "r"}
    )
    found = official.ModelStreamInferResponse.FromString(renamed(error.SerializeToString(), "123456789", "7"))
    assert (found.error_message, found.infer_response.id) == ("sequence 7 has not begun", "r")
    reply = official.ModelStreamInferResponse(infer_response={"id": "123456789"}).SerializeToString()
    assert renamed(reply, "123456789", "7") == reply
