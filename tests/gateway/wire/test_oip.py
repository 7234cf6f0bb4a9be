"""What we judge is what we send, and what Triton says reaches the client without its insides."""

import json
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Code, GatewayError
from gateway.wire.oip import RESERVED, InferRequest, Judgement, judge_infer, public_error

TENSOR = {"name": "image", "shape": [1], "datatype": "FP32"}
REFUSED = [name for name, judgement in RESERVED.items() if judgement is Judgement.REFUSED]
STRIPPED = [name for name, judgement in RESERVED.items() if judgement is Judgement.STRIPPED]


def judged(head: bytes, tensor_bytes: int) -> bytes:
    """What is sent for it."""
    return judge_infer(head, tensor_bytes).head


def refused(head: bytes, tensor_bytes: int = 0) -> str:
    """The public sentence of the refusal; fails when the head passes or anything but BAD_REQUEST is raised."""
    with pytest.raises(GatewayError) as caught:
        judged(head, tensor_bytes)
    assert caught.value.code is Code.BAD_REQUEST
    assert len(caught.value.sentence) < 1000
    return caught.value.sentence


def head(**more: Any) -> bytes:
    return json.dumps({"inputs": [TENSOR], **more}).encode()


def with_data(data: bytes) -> bytes:
    return head().replace(b'"FP32"', b'"FP32","data":' + data)


# What we judge is what we send

texts = st.text(st.characters(codec="utf-8"), max_size=8)
own_names = texts.filter(
    lambda name: (
        "\0" not in name
        and not name.startswith(("shared_", "seq", "triton", "prio", "time", "head", "binary"))
    )
)
floats = st.floats(allow_nan=False, allow_infinity=False)
values: st.SearchStrategy[Any] = texts | st.integers(-(2**63), 2**63 - 1) | floats | st.booleans()
parameters = st.dictionaries(own_names, values, max_size=3)
numbers: st.SearchStrategy[Any] = st.recursive(floats | st.integers() | texts, st.lists, max_leaves=8)
Documents = st.SearchStrategy[dict[str, Any]]
tensors: Documents = st.fixed_dictionaries(
    {"name": texts, "shape": st.lists(st.integers(0, 99), max_size=4), "datatype": texts},
    optional={"parameters": parameters, "data": st.lists(numbers, max_size=4)},
)
outputs: Documents = st.fixed_dictionaries({"name": texts}, optional={"parameters": parameters})
requests: Documents = st.fixed_dictionaries(
    {"inputs": st.lists(tensors, max_size=3)},
    optional={
        "id": texts,
        "parameters": parameters,
        "outputs": st.lists(outputs, max_size=3, unique_by=lambda output: str(output["name"])),
    },
)


def read(head: bytes) -> InferRequest:
    return msgspec.json.decode(head, type=InferRequest)


@given(requests, st.fixed_dictionaries({"indent": st.none() | st.just(1), "ensure_ascii": st.booleans()}))
def test_what_is_sent_says_what_the_client_said(request: dict[str, Any], style: dict[str, Any]) -> None:
    sent = judged(json.dumps(request, **style).encode(), 0)
    for tensor in (*request["inputs"], *request.get("outputs", ())):
        if not tensor.get("parameters", True):
            del tensor["parameters"]
    assert json.loads(sent) == {name: value for name, value in request.items() if value or name == "inputs"}
    assert judged(sent, 0) == sent


@given(
    st.binary(max_size=200)
    | st.recursive(st.none() | values, lambda v: st.lists(v) | st.dictionaries(texts, v)).map(
        lambda document: json.dumps(document).encode()
    )
)
def test_any_bytes_are_judged_or_refused(noise: bytes) -> None:
    with suppress(GatewayError):
        judged(noise, 0)


