"""A daily budget of N requests is one budget over four processes: never more than N, and at least 99 % of them can be had.

CHAOS=full    a larger one, with more that befalls
CHAOS_SEED=N  the same moments again
"""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tenants.plans import Limits
from tests.e2e.load import seeded
from tests.e2e.many import MODEL, Many, furnished, many
from tests.e2e.offering import Offering, offering
from tests.e2e.upstream import embedding, holding
from tests.e2e.world import until
from tests.seeds import FULL

pytestmark = pytest.mark.chaos

Record = Callable[[str, object], None]
PROCESSES: Final = 4
N: Final = 5_000 if FULL else 1_000
OFFERED: Final = 400.0
SKEW: Final = (0.85, 0.05, 0.05, 0.05)
LEAST_USED: Final = 0.99
_OVER: Final = 200  # so many in a row are refused once it is used up


def quiet(_world: Many, _load: Offering) -> None:
    pass


def stops_and_no_table(world: Many, load: Offering) -> None:
    """What a process holds while it is stopped, or has taken before the Table went, is there when it goes on."""
    world.stop(0, 2.0)
    world.gone(10.0 if FULL else 2.0)
    world.stop(1, 2.0)
    load.burst(0, 200)


def kills(world: Many, load: Offering) -> None:
    """What a dead process held may be spent: it is, for all that anybody knows."""
    for number in (1, 0) * (3 if FULL else 1):
        world.kill(number, load)
        world.wait(1.0)


@pytest.mark.parametrize(
    ("befalls", "least"),
    [(quiet, LEAST_USED), (stops_and_no_table, LEAST_USED), (kills, 0.95)] if FULL else [(kills, 0.95)],
    ids=lambda it: getattr(it, "__name__", ""),
)
def test_a_daily_budget_over_four_processes_is_never_exceeded_and_nearly_all_of_it_can_be_had(
    state: Path, befalls: Callable[[Many, Offering], None], least: float, record_property: Record
) -> None:
    rng = seeded(record_property)
    limits = Limits(body_bytes=2**20, requests_per_day=N)
    with holding(0.005) as upstream:
        minted = furnished(state, "acme", limits, f"127.0.0.1:{upstream.port}")
        request = embedding(MODEL, minted.secret.reveal())
        with many(state, PROCESSES) as world:
            ports = [demo.port for demo in world.demos]
            paces = [OFFERED * part for part in SKEW]
            with offering(request, rng, ports, paces, seconds=120.0) as load:
                world.wait(0.3)
                befalls(world, load)
                until(lambda: is_used_up(load), 60.0, lambda: shown(load))
    name = befalls.__name__
    record_property(f"{name}: of {N} a day", f"{upstream.calls} came through; answers: {shown(load)}")
    assert upstream.calls <= N
    assert upstream.calls >= least * N


def shown(load: Offering) -> str:
    return str(dict(Counter(it.status for it in load.seen)))


def is_used_up(load: Offering) -> bool:
    """To each process, as far as it shows."""
    for number in range(PROCESSES):
        last = [it.status for it in load.seen[-4 * _OVER :] if it.process == number]
        if not last or any(status != 429 for status in last):
            return False
    return True
