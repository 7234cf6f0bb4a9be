"""Two gateways over one state: how soon each serves by what was changed, also after it stood still, and what they do without a table.

CHAOS=full    the stop lasts as long as it is promised for
"""

import fcntl
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway.state import clock
from tenants.acts import Act
from tenants.directory import Directory
from tenants.plans import Limits, Plan
from tests.e2e.test_operator import get
from tests.e2e.world import (
    MODELS,
    Demo,
    announced,
    change,
    command,
    end,
    fp32,
    new_tenant,
    read_answer,
    started,
    until,
)

pytestmark = pytest.mark.triton

SEEN_SECONDS = 5.0
LOAD_SECONDS = 40.0
STOP_SECONDS = 20.0 if os.environ.get("CHAOS") == "full" else 6.0
STALE_SECONDS = 7
_READERS_AT, _READERS = 120, 8  # SQLite's locks of readers and writers in the -shm file of a WAL

Record = Callable[[str, object], None]


@contextmanager
def gateways(tmp_path: Path, number: int, **environ: str) -> Iterator[list[Demo]]:
    """So many gateways that serve one state with the model echo_fp32."""
    (tmp_path / "models.yaml").write_text(
        f'kind: Model\nname: echo_fp32\nrepository: {MODELS}\ntenants: "*"\n'
        "scaling: {start_deadline_seconds: 60}\n---\nkind: Fleet\nname: local\n"
    )
    (tmp_path / "gateway.yaml").write_text(
        'listen: {http: "127.0.0.1:0"}\noperator_listen: "127.0.0.1:0"\nstate: ./state\ndocuments: models.yaml\n'
    )
    state = tmp_path / "state"
    with ExitStack() as stack:
        found: list[Demo] = []
        for _ in range(number):
            arguments = ("serve", "--config", str(tmp_path / "gateway.yaml"), "--json")
            process = stack.enter_context(started(state, *arguments, **environ))
            stack.callback(process.wait, 45)
            stack.callback(process.terminate)
            found.append(announced(process, state))
        try:
            yield found
        finally:
            for gateway in found:
                gateway.kill(signal.SIGCONT)
            for gateway in found[1:]:
                gateway.stop()
            end(found[0].process, state)


@dataclass(slots=True)
class Load:
    """Calls with some keys to one gateway, one after another, until told to stop or for LOAD_SECONDS; when each answer was asked for."""

    gateway: Demo
    keys: dict[str, str]
    seen: list[tuple[float, str, int]] = field(default_factory=list)
    is_over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        deadline = clock() + LOAD_SECONDS
        while not self.is_over.is_set() and clock() < deadline:
            for name, key in self.keys.items():
                asked = clock()
                self.seen.append((asked, name, self.gateway.infer("echo_fp32", fp32(1), key=key).status))

    def last(self, name: str, status: int) -> float:
        """When it was last asked for what was answered so."""
        return max(asked for asked, of, found in self.seen if (of, found) == (name, status))

    def now(self, name: str) -> int:
        return next((status for _, of, status in reversed(self.seen) if of == name), 0)


@contextmanager
def loaded(loads: list[Load]) -> Iterator[None]:
    threads = [threading.Thread(target=load.run) for load in loads]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for load in loads:
            load.is_over.set()
        for thread in threads:
            thread.join()


