"""What is judged of a gRPC request is what is sent, however it was written down."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as official

from gateway.errors import Code, GatewayError
from gateway.wire.oip import RESERVED, Judgement
from gateway.wire.oip_grpc import (
    MOST_OF_EACH,
    error_message,
    failure,
    judge_infer,
    public_message,
    read_infer,
    stream_status,
    version_of,
)
from gateway.wire.oip_messages import PACKAGE, TABLE, message_class

PARTIAL = (
    *("ModelStatistics", "ModelInput", "ModelOutput", "ModelSequenceBatching", "ModelConfig"),
    "ModelStatisticsResponse",
)
OURS_ALONE = ("HealthCheckRequest", "HealthCheckResponse")
RAW = b"\x3a"
FINAL = "triton_enable_empty_final_response"


def emitted(message: bytes, *, is_stream: bool = False) -> bytes:
    asked = read_infer(message)
    return judge_infer(asked, is_stream=is_stream).head + bytes(asked.tensors)


def refusal(message: bytes, *, is_stream: bool = False) -> str:
    with pytest.raises(GatewayError) as caught:
        emitted(message, is_stream=is_stream)
    assert caught.value.code is Code.BAD_REQUEST
    return caught.value.sentence


def request(*tensors: bytes, **fields: Any) -> Any:
    """A request of the official client's, with an input for each tensor."""
    made = official.ModelInferRequest(model_name="digits", **fields)
    for place, tensor in enumerate(tensors):
        made.inputs.add(name=f"in{place}", datatype="UINT8", shape=[len(tensor)])
        made.raw_input_contents.append(tensor)
    return made


def field(number: int, content: bytes, *, padding: int = 0) -> bytes:
    """A field of bytes; `padding` are bytes of its length that need not be."""
    return varint(number << 3 | 2) + varint(len(content), padding) + content


def varint(value: int, padding: int = 0) -> bytes:
    coded = bytearray()
    while value >= 0x80 or padding > 0:
        coded.append(value & 0x7F | 0x80)
        padding -= value < 0x80
        value >>= 7
    return bytes((*coded, value))


@pytest.mark.parametrize("name", PARTIAL)
def test_what_our_table_has_of_a_message_is_as_the_official_client_has_it(name: str) -> None:
    theirs = official.DESCRIPTOR.pool.FindMessageTypeByName(f"{PACKAGE}.{name}").fields_by_name
    for ours in message_class(name).DESCRIPTOR.fields:
        other = theirs[ours.name]
        kind = ours.TYPE_INT32 if other.type == other.TYPE_ENUM else other.type
        assert (ours.number, ours.type, ours.is_repeated) == (other.number, kind, other.is_repeated)


@pytest.mark.parametrize("name", [name for name in TABLE if name not in (*OURS_ALONE, *PARTIAL)])
def test_our_table_has_the_fields_of_the_official_client(name: str) -> None:
    ours = message_class(name).DESCRIPTOR
    theirs = official.DESCRIPTOR.pool.FindMessageTypeByName(f"{PACKAGE}.{name}")

    def fields(descriptor: Any) -> dict[str, tuple[object, ...]]:
        return {
            it.name: (
                it.number,
                it.type,
                it.is_repeated,
                it.message_type and it.message_type.name,
                it.containing_oneof and [other.name for other in it.containing_oneof.fields],
            )
            for it in descriptor.fields
        }

    assert fields(ours) == fields(theirs)


def test_a_request_as_clients_write_it_passes_byte_by_byte_and_its_tensors_are_a_slice_of_it() -> None:
    message: bytes = request(b"\0\1\2", b"", bytes(300), id="7").SerializeToString()
    asked = read_infer(message)
    assert isinstance(asked.tensors, memoryview)
    assert asked.tensors.obj is message
    assert emitted(message) == message


texts = st.text(max_size=5)
values = st.one_of(
    st.builds(official.InferParameter, bool_param=st.booleans()),
    st.builds(official.InferParameter, int64_param=st.integers(-(2**63), 2**63 - 1)),
    st.builds(official.InferParameter, string_param=texts),
    st.builds(official.InferParameter, double_param=st.floats(allow_nan=False)),
    st.builds(official.InferParameter, uint64_param=st.integers(0, 2**64 - 1)),
)
own_names = texts.filter(lambda text: "\0" not in text).map(lambda text: f"own{text}")
parameters = st.dictionaries(own_names, values, max_size=3)
inputs = st.builds(
    official.ModelInferRequest.InferInputTensor,
    name=texts,
    datatype=texts,
    shape=st.lists(st.integers(0, 1000), max_size=3),
    parameters=parameters,
)


