"""Whose call is next at a model that is busy: a tenant's loudness costs nobody else, and backlogged tenants share by their weights.

In `make test` it is counted in the order in which calls end; with CHAOS=full latencies and windows of 5 s are judged as well.
"""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from tenants.acts import Act
from tenants.directory import Directory
from tenants.plans import Plan
from tests.e2e.fleets import Fleet, configure, killed, serve
from tests.e2e.load import (
    FULL,
    Load,
    Record,
    Seen,
    Traffic,
    faults,
    loading,
    percentile,
    seeded,
    slept,
    statuses,
)
from tests.e2e.world import ROOMY, Demo, change, until

pytestmark = [pytest.mark.triton, pytest.mark.chaos]

SERVICE_MS = 50
CLIENTS = 8  # of a tenant that always waits
BOTH = 10 if not FULL else 45  # calls of each instance that are counted; windows of 5 s have 100
WINDOW_SECONDS = 5.0


class Shape(NamedTuple):
    """Of the model, and of what serves it."""

    instances: int
    workers: int = 1

    def __str__(self) -> str:
        return f"{self.instances} instances, {self.workers} processes"


# With fewer instances than processes a call may wait for its process's turn (FAIR_ORDER.md).
SHAPES = [Shape(1), Shape(4), *([Shape(4, workers=4)] if FULL else [])]


def tenants(state: Path, weights: dict[str, int]) -> dict[str, str]:
    """Tenants with these weights, and a key of each."""

    async def act(directory: Directory) -> dict[str, str]:
        keys = {}
        for name, weight in weights.items():
            await directory.values.put(Plan(name=name, weight=weight, limits=ROOMY), act=Act("test", 1))
            await directory.tenants.create(name, name, act=Act("test", 1))
            keys[name] = (await directory.keys.create(name, act=Act("test", 1))).secret.reveal()
        return keys

    return change(state, act)


@contextmanager
def opened(state: Path, shape: "Shape", weights: dict[str, int]) -> Iterator[dict[str, Demo]]:
    """A gateway over one model of so many instances that runs already, as each of these tenants sees it."""
    key = configure(state, Fleet(["slow"], instances={"slow": shape.instances}))
    keys = tenants(state, weights)
    with serve(state, key, "--workers", str(shape.workers)) as demo:
        try:
            with loading(demo, random.Random(0), Traffic(slept("slow", SERVICE_MS), 1, 0), most=3) as load:
                until(lambda: len(load.seen) == 3, 20)
            yield {name: replace(demo, key=key) for name, key in keys.items()}
        finally:
            killed(demo)


def busy(clients: int = CLIENTS) -> Traffic:
    return Traffic(slept("slow", SERVICE_MS), clients, 0.0)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_who_calls_now_and_then_waits_behind_one_call_of_a_tenant_that_calls_fifty_times_as_often(
    state: Path, record_property: Record, shape: Shape
) -> None:
    rng = seeded(record_property)
    calls = 100 if FULL else 8
    now_and_then = Traffic(slept("slow", SERVICE_MS), 1, 0.1)
    instances = shape.instances
    with opened(state, shape, {"loud": 1, "quiet": 1}) as doors:
        with loading(doors["quiet"], rng, now_and_then, most=calls) as alone:
            until(lambda: len(alone.seen) == calls, 60)
        with loading(doors["loud"], rng, busy(50 * instances)) as loud:
            until(lambda: len(loud.seen) > 2 * instances, 20)
            with loading(doors["quiet"], rng, now_and_then, most=calls) as quiet:
                until(lambda: len(quiet.seen) == calls, 60)
    for load in (alone, loud, quiet):
        assert (set(statuses(load.seen)), faults(load.seen)) == ({200}, [])
    # What ended while it waited: what ran when it came, and what was its turn before its own.
    between = [_ended(loud.seen, one.sent, one.ended) for one in quiet.seen]
    record_property(f"loud calls that ended within a quiet one, {shape}", f"{sorted(between)[-5:]}")
    assert percentile(between, 0.8) <= 2 * instances
    p99, before = (percentile([one.seconds for one in load.seen], 0.99) for load in (quiet, alone))
    record_property(f"p99 of the quiet one, {shape}", f"{p99 * 1e3:.0f} ms, alone {before * 1e3:.0f} ms")
    if FULL:
        assert p99 <= 1.2 * before + SERVICE_MS / 1e3


@pytest.mark.parametrize(
    ("shape", "weights"),
    [
        (Shape(1), (1, 1)),
        (Shape(4), (3, 1)),
        *((it, weights) for it in SHAPES[2:] for weights in ((1, 1), (3, 1))),
    ],
    ids=str,
)
def test_tenants_that_always_wait_get_a_model_by_their_weights(
    state: Path, record_property: Record, shape: Shape, weights: tuple[int, int]
) -> None:
    instances = shape.instances
    rng = seeded(record_property)
    by_name = dict(zip(("a", "b"), weights, strict=True))
    wanted = BOTH * instances * (20 if FULL else 2)
    with opened(state, shape, by_name) as doors, ExitStack() as stack:
        clients = {"a": 1, "b": 3}  # first come, first served would give b three times as much as a
        loads = {
            name: stack.enter_context(loading(door, rng, busy(CLIENTS * instances * clients[name])))
            for name, door in doors.items()
        }
        until(lambda: sum(len(load.seen) for load in loads.values()) > wanted + 2 * instances, 90)
        ended = merged(loads)[2 * instances :][:wanted]  # in the first moment there is only one of them
    for load in loads.values():
        assert (set(statuses(load.seen)), faults(load.seen)) == ({200}, [])
    counted = Counter(name for _, name in ended)
    part = wanted * weights[0] / sum(weights)
    record_property(f"calls of {weights[0]} : {weights[1]}, {shape}", f"{counted['a']} : {counted['b']}")
    assert abs(counted["a"] - part) <= 2 * instances + 1
    for share in shares(ended) if FULL else []:
        allowed = 0.02 if weights[0] == weights[1] else 0.05
        assert abs(share / (weights[0] / sum(weights)) - 1) <= allowed, shares(ended)


def merged(loads: dict[str, Load]) -> list[tuple[float, str]]:
    """Who ended when, in order."""
    return sorted((one.ended, name) for name, load in loads.items() for one in list(load.seen))


def shares(ended: Sequence[tuple[float, str]]) -> list[float]:
    """What part of the calls was tenant a's, in each window of 5 s."""
    found: list[float] = []
    began = ended[0][0]
    while began + WINDOW_SECONDS <= ended[-1][0]:
        names = [name for at, name in ended if began <= at < began + WINDOW_SECONDS]
        found.append(names.count("a") / len(names))
        began += WINDOW_SECONDS
    return found


def _ended(seen: Sequence[Seen], since: float, until_: float) -> int:
    return sum(since < one.ended < until_ for one in seen)
