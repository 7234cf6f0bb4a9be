"""Which request shows that a model is well, and what the answer to it means."""

import json
import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from gateway.call import Outgoing
from gateway.triton.canary import Health, answer, judge, request
from gateway.triton.client import Client
from gateway.triton.control import Input, ModelConfig
from tenants.model import Canary, CanaryInput, Model
from tests.gateway.triton.worlds import Reader, Script, Writer, answers, parts, read_request, served

PLAIN = Model(id="m_1", name="digits", repository="/models", tenants="*")
SPOKEN = structs.replace(
    PLAIN, canary=Canary(inputs=(CanaryInput(name="text", datatype="BYTES", shape=(1,), data=("hi",)),))
)
SIZES = {
    "BOOL": 1,
    "UINT8": 1,
    "INT16": 2,
    "FP16": 2,
    "BF16": 2,
    "INT32": 4,
    "FP32": 4,
    "UINT64": 8,
    "FP64": 8,
}


def takes(*inputs: Input, batch: int = 0, **more: object) -> ModelConfig:
    config = ModelConfig(name="digits", max_batch_size=batch, inputs=inputs)
    return structs.replace(config, **more)


def tensor(kind: str, *dims: int, **more: bool) -> Input:
    return Input(name=f"in{kind}", data_type=f"TYPE_{kind}", dims=dims, **more)


def asked(body: Outgoing | None) -> list[tuple[str, list[int], int]]:
    """Name, shape and bytes of each tensor of zeros."""
    assert body is not None
    assert body.binary
    head = json.loads(body.head)
    assert head["id"] == "canary"
    return [
        (entry["name"], entry["shape"], entry["parameters"]["binary_data_size"]) for entry in head["inputs"]
    ]


def test_the_documents_own_canary_is_what_is_asked() -> None:
    body = request(SPOKEN, takes(tensor("STRING", -1)))
    assert body is not None
    assert json.loads(body.head) == {
        "id": "canary",
        "inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["hi"]}],
        "parameters": {"binary_data_output": True},
    }
    assert (body.binary, body.tensor_bytes, body.first) == (False, 0, b"")


def test_zeros_are_for_the_inputs_that_a_model_needs_in_a_batch_of_one() -> None:
    config = takes(tensor("FP32", 1, 28, 28), tensor("STRING", 2, optional=True), tensor("BOOL", 3), batch=64)
    body = request(PLAIN, config)
    assert asked(body) == [("inFP32", [1, 1, 28, 28], 4 * 784), ("inBOOL", [1, 3], 3)]
    assert body is not None
    assert (body.first, body.tensor_bytes) == (bytes(3_139), 3_139)


def test_a_first_dimension_that_is_free_is_the_models_own_batch() -> None:
    assert asked(request(PLAIN, takes(tensor("INT64", -1, 2)))) == [("inINT64", [1, 2], 16)]


DECOUPLED = msgspec.convert({"name": "m", "model_transaction_policy": {"decoupled": True}}, ModelConfig)


@pytest.mark.parametrize("model", [PLAIN, SPOKEN], ids=["zeros", "document"])
@pytest.mark.parametrize(
    "config",
    [
        takes(tensor("FP32", 1), sequence_batching={}),
        structs.replace(DECOUPLED, inputs=(tensor("FP32", 1),)),
    ],
    ids=["sequences", "decoupled"],
)
def test_a_model_that_takes_no_single_inference_has_no_canary(model: Model, config: ModelConfig) -> None:
    assert request(model, config) is None


@pytest.mark.parametrize(
    "config",
    [
        takes(),
        takes(tensor("STRING", 1)),
        takes(tensor("FP32", 1), tensor("STRING", 1)),
        takes(tensor("FP32", 3, -1)),
        takes(tensor("FP32", -1, -1)),
        takes(tensor("FP32", -1), batch=8),
        takes(tensor("FP32", 0)),
        takes(tensor("INT32", 2, is_shape_tensor=True)),
        takes(tensor("FP32", optional=True)),
        takes(tensor("FP32", 2**20 + 1)),
        takes(tensor("FP32", 2**19 + 1), tensor("INT32", 2**19)),
        takes(tensor("FP32", 2**62, 2**62, 2**62)),
    ],
    ids=[
        "no input",
        "text",
        "text beside numbers",
        "a free dimension",
        "two free dimensions",
        "a free dimension behind the batch",
        "an empty tensor",
        "a shape",
        "nothing needed",
        "too large",
        "too large together",
        "huge",
    ],
)
def test_where_zeros_would_be_a_guess_there_is_none(config: ModelConfig) -> None:
    assert request(PLAIN, config) is None


