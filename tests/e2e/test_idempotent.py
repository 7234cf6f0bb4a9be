"""Under an Idempotency-Key a model runs once, and whoever asks again hears to the byte what was told first: through every door, of a real
Triton.
"""

import gzip
import http.client
import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.grpc import service_pb2 as official

from gateway.audit.record import Entry
from tests.conftest import ROOT
from tests.e2e.fleets import Fleet, configure, killed, serve
from tests.e2e.world import (
    DIGITS,
    Answer,
    Demo,
    entries,
    fp32,
    in_parallel,
    milliseconds,
    new_tenant,
    serving,
    until,
)

pytestmark = pytest.mark.triton

FLEET = Fleet(
    ["parrot", "vectors", "slow", "running", "echo_bytes", "times07", "letters"],
    models_each=7,
    openai={"parrot": {"backend": "generate", "max_tokens": 10_000}, "vectors": {"backend": "infer"}},
)
REPLAYED = "idempotent-replayed"
SAY = {"model": "parrot", "messages": [{"role": "user", "content": "how do you do"}]}
INFER = "/inference.GRPCInferenceService/ModelInfer"
_numbers = count(1)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    state = tmp_path_factory.mktemp("idempotent") / "state"
    key = configure(state, FLEET)
    with serve(state, key, GATEWAY_GRPC_PORT="0") as made:
        try:
            yield made
        finally:
            killed(made)


@pytest.fixture
def key() -> str:
    """An Idempotency-Key that nobody has used."""
    return f"test {next(_numbers)}"


def ask(demo: Demo, path: str, body: Any, key: str, *, who: str = "", **more: str) -> Answer:
    headers = {"Authorization": f"Bearer {who or demo.key}", "Idempotency-Key": key, **more}
    return demo.call(path, body, headers=headers)


def lasting(answer: Answer) -> tuple[int, Mapping[str, str], bytes]:
    """All of it but what each call has of its own."""
    own = ("x-request-id", "ratelimit", "date", REPLAYED)
    return answer.status, {name: it for name, it in answer.headers.items() if name not in own}, answer.body


def outcome(demo: Demo, request: str) -> Entry:
    def found() -> list[Entry]:
        return [it for it in entries(demo.state) if (it.kind, it.request) == ("outcome", request)]

    (one,) = until(found, 5, "there is no outcome")
    return one


def expect_once(demo: Demo, first: Answer, again: Answer) -> None:
    """The second one is the first one's, and only the first one was served."""
    assert (first.headers.get(REPLAYED), again.headers.get(REPLAYED)) == (None, "true")
    assert lasting(again) == lasting(first)
    assert first.request_id != again.request_id
    assert "ratelimit" not in again.headers or again.headers["ratelimit-policy"]
    served, told = outcome(demo, first.request_id), outcome(demo, again.request_id)
    assert (served.weight, served.requests) == (1, 1)
    assert (told.weight, told.requests, told.tokens, told.replica) == (0, 0, 0, None)


# What is told again


def test_a_model_whose_every_run_counts_runs_once(demo: Demo) -> None:
    def add(number: int, key: str = "", **flags: bool) -> tuple[Answer, int]:
        given = triton.InferInput("add", [1, 1], "INT32")
        given.set_data_from_numpy(np.array([[number]], np.int32), binary_data=False)
        wanted = [triton.InferRequestedOutput("total", binary_data=False)]
        body, _ = triton.InferenceServerClient.generate_request_body([given], wanted, sequence_id=7, **flags)
        headers = {"Authorization": f"Bearer {demo.key}"} | ({"Idempotency-Key": key} if key else {})
        answer = demo.call("/v2/models/running/infer", body, headers=headers)
        return answer, answer.json["outputs"][0]["data"][0]

    assert add(1, sequence_start=True)[1] == 1
    first, total = add(5, "add five")
    assert total == 6
    for _ in range(3):
        again, total = add(5, "add five")
        assert (total, again.headers[REPLAYED]) == (6, "true")
    assert add(0)[1] == 6
    expect_once(demo, first, again)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v2/models/times07/infer", fp32(1, 2, 3, 4)),
        ("/v2/models/times07/versions/1/infer", fp32(1, 2, 3, 4)),
        ("/v2/models/echo_bytes/generate", {"in": "once"}),
        ("/v1/chat/completions", SAY),
        ("/v1/completions", {"model": "parrot", "prompt": "how do you do"}),
        ("/v1/embeddings", {"model": "vectors", "input": ["a", "b"]}),
    ],
)
def test_the_same_answer_is_told_again(demo: Demo, key: str, path: str, body: Any) -> None:
    first, again = ask(demo, path, body, key), ask(demo, path, body, key)
    assert first.status == 200
    expect_once(demo, first, again)