@given(st.data())
def test_a_head_with_one_byte_changed_is_refused_or_sent_as_it_was_read(data: st.DataObject) -> None:
    good = head(id="a\\u00e9", parameters={"mine": 1}, outputs=[{"name": "scores"}])
    place = data.draw(st.integers(0, len(good) - 1))
    bent = good[:place] + bytes([data.draw(st.integers(0, 255))]) + good[place + 1 :]
    try:
        sent = judged(bent, 0)
    except GatewayError:
        return
    assert msgspec.to_builtins(read(sent)) == msgspec.to_builtins(read(bent))


def test_of_two_equal_keys_the_last_is_read_and_the_only_one_sent() -> None:
    twice = (
        b'{"id":"a","inputs":[{"name":"x","name":"y","shape":[2],"shape":[1],"datatype":"FP32"}],"id":"b"}'
    )
    assert judged(twice, 0) == b'{"inputs":[{"name":"y","shape":[1],"datatype":"FP32"}],"id":"b"}'


def test_a_reserved_name_behind_a_harmless_twin_is_still_judged() -> None:
    hidden = b'{"inputs":[],"parameters":{"a":1},"parameters":{"shared_memory_region":"x"}}'
    refused(hidden)
    escaped = rb'{"inputs":[],"parameters":{"\u0073hared_memory_region":"x"}}'
    refused(escaped)


def test_keys_that_the_protocol_does_not_know_are_not_sent() -> None:
    sent = judged(head(model_name="other", nested={"shared_memory_region": "x"}), 0)
    assert json.loads(sent) == {"inputs": [TENSOR]}


# Reserved parameters, at all three levels

LEVELS = ("parameters", "inputs[0].parameters", "outputs[0].parameters")


def at(level: str, parameters: dict[str, Any]) -> dict[str, Any]:
    match level:
        case "parameters":
            return {"inputs": [TENSOR], "parameters": parameters}
        case "inputs[0].parameters":
            return {"inputs": [{**TENSOR, "parameters": parameters}]}
        case _:
            return {"inputs": [], "outputs": [{"name": "scores", "parameters": parameters}]}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", [*REFUSED, "shared_memory_region", "shared_memory_" + "x" * 1_000_000])
def test_what_could_reach_the_shared_server_is_refused(level: str, name: str) -> None:
    assert level in refused(json.dumps(at(level, {"mine": 1, name: 1})).encode())


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", [*STRIPPED, "triton_enable_empty_final_response"])
def test_what_would_jump_the_queue_is_taken_out(level: str, name: str) -> None:
    sent = judged(json.dumps(at(level, {"mine": 1, name: 1})).encode(), 0)
    assert json.loads(sent) == at(level, {"mine": 1})


@pytest.mark.parametrize(
    "name", ["sequence_length", "priority_class", "Timeout", "my_shared_memory_", "header", ""]
)
def test_names_that_only_look_reserved_are_the_clients_own(name: str) -> None:
    assert json.loads(judged(head(parameters={name: "x"}), 0))["parameters"] == {name: "x"}


@pytest.mark.parametrize("level", LEVELS)
def test_a_name_that_ends_for_triton_before_it_ends_is_refused(level: str) -> None:
    with pytest.raises(GatewayError) as refused:
        judged(json.dumps(at(level, {"priority\0x": 1})).encode(), 0)
    assert refused.value.code is Code.BAD_REQUEST


# Sizes


def binary(*sizes: object) -> bytes:
    return json.dumps(
        {"inputs": [{**TENSOR, "parameters": {"binary_data_size": size}} for size in sizes]}
    ).encode()


@given(st.lists(st.integers(0, 1000), max_size=4), st.integers(0, 4000))
def test_binary_sizes_must_add_up(sizes: list[int], tensor_bytes: int) -> None:
    judged(binary(*sizes), sum(sizes))
    if tensor_bytes != sum(sizes):
        refused(binary(*sizes), tensor_bytes)


@pytest.mark.parametrize("size", [-1, 1.0, True, "4", 2**63, None])
def test_a_size_that_is_no_number_of_bytes_is_refused(size: object) -> None:
    refused(binary(size), 4)


