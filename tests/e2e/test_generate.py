"""Triton's generate extension, compression and statistics: what a client of Triton's sees, it sees here."""

import gzip
import http.client
import json
import os
import signal
import zlib
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton

from gateway.audit.record import Entry
from tests.e2e.world import (
    MODELS,
    Answer,
    Demo,
    entries,
    new_tenant,
    read_answer,
    serving,
    triton_of,
    tritons,
    until,
)

pytestmark = pytest.mark.triton

LEAVE_SECONDS = 1.0
TEXTS = {"inputs": [{"name": "in", "datatype": "BYTES", "shape": [2], "data": ["a", "b" * 500]}]}


def direct(house: Demo, path: str, body: bytes) -> Answer:
    """What Triton itself answers."""
    port = triton_of(house.state, path.split("/")[3])
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request("POST", path, body)
        return read_answer(connection)


@pytest.mark.parametrize("endpoint", ["generate", "generate_stream"])
@pytest.mark.parametrize(
    "said",
    [
        {"text_input": "a"},
        {"text_input": "abc"},
        {"text_input": ""},
        {"id": "r7", "text_input": "é漢🙂\n\"'"},
        {"text_input": "ab", "parameters": {"mine": 1}, "top_p": 0.5, "early": True, "who": "x"},
        {"text_input": ["a"], "milliseconds": [1]},
        {"nothing": 1},
        {"text_input": 7},
        {"text_input": "a", "other": [1]},
        {"text_input": "a", "milliseconds": "x"},
    ],
)
@pytest.mark.parametrize("version", ["", "/versions/1"])
def test_what_the_model_generates_passes_as_triton_says_it(
    house: Demo, endpoint: str, said: dict[str, Any], version: str
) -> None:
    path = f"/v2/models/letters{version}/{endpoint}"
    body = json.dumps(said).encode()
    ours = house.call(path, body)
    theirs = direct(house, path, body)
    assert ours.body == theirs.body
    # Triton answers 500 to what it cannot read.
    assert ours.status == (400 if theirs.status == 500 else theirs.status)
    assert ours.headers["content-type"] == theirs.headers["content-type"]


def test_infer_says_that_it_cannot_ask_a_model_that_replies_as_often_as_it_likes(house: Demo) -> None:
    text = {"name": "text_input", "datatype": "BYTES", "shape": [1], "data": ["a"]}
    answer = house.infer("letters", {"inputs": [text]})
    assert answer.status == 501
    assert answer.json["error"] == "HTTP end point doesn't support models with decoupled transaction policy"


def test_tensors_are_generated_as_numbers(house: Demo) -> None:
    answer = house.call("/v2/models/echo_fp32/generate", {"in": [1, 2.5, -3]})
    assert (answer.status, answer.json["out"]) == (200, [1.0, 2.5, -3.0])


@pytest.mark.parametrize("after", [0, 2])
def test_an_error_within_a_stream_is_told_without_the_servers_insides(house: Demo, after: int) -> None:
    answer = house.call("/v2/models/letters/generate_stream", {"text_input": "abc", "fail_after": after})
    events = [json.loads(event.removeprefix("data: ")) for event in answer.body.decode().split("\n\n")[:-1]]
    assert answer.status == (200 if after else 400)
    assert [event.get("text_output") for event in events[:-1]] == ["a", "b"][:after]
    assert events[-1] == {"error": "no more than that, says (internal) at (internal)"}


def streaming(
    demo: Demo, text: str, **inputs: int
) -> "tuple[http.client.HTTPConnection, http.client.HTTPResponse]":
    connection = demo.connection()
    body = json.dumps({"text_input": text, **inputs})
    connection.request(
        "POST", "/v2/models/letters/generate_stream", body, {"Authorization": f"Bearer {demo.key}"}
    )
    return connection, connection.getresponse()


def test_an_event_is_here_before_the_next_one_is_made_and_who_leaves_stops_the_model(
    house: Demo, tmp_path: Path
) -> None:
    """The second letter would take a minute."""
    left = tmp_path / "left"
    connection, answer = streaming(house, f"left:{left}.", milliseconds=1)
    connection.close()
    answer.close()
    slow = tmp_path / "slow"
    connection, answer = streaming(house, f"left:{slow}.", milliseconds=200)
    assert json.loads(answer.readline().removeprefix(b"data: "))["text_output"] == "l"
    connection.close()
    answer.close()
    until(slow.exists, LEAVE_SECONDS + 0.2, "the model works on for a client that has left")
    request = answer.headers["x-request-id"]
    outcome = until(lambda: _outcome(house, request), 5)
    assert outcome is not None
    assert outcome.requests == 1


def _outcome(demo: Demo, request: str) -> Entry | None:
    return next((e for e in entries(demo.state) if e.kind == "outcome" and e.request == request), None)