@st.composite
def written(draw: st.DrawFn) -> tuple[Any, bytes]:
    """A request, and some way to write it that protobuf reads as the same."""
    tensors = draw(st.lists(inputs, max_size=4))
    contents = draw(st.lists(st.binary(max_size=200), min_size=len(tensors), max_size=len(tensors)))
    name = draw(st.text("abc", min_size=1, max_size=3))
    whole = official.ModelInferRequest(
        model_name=name, id=draw(texts), inputs=tensors, raw_input_contents=contents
    )
    for key, value in draw(parameters).items():
        whole.parameters[key].CopyFrom(value)
    padding = draw(st.integers(0, 3))
    streams = [
        [field(1, b"other"), field(1, name.encode(), padding=padding)],  # the last one counts
        [field(3, whole.id.encode())],
        [
            official.ModelInferRequest(parameters={k: v}).SerializeToString()
            for k, v in whole.parameters.items()
        ],
        [field(5, tensor.SerializeToString(), padding=padding) for tensor in tensors],
        [field(7, content, padding=padding) for content in contents],
        [varint(100 << 3) + varint(5), field(99, b"unknown"), varint(98 << 3 | 5) + b"1234"],
    ]
    message = b""
    while streams := [stream for stream in streams if stream]:
        message += draw(st.sampled_from(streams)).pop(0)
    return whole, message


@given(written())
def test_however_a_request_is_written_triton_reads_what_was_judged_and_the_same_tensors(
    case: tuple[Any, bytes],
) -> None:
    whole, message = case
    asked = read_infer(message)
    sent = official.ModelInferRequest.FromString(emitted(message))
    assert asked.model == whole.model_name
    assert sent == whole
    assert [bytes(tensor) for tensor in sent.raw_input_contents] == list(whole.raw_input_contents)


@given(st.one_of(st.binary(max_size=60), written().map(lambda case: case[1])), st.data())
def test_whatever_bytes_come_they_are_refused_or_what_is_sent_is_canonical(
    message: bytes, data: st.DataObject
) -> None:
    if message:
        place = data.draw(st.integers(0, len(message) - 1))
        message = (
            message[:place]
            + data.draw(st.binary(max_size=2))
            + message[place + data.draw(st.integers(0, 2)) :]
        )
    try:
        asked = read_infer(message)
        sent = judge_infer(asked, is_stream=False).head + bytes(asked.tensors)
    except GatewayError:
        return
    triton = official.ModelInferRequest.FromString(sent)
    assert triton.model_name == asked.request.model_name
    assert asked.model in (triton.model_name, "")
    assert len(triton.raw_input_contents) in (0, len(triton.inputs))
    triton.DiscardUnknownFields()
    assert official.ModelInferRequest.FromString(triton.SerializeToString()) == triton
    assert emitted(sent) == sent


def test_of_two_model_names_the_last_one_is_judged_and_sent_alone() -> None:
    message = field(1, b"mine") + field(1, b"foreign")
    assert read_infer(message).model == "foreign"
    assert emitted(message) == field(1, b"foreign")


@pytest.mark.parametrize("name", [b"../x", b"", b".hidden", b"a/b", b"a\0b", b"a" * 129, "é".encode()])
def test_what_can_be_no_model_names_none(name: bytes) -> None:
    assert read_infer(field(1, name)).model == ""


@pytest.mark.parametrize("version", ["-1", "1.0", "x", "1" * 10, " 1", "\u0661"])
def test_a_version_is_a_number(version: str) -> None:
    with pytest.raises(GatewayError):
        version_of(version)


@pytest.mark.parametrize("place", ["parameters", "inputs", "outputs"])
@pytest.mark.parametrize("name", [name for name, it in RESERVED.items() if it is Judgement.REFUSED])
def test_a_reserved_parameter_is_refused_wherever_it_stands(place: str, name: str) -> None:
    made = request(b"x")
    made.outputs.add(name="out")
    holder = {"parameters": made, "inputs": made.inputs[0], "outputs": made.outputs[0]}[place]
    holder.parameters[f"{name}region" if name.endswith("_") else name].string_param = "x"
    assert f"{name} is not offered here" in refusal(made.SerializeToString())


def test_a_reserved_parameter_that_is_split_over_two_pieces_of_one_input_is_refused() -> None:
    entry = field(1, b"shared_memory_region") + field(2, field(3, b"secret"))
    message = field(1, b"digits") + field(5, field(4, entry, padding=4), padding=5)
    assert "shared_memory_ is not offered here" in refusal(message)


