"""What requests and replies say, the keys that seal what is kept of them, and Idempotency-Keys are nowhere afterwards: not in a file of the
state, the log at level DEBUG or the figures. Every door is asked, well, badly and half, by a tenant whose payloads are captured, by one
whose personal data is masked and restored, by one whose is masked, and by one with no privacy.

The key file is left out: it is there to hold the keys that wrap the others.
"""

import asyncio
import base64
import contextlib
import json
import socket
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from gateway.settings import Settings
from gateway.state import opened_directory
from gateway.state_keys import KEY_FILE, opened_openers
from tenants.acts import Act
from tenants.directory import Directory
from tenants.privacy import Privacy
from tests.e2e.fleets import Fleet, configure, killed, serve
from tests.e2e.world import Demo, change, command, new_tenant

pytestmark = pytest.mark.triton

FLEET: Final = Fleet(
    ["parrot", "echo_bytes"], openai={"parrot": {"backend": "generate", "max_tokens": 10_000}}
)
WORD: Final = "payload7q"
MAIL: Final = f"{WORD}.ann@example.com"
PRIVACIES: Final = (
    Privacy("open", capture="on"),
    Privacy("back", mask=("email", "phone"), reversible=True, capture="on"),
    Privacy("away", mask=("email", "payment_card", "iban", "national_id")),
)


@dataclass(slots=True)
class Field:
    """A gateway, the keys of its tenants by name, and all that was said."""

    demo: Demo
    keys: Mapping[str, str]
    statuses: dict[str, int] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)

    def ask(self, name: str, path: str, body: Any, tenant: str, **headers: str) -> None:
        sent = {"authorization": f"Bearer {self.keys[tenant]}", "idempotency-key": f"{WORD}-{name}"}
        told = {key.replace("_", "-"): value for key, value in headers.items()}
        answer = self.demo.call(path, body, headers=sent | told)
        self.statuses[f"{tenant}: {name}"] = answer.status
        self.requests.append(answer.request_id)


@pytest.fixture
def planted(tmp_path: Path) -> Iterator[Field]:
    state = tmp_path / "state"
    key = configure(state, FLEET)
    keys = {it.name: new_tenant(state, it.name).secret.reveal() for it in PRIVACIES}
    keys["bare"] = new_tenant(state, "bare").secret.reveal()

    async def protect(directory: Directory) -> None:
        act = Act("test", 1)
        for it in PRIVACIES:
            await directory.values.put(it, act=act)
            await directory.tenants.change(it.name, act, privacy=it.name)

    change(state, protect)
    with serve(state, key, GATEWAY_LOG_DEBUG="1", GATEWAY_GRPC_PORT="0") as demo:
        try:
            yield Field(demo, keys)
        finally:
            killed(demo)


def test_no_payload_and_no_key_that_seals_one_is_found_anywhere_afterwards(
    planted: Field, record_property: Callable[[str, object], None]
) -> None:
    state = planted.demo.state
    for tenant in planted.keys:
        ask_over_http(planted, tenant)
        ask_over_grpc(planted, tenant)
        leave_half(planted, tenant)
    assert {200, 400} <= set(planted.statuses.values())
    with urllib.request.urlopen(f"{planted.demo.operator}/metrics") as answer:
        said = {"metrics": answer.read()}
    said |= files(state, "while it served")
    planted.demo.stop()
    said |= files(state, "afterwards") | {
        "stderr": state.with_suffix(".stderr").read_bytes(),
        "stdout": planted.demo.process.stdout.read() if planted.demo.process.stdout else b"",
    }
    keys = materials(state)
    assert {"audit", "capture", "replies"} <= {name.split()[0] for name in keys}
    needles = {f"the word in {way}": text for way, text in spelled(WORD.encode()).items()}
    needles |= {f"{name} in {way}": text for name, key in keys.items() for way, text in spelled(key).items()}
    found = {
        what: [name for name, content in said.items() if text in content] for what, text in needles.items()
    }
    assert {what: where for what, where in found.items() if where} == {}
    record_property(f"of {len(needles)} texts, found in {len(said)} places", 0)
    expect_kept(planted)


