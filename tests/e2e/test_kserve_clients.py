"""KServe's own clients, REST and gRPC, get through the gateway what they get from Triton itself, whatever the datatype."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.e2e.test_datatypes import GIVEN
from tests.e2e.world import MODELS, Demo, new_tenant, serving, tritons

pytestmark = pytest.mark.triton

UNKNOWN = {"BF16"}  # to version 0.21 of the client
# What that version cannot say: half floats but as raw bytes, and no elements as those of REST, where it sends them as JSON as well.
UNSAID = {("REST", "FP16", "plain"), ("GRPC", "FP16", "plain")}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """Of one server."""
    state = tmp_path_factory.mktemp("kserve") / "state"
    key = new_tenant(state, "kserve").secret.reveal()
    with serving(state, MODELS) as started:
        yield replace(started, key=key)


@pytest.fixture(scope="module")
def said(demo: Demo) -> list[Any]:
    """Protocol, datatype, binary or plain, number of elements, and what was said by us and by Triton."""
    one = {"name": "FP32", "datatype": "FP32", "shape": [1], "data": [1]}
    assert demo.infer("identity", {"inputs": [one]}).status == 200
    (server,) = tritons(demo.state)
    words = Path(f"/proc/{server}/cmdline").read_text().split("\0")
    ports = {word.partition("=")[0]: word.partition("=")[2] for word in words}
    environ = {
        **os.environ,
        "KEY": demo.key,
        "REST": demo.address,
        "GRPC": demo.grpc,
        "DIRECT_REST": f"127.0.0.1:{ports['--http-port']}",
        "DIRECT_GRPC": f"127.0.0.1:{ports['--grpc-port']}",
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.e2e.kserve_client"],
        env=environ,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows: list[Any] = json.loads(done.stdout)
    return rows


@pytest.mark.parametrize("protocol", ["REST", "GRPC"])
@pytest.mark.parametrize("kind", sorted(GIVEN.keys() - UNKNOWN))
def test_every_datatype_that_kserve_knows_is_the_same_through_the_gateway(
    said: list[Any], protocol: str, kind: str
) -> None:
    rows = [row for row in said if row[:2] == [protocol, kind]]
    assert len(rows) == 4
    for _, _, form, number, ours, theirs in rows:
        if (protocol, kind, form) in UNSAID or (protocol, form, number) == ("REST", "binary", 0):
            assert ours[0] == theirs[0] != "identity"
            assert ours[1].endswith(
                theirs[1]
            )  # the client finds no text in an error that Triton does not label as JSON
        else:
            assert ours == theirs
            assert ours[0] == "identity"


def test_kserve_knows_every_other_datatype(said: list[Any]) -> None:
    assert {row[1] for row in said} == GIVEN.keys() - UNKNOWN
