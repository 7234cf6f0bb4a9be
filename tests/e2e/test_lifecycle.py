"""However a gateway or a server ends, what it started ends with it, and no client gets half an answer that looks whole."""

import os
import random
import signal
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from tests.e2e.world import (
    MODELS,
    Answer,
    Demo,
    entries,
    expect_nothing_left,
    fp32,
    milliseconds,
    processes,
    read_answer,
    serving,
    shared_memory,
    starts,
    tritons,
    until,
)

pytestmark = pytest.mark.triton


@pytest.fixture
def demo(state: Path) -> Iterator[Demo]:
    with serving(state, MODELS) as started:
        yield started


@contextmanager
def under_way(demo: Demo, model: str, body: object) -> Iterator[list[Answer]]:
    """A request whose intent is on the disk when the block begins; its answer, if it gets one, is in the list when it has ended."""
    before = _intents(demo)
    answers: list[Answer] = []

    def ask() -> None:
        with suppress(ConnectionError):
            answers.append(demo.infer(model, body))

    caller = threading.Thread(target=ask)
    caller.start()
    try:
        until(lambda: _intents(demo) > before, 10)
        yield answers
    finally:
        caller.join()


def _intents(demo: Demo) -> int:
    return sum(entry.kind == "intent" for entry in entries(demo.state))


def _outcomes(demo: Demo) -> set[str]:
    return {entry.request for entry in entries(demo.state) if entry.kind == "outcome"}


def test_sigterm_finishes_what_is_under_way_and_ends_every_server(demo: Demo) -> None:
    assert demo.infer("slow", milliseconds(0)).status == 200
    programs = sorted(processes(demo.state).values())
    assert programs == ["gateway", "nanny.py", "triton_python_backend_stub", "tritonserver"]
    assert len(shared_memory(demo.state)) == 1
    with under_way(demo, "slow", milliseconds(1500)) as answers:
        assert demo.stop() == 0
    assert answers[0].json["outputs"][0]["data"] == [1500]
    expect_nothing_left(demo.state, within_seconds=0)


def test_a_kept_connection_is_told_that_it_closes(demo: Demo) -> None:
    """A client that asks once more as the gateway stops gets its answer; only then is the connection closed."""
    with closing(demo.connection()) as connection:
        connection.request("GET", "/v2/health/ready")
        assert read_answer(connection).headers.get("connection") != "close"
        with under_way(demo, "slow", milliseconds(1000)):
            demo.kill(signal.SIGTERM)
            until(lambda: _is_draining(demo), 5)
            connection.request("GET", "/v2/health/live")
            answer = read_answer(connection)
        assert (answer.status, answer.headers["connection"]) == (200, "close")


def _is_draining(demo: Demo) -> bool:
    try:
        with closing(demo.connection()) as connection:
            connection.connect()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_gateway_without_a_server_ends_at_once(demo: Demo, number: signal.Signals) -> None:
    demo.kill(number)
    assert demo.process.wait(5) == 0


@pytest.mark.parametrize("seed", range(3))
def test_sigterm_while_a_server_starts_leaves_nothing(demo: Demo, seed: int) -> None:
    delay = random.Random(seed).uniform(0, 0.3)
    with under_way(demo, "echo_fp32", fp32(1)) as answers:
        threading.Event().wait(delay)  # any moment of the start will do
        assert demo.stop() == 0
    assert answers[0].status == 200
    expect_nothing_left(demo.state, within_seconds=0)


def test_kill_9_of_the_gateway_leaves_nothing(demo: Demo) -> None:
    assert demo.infer("slow", milliseconds(0)).status == 200
    with under_way(demo, "slow", milliseconds(60_000)) as answers:
        demo.kill()
    assert answers == []
    expect_nothing_left(demo.state)


def test_kill_9_of_a_server_fails_its_requests_and_the_next_has_a_new_one(demo: Demo) -> None:
    assert demo.infer("slow", milliseconds(0)).status == 200
    (old,) = tritons(demo.state)
    with under_way(demo, "slow", milliseconds(5000)) as answers:
        os.kill(old, signal.SIGKILL)
    assert answers[0].status in (502, 503)
    assert str(demo.state) not in answers[0].body.decode()
    for _ in range(3):
        assert demo.infer("slow", milliseconds(0)).status == 200
    (new,) = tritons(demo.state)
    assert new != old
    assert starts(demo.state) == 2
    until(lambda: answers[0].request_id in _outcomes(demo), 2)


def test_kill_9_of_a_nanny_leaves_no_server_behind(demo: Demo) -> None:
    assert demo.infer("slow", milliseconds(0)).status == 200
    (nanny,) = (number for number, program in processes(demo.state).items() if program == "nanny.py")
    os.kill(nanny, signal.SIGKILL)
    until(lambda: demo.infer("slow", milliseconds(0)).status == 200, 10)
    assert demo.stop() == 0
    expect_nothing_left(demo.state)
