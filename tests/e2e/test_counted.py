"""Requests with random disconnects, errors and crashes: what clients saw, what the model ran, the audit log and the usage agree.

CHAOS=full    10,000 requests instead of 1,000
CHAOS_SEED=N  the same requests and moments again
"""

import json
import os
import random
import secrets
import shutil
import signal
import socket
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import pytest

from gateway.audit.record import Entry
from gateway.audit.segment import scan
from tests.e2e import counted
from tests.e2e.load import FULL
from tests.e2e.world import (
    MODELS,
    Demo,
    announced,
    command,
    expect_nothing_left,
    new_tenant,
    processes,
    running,
    stored_segments,
    until,
    verified,
)

pytestmark = [pytest.mark.triton, pytest.mark.chaos]

REQUESTS = 10_000 if FULL else 1_000
KILLS = 20 if FULL else 3
CLIENTS = 12
KNOBS = {"GATEWAY_AUDIT_SEGMENT_BYTES": str(2**20)}
TALLY = "tally/tally.txt"

Way = Literal["whole", "leaves", "fails", "refused"]
WAYS: tuple[Way, ...] = get_args(Way)


@dataclass(slots=True)
class Client:
    """Sends one request after the other, each in a way of its own, and notes what it saw of it."""

    dice: random.Random
    numbers: "Numbers"
    key: str
    answered: dict[int, int] = field(default_factory=dict)  # the status of those that were read to their end
    ids: dict[int, str] = field(default_factory=dict)

    def run(self, address: tuple[str, int], stopped: threading.Event) -> None:
        while not stopped.is_set() and (number := self.numbers.next()):
            way = self.dice.choices(WAYS, [7, 2, 1, 1])[0]
            try:
                with socket.create_connection(address, timeout=20) as connection:
                    self._ask(connection, number, way)
            except (ConnectionError, EOFError, TimeoutError):
                continue  # the gateway was killed: what became of it this client will never know

    def _ask(self, connection: socket.socket, number: int, way: Way) -> None:
        tensor = {
            "name": "number",
            "datatype": "INT32",
            "shape": [1],
            "data": [-number if way == "fails" else number],
        }
        if way == "refused":
            tensor["name"] = "other"
        body = json.dumps({"inputs": [tensor]}).encode()
        connection.sendall(
            b"POST /v2/models/tally/infer HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
            + f"authorization: Bearer {self.key}\r\ncontent-length: {len(body)}\r\n\r\n".encode()
            + body
        )
        if way == "leaves":
            connection.settimeout(self.dice.choice([0.0001, 0.001, 0.01]))
        data = b""
        try:
            while piece := connection.recv(65536):
                data += piece
        except TimeoutError:
            return
        head, _, _ = data.partition(b"\r\n\r\n")
        if not data:
            raise EOFError
        self.answered[number] = int(head.split(b" ", 2)[1])
        for line in head.split(b"\r\n"):
            if line.startswith(b"x-request-id: "):
                self.ids[number] = line.removeprefix(b"x-request-id: ").decode()


@dataclass(slots=True)
class Numbers:
    """Each is given once."""

    left: int
    lock: threading.Lock = field(default_factory=threading.Lock)
    given: int = 0

    def next(self) -> int:
        with self.lock:
            if not self.left:
                return 0
            self.left -= 1
            self.given += 1
            return self.given


def lived(
    state: Path, repository: Path, clients: list[Client], kill_after: float | None, dice: random.Random
) -> None:
    """One gateway under load: killed after so long, or ended in order when all is asked."""
    pause = threading.Event()  # never set: a wait here is the point of the test
    with running(state, "--json", "--repository", str(repository), **KNOBS) as process:
        demo: Demo = announced(process, state)
        stopped = threading.Event()
        address = (demo.host, demo.port)
        threads = [threading.Thread(target=it.run, args=(address, stopped)) for it in clients]
        before = sum(len(it.answered) for it in clients)
        for thread in threads:
            thread.start()
        try:
            if kill_after is None:
                for thread in threads:
                    thread.join()
            else:
                until(lambda: sum(len(it.answered) for it in clients) > before, 30)
                pause.wait(kill_after)
                if dice.random() < 0.3:
                    kill_a_triton(state)
                    pause.wait(0.05)
        finally:
            stopped.set()
            process.send_signal(signal.SIGTERM if kill_after is None else signal.SIGKILL)
            process.wait(30)
            for thread in threads:
                thread.join()
        expect_nothing_left(state)


