"""What a real model saw of a tenant whose personal data is masked: the echoes say it."""

import json
from collections.abc import Iterator
from queue import Queue

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient import grpc

from gateway.wire.restored import elements
from tenants.acts import Act
from tenants.directory import Directory
from tenants.privacy import Privacy
from tests.e2e.fleets import Fleet, configure, killed, serve
from tests.e2e.world import Demo, change, new_tenant

pytestmark = pytest.mark.triton

FLEET = Fleet(
    ["parrot", "echo_bytes", "identity", "letters"],
    openai={"parrot": {"backend": "generate", "max_tokens": 10_000}},
)
MAIL = "ann@example.com"
SAID = f"write to {MAIL} or to bob@example.com today"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    state = tmp_path_factory.mktemp("masked") / "state"
    key = configure(state, FLEET)
    with serve(state, key, GATEWAY_GRPC_PORT="0") as made:
        try:
            yield made
        finally:
            killed(made)


def protected(demo: Demo, name: str, *, reversible: bool = False) -> str:
    """The key of a new tenant with such a privacy."""
    key = new_tenant(demo.state, name).secret.reveal()

    async def act(directory: Directory) -> None:
        await directory.values.put(Privacy(name, mask=("email",), reversible=reversible), act=Act("test", 1))
        await directory.tenants.change(name, Act("test", 1), privacy=name)

    change(demo.state, act)
    return key


def test_texts_are_masked_in_json_in_binary_and_over_http_as_triton_reads_them(demo: Demo) -> None:
    key = protected(demo, "plain")
    given = np.array([MAIL, "漢字", "to " + MAIL], np.object_)
    with triton.InferenceServerClient(demo.address) as client:
        for binary in (True, False):
            tensor = triton.InferInput("in", [3], "BYTES")
            tensor.set_data_from_numpy(given, binary_data=binary)
            got = client.infer("echo_bytes", [tensor], headers={"authorization": f"Bearer {key}"})
            assert [it.decode() for it in got.as_numpy("out")] == ["[EMAIL]", "漢字", "to [EMAIL]"]
    answer = demo.call("/v2/models/parrot/generate_stream", {"text_input": SAID}, key=key)
    assert b"[EMAIL]" in answer.body
    assert b"example.com" not in answer.body


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_of_openais_api_is_restored_and_of_another_tenant_it_is_not(
    demo: Demo, *, stream: bool
) -> None:
    for name, reversible, told in (
        (f"back-{stream}".lower(), True, SAID),
        (f"away-{stream}".lower(), False, "write to [EMAIL] or to [EMAIL] today"),
    ):
        key = protected(demo, name, reversible=reversible)
        body = {"model": "parrot", "prompt": SAID, "stream": stream}
        answer = demo.call("/v1/completions", body, key=key)
        assert answer.status == 200
        events = (
            [json.loads(it[6:]) for it in answer.body.split(b"\n\n") if it.startswith(b"data: {")]
            if stream
            else [answer.json]
        )
        assert "".join(it["choices"][0]["text"] for it in events if it["choices"]) == told


def tensor(*texts: str, binary: bool = True) -> triton.InferInput:
    made = triton.InferInput("in", [len(texts)], "BYTES")
    made.set_data_from_numpy(np.array(texts, np.object_), binary_data=binary)
    return made


@pytest.mark.parametrize("asks_binary", [False, True])
def test_tensors_over_http_come_back_restored_and_with_true_sizes(demo: Demo, *, asks_binary: bool) -> None:
    key = protected(demo, f"tensors-{asks_binary}".lower(), reversible=True)
    given = (SAID, "漢字", "[EMAIL_1] [EMAIL_9] [EMAIL_")
    headers = {"authorization": f"Bearer {key}"}
    with triton.InferenceServerClient(demo.address) as client:
        for compression in (None, "gzip"):
            got = client.infer(
                "echo_bytes",
                [tensor(*given)],
                outputs=[triton.InferRequestedOutput("out", binary_data=asks_binary)],
                request_id=MAIL,
                headers=headers,
                response_compression_algorithm=compression,
            )
            said = [it if isinstance(it, str) else it.decode() for it in got.as_numpy("out")]
            assert (said, got.get_response()["id"]) == (list(given), MAIL)
        numbers = triton.InferInput("FP32", [3], "FP32")
        numbers.set_data_from_numpy(np.array([1.5, 2.5, 3.5], np.float32))
        got = client.infer("identity", [numbers], request_id=MAIL, headers=headers)
        assert (got.as_numpy("FP32_OUT").tolist(), got.get_response()["id"]) == ([1.5, 2.5, 3.5], MAIL)


def test_a_stream_of_single_characters_comes_back_restored_over_each_door(demo: Demo) -> None:
    key = protected(demo, "letter-by-letter", reversible=True)
    said = f"{SAID} [EMAIL_1] [EMAIL_"
    answer = demo.call("/v2/models/letters/generate_stream", {"text_input": said}, key=key)
    events = [json.loads(it[6:]) for it in answer.body.split(b"\n\n") if it.startswith(b"data: {")]
    assert "".join(it["text_output"] for it in events) == said
    answers: Queue[grpc.InferResult] = Queue()
    with grpc.InferenceServerClient(demo.grpc) as client:
        client.start_stream(
            lambda result, error: answers.put(error or result), headers={"authorization": f"Bearer {key}"}
        )
        text = grpc.InferInput("text_input", [1], "BYTES")
        text.set_data_from_numpy(np.array([said], np.object_))
        client.async_stream_infer("letters", [text], enable_empty_final_response=True)
        told = ""
        while True:
            response = answers.get(timeout=30).get_response()
            told += b"".join(elements(b"".join(response.raw_output_contents))).decode()
            if response.parameters["triton_final_response"].bool_param:
                break
        client.stop_stream()
    assert told == said


def test_one_reply_over_grpc_and_generate_come_back_restored(demo: Demo) -> None:
    key = protected(demo, "one-reply", reversible=True)
    with grpc.InferenceServerClient(demo.grpc) as client:
        given = grpc.InferInput("in", [2], "BYTES")
        given.set_data_from_numpy(np.array([SAID, MAIL], np.object_))
        got = client.infer("echo_bytes", [given], request_id=MAIL, headers={"authorization": f"Bearer {key}"})
        assert [it.decode() for it in got.as_numpy("out")] == [SAID, MAIL]
        assert got.get_response().id == MAIL
    answer = demo.call("/v2/models/echo_bytes/generate", {"in": [SAID], "id": MAIL}, key=key)
    assert answer.json["out"] == SAID