def test_negative_sizes_cannot_make_up_for_others() -> None:
    refused(binary(8, -4), 4)


@pytest.mark.parametrize(
    "shape",
    [
        "[-1]",
        "[1.0]",
        f"[{2**31}]",
        "[65536,65536]",
        f"[0,{2**40}]",
        str([1] * 101),
        "[1" + "0" * 5000 + "]",
        '"1"',
        "1",
    ],
)
def test_a_shape_that_no_body_can_have_is_refused(shape: str) -> None:
    refused(head().replace(b"[1]", shape.encode()))


def test_a_tensor_without_elements_is_no_fault() -> None:
    assert judged(json.dumps({"inputs": [{**TENSOR, "shape": [0, 28]}]}).encode(), 0)


def test_an_output_that_is_asked_for_twice_is_refused() -> None:
    refused(head(outputs=[{"name": "scores"}, {"name": "scores"}]))
    refused(head(outputs=[{"name": "scores"}, {"name": "scores\0x"}]))


# What is not the protocol's JSON


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'"inputs"',
        b"\xef\xbb\xbf" + head(),
        head() + b"\0",
        head() + b"x",
        head() + head(),
        head().decode().encode("utf-16"),
        head(id=None),
        head(id=1),
        head(parameters={"a": None}),
        head(parameters={"a": [1]}),
        head(parameters={"a": 2**63}),
        head(parameters=[]),
        head(id="a").replace(b'"a"', b'"\xff"'),
        head(id="a").replace(b'"a"', b'"\xed\xa0\x80"'),
        head(id="a").replace(b'"a"', rb'"\ud800"'),
        head(id="a").replace(b'"a"', rb'"\udc00\ud800"'),
        head(id="a").replace(b'"a"', b'"\0"'),
        head(a={"b": "c"}).replace(b'"c"', b'"\xff"'),
        head(parameters={"a": 7}).replace(b"7", b"1e999"),
        head(parameters={"a": 7}).replace(b"7", b"7" * 5000),
        head(parameters={"a": 7}).replace(b"7", b"[" * 100_000 + b"]" * 100_000),
        head(a=7).replace(b"7", b"[" * 100_000 + b"]" * 100_000),
        *map(
            with_data,
            (b"[NaN]", b"[Infinity]", b"[-]", b"[01]", b"[1.]", b"[.5]", b"[+1]", b"[1,]", b"[", b"1 2"),
        ),
        *map(
            with_data,
            (b'["\0"]', b'["\xff"]', b'["\xc0\x80"]', rb'["\ud800"]', rb'["\q"]', b"['a']", b"[tru]", b""),
        ),
    ],
)
def test_what_is_not_json_of_the_protocol_is_refused(bad: bytes) -> None:
    refused(bad)


@pytest.mark.parametrize(
    ("opening", "inside", "closing"),
    [
        (b"[", b"", b"]"),
        (b"[", b"1", b"]"),
        (b"[", b'"]]["', b"]"),
        (b"[", rb'"\\\"[","\\"', b"]"),
        (b'["[",', b"1", b',"["]'),
    ],
)
def test_data_may_be_nested_a_hundred_deep_and_no_deeper(
    opening: bytes, inside: bytes, closing: bytes
) -> None:
    def nested(depth: int) -> bytes:
        return with_data(opening * depth + inside + closing * depth)

    assert judged(nested(100), 0)
    for depth in (101, 500, 100_000):
        refused(nested(depth))


@pytest.mark.parametrize("data", [b'{"a":1}', b'[[{"a":1}]]', b'["{",{}]', rb'["\"",{"\"":1}]'])
def test_data_holds_no_objects(data: bytes) -> None:
    refused(with_data(data))


@pytest.mark.parametrize("data", [b'["{"]', rb'["\"{"]', rb'["\\","{\"}"]'])
def test_a_text_in_data_may_look_like_an_object(data: bytes) -> None:
    assert data in judged(with_data(data), 0)