def test_binary_tensors_are_told_again_and_compression_changes_nothing(demo: Demo, key: str) -> None:
    given = triton.InferInput("in", [4], "FP32")
    given.set_data_from_numpy(np.array([1, 2, 3, 4], np.float32))
    asked = [triton.InferRequestedOutput("out", binary_data=True)]
    body, head = triton.InferenceServerClient.generate_request_body([given], asked)
    length = {"Inference-Header-Content-Length": str(head), "Accept-Encoding": "gzip"}
    first = ask(demo, "/v2/models/times07/infer", body, key, **length)
    assert first.body.endswith(np.array([7, 14, 21, 28], np.float32).tobytes())
    assert "content-encoding" not in first.headers
    packed = {**length, "Content-Encoding": "gzip"}
    again = ask(demo, "/v2/models/times07/infer", gzip.compress(body), key, **packed)
    expect_once(demo, first, again)
    assert "inference-header-content-length" in again.headers


def test_an_error_that_the_model_tells_is_an_answer_too(demo: Demo, key: str) -> None:
    path, body = "/v2/models/times07/infer", fp32(1, 2, 3)
    first, again = ask(demo, path, body, key), ask(demo, path, body, key)
    assert (first.status, REPLAYED in first.headers) == (400, False)
    assert (lasting(again), again.headers[REPLAYED]) == (lasting(first), "true")


def test_a_model_that_fails_within_its_answer_does_not_run_again(demo: Demo, key: str) -> None:
    body = {**SAY, "messages": [{"role": "user", "content": "fail:1 now"}]}
    first = ask(demo, "/v1/chat/completions", body, key)
    assert (first.status, first.json["error"]["code"]) == (500, "model_failed")
    again = until_told(demo, "/v1/chat/completions", body, key, "not known")
    assert (again.status, again.json["error"]["code"]) == (409, "already_run")


def call(demo: Demo, message: Any, *more: tuple[str, str]) -> tuple[str, bytes, dict[str, Any]]:
    """Status, the reply or an error's text, and the trailing metadata."""
    metadata = (("authorization", f"Bearer {demo.key}"), *more)
    with grpc.insecure_channel(demo.grpc) as channel:
        try:
            method: Any = channel.unary_unary(INFER)
            reply, done = method.with_call(message.SerializeToString(), metadata=metadata)
        except grpc.RpcError as error:
            failed: Any = error
            return failed.code().name, failed.details().encode(), dict(failed.trailing_metadata())
        return done.code().name, reply, dict(done.trailing_metadata())


def times07(*values: float) -> Any:
    tensor = official.ModelInferRequest.InferInputTensor(name="in", datatype="FP32", shape=[len(values)])
    raw = np.array(values, np.float32).tobytes()
    return official.ModelInferRequest(model_name="times07", inputs=[tensor], raw_input_contents=[raw])


@pytest.mark.parametrize(("values", "status"), [((1, 2, 3, 4), "OK"), ((1, 2, 3), "INVALID_ARGUMENT")])
def test_over_grpc_the_same_reply_is_told_again(
    demo: Demo, key: str, values: tuple[float, ...], status: str
) -> None:
    (code, reply, told), (again, same, later) = (
        call(demo, times07(*values), ("idempotency-key", key)) for _ in range(2)
    )
    assert (code, again, reply) == (status, status, same)
    assert (told.get(REPLAYED), later[REPLAYED]) == (None, "true")
    assert told["x-request-id"] != later["x-request-id"]
    served, replayed = (outcome(demo, it["x-request-id"]) for it in (told, later))
    assert (served.requests, replayed.requests, replayed.weight) == (1, 0, 0)


# What is refused


