"""What a tenant's calls were, through every door of a real gateway over a real Triton: sealed when it has ended, opened for whoever has the
state's keys, and nowhere in the clear.
"""

import json
from base64 import b64decode
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton

from tenants.acts import Act
from tenants.directory import Directory
from tenants.privacy import Privacy
from tests.e2e.fleets import Fleet, configure, killed, serve
from tests.e2e.test_grpc_clients import Client
from tests.e2e.world import Demo, change, command, new_tenant

pytestmark = pytest.mark.triton

FLEET = Fleet(["parrot", "echo_bytes"], openai={"parrot": {"backend": "generate", "max_tokens": 10_000}})
MAIL = "ann@example.com"
WORD = "planted8z"
SAID = f"{WORD} wrote to {MAIL}"


def watched(state: Path, name: str) -> str:
    """The key of a new tenant whose calls are all captured."""
    key = new_tenant(state, name).secret.reveal()

    async def act(directory: Directory) -> None:
        await directory.values.put(Privacy(name, mask=("email",), capture="on"), act=Act("test", 1))
        await directory.tenants.change(name, Act("test", 1), privacy=name)

    change(state, act)
    return key


def over_http(demo: Demo, key: str) -> list[str]:
    """Binary, JSON, streamed and OpenAI's requests; the ids of the latter two."""
    with triton.InferenceServerClient(demo.address) as client:
        for binary in (True, False):
            tensor = triton.InferInput("in", [1], "BYTES")
            tensor.set_data_from_numpy(np.array([SAID], np.object_), binary_data=binary)
            client.infer("echo_bytes", [tensor], headers={"authorization": f"Bearer {key}"})
    asked: list[tuple[str, Any]] = [
        ("/v2/models/parrot/generate_stream", {"text_input": SAID}),
        ("/v1/completions", {"model": "parrot", "prompt": SAID}),
        ("/v1/completions", {"model": "parrot", "prompt": SAID, "stream": True}),
    ]
    answers = [demo.call(path, body, key=key) for path, body in asked]
    assert {it.status for it in answers} == {200}
    return [it.request_id for it in answers]


def over_grpc(demo: Demo, key: str) -> None:
    client = Client(demo.grpc, key)
    tensor = triton_grpc.InferInput("in", [1], "BYTES")
    tensor.set_data_from_numpy(np.array([SAID], np.object_))
    client.infer("echo_bytes", [tensor])
    client.streamed("echo_bytes", [tensor], 1)
    client.plain.close()


def shown(state: Path, *words: str) -> Any:
    ran = command("captures", *words, "--tenant", "watched", "--state", str(state), "--json")
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def opened(state: Path) -> list[tuple[dict[str, Any], bytes, bytes]]:
    all_of_them = [shown(state, "show", it["request"]) for it in shown(state, "list")]
    return [
        (it["head"], b64decode(it["request_base64"]), b64decode(it["reply_base64"])) for it in all_of_them
    ]


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The state after calls through every door, the last of them just before SIGTERM, and the ids of what was streamed and OpenAI's."""
    state = tmp_path_factory.mktemp("captured") / "state"
    first = configure(state, FLEET)
    settings = json.loads((state / "gateway.yaml").read_text())
    settings["listen"]["grpc"] = "127.0.0.1:0"
    (state / "gateway.yaml").write_text(json.dumps(settings))
    key = watched(state, "watched")
    with serve(state, first) as demo:
        try:
            demo.call("/v2/models/parrot/generate_stream", {"text_input": "not kept"})
            over_grpc(demo, key)
            ids = over_http(demo, key)
            assert demo.stop() == 0
        finally:
            killed(demo)
    return state, ids


def test_every_call_is_there_as_the_model_saw_it_though_the_gateway_ended_at_once(
    ended: tuple[Path, list[str]],
) -> None:
    state, ids = ended
    found = opened(state)
    doors = sorted((head["protocol"], head["endpoint"]) for head, _, _ in found)
    assert doors == [
        ("oip-grpc", "infer"),
        ("oip-grpc-stream", "infer"),
        ("oip-rest", "generate_stream"),
        ("oip-rest", "infer"),
        ("oip-rest", "infer"),
        ("openai", "generate_stream"),
        ("openai", "generate_stream"),
    ]
    assert set(ids) <= {head["request"] for head, _, _ in found}
    for head, request, reply in found:
        assert (head["ending"], head["model_version"], head["reply_status"]) == ("done", "1", 200)
        assert f"{WORD} wrote to [EMAIL]".encode() in request
        assert MAIL.encode() not in request + reply
        assert b"[EMAIL]" in reply
        assert head.get("request_head_bytes", 0) < len(request)
    assert sum("request_head_bytes" in head for head, _, _ in found) == 1


def test_of_a_stream_every_event_is_there(ended: tuple[Path, list[str]]) -> None:
    (reply,) = [
        reply
        for head, _, reply in opened(ended[0])
        if head["endpoint"] == "generate_stream" and head["protocol"] == "oip-rest"
    ]
    events = [json.loads(it[6:]) for it in reply.split(b"\n\n") if it.startswith(b"data: {")]
    assert "".join(it["text_output"] for it in events) == f"{WORD} wrote to [EMAIL]"


def test_nothing_that_was_captured_is_in_the_state_or_the_log_in_the_clear(
    ended: tuple[Path, list[str]],
) -> None:
    state, _ = ended
    files = [it for it in (*state.rglob("*"), state.with_suffix(".stderr")) if it.is_file()]
    assert [it for it in files if WORD.encode() in it.read_bytes()] == []
    assert sum(it.name.endswith(",blob") for it in files) == 7


def test_a_destroyed_data_key_takes_all_captures_with_it(
    ended: tuple[Path, list[str]], tmp_path: Path
) -> None:
    state = ended[0]
    rows = json.loads(
        command("data-keys", "list", "--tenant", "watched", "--state", str(state), "--json").stdout
    )
    (key,) = [it["id"] for it in rows if it["purpose"] == "capture"]
    words = ("--tenant", "watched", "--state", str(state))
    gone = command("data-keys", "destroy", key, *words, "--wait", "0", "--reason", "forget them")
    assert gone.returncode == 0, gone.stderr
    for row in shown(state, "list"):
        ran = command("captures", "show", row["request"], *words, "--out", str(tmp_path / "out"))
        assert (ran.returncode, "destroyed" in ran.stderr) == (1, True)
    assert not (tmp_path / "out").exists()