def test_what_would_let_a_tenant_jump_the_queue_is_taken_out_and_its_own_parameters_pass() -> None:
    made = request(b"x")
    for name in ("priority", "timeout", "headers", "triton_anything", FINAL, "mine"):
        made.parameters[name].string_param = "1"
    sent = official.ModelInferRequest.FromString(emitted(made.SerializeToString()))
    assert list(sent.parameters) == ["mine"]


@pytest.mark.parametrize("value", [True, False])
def test_on_a_stream_an_empty_final_response_may_be_asked_for(value: bool) -> None:  # noqa: FBT001
    made = request(b"x")
    made.parameters[FINAL].bool_param = value
    sent = official.ModelInferRequest.FromString(emitted(made.SerializeToString(), is_stream=True))
    assert sent.parameters[FINAL].bool_param is value
    made.parameters[FINAL].string_param = "true"
    assert FINAL in refusal(made.SerializeToString(), is_stream=True)


def many(change: Callable[[Any], object]) -> bytes:
    made = request(b"x")
    change(made)
    message: bytes = made.SerializeToString()
    return message


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(b"\x0b\x0c", id="a group"),
        pytest.param(b"\x00\x01", id="a field without a number"),
        pytest.param(b"\x0a\x05abc", id="breaks off"),
        pytest.param(b"\x0a", id="breaks off behind a tag"),
        pytest.param(b"\x0a" + b"\xff" * 10 + b"\x01", id="a number without an end"),
        pytest.param(b"\x0a" + b"\xff" * 9 + b"\x01", id="a size of 2**64"),
        pytest.param(b"\x0a\x01\xff", id="a name that is no text"),
        pytest.param(b"\x38\x05", id="tensors of the wrong type"),
        pytest.param(field(1, b"a") + field(7, b"x"), id="a tensor for no input"),
        pytest.param(many(lambda made: made.inputs.add(name="b")), id="a tensor missing"),
        pytest.param(many(lambda made: made.inputs[0].shape.append(-1)), id="a negative side"),
        pytest.param(many(lambda made: made.inputs[0].shape.extend([2**31 - 1] * 3)), id="too many elements"),
        pytest.param(many(lambda made: made.inputs[0].shape.extend([1] * 101)), id="too many sides"),
        pytest.param(many(lambda made: [made.outputs.add(name="a") for _ in range(2)]), id="an output twice"),
        pytest.param(field(7, b"") * (5 * MOST_OF_EACH + 1), id="too many fields"),
        pytest.param(
            many(lambda made: [made.parameters[str(n)].Clear() for n in range(MOST_OF_EACH + 1)]),
            id="too many parameters",
        ),
        pytest.param(
            many(lambda made: [made.outputs.add(name=str(n)) for n in range(MOST_OF_EACH + 1)]),
            id="too many outputs",
        ),
    ],
)
def test_a_hostile_message_is_refused(message: bytes) -> None:
    assert refusal(message)


# What comes back on a stream

RAN = official.ModelStreamInferResponse(
    error_message="cannot open /dev/shm/triton_python_backend_shm_region_1",
    infer_response={"model_name": "m"},
).SerializeToString()


@pytest.mark.parametrize(
    ("message", "status", "text"),
    [
        (official.ModelStreamInferResponse(infer_response={"model_name": "m"}), 200, ""),
        (
            official.ModelStreamInferResponse(error_message="Request for unknown model: 'm' is not found"),
            404,
            "",
        ),
        (
            official.ModelStreamInferResponse(error_message="expected 1 inputs", infer_response={"id": "1"}),
            400,
            "",
        ),
        (official.ModelStreamInferResponse(error_message="7", infer_response={"model_name": "m"}), 500, "7"),
    ],
)
def test_a_reply_on_a_stream_shows_who_was_wrong(message: Any, status: int, text: str) -> None:
    assert stream_status(message.SerializeToString()) == status
    assert failure(message.SerializeToString()) == text


def test_an_error_on_a_stream_tells_nothing_of_the_server_and_a_reply_passes_as_it_is() -> None:
    shown = official.ModelStreamInferResponse.FromString(public_message(RAN))
    assert (shown.error_message, shown.infer_response.model_name) == ("cannot open (internal)", "m")
    reply = official.ModelStreamInferResponse(infer_response={"id": "/dev/shm/x"}).SerializeToString()
    assert public_message(reply) is reply


def test_a_refusal_on_a_stream_names_its_request() -> None:
    told = official.ModelStreamInferResponse.FromString(error_message("no", "7"))
    assert (told.error_message, told.infer_response.id) == ("no", "7")
