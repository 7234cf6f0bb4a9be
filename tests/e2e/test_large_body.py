"""Binary tensors stream: the gateway holds none of them whole."""

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.e2e.world import MODELS, ROOMY, Demo, new_tenant, read_answer, serving

pytestmark = pytest.mark.triton

MIB = 2**20
BODY_BYTES = 1024 * MIB
GROWTH_BYTES = 64 * MIB


def test_a_body_of_a_gibibyte_grows_the_gateway_by_little(
    state: Path, record_property: Callable[[str, object], None]
) -> None:
    key = new_tenant(state, "roomy", ROOMY).secret.reveal()
    with serving(state, MODELS) as demo:
        assert _sunk(demo, key, MIB) == MIB  # the server runs and the rooms are warm
        memory = Path("/proc", str(demo.process.pid))
        (memory / "clear_refs").write_text("5")  # the peak is counted from here
        before = _kib(memory, "VmHWM")
        assert _sunk(demo, key, BODY_BYTES) == BODY_BYTES
        grown = (_kib(memory, "VmHWM") - before) * 1024
    record_property(
        "growth of the gateway by a body of 1 GiB", f"{grown / MIB:.1f} MiB (bar {GROWTH_BYTES // MIB} MiB)"
    )
    assert grown <= GROWTH_BYTES


def _sunk(demo: Demo, key: str, size: int) -> int:
    """Send this many bytes, a piece at a time, to the model that counts them; what it counted."""
    data = {"name": "data", "datatype": "UINT8", "shape": [size], "parameters": {"binary_data_size": size}}
    head = json.dumps({"inputs": [data]}).encode()
    piece = bytes(MIB)
    with closing(demo.connection()) as connection:
        connection.putrequest("POST", "/v2/models/sink/infer")
        connection.putheader("Authorization", f"Bearer {key}")
        connection.putheader("Inference-Header-Content-Length", str(len(head)))
        connection.putheader("Content-Length", str(len(head) + size))
        connection.endheaders()
        connection.send(head)
        for _ in range(size // len(piece)):
            connection.send(piece)
        answer = read_answer(connection)
    assert answer.status == 200, answer
    counted: int = answer.json["outputs"][0]["data"][0]
    return counted


def _kib(process: Path, name: str) -> int:
    line = next(line for line in (process / "status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1])
