"""What an anonymous client can use up: nothing that another one needs."""

import json
import resource
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import msgspec
import pytest

from gateway.audit.record import DenialsBody
from gateway.audit.segment import scan
from tests.e2e.world import (
    MODELS,
    Demo,
    announced,
    entries,
    fp32,
    milliseconds,
    read_answer,
    running,
    serving,
    stored_segments,
    until,
)

pytestmark = pytest.mark.triton

FILES = 256
IDLE = 400  # more than there are files
HEAD_SECONDS = "2"


@pytest.fixture
def narrow(state: Path) -> Iterator[Demo]:
    """A demo that may open few files, and starts with a soft limit of half of them."""
    repository = ("--json", "--repository", str(MODELS))
    with running(state, *repository, GATEWAY_HTTP_HEAD_SECONDS=HEAD_SECONDS) as process:
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (FILES // 2, FILES))
        yield announced(process, state)


def test_as_many_files_are_used_as_the_system_allows(narrow: Demo) -> None:
    assert resource.prlimit(narrow.process.pid, resource.RLIMIT_NOFILE) == (FILES, FILES)


def test_idle_connections_take_no_descriptor_that_a_client_who_is_in_needs(narrow: Demo) -> None:
    with ExitStack() as stack:
        kept = stack.enter_context(closing(narrow.connection()))
        kept.request("GET", "/v2/health/live")
        assert read_answer(kept).status == 200
        idle = [
            stack.enter_context(socket.create_connection((narrow.host, narrow.port))) for _ in range(IDLE)
        ]
        idle[-1].settimeout(10)
        assert idle[-1].recv(1000).startswith(b"HTTP/1.1 503 ")
        for _ in range(2):  # a cold start, and a call over a pooled connection
            kept.request(
                "POST",
                "/v2/models/echo_fp32/infer",
                json.dumps(fp32(1)),
                {"Authorization": f"Bearer {narrow.key}"},
            )
            assert read_answer(kept).status == 200
        until(lambda: _lets_in(narrow), 10)  # who asks nothing is closed
    assert narrow.stop() == 0
    assert _overloaded(narrow.state) > IDLE - FILES


def _lets_in(demo: Demo) -> bool:
    try:
        return demo.call("/v2/health/live").status == 200
    except ConnectionError:
        return False


def _overloaded(state: Path) -> int:
    """How many connections too many the audit log has counted."""
    bodies = [
        msgspec.json.decode(body or b"", type=DenialsBody)
        for name, data in stored_segments(state).items()
        for commit in scan(name, data).commits
        for entry, body in commit.records
        if entry.kind == "denials"
    ]
    return sum(body.reasons.get("overloaded", 0) for body in bodies)


def test_a_call_that_outlasts_the_grace_is_told_to_try_again(state: Path) -> None:
    with (
        serving(state, MODELS, GATEWAY_HTTP_GRACE_SECONDS="1") as demo,
        closing(demo.connection()) as connection,
    ):
        assert demo.infer("slow", milliseconds(0)).status == 200
        connection.request(
            "POST",
            "/v2/models/slow/infer",
            json.dumps(milliseconds(4000)),
            {"Authorization": f"Bearer {demo.key}"},
        )
        until(lambda: sum(entry.kind == "intent" for entry in entries(state)) == 2, 10)
        demo.kill(signal.SIGTERM)
        answer = read_answer(connection)
        assert demo.process.wait(20) == 0
    assert (answer.status, answer.json) == (503, {"error": "the gateway is stopping; try again"})
    assert (answer.headers["retry-after"], answer.headers["connection"]) == ("1", "close")
    assert answer.request_id in {entry.request for entry in entries(state) if entry.kind == "outcome"}
    assert "Traceback" not in state.with_suffix(".stderr").read_text()
