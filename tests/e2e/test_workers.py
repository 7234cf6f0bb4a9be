"""`gateway serve --workers 2`, the real program: who ends is replaced, who is renewed loses no request, and nothing is left of it."""

import json
import os
import re
import signal
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.frontends.sockets import bound_socket
from tests.e2e.fleets import Fleet, configure, gateway_log, serve
from tests.e2e.grpc_load import GrpcLoad, loading_grpc
from tests.e2e.load import FULL, Record, Traffic, faults, loading, seeded, statuses, times
from tests.e2e.test_lifecycle import under_way
from tests.e2e.world import Demo, command, end, expect_nothing_left, fp32, milliseconds, tritons, until

pytestmark = [pytest.mark.triton, pytest.mark.chaos]

FLEET = Fleet(["times01", "slow"])
FOUR = fp32(1.0, 2.0, 3.0, 4.0)
SOON = {"GATEWAY_GRPC_CONNECTION_SECONDS": "1"}
_SERVES = re.compile(r"supervisor (\w+) serves as (\S+), process (\d+)")


@contextmanager
def many(state: Path) -> Iterator[Demo]:
    key = configure(state, FLEET, grpc="127.0.0.1:0")
    with serve(state, key, "--workers", "2", **SOON) as gateway:
        try:
            yield gateway
        finally:
            end(gateway.process, state)


def serving(state: Path) -> dict[str, int]:
    """Which process each slot has, as the supervisor tells."""
    return {slot: int(pid) for slot, _, pid in _SERVES.findall(gateway_log(state))}


def told(gateway: Demo, path: str) -> str:
    """What operators are told by the side."""
    with urllib.request.urlopen(gateway.operator + path, timeout=20) as answer:
        return str(answer.read().decode())


def counted(figures: str) -> int:
    """The calls that all workers have answered with 200."""
    found = re.findall(
        r'^http_server_request_duration_seconds_count\{.*code="200"\} (\d+)$', figures, re.MULTILINE
    )
    return sum(map(int, found))


def test_workers_that_are_renewed_one_by_one_fail_no_request_of_kept_connections(
    state: Path, record_property: Record
) -> None:
    with many(state) as gateway:
        assert gateway.infer("times01", FOUR).status == 200
        before = serving(state)
        calls = GrpcLoad(gateway.grpc, gateway.key, "times01")
        traffic = Traffic(times("times01"), 32 if FULL else 16, 0.1)
        with (
            loading_grpc(calls, 48),
            loading(gateway, seeded(record_property), traffic) as load,
        ):
            gateway.kill(signal.SIGHUP)
            until(lambda: "all are renewed" in gateway_log(state), 120, lambda: gateway_log(state)[-2000:])
            until(lambda: len(load.seen) >= 2000 and calls.calls >= 500, 60)
        after = serving(state)
        assert faults(load.seen) == []
        assert (set(statuses(load.seen)), dict(calls.failures)) == ({200}, {})
        # Of processes that are not there any more too; a call is counted behind its answer.
        answered = 1 + len(load.seen) + calls.calls
        until(lambda: counted(told(gateway, "/metrics")) == answered, 10, f"there were {answered}")
    assert [before[slot] == after[slot] for slot in before] == [False] * 3
    record_property("renewed under", f"{len(load.seen)} requests and {calls.calls} gRPC calls, 0 failed")


def test_who_is_killed_is_replaced_and_what_is_under_way_at_the_end_is_finished(state: Path) -> None:
    with many(state) as gateway:
        assert gateway.infer("times01", FOUR).status == 200
        before, servers = serving(state), tritons(state)
        os.kill(before["worker1"], signal.SIGKILL)
        os.kill(
            before["side"], signal.SIGSTOP if FULL else signal.SIGKILL
        )  # test_supervisor plays the wait for a beat
        for _ in range(20):
            assert gateway.infer("times01", FOUR).status == 200
        until(lambda: all(serving(state)[slot] != before[slot] for slot in ("worker1", "side")), 40)
        assert gateway.infer("times01", FOUR).status == 200
        assert serving(state)["worker2"] == before["worker2"]
        assert (len(servers), tritons(state)) == (
            1,
            servers,
        )  # one for both workers, and the next side adopts it
        assert told(gateway, "/readyz") == '{"status":"ok"}'
        assert gateway.infer("slow", milliseconds(0)).status == 200
        with under_way(gateway, "slow", milliseconds(2000)) as answers:
            assert gateway.stop() == 0
            with pytest.raises(ConnectionRefusedError):
                gateway.call("/healthz")
        assert [answer.status for answer in answers] == [200]


def test_nothing_outlives_a_supervisor_that_is_killed(state: Path) -> None:
    key = configure(state, FLEET)
    with serve(state, key, "--workers", "2") as gateway:
        assert gateway.infer("times01", FOUR).status == 200
        gateway.kill()
        gateway.process.wait()
        expect_nothing_left(state, within_seconds=20)


def test_workers_that_cannot_start_end_it_all_with_what_one_says(state: Path) -> None:
    with bound_socket("127.0.0.1", 0) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        configure(state, FLEET, port)
        done = command("serve", "--config", state / "gateway.yaml", "--workers", "2")
        assert (done.returncode, f"cannot listen on 127.0.0.1:{port}" in done.stderr) == (1, True)
    (state / "keys.json").write_text(json.dumps("nonsense"))
    (state / "keys.json").chmod(0o600)
    done = command("serve", "--config", state / "gateway.yaml", "--workers", "2", "--port", "0")
    assert done.returncode == 1
    assert len([line for line in done.stderr.splitlines() if line.startswith("gateway: ")]) == 1
    expect_nothing_left(state)