def test_another_request_cannot_have_the_key(demo: Demo, key: str) -> None:
    assert ask(demo, "/v2/models/times07/infer", fp32(1, 2, 3, 4), key).status == 200
    for path, body in (
        ("/v2/models/times07/infer", fp32(1, 2, 3, 5)),
        ("/v2/models/times07/versions/1/infer", fp32(1, 2, 3, 4)),
        ("/v2/models/echo_bytes/generate", {"in": "a"}),
    ):
        assert ask(demo, path, body, key).status == 422
    refused = ask(demo, "/v1/chat/completions", SAY, key)
    assert (refused.status, refused.json["error"]["code"]) == (422, "idempotency_key_reused")
    code, text, _ = call(demo, times07(1, 2, 3, 4), ("idempotency-key", key))
    assert (code, b"another request" in text) == ("INVALID_ARGUMENT", True)


def test_another_tenants_equal_key_is_its_own(demo: Demo, key: str) -> None:
    other = new_tenant(demo.state, "other-idempotent").secret.reveal()
    answers = [ask(demo, "/v2/models/times07/infer", fp32(1, 2, 3, 4), key, who=who) for who in ("", other)]
    assert [(it.status, REPLAYED in it.headers) for it in answers] == [(200, False)] * 2
    again = ask(demo, "/v2/models/times07/infer", fp32(9, 9, 9, 9), key, who=other)
    assert again.status == 422


@pytest.mark.parametrize(
    ("path", "body", "why"),
    [
        ("/v2/models/letters/generate_stream", {"text_input": "abc"}, "streamed"),
        ("/v1/chat/completions", {**SAY, "stream": True}, "streamed"),
        ("/v2/models/echo_bytes/generate", {"in": "a" * (2**20 + 1)}, "larger than 1 MiB"),
        (
            "/v2/models/echo_bytes/infer",
            {"inputs": [{"name": "in", "datatype": "BYTES", "shape": [2], "data": ["a" * 600_000] * 2}]},
            "larger than 1 MiB",
        ),
    ],
)
def test_what_is_streamed_or_large_is_told_as_it_comes_and_not_again(
    demo: Demo, key: str, path: str, body: Any, why: str
) -> None:
    first = ask(demo, path, body, key)
    assert (first.status, REPLAYED in first.headers) == (200, False)
    again = until_told(demo, path, body, key, why)
    assert (again.status, "retry-after" in again.headers) == (409, False)


def until_told(demo: Demo, path: str, body: Any, key: str, words: str) -> Answer:
    """The first answer that has these words in it, to who asks again and again."""

    def found() -> list[Answer]:
        answer = ask(demo, path, body, key)
        return [answer] if words.encode() in answer.body else []

    return until(found, 10, f"never: {words}")[0]


def test_of_all_who_ask_at_once_one_is_served_and_the_others_are_told_to_wait(demo: Demo, key: str) -> None:
    def one() -> Answer:
        return ask(demo, "/v2/models/slow/infer", milliseconds(700), key)

    answers = in_parallel([one] * 8)
    assert sorted(it.status for it in answers) == [200, *[409] * 7]
    assert {it.headers["retry-after"] for it in answers if it.status == 409} == {"1"}
    (first,) = (it for it in answers if it.status == 200)
    expect_once(demo, first, one())


@pytest.mark.parametrize("bad", ["", "a" * 256, "caf\u00e9", "a\tb"])
def test_a_key_that_is_none_is_refused_at_each_door(demo: Demo, bad: str) -> None:
    for path, body in (("/v2/models/times07/infer", fp32(1, 2, 3, 4)), ("/v1/chat/completions", SAY)):
        assert ask(demo, path, body, bad).status == 400


def test_a_stream_takes_no_key_and_what_only_reads_does_not_look_at_it(demo: Demo, key: str) -> None:
    metadata = (("authorization", f"Bearer {demo.key}"), ("idempotency-key", key))
    with grpc.insecure_channel(demo.grpc) as channel:
        stream: Any = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
        with pytest.raises(grpc.RpcError) as refused:
            next(stream(iter([times07(1, 2, 3, 4).SerializeToString()]), metadata=metadata))
    failed: Any = refused.value
    assert (failed.code().name, "ModelInfer" in failed.details()) == ("INVALID_ARGUMENT", True)
    for _ in range(2):
        described = demo.call(
            "/v2/models/times07", headers={"Authorization": f"Bearer {demo.key}", "Idempotency-Key": key}
        )
        assert (described.status, REPLAYED in described.headers) == (200, False)
    assert call(demo, times07(1, 2, 3, 4), ("idempotency-key", ""))[0] == "INVALID_ARGUMENT"


