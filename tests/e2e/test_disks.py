"""A disk that is full or read-only closes the door: what cannot be recorded does not happen. It opens by itself when that is over."""

import contextlib
import http.client
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import needs
from tests.e2e.fleets import Fleet, configure, killed, serve
from tests.e2e.world import Answer, Demo, entries, in_parallel, read_answer, until, verified
from tests.worlds.openai import MODEL, OpenAiWorld, in_a_thread

CLIENTS = 8
MOST_REQUESTS = 1000  # of each, which is more than two segments hold
BODY = {"model": "far", "messages": [{"role": "user", "content": "hi"}]}
PATH = "/v1/chat/completions"
SEGMENT_BYTES = 1024 * 1024  # the least
DISK_BYTES = SEGMENT_BYTES * 3 // 2


@pytest.fixture
def upstream() -> Iterator[OpenAiWorld]:
    server = OpenAiWorld()
    with in_a_thread(server):
        yield server
    assert server.misuses == []


@pytest.fixture
def audit(state: Path) -> Iterator[Path]:
    """The folder of the audit log on a small disk of its own."""
    folder = state / "audit"
    configured = configure(state, Fleet([]))
    (state / "key").write_text(configured)
    folder.mkdir(mode=0o700)
    with mounted("-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=0700", "tmpfs", str(folder)):
        yield folder


@contextmanager
def mounted(*arguments: str) -> Iterator[None]:
    """Skips without the right to mount; in CI that is a failure."""
    done = subprocess.run([needs("mount"), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(
            f"cannot mount: {done.stderr.strip()}"
        )
    try:
        yield
    finally:
        subprocess.run([needs("umount"), "-l", arguments[-1]], check=True)


@contextmanager
def serving_far(state: Path, upstream: OpenAiWorld) -> Iterator[Demo]:
    """A gateway with small segments whose only model is elsewhere, where each request that gets there is seen."""
    far = {
        "kind": "Model",
        "name": "far",
        "tenants": "*",
        "openai": {"backend": "pass-through", "address": upstream.address, "model": MODEL},
    }
    (state / "documents" / "far.yaml").write_text(json.dumps(far))
    settings = json.loads((state / "gateway.yaml").read_text())
    settings["audit"] = {"segment_bytes": SEGMENT_BYTES}
    (state / "gateway.yaml").write_text(json.dumps(settings))
    with serve(state, (state / "key").read_text()) as demo:
        try:
            yield demo
        finally:
            killed(demo)


def test_a_full_disk_closes_the_door_until_there_is_room(
    state: Path, audit: Path, upstream: OpenAiWorld
) -> None:
    """From the start there is room for one segment and not for the next."""
    with serving_far(state, upstream) as demo:
        expect_closed_while(demo, upstream, lambda: None, partial(grow, audit))


def test_a_disk_that_turned_read_only_closes_the_door_when_a_segment_is_full_until_it_can_be_written(
    state: Path, audit: Path, upstream: OpenAiWorld
) -> None:
    """What is open goes on: it is the next file that cannot be made."""
    stack = contextlib.ExitStack()

    def turn() -> None:
        stack.enter_context(mounted("--bind", str(audit), str(audit)))
        subprocess.run([needs("mount"), "-o", "remount,bind,ro", str(audit)], check=True)

    grow(audit)
    with stack, serving_far(state, upstream) as demo:
        expect_closed_while(demo, upstream, turn, stack.close)


def grow(audit: Path) -> None:
    """Room for many segments."""
    subprocess.run([needs("mount"), "-o", f"remount,size={4 * DISK_BYTES}", str(audit)], check=True)


def expect_closed_while(
    demo: Demo, upstream: OpenAiWorld, begin: Callable[[], object], end: Callable[[], object]
) -> None:
    assert ask(demo).status == 200
    begin()
    answers = [answer for some in in_parallel([partial(until_refused, demo)] * CLIENTS) for answer in some]
    assert {answer.status for answer in answers} == {200, 503}
    forwarded = len(upstream.asked)
    for _ in range(20):
        refused = ask(demo)
        assert (refused.status, refused.json["error"]["code"]) == (503, "audit_unavailable")
    assert len(upstream.asked) == forwarded
    assert readiness(demo) == 503
    served = {answer.request_id for answer in answers if answer.status == 200}
    assert served <= intents(demo)  # while it lasts
    end()
    until(lambda: ask(demo).status == 200, 10)
    assert readiness(demo) == 200
    until(lambda: verified(demo.state).open == 0, 5)
    assert verified(demo.state).fault is None
    assert served <= intents(demo)
    assert demo.stop() == 0
    assert verified(demo.state).fault is None


def until_refused(demo: Demo) -> list[Answer]:
    """The answers to one request after the other, up to the first 503."""
    answers: list[Answer] = []
    with contextlib.closing(demo.connection()) as connection:
        while len(answers) < MOST_REQUESTS and not (answers and answers[-1].status == 503):
            answers.append(ask(demo, connection))
    return answers


def ask(demo: Demo, connection: http.client.HTTPConnection | None = None) -> Answer:
    if connection is None:
        return demo.call(PATH, BODY)
    headers = {"Authorization": f"Bearer {demo.key}", "Content-Type": "application/json"}
    connection.request("POST", PATH, json.dumps(BODY), headers)
    return read_answer(connection)


def intents(demo: Demo) -> set[str | None]:
    return {entry.request for entry in entries(demo.state) if entry.kind == "intent"}


def readiness(demo: Demo) -> int:
    host, _, port = demo.operator.removeprefix("http://").partition(":")
    with contextlib.closing(http.client.HTTPConnection(host, int(port), timeout=10)) as connection:
        connection.request("GET", "/readyz")
        return read_answer(connection).status