@given(
    st.lists(
        st.tuples(st.sampled_from(sorted(SIZES)), st.lists(st.integers(1, 9), min_size=1, max_size=4)),
        min_size=1,
    ),
    st.integers(0, 4),
)
def test_what_the_head_promises_is_what_follows_it(tensors: list[tuple[str, list[int]]], batch: int) -> None:
    body = request(PLAIN, takes(*(tensor(kind, *dims) for kind, dims in tensors), batch=batch))
    sizes = [size for _, _, size in asked(body)]
    assert sizes == [SIZES[kind] * math.prod(dims) for kind, dims in tensors]
    assert body is not None
    assert (sum(sizes), bytes(sum(sizes))) == (body.tensor_bytes, body.first)


def test_a_process_that_is_gone_is_told_from_a_model_that_raises_whatever_it_raises() -> None:
    assert judge(500, b"text/plain", b'{"error":"Stub process \'digits_0\' is not healthy."}') is Health.DEAD
    raised = b"{\"error\":\"Failed to process the request(s) for model 'x_0', message: Stub process 'x_0' is not healthy.\"}"
    assert judge(500, b"text/plain", raised) is Health.FAILING


@pytest.mark.parametrize(
    ("status", "kind", "health"),
    [
        (200, b"application/json", Health.WELL),
        (200, b"application/octet-stream", Health.WELL),
        (500, b"text/plain", Health.FAILING),
        (500, b"text/plain; charset=utf-8", Health.FAILING),
        (501, b"text/plain", Health.UNUSABLE),
        (500, b"application/json", Health.UNUSABLE),
        (400, b"application/json", Health.UNUSABLE),
        (404, b"text/plain", Health.UNUSABLE),
        (503, b"application/json", Health.SILENT),
        (500, b"", Health.UNUSABLE),
    ],
)
def test_what_an_answer_says(status: int, kind: bytes, health: Health) -> None:
    assert judge(status, kind) is health


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        (Outgoing(head=b"{}"), b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"),
        (
            Outgoing(head=b"{}", first=b"\0\0\0", tensor_bytes=3, binary=True),
            b"Content-Type: application/octet-stream\r\nInference-Header-Content-Length: 2\r\nContent-Length: 5\r\n\r\n{}\0\0\0",
        ),
    ],
)
async def test_it_is_sent_as_an_inference(body: Outgoing, sent: bytes) -> None:
    arrived = []

    async def script(reader: Reader, writer: Writer) -> None:
        arrived.append(await read_request(reader))
        raise ConnectionError

    async with served(script) as server:
        assert await answer(Client("127.0.0.1", server.port), "digits", body, seconds=5) is Health.SILENT
    assert arrived == [b"POST /v2/models/digits/infer HTTP/1.1\r\nHost: triton\r\n" + sent]


def replies(status: int, kind: str) -> Script:
    return answers(f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: 2\r\n\r\n{{}}".encode())


ANSWERS = {
    "200": (replies(200, "application/json"), Health.WELL),
    "text": (replies(500, "text/plain"), Health.FAILING),
    "json": (replies(500, "application/json"), Health.UNUSABLE),
    "nothing": (parts(b""), Health.SILENT),
    "cut": (parts(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{", None), Health.SILENT),
    "closed": (parts(None), Health.SILENT),
}


@pytest.mark.parametrize(("script", "health"), ANSWERS.values(), ids=ANSWERS)
async def test_a_models_health_is_what_it_answers_in_time(script: Script, health: Health) -> None:
    async with served(script) as server:
        client = Client("127.0.0.1", server.port)
        assert await answer(client, "digits", Outgoing(head=b"{}"), seconds=0.1) is health
        client.close()
    assert await answer(client, "digits", Outgoing(head=b"{}"), seconds=0.1) is Health.SILENT