# Clients that leave


def claims(demo: Demo) -> int:
    """How many calls were sent under a key until now."""
    metrics = Demo(demo.process, demo.state, *address(demo.operator), "").call("/metrics").body.decode()
    found = re.findall(r'^gateway_idempotency_claims\w*\{[^}]*="claimed"[^}]*\} (\d+)', metrics, re.MULTILINE)
    return sum(map(int, found))


def address(url: str) -> tuple[str, int]:
    host, _, port = url.rpartition("/")[2].rpartition(":")
    return host, int(port)


@contextmanager
def under_way(demo: Demo, path: str, body: Any, key: str) -> Iterator[http.client.HTTPConnection]:
    """A client whose call has been sent; it leaves with the block."""
    headers = {"Authorization": f"Bearer {demo.key}", "Idempotency-Key": key}
    before = claims(demo)
    with closing(demo.connection()) as connection:
        connection.request("POST", path, json.dumps(body), headers)
        until(lambda: claims(demo) > before, 10, "it never ran")
        yield connection


def test_who_left_and_asks_again_hears_the_answer_of_the_one_run(demo: Demo, key: str) -> None:
    path, body = "/v2/models/slow/infer", milliseconds(1500)
    before = {it.request for it in entries(demo.state)}
    with under_way(demo, path, body, key):
        assert b"still under way" in ask(demo, path, body, key).body
    again = until_told(demo, path, body, key, '"slept"')
    assert (again.status, again.headers[REPLAYED]) == (200, "true")
    outcome(demo, again.request_id)
    served = [it for it in entries(demo.state) if it.request not in before and it.requests]
    assert len(served) == 1


def test_over_grpc_who_waited_no_longer_hears_the_answer_of_the_one_run(demo: Demo, key: str) -> None:
    tensor = official.ModelInferRequest.InferInputTensor(name="milliseconds", datatype="INT32", shape=[1])
    raw = np.array([1500], np.int32).tobytes()
    message = official.ModelInferRequest(model_name="slow", inputs=[tensor], raw_input_contents=[raw])
    assert call(demo, times07(1, 2, 3, 4))[0] == "OK"
    metadata = (("authorization", f"Bearer {demo.key}"), ("idempotency-key", key))
    with grpc.insecure_channel(demo.grpc) as channel:
        with pytest.raises(grpc.RpcError) as late:
            channel.unary_unary(INFER)(message.SerializeToString(), metadata=metadata, timeout=0.7)
        failed: Any = late.value
        assert failed.code().name == "DEADLINE_EXCEEDED"

    def found() -> list[tuple[bytes, dict[str, Any]]]:
        code, reply, told = call(demo, message, ("idempotency-key", key))
        return [(reply, told)] if code == "OK" else []

    reply, told = until(found, 10, "its answer is not kept")[0]
    assert told[REPLAYED] == "true"
    assert raw in reply


def test_a_client_that_sent_half_of_its_body_has_run_nothing(demo: Demo, key: str) -> None:
    body = json.dumps(fp32(1, 2, 3, 4)).encode()
    with closing(demo.connection()) as connection:
        connection.putrequest("POST", "/v2/models/times07/infer")
        for name, value in (("Authorization", f"Bearer {demo.key}"), ("Idempotency-Key", key)):
            connection.putheader(name, value)
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body[:-5])
    answer = ask(demo, "/v2/models/times07/infer", body, key)
    assert (answer.status, REPLAYED in answer.headers) == (200, False)


# The page


def test_the_example_of_the_page_prints_what_it_says(state: Path, tmp_path: Path) -> None:
    page = (ROOT / "gateway" / "README.md").read_text()
    (block,) = re.findall(r"<!-- test: idempotent -->\n```console\n(.*?)```", page, re.DOTALL)
    lines = block.splitlines()
    commands = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    with serving(state, DIGITS) as served:
        demo = replace(served, key=new_tenant(state, "roomy").secret.reveal())
        done = subprocess.run(
            ["bash", "-c", "\n".join(commands)],
            cwd=tmp_path,
            env={"PATH": "/usr/bin:/bin", "GATEWAY": demo.address, "KEY": demo.key},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    printed = [line for line in lines if not line.startswith("$ ")]
    assert (done.stdout.splitlines(), done.stderr) == (printed, "")
