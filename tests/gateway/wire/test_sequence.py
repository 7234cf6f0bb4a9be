"""What says that a call belongs to a sequence is taken out of its head, and put in again with an id of ours."""

import json
from typing import Any

import pytest

from gateway.call import Sequence
from gateway.errors import Code, GatewayError
from gateway.wire.oip import judge_infer

TENSOR = {"name": "add", "shape": [1], "datatype": "INT32", "data": [1]}


def judged(**parameters: Any) -> tuple[Any, Sequence | None]:
    head = json.dumps({"inputs": [TENSOR], "id": "r", "parameters": parameters}).encode()
    found = judge_infer(head, 0)
    return json.loads(found.head), found.sequence


@pytest.mark.parametrize("named", [1, 2**64 - 1, "mine", "x" * 128])
@pytest.mark.parametrize(("starts", "ends"), [(True, False), (False, False), (False, True)])
def test_a_call_of_a_sequence_is_known_and_told_triton_under_another_id(
    named: int | str, *, starts: bool, ends: bool
) -> None:
    head, found = judged(k=1, sequence_id=named, sequence_start=starts, sequence_end=ends, priority=3)
    assert head == {"inputs": [TENSOR], "id": "r", "parameters": {"k": 1}}
    assert found is not None
    assert (found.id, found.starts, found.ends) == (named, starts, ends)
    for ours in (77, "ours"):
        tags = {"sequence_id": ours, "sequence_start": starts, "sequence_end": ends}
        assert json.loads(found.head(ours)) == {**head, "parameters": {"k": 1, **tags}}


@pytest.mark.parametrize(
    "parameters", [{"sequence_id": 0}, {"sequence_id": ""}, {"sequence_start": True}, {}]
)
def test_an_id_of_nothing_is_no_sequence(parameters: dict[str, Any]) -> None:
    head, found = judged(**parameters)
    assert found is None
    assert head == {"inputs": [TENSOR], "id": "r"}


@pytest.mark.parametrize(
    "parameters",
    [
        {"sequence_id": -1},
        {"sequence_id": 2**64},
        {"sequence_id": 1.5},
        {"sequence_id": True},
        {"sequence_id": "x" * 129},
        {"sequence_id": "a\0b"},
        {"sequence_id": 1, "sequence_start": 1},
        {"sequence_id": 1, "sequence_end": "true"},
        {"sequence_id\0": 1},
    ],
)
def test_what_is_no_id_is_refused(parameters: dict[str, Any]) -> None:
    with pytest.raises(GatewayError) as refused:
        judged(**parameters)
    assert refused.value.code is Code.BAD_REQUEST


@pytest.mark.parametrize("name", ["sequence_id", "sequence_start", "sequence_end"])
def test_a_tensor_is_in_no_sequence(name: str) -> None:
    for place in ("inputs", "outputs"):
        document: dict[str, Any] = {"inputs": [TENSOR], "outputs": [{"name": "total"}]}
        document[place] = [{**document[place][0], "parameters": {name: 1}}]
        with pytest.raises(GatewayError) as refused:
            judge_infer(json.dumps(document).encode(), 0)
        assert refused.value.code is Code.BAD_REQUEST