def kill_a_triton(state: Path) -> None:
    for pid, program in processes(state).items():
        if program == "tritonserver":
            os.kill(pid, signal.SIGKILL)


def entries(state: Path, kind: str) -> list[Entry]:
    return [
        record.entry
        for name, data in stored_segments(state).items()
        for commit in scan(name, data).commits
        for record in commit.records
        if record.entry.kind == kind
    ]


def test_clients_model_audit_and_usage_agree_whatever_breaks(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    seed = int(os.environ.get("CHAOS_SEED") or secrets.randbits(32))
    record_property("seed (CHAOS_SEED)", seed)
    print(f"CHAOS_SEED={seed}")
    dice = random.Random(seed)
    state, repository = tmp_path / "state", tmp_path / "repository"
    shutil.copytree(MODELS / "tally", repository / "tally", ignore=shutil.ignore_patterns("__pycache__"))
    minted = new_tenant(state, "roomy")
    numbers = Numbers(0)
    clients = [Client(random.Random(dice.random()), numbers, minted.secret.reveal()) for _ in range(CLIENTS)]
    for life in range(KILLS + 1):
        is_last = life == KILLS
        numbers.left = REQUESTS - numbers.given if is_last else (REQUESTS - numbers.given) // 2
        lived(state, repository, clients, None if is_last else dice.uniform(0.0, 0.4), dice)
    with running(state, "--json", "--repository", str(repository), **KNOBS) as process:
        announced(process, state)
        process.terminate()
        assert process.wait(10) == 0

    answered = {number: status for it in clients for number, status in it.answered.items()}
    ids = {number: id_ for it in clients for number, id_ in it.ids.items()}
    ran = Counter(abs(int(line)) for line in (repository / TALLY).read_text().split())
    del ran[0]  # a canary's
    intents, outcomes = entries(state, "intent"), entries(state, "outcome")
    statuses = Counter(entry.status for entry in outcomes)
    by_request = {entry.request: entry for entry in outcomes}

    # The audit log: one outcome for each intent.
    report = verified(state)
    assert (report.fault, report.open) == (None, 0)
    assert len(by_request) == len(outcomes) == len(intents)
    # Nothing twice, nothing that a client saw and that did not run: not answered by the model, not in the log, not billed.
    assert set(ran.values()) <= {1}, "a request ran twice"
    seen = {number for number, status in answered.items() if status == 200}
    assert seen <= ran.keys()
    for number in seen:
        entry = by_request[ids[number]]
        assert (entry.status, entry.requests) in (("done", 1), ("unknown", 0)), (number, entry)
    # What ran was billed, or we failed it, or nobody knows.
    billed = sum(entry.requests for entry in outcomes)
    assert statuses["done"] <= len(ran) <= billed + statuses["failed"] + statuses["unknown"]
    # Usage is the log's, to the last call.
    said = json.loads(command("usage", "--tenant", "roomy", "--json", "--state", state).stdout)
    told = {
        name: sum(row[name] for row in said) for name in ("calls", "requests", "bytes", *map(str, statuses))
    }
    sizes = {"calls": len(outcomes), "requests": billed, "bytes": sum(entry.bytes for entry in outcomes)}
    assert told == sizes | {str(status): number for status, number in statuses.items()}
    stored = counted.by_key(state)[minted.key.id]
    assert stored.calls <= len(outcomes)
    record_property(
        f"{numbers.given} requests over {KILLS} kills",
        f"{len(seen)} answered, {len(ran)} ran, {len(intents)} intents, {billed} billed, "
        + ", ".join(f"{number} {status}" for status, number in sorted(statuses.items())),
    )
