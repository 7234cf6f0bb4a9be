"""kill -9 of the gateway at any moment loses no intent of an answer that a client saw, and breaks nothing for the next start.

CHAOS=full    200 kills instead of 20
CHAOS_SEED=N  the same moments again
"""

import json
import os
import random
import re
import secrets
import shutil
import socket
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway.audit.segment import scan
from tests.e2e.world import (
    MODELS,
    Demo,
    announced,
    command,
    expect_nothing_left,
    fp32,
    new_tenant,
    running,
    stored_segments,
    until,
    verified,
)

pytestmark = [pytest.mark.triton, pytest.mark.chaos]

KILLS = 200 if os.environ.get("CHAOS") == "full" else 20
PROOFS = 20  # how often the whole log is read
CLIENTS = 16  # so many that, were a reply not to wait for its intent, some kill would show it
# The longest wait before the kill, in seconds, from where the phase begins.
PHASES = {"start-up": 0.5, "cold start": 0.7, "load": 0.7, "drain": 1.5}
# Segments so small that some kills fall into a change of them.
KNOBS = {"GATEWAY_AUDIT_SEGMENT_BYTES": str(2**20)}

_ID = re.compile(rb"\r\nx-request-id: ([0-9a-f]{32})\r\n")
_LENGTH = re.compile(rb"\r\ncontent-length: ([0-9]+)\r\n")


@dataclass(slots=True)
class Client:
    """Sends requests over kept-alive connections, each after the answer to the one before, until it is told to stop."""

    request: bytes
    address: tuple[str, int]
    stopped: threading.Event
    seen: list[str] = field(default_factory=list)  # requests whose 2xx head came in
    others: Counter[int] = field(default_factory=Counter)  # every other status; there should be none

    def run(self) -> None:
        while not self.stopped.is_set():
            try:
                with socket.create_connection(self.address, timeout=30) as connection:
                    while not self.stopped.is_set():
                        self._ask(connection)
            except ConnectionRefusedError:
                self.stopped.wait(0.01)
            except (ConnectionError, EOFError):
                continue

    def _ask(self, connection: socket.socket) -> None:
        connection.sendall(self.request)
        head = b""
        while b"\r\n\r\n" not in head:
            head += _received(connection)
        head, _, body = head.partition(b"\r\n\r\n")
        head += b"\r\n"
        status = int(head.split(b" ", 2)[1])
        if status // 100 == 2:
            self.seen.append(_ID.findall(head)[0].decode())
        else:
            self.others[status] += 1
        length = int(_LENGTH.findall(head)[0])
        while len(body) < length:
            body += _received(connection)
        if b"\r\nconnection: close\r\n" in head:
            raise EOFError


def _received(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    if not data:
        raise EOFError
    return data


@dataclass(slots=True)
class Load:
    """Some clients against one demo, for as long as it lives."""

    clients: list[Client]
    threads: list[threading.Thread]
    stopped: threading.Event

    @staticmethod
    def on(demo: Demo, key: str) -> "Load":
        body = json.dumps(fp32(1, 2, 3)).encode()
        head = f"POST /v2/models/echo_fp32/infer HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n"
        request = head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body
        stopped = threading.Event()
        clients = [Client(request, (demo.host, demo.port), stopped) for _ in range(CLIENTS)]
        threads = [threading.Thread(target=client.run) for client in clients]
        for thread in threads:
            thread.start()
        return Load(clients, threads, stopped)

    def has_answers(self) -> bool:
        return all(client.seen for client in self.clients)

    def end(self) -> None:
        self.stopped.set()
        for thread in self.threads:
            thread.join()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    shutil.copytree(MODELS / "echo_fp32", folder / "echo_fp32", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def test_kill_9_at_any_moment_loses_no_intent(
    state: Path, repository: Path, record_property: Callable[[str, object], None]
) -> None:
    seed = int(os.environ.get("CHAOS_SEED") or secrets.randbits(32))
    record_property("seed of the kills (CHAOS_SEED)", seed)
    print(f"CHAOS_SEED={seed}")
    moments = random.Random(seed)
    key = new_tenant(state, "roomy").secret.reveal()
    seen: set[str] = set()
    for number in range(KILLS):
        phase, longest = moments.choice(list(PHASES.items()))
        print(f"kill {number}: {phase}", flush=True)
        seen |= _seen_until_the_kill(state, repository, key, phase, moments.uniform(0, longest))
        if number % (KILLS // PROOFS) == 0:
            _expect_proof(state, seen)
    with running(state, "--json", "--repository", str(repository), **KNOBS) as process:
        announced(process, state)
        process.terminate()
        assert process.wait(10) == 0
    _expect_proof(state, seen)
    _expect_one_outcome_each(state)
    assert command("audit", "verify", "--state", state).returncode == 0
    assert not list((state / "audit").glob("*.spare"))
    record_property("answers seen by clients, none without its intent", f"{len(seen)} over {KILLS} kills")


def _seen_until_the_kill(
    state: Path, repository: Path, key: str, phase: str, wait_seconds: float
) -> set[str]:
    """Start a gateway, load it, kill it after the wait in that phase; the requests that got a 2xx."""
    pause = threading.Event()  # never set: a pause here is the point of the test, not a way to be in time
    with running(state, "--json", "--repository", str(repository), **KNOBS) as process:
        if phase == "start-up":
            pause.wait(wait_seconds)
            process.kill()
            process.wait()
            expect_nothing_left(state)
            return set()
        load = Load.on(announced(process, state), key)
        try:
            if phase in ("load", "drain"):
                until(load.has_answers, 20)
            if phase == "drain":
                process.terminate()
            pause.wait(wait_seconds)
            process.kill()
            process.wait()
        finally:
            load.end()
        expect_nothing_left(state)
        assert not any(client.others for client in load.clients), [client.others for client in load.clients]
        return {request for client in load.clients for request in client.seen}


def _expect_proof(state: Path, seen: set[str]) -> None:
    """The log is whole, and has the intent of every request that a client saw answered."""
    report = verified(state)
    assert report.fault is None
    assert seen <= _outcomes(state).keys(), "answers without an intent"


def _expect_one_outcome_each(state: Path) -> None:
    assert set(_outcomes(state).values()) <= {1}, "intents with no outcome, or with more than one"


def _outcomes(state: Path) -> dict[str, int]:
    """Every request with an intent, and how many outcomes it has."""
    entries = [
        entry
        for name, data in stored_segments(state).items()
        for commit in scan(name, data).commits
        for entry, _ in commit.records
    ]
    found = {entry.request: 0 for entry in entries if entry.kind == "intent"}
    for entry in entries:
        if entry.kind == "outcome":
            found[entry.request] += 1
    return found