def ask_over_http(planted: Field, tenant: str) -> None:
    """Each twice: the second answer is the kept one. Then what is refused, with the word in it."""
    text = f"{WORD} {MAIL} said {WORD}"
    tensor = {"name": "in", "shape": [1], "datatype": "BYTES", "data": [text]}
    asked: list[tuple[str, str, Any, dict[str, str]]] = [
        ("infer", "/v2/models/echo_bytes/infer", {"id": WORD, "inputs": [tensor]}, {}),
        ("binary", "/v2/models/echo_bytes/infer", *binary(text)),
        ("generate", "/v2/models/echo_bytes/generate", {"in": text}, {}),
        ("stream", "/v2/models/parrot/generate_stream", {"text_input": text}, {}),
        ("whole", "/v1/completions", {"model": "parrot", "prompt": text}, {}),
        ("streamed", "/v1/completions", {"model": "parrot", "prompt": text, "stream": True}, {}),
        ("fails", "/v1/completions", {"model": "parrot", "prompt": f"{text} fail:2"}, {}),
        ("breaks", "/v2/models/parrot/generate_stream", {"text_input": f"{text} fail:2"}, {}),
        ("no json", "/v2/models/echo_bytes/infer", f"{{{WORD}".encode(), {}),
        ("no tensor", "/v2/models/echo_bytes/infer", {"inputs": [{"name": WORD}]}, {}),
        ("wrong tensor", "/v2/models/echo_bytes/infer", {"inputs": [tensor | {"name": WORD}]}, {}),
        ("parameter", "/v2/models/echo_bytes/infer", {"inputs": [tensor], "parameters": {WORD: WORD}}, {}),
        ("no messages", "/v1/chat/completions", {"model": "parrot", "messages": WORD}, {}),
        ("no model", "/v1/completions", {"model": WORD, "prompt": WORD}, {}),
        ("no path", f"/v2/{WORD}", {"in": text}, {}),
        ("no numbers", "/v2/models/parrot/generate", {"text_input": text, "max_tokens": WORD}, {}),
    ]
    for name, path, body, headers in asked:
        for _ in range(2):
            planted.ask(name, path, body, tenant, **headers)
    planted.ask("infer", "/v2/models/echo_bytes/infer", {"inputs": [tensor], "id": f"other {WORD}"}, tenant)


def binary(text: str) -> tuple[bytes, dict[str, str]]:
    element = text.encode()
    tensor = len(element).to_bytes(4, "little") + element
    asked = {"name": "in", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": len(tensor)}}
    out = {"name": "out", "parameters": {"binary_data": True}}
    head = json.dumps({"inputs": [asked], "outputs": [out]}).encode()
    return head + tensor, {"inference_header_content_length": str(len(head))}


def ask_over_grpc(planted: Field, tenant: str) -> None:
    text = f"{WORD} {MAIL}".encode()
    tensor = triton.InferInput("in", [1], "BYTES").set_data_from_numpy(np.array([text], np.object_))
    unknown = triton.InferInput(WORD, [1], "BYTES").set_data_from_numpy(np.array([text], np.object_))
    metadata = {"authorization": f"Bearer {planted.keys[tenant]}", "idempotency-key": f"{WORD}-grpc"}
    with triton.InferenceServerClient(planted.demo.grpc) as client:
        for _ in range(2):
            with contextlib.suppress(InferenceServerException):
                client.infer("echo_bytes", [tensor], headers=metadata, request_id=WORD)
        for inputs in ([unknown], [tensor, tensor]):
            with pytest.raises(InferenceServerException):
                client.infer("echo_bytes", inputs, headers={"authorization": metadata["authorization"]})


def leave_half(planted: Field, tenant: str) -> None:
    """A body that breaks off, and a reply that its client leaves."""
    head = (
        f"POST /v2/models/parrot/generate_stream HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {planted.keys[tenant]}\r\n"
        f"idempotency-key: {WORD}-half-{{}}\r\ncontent-length: {{}}\r\n\r\n"
    )
    body = json.dumps({"text_input": f"{WORD} {MAIL} slow:50 and on and on and on"}).encode()
    for number, (length, sent) in enumerate(((len(body), body), (len(body) + 100, body))):
        with socket.create_connection((planted.demo.host, planted.demo.port), timeout=30) as connection:
            connection.sendall(head.format(number, length).encode() + sent)
            if number == 0:
                assert connection.recv(1)


def materials(state: Path) -> dict[str, bytes]:
    """Every data key of the state, by purpose and id."""
    settings = Settings(state=state)

    async def opened() -> dict[str, bytes]:
        async with opened_directory(settings) as directory:
            tenants = (await directory.tenants.list()).values
            kept = [it for tenant in tenants for it in (await directory.data_keys.of(tenant.id)).values()]
        async with opened_openers(settings) as keyring:
            keys = [await keyring.opening(it.tenant_id, it.id) for it in kept]
        return {f"{it.purpose} {it.id}": key.material.reveal() for it, key in zip(kept, keys, strict=True)}

    return asyncio.run(opened())


def spelled(text: bytes) -> dict[str, bytes]:
    """As it may be written: plain, in hex, in UTF-16, and in base64 wherever it begins, by what does not depend on its neighbours."""
    shifted = {
        f"base64 {at}": base64.b64encode(bytes(at) + text)[-(-8 * at // 6) : (8 * (at + len(text))) // 6]
        for at in range(3)
    }
    return {
        "plain": text,
        "hex": text.hex().encode(),
        "UTF-16": text.decode("latin-1").encode("utf-16-le"),
        **shifted,
    }


def files(state: Path, when: str) -> dict[str, bytes]:
    """All of the state, by name, but the key file."""
    found = {
        f"{path.relative_to(state)} {when}": path.read_bytes()
        for path in state.rglob("*")
        if path.is_file() and path.name != KEY_FILE
    }
    assert len(found) > 3
    return found


def expect_kept(planted: Field) -> None:
    """It was all there to be found: whoever has the keys reads the word."""
    state, first = planted.demo.state, planted.requests[0]
    shown = command("captures", "show", first, "--tenant", "open", "--state", state, "--json").stdout
    assert any(text in shown.encode() for text in spelled(WORD.encode()).values())
    assert list((state / "blobs" / "replies").rglob("*,blob"))
