"""A call under an Idempotency-Key whose gateway or model server ends meanwhile is told or it is not, and never runs again."""

import json
import os
import signal
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.fleets import Fleet, configure, killed, serve, server_of
from tests.e2e.test_idempotent import REPLAYED, ask, under_way, until_told
from tests.e2e.world import Demo, expect_nothing_left, fp32, milliseconds, read_answer

pytestmark = [pytest.mark.triton, pytest.mark.chaos]

PATH = "/v2/models/slow/infer"
FLEET = Fleet(["slow", "times01"])


def warm(demo: Demo) -> None:
    assert demo.infer("slow", milliseconds(0)).status == 200


def test_after_a_kill_nobody_knows_and_nothing_runs_again(state: Path) -> None:
    key = configure(state, FLEET)
    with serve(state, key) as demo, ExitStack() as stack:
        stack.callback(killed, demo)
        warm(demo)
        with under_way(demo, PATH, milliseconds(3000), "killed"):
            pass
    with serve(state, key) as demo, ExitStack() as stack:
        stack.callback(killed, demo)
        for _ in range(2):
            refused = ask(demo, PATH, milliseconds(3000), "killed")
            assert (refused.status, REPLAYED in refused.headers) == (409, False)
        assert ask(demo, PATH, milliseconds(3001), "killed").status == 422
        assert ask(demo, PATH, milliseconds(1), "another").status == 200


def test_a_stop_waits_for_a_call_whose_client_has_left_and_keeps_its_answer_sealed(state: Path) -> None:
    key, word = configure(state, FLEET), "planted9z"
    body = {**milliseconds(1500), "id": word}
    with serve(state, key) as demo, ExitStack() as stack:
        stack.callback(killed, demo)
        warm(demo)
        with under_way(demo, PATH, body, word):
            demo.process.send_signal(signal.SIGTERM)
        assert demo.process.wait(35) == 0
        expect_nothing_left(state)
    files = [path for path in state.rglob("*") if path.is_file()]
    assert {"once.sqlite", "blobs"} <= {path.relative_to(state).parts[0] for path in files}
    assert [path for path in files if word.encode() in path.read_bytes()] == []
    with serve(state, key) as demo, ExitStack() as stack:
        stack.callback(killed, demo)
        again = ask(demo, PATH, body, word)
        assert (again.status, again.headers[REPLAYED]) == (200, "true")
        assert (again.json["id"], again.json["outputs"][0]["data"]) == (word, [1500])


def test_a_server_that_dies_under_a_call_is_told_whole_and_the_call_does_not_run_again(state: Path) -> None:
    key = configure(state, FLEET)
    with serve(state, key) as demo, ExitStack() as stack:
        stack.callback(killed, demo)
        warm(demo)
        with under_way(demo, PATH, milliseconds(5000), "died") as connection:
            os.kill(server_of(state, "slow"), signal.SIGKILL)
            told = read_answer(connection)
        assert (told.status, json.loads(told.body)["error"]) == (
            502,
            "the model server failed while it had this request",
        )
        why = until_told(demo, PATH, milliseconds(5000), "died", "not known")
        assert (why.status, REPLAYED in why.headers) == (409, False)


def test_what_could_not_be_sent_leaves_its_key_free(state: Path) -> None:
    key = configure(state, Fleet(["times01", "fails"]))
    with serve(state, key) as demo, ExitStack() as stack:
        stack.callback(killed, demo)
        for _ in range(2):
            refused = ask(demo, "/v2/models/fails/infer", fp32(1, 2, 3, 4), "free")
            assert refused.status == 503
        taken = until_told(demo, "/v2/models/times01/infer", fp32(1, 2, 3, 4), "free", "outputs")
        assert (taken.status, REPLAYED in taken.headers) == (200, False)