def test_what_is_changed_holds_on_every_gateway_within_five_seconds_under_load(
    tmp_path: Path, record_property: Record
) -> None:
    state = tmp_path / "state"
    tenants = {name: new_tenant(state, name) for name in ("revoked", "suspended", "lessened", "kept")}
    keys = {name: minted.secret.reveal() for name, minted in tenants.items()}

    def revoke() -> None:
        key_id = tenants["revoked"].key.id
        done = command("keys", "revoke", key_id, "--tenant", "revoked", "--state", str(state), "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["id"] == key_id

    async def suspend(directory: Directory) -> None:
        await directory.tenants.do("suspended", "suspend", act=Act("test", 2))

    async def lessen(directory: Directory) -> None:
        await directory.values.put(Plan("lessened", 1, Limits(body_bytes=1)), act=Act("test", 2))

    acts: dict[str, tuple[Callable[[], None], int]] = {
        "revoked": (revoke, 401),
        "suspended": (lambda: change(state, suspend), 403),
        "lessened": (lambda: change(state, lessen), 413),
    }
    with gateways(tmp_path, 2) as both:
        loads = [Load(gateway, keys) for gateway in both for _ in range(2)]
        with loaded(loads):
            until(lambda: all(load.now(name) == 200 for load in loads for name in keys), 20)
            for name, (act, status) in acts.items():
                act()
                changed_at = clock()
                until(lambda: all(load.now(name) == status for load in loads), SEEN_SECONDS + 1)  # noqa: B023
                took = max(load.last(name, 200) for load in loads) - changed_at
                record_property(f"{name} was last served", f"{took:.2f} s after (bar {SEEN_SECONDS:g} s)")
                assert took < SEEN_SECONDS
        for load in loads:
            assert {status for _, name, status in load.seen if name == "kept"} == {200}
            assert [load.now(name) for name in acts] == [status for _, status in acts.values()]
        record_property("calls of the load", sum(len(load.seen) for load in loads))


@pytest.mark.chaos
def test_a_gateway_that_stood_still_serves_nobody_by_what_it_knew_before(
    tmp_path: Path, record_property: Record
) -> None:
    state = tmp_path / "state"
    minted, kept = new_tenant(state, "acme"), new_tenant(state, "kept").secret.reveal()
    key = minted.secret.reveal()

    async def revoke(directory: Directory) -> None:
        await directory.keys.revoke("acme", minted.key.id, act=Act("test", 2))

    with gateways(tmp_path, 1) as (gateway,):
        assert [gateway.infer("echo_fp32", fp32(1), key=it).status for it in (key, kept)] == [200, 200]
        gateway.kill(signal.SIGSTOP)
        change(state, revoke)
        waits = gateway.connection()
        headers = {"Authorization": f"Bearer {key}"}
        waits.request("POST", "/v2/models/echo_fp32/infer", json.dumps(fp32(1)), headers)
        over = clock() + STOP_SECONDS
        until(lambda: clock() >= over, STOP_SECONDS + 1)
        gateway.kill(signal.SIGCONT)
        begun = clock()
        first = gateway.infer("echo_fp32", fp32(1), key=key)
        record_property(
            f"first answer after a stop of {STOP_SECONDS:g} s",
            f"{first.status}, in {(clock() - begun) * 1000:.0f} ms",
        )
        assert (first.status, read_answer(waits).status) == (401, 401)
        waits.close()
        assert gateway.infer("echo_fp32", fp32(1), key=kept).status == 200


@contextmanager
def unreadable(state: Path) -> Iterator[None]:
    """Nobody gets an answer of the table: somebody else has all the locks that a read or a write takes."""
    with (state / "table.sqlite-shm").open("r+b") as file:
        fcntl.lockf(file, fcntl.LOCK_EX, _READERS, _READERS_AT)
        yield


def test_known_keys_go_on_without_the_table_until_they_are_stale_and_everybody_once_it_is_back(
    tmp_path: Path,
) -> None:
    state = tmp_path / "state"
    minted = new_tenant(state, "acme")
    key = minted.secret.reveal()
    with gateways(tmp_path, 1, GATEWAY_DIRECTORY_STALE_SECONDS=str(STALE_SECONDS)) as (gateway,):

        def ready() -> tuple[int, str]:
            answer = gateway.call("/readyz", headers={})
            return answer.status, answer.json["status"]

        def knows_all() -> bool:
            """Its own first data key is told by the feed too: until then it would be read anew."""
            figures = get(gateway.operator, "/metrics")[1].decode()
            return f"gateway_directory_sequence {last}" in figures.splitlines()

        cold = new_tenant(state, "cold").secret.reveal()
        assert gateway.infer("echo_fp32", fp32(1), key=key).status == 200
        last = change(state, lambda directory: directory.journal.last())
        until(knows_all, 10)
        assert gateway.infer("echo_fp32", fp32(1), key=key).status == 200
        assert ready() == (200, "ok")
        with unreadable(state):
            until(lambda: ready() == (200, "degraded"), 5)
            assert gateway.infer("echo_fp32", fp32(1), key=key).status == 200
            unknown = gateway.infer("echo_fp32", fp32(1), key=cold)
            assert (unknown.status, unknown.headers["retry-after"]) == (503, "1")
            until(lambda: ready()[0] == 503, STALE_SECONDS)
            assert gateway.infer("echo_fp32", fp32(1), key=key).status == 503
        until(lambda: ready() == (200, "ok"), 10)
        for secret in (key, cold):
            assert gateway.infer("echo_fp32", fp32(1), key=secret).status == 200