def test_a_stream_whose_server_dies_ends_in_an_error_event_and_without_its_end(state: Path) -> None:
    with serving(state, MODELS) as demo:
        connection, answer = streaming(demo, "ab", milliseconds=600)
        assert b'"a"' in answer.readline()
        (server,) = tritons(state)
        os.kill(server, signal.SIGKILL)
        with pytest.raises(http.client.IncompleteRead) as cut:
            answer.read()
        connection.close()
        assert cut.value.partial.strip() == (
            b'data: {"error":"the model server failed while it had this request"}'
        )


# Compression


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
def test_the_official_client_may_compress_both_ways(house: Demo, coding: str, *, binary: bool) -> None:
    values = np.array([b"two words", b"x" * 1000, b""], dtype=np.object_)
    given = triton.InferInput("in", values.shape, "BYTES")
    given.set_data_from_numpy(values, binary_data=binary)
    with triton.InferenceServerClient(house.address) as client:
        result = client.infer(
            "echo_bytes",
            [given],
            outputs=[triton.InferRequestedOutput("out", binary_data=binary)],
            request_compression_algorithm=coding,
            response_compression_algorithm=coding,
            headers={"Authorization": f"Bearer {house.key}"},
        )
    echoed = [text.encode() if isinstance(text, str) else text for text in result.as_numpy("out").tolist()]
    assert echoed == values.tolist()


@pytest.mark.parametrize(("coding", "unpack"), [("gzip", gzip.decompress), ("deflate", zlib.decompress)])
def test_a_reply_is_compressed_for_who_asks(house: Demo, coding: str, unpack: Any) -> None:
    asked = {"Authorization": f"Bearer {house.key}", "Accept-Encoding": f"br, {coding};q=0.5"}
    answer = house.call("/v2/models/echo_bytes/infer", TEXTS, headers=asked)
    assert answer.headers["content-encoding"] == coding
    assert json.loads(unpack(answer.body))["outputs"][0]["data"] == TEXTS["inputs"][0]["data"]
    assert "content-encoding" not in house.call("/v2/models/echo_bytes/infer", TEXTS).headers


def test_a_compressed_generate_request_is_served_where_triton_alone_has_no_word_for_it(house: Demo) -> None:
    headers = {"Authorization": f"Bearer {house.key}", "Content-Encoding": "gzip"}
    body = gzip.compress(b'{"text_input":"a"}')
    answer = house.call("/v2/models/letters/generate", body, headers=headers)
    assert (answer.status, answer.json["text_output"]) == (200, "a")


def test_a_body_that_inflates_without_end_is_refused(house: Demo) -> None:
    headers = {"Authorization": f"Bearer {house.key}", "Content-Encoding": "gzip"}
    answer = house.call("/v2/models/echo_bytes/infer", gzip.compress(bytes(2**28)), headers=headers)
    assert answer.status == 413


# Statistics


def test_the_official_client_reads_its_own_tenants_statistics_and_no_others(house: Demo) -> None:
    ours, theirs = (new_tenant(house.state, name).secret.reveal() for name in ("counted", "uncounted"))
    for key, times in ((ours, 3), (theirs, 2)):
        for _ in range(times):
            assert house.infer("echo_bytes", TEXTS, key=key).status == 200
    with triton.InferenceServerClient(house.address) as client:
        for key, times in ((ours, 3), (theirs, 2)):
            bearer = {"Authorization": f"Bearer {key}"}
            (row,) = client.get_inference_statistics("echo_bytes", headers=bearer)["model_stats"]
            assert (row["name"], row["version"], row["inference_count"]) == ("echo_bytes", "1", times)
            assert row["inference_stats"]["success"]["count"] == times
            assert row["last_inference"] > 0


# Configuration


def test_a_models_configuration_is_shown_where_the_operator_allows_it_and_no_more_of_it(state: Path) -> None:
    with serving(state, MODELS, GATEWAY_HTTP_MODEL_CONFIG="1") as demo:
        with triton.InferenceServerClient(demo.address) as client:
            shown = client.get_model_config("running", headers={"Authorization": f"Bearer {demo.key}"})
        assert (shown["name"], shown["backend"], shown["max_batch_size"]) == ("running", "python", 8)
        assert [entry["data_type"] for entry in shown["output"]] == ["TYPE_INT32", "TYPE_UINT64"]
        assert shown["sequence_batching"]["max_sequence_idle_microseconds"] == 3_000_000
        assert {"parameters", "instance_group", "default_model_filename"}.isdisjoint(shown)
        assert str(state) not in repr(shown)
        assert demo.call("/v2/models/nothing/config").status == 404


def test_a_models_configuration_is_nobodys_business_by_default(house: Demo) -> None:
    answer = house.call("/v2/models/echo_fp32/config")
    assert (answer.status, answer.json["error"]) == (404, "there is nothing at this path")
    assert house.call("/v2/models/echo_fp32/config", headers={}).status == 401
