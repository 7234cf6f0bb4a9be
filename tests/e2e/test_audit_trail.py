"""What happened can be proven: every answer has its records, and no byte of them can change unseen."""

import json
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from gateway.audit.record import Entry, Kind
from tests.e2e.world import (
    MODELS,
    Demo,
    change,
    command,
    entries,
    fp32,
    in_parallel,
    new_tenant,
    serving,
    until,
)

pytestmark = pytest.mark.triton

REQUESTS = 30


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    with serving(tmp_path_factory.mktemp("audit") / "state", MODELS) as started:
        yield started


def test_every_answer_has_an_intent_and_an_outcome_of_the_right_caller(demo: Demo) -> None:
    minted = new_tenant(demo.state, "roomy")
    key = minted.secret.reveal()
    answers = in_parallel([partial(demo.infer, "echo_fp32", fp32(n), key=key) for n in range(REQUESTS)])
    described = demo.call("/v2/models/echo_fp32", key=key)
    answers.append(described)
    assert {answer.status for answer in answers} == {200}
    wanted = {answer.request_id for answer in answers}
    assert len(wanted) == len(answers)
    until(lambda: wanted <= _recorded(demo.state, "outcome").keys(), 2)
    models = change(demo.state, lambda it: it.values.models())
    about = (minted.key.tenant_id, minted.key.id, models["echo_fp32"].id)
    intents, outcomes = _recorded(demo.state, "intent"), _recorded(demo.state, "outcome")
    for request in wanted:
        intent, outcome = intents[request], outcomes[request]
        assert (intent.tenant, intent.key, intent.model) == about
        assert (outcome.tenant, outcome.key, outcome.model) == about
        assert outcome.requests == (0 if request == described.request_id else 1)
        assert outcome.model_version == "1"
        assert outcome.replica
        assert outcome.interval_us is not None
        assert intent.at_us <= outcome.interval_us[1] <= outcome.at_us + 1000


def test_every_refusal_of_a_known_caller_is_recorded_under_its_request(demo: Demo) -> None:
    minted = new_tenant(demo.state, "limited", models=("sink",))
    key = minted.secret.reveal()
    refused = [
        demo.infer("echo_fp32", fp32(1), key=key),
        demo.infer("unheard-of", fp32(1), key=key),
        demo.infer("sink", b"no json", key=key),
    ]
    assert [answer.status for answer in refused] == [403, 404, 400]
    wanted = {answer.request_id for answer in refused}
    until(lambda: wanted <= _recorded(demo.state, "denial").keys(), 2)
    denials = [_recorded(demo.state, "denial")[request] for request in wanted]
    assert {(denial.tenant, denial.key) for denial in denials} == {(minted.key.tenant_id, minted.key.id)}


def test_no_key_is_in_any_file_of_the_state(demo: Demo) -> None:
    assert demo.infer("echo_fp32", fp32(1)).status == 200
    secret = demo.key.encode()
    for path in demo.state.rglob("*"):
        if path.is_file():
            assert secret not in path.read_bytes(), path


def test_the_log_verifies_while_the_gateway_runs(demo: Demo) -> None:
    answer = demo.infer("echo_fp32", fp32(1))
    until(lambda: answer.request_id in _recorded(demo.state, "outcome"), 2)
    verified = command("audit", "verify", "--state", demo.state, "--json")
    report = json.loads(verified.stdout)
    assert (verified.returncode, report["fault"], report["open"]) == (0, None, 0)
    assert report["intents"] == report["outcomes"] >= 1


def test_a_stopped_log_verifies_and_one_changed_byte_of_it_does_not(state: Path, tmp_path: Path) -> None:
    with serving(state, MODELS) as demo:
        answers = [demo.infer("echo_fp32", fp32(n)) for n in range(5)]
        assert demo.stop() == 0
    verified = command("audit", "verify", "--state", state, "--json")
    report = json.loads(verified.stdout)
    assert (verified.returncode, report["fault"], report["open"]) == (0, None, 0)
    assert (report["intents"], report["outcomes"]) == (5, 5)
    kinds: tuple[Kind, ...] = ("intent", "outcome")
    for kind in kinds:
        _expect_named(state, tmp_path / kind, _recorded(state, kind)[answers[2].request_id])


def _expect_named(state: Path, copy: Path, record: Entry) -> None:
    """In a copy of the state, another digit in the record's request id."""
    shutil.copytree(state, copy)
    (segment,) = (
        path for path in (copy / "audit").glob("*.segment") if record.record.encode() in path.read_bytes()
    )
    data = bytearray(segment.read_bytes())
    place = data.index(record.request.encode(), data.index(record.record.encode()))
    data[place] = ord("1") if data[place] == ord("0") else ord("0")
    segment.write_bytes(data)
    verified = command("audit", "verify", "--state", copy, "--json")
    fault = json.loads(verified.stdout)["fault"]
    assert verified.returncode == 1
    assert (fault["segment"], fault["record_id"]) == (segment.stem, record.record)
    said = command("audit", "verify", "--state", copy)
    assert (said.returncode, record.record in said.stdout) == (1, True)


def _recorded(state: Path, kind: Kind) -> dict[str, Entry]:
    return {entry.request: entry for entry in entries(state) if entry.kind == kind}