def test_many_brackets_side_by_side_are_not_deep() -> None:
    rows = b"[" + b'[1],["]["],' * 10_000 + b"[2]]"
    assert rows in judged(with_data(rows), 0)


# Errors that come back from Triton

JUDGED, RAN = b"application/json", b"text/plain"


def error(text: str) -> bytes:
    return json.dumps({"error": text}).encode()


@pytest.mark.parametrize(
    "text",
    [
        "failed to parse the request JSON buffer: Missing a comma or '}' after an object member. at 23",
        "Unable to parse 'shape': attempt to access JSON non-unsigned-integer as unsigned-integer",
        "Unable to parse JSON bytes array: attempt to access JSON non-string as string",
        "Unable to set 'classification': attempt to access JSON non-unsigned-integer as unsigned-integer",
        "failed to get request params.: attempt to get members for non-object",
    ],
)
def test_a_request_that_triton_cannot_read_is_the_clients_fault(text: str) -> None:
    assert public_error(500, JUDGED, error(text)) == (400, text)


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("Stub process 'dies_0' is not healthy.", "Stub process 'dies_0' is not healthy."),
        (
            "Failed to process the request(s) for model 'raises_0', message: ValueError: boom /secret/path\n\nAt:\n"
            "  /srv/my models/raises/1/model.py(2): execute\n",
            "Failed to process the request(s) for model 'raises_0', message: ValueError: boom (internal)",
        ),
        ("Unable to parse 'x': says the model", "Unable to parse 'x': says the model"),
    ],
)
def test_a_model_that_fails_is_the_servers_fault_whatever_it_says(text: str, public: str) -> None:
    assert public_error(500, RAN, error(text)) == (500, public)


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (
            400,
            "[request id: <id_unknown>] unexpected shape for input 'in' for model 'echo_fp32'. Expected [-1], got [1,2]. ",
        ),
        (400, "image: every value must be a number from 0 (paper) to 1 (ink)"),
        (404, "Request for unknown model: 'echo_fp32' version 9 is not found"),
        (501, "either/or is no path, and 10:30 no address"),
        (503, "Unavailable"),
    ],
)
def test_what_tells_nothing_passes_as_it_is(status: int, text: str) -> None:
    assert public_error(status, RAN, error(text)) == (status, text)


@pytest.mark.parametrize(
    "secret",
    [
        "/dev/shm/x",
        "/opt",
        "/opt/tritonserver/backends/python/model.py",
        "'/srv/a'",
        "file:///srv/a",
        "triton_python_backend_shm_region_0a1b-c2d3-44",
        "/triton_python_backend_shm_region_1",
        "10.0.3.7:8001",
        "10.0.3.7",
        "[::1]:8001",
        "[fe80::1:2]",
        "localhost:8001",
        "0x7f3a5c0012a0",
    ],
)
def test_the_servers_insides_stay_inside(secret: str) -> None:
    _, text = public_error(500, RAN, error(f"failed at {secret}: no such region"))
    assert text.startswith("failed at ")
    assert text.endswith(": no such region")
    for part in ("dev", "shm", "opt", "srv", "region_", "44", "10.0", "8001", "::", "7f3a"):
        assert part not in text.replace("no such region", "")


@pytest.mark.parametrize(
    "text", ["x" * 1_000_000, "/a" * 500_000, "[::" * 300_000, "\n\nAt" * 200_000, "1." * 500_000]
)
def test_an_error_of_a_million_characters_is_cut(text: str) -> None:
    assert len(public_error(500, RAN, error(text))[1]) <= 1000


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"{}", b'{"error":1}', b'{"error":"\xff"}', b'{"a":' + b"[" * 50_000, b'{"error":"cut'],
)
def test_an_error_that_is_not_in_the_protocol_is_not_repeated(body: bytes) -> None:
    status, text = public_error(500, RAN, body)
    assert (status, text) == (500, "the model server answered with an error that is not in the protocol")
