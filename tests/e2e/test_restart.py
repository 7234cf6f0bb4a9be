"""A new gateway takes over from an old one under load: no client loses a request, none is reset."""

import secrets
import signal
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from gateway.scaling.scalers.process import free_port
from gateway.state import clock
from tests.e2e.fleets import Fleet, configure, serve
from tests.e2e.load import (
    FULL,
    Load,
    Record,
    Traffic,
    faults,
    latencies,
    loading,
    seeded,
    slept,
    statuses,
    times,
)
from tests.e2e.world import Demo, end, expect_nothing_left, until

pytestmark = [pytest.mark.triton, pytest.mark.chaos]

RESTARTS = 10 if FULL else 1
TRAFFIC = (Traffic(times("times01"), 16, 0.05), Traffic(slept("slow", 300), 2, 0.05))
CLIENTS = sum(kind.clients for kind in TRAFFIC)


def test_a_restart_under_load_resets_no_request(state: Path, record_property: Record) -> None:
    rng = seeded(record_property)
    key = configure(state, Fleet(["times01", "slow"]), free_port(secrets.choice))
    closed: list[int] = []
    with ExitStack() as stack:
        gateway = stack.enter_context(serve(state, key))
        stack.callback(end, gateway.process, state)
        with loading(gateway, rng, *TRAFFIC) as load:
            for _ in range(RESTARTS):
                _expect_service(load)
                told = sum(one.closes for one in load.seen)
                gateway = _replaced(stack, gateway, state, key)
                _expect_service(load)
                closed.append(sum(one.closes for one in load.seen) - told)
        gateway.process.terminate()
        assert gateway.process.wait(35) == 0
        expect_nothing_left(state)
    assert faults(load.seen) == []
    assert statuses(load.seen).keys() == {200}
    # Each connection of the old gateway was answered once more, and told.
    assert closed == [CLIENTS] * RESTARTS
    record_property(f"{RESTARTS} restarts under {CLIENTS} clients", latencies(load.seen))


def _expect_service(load: Load) -> None:
    """Every client that asks from now on is answered."""
    now = clock()
    until(lambda: load.answered("times01", now) and load.answered("slow", now), 30)


def _replaced(stack: ExitStack, old: Demo, state: Path, key: str) -> Demo:
    """A new gateway on the port that the old one has left as it drains."""
    old.kill(signal.SIGTERM)
    until(lambda: _refuses(old), 10)
    new = stack.enter_context(serve(state, key))
    stack.callback(new.process.kill)
    assert old.process.wait(35) == 0
    return new


def _refuses(demo: Demo) -> bool:
    try:
        socket.create_connection((demo.host, demo.port), timeout=10).close()
    except ConnectionRefusedError:
        return True
    return False
