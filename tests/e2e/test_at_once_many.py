"""So many calls at once are as many over four processes, whatever befalls them; where all come together there is never one more.

CHAOS=full    for longer
CHAOS_SEED=N  the same moments again
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from gateway.state import clock
from tenants.plans import Limits
from tests.e2e.load import seeded
from tests.e2e.many import MODEL, furnished, many
from tests.e2e.offering import offering
from tests.e2e.upstream import embedding, holding
from tests.seeds import FULL

pytestmark = pytest.mark.chaos

Record = Callable[[str, object], None]
PROCESSES: Final = 4
MOST, HOLD_SECONDS = 20, 0.4
OFFERED: Final = 3 * MOST / HOLD_SECONDS
SKEW: Final = (0.97, 0.01, 0.01, 0.01)
LEAST_USED: Final = 0.85
"""A tenth of so small a limit lies idle where the quiet ones are (gateway/admission/README.md)."""


def test_calls_at_once_over_four_processes_are_never_one_too_many_and_all_are_used(
    state: Path, record_property: Record
) -> None:
    rng, seconds = seeded(record_property), 3.0 if FULL else 1.5
    with holding(HOLD_SECONDS) as upstream:
        limits = Limits(body_bytes=2**20, concurrent_requests=MOST)
        minted = furnished(state, "acme", limits, f"127.0.0.1:{upstream.port}")
        request = embedding(MODEL, minted.secret.reveal())
        with many(state, PROCESSES) as world:
            ports = [demo.port for demo in world.demos]
            paces = [OFFERED * part for part in SKEW]
            with offering(request, rng, ports, paces, seconds=120.0) as load:
                world.wait(2.0)
                since = clock()
                world.wait(10.0 if FULL else 2.0)
                until = clock()
                for _ in range(6 if FULL else 1):
                    world.kill(0, load)
                    world.stop(rng.randrange(PROCESSES), rng.uniform(0.5, seconds))
                    world.gone(rng.uniform(0.5, seconds))
    used = upstream.mean(since, until)
    record_property("calls at once: mean and most", f"{used:.1f}, {upstream.most} of {MOST}")
    assert upstream.most <= MOST
    assert used >= LEAST_USED * MOST
