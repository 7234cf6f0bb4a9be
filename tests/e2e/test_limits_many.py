"""A tenant's limit is one limit over four processes, whatever befalls them: it is never over, and it is used.

CHAOS=full    each of what may befall them alone, and for as long as is promised
CHAOS_SEED=N  the same moments again
"""

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from gateway.state import clock
from tests.e2e.limits_judge import LEAST_USED, WINDOWS, decisions, excess, used
from tests.e2e.load import seeded
from tests.e2e.many import FAKETIME, MODEL, Many, furnished, many
from tests.e2e.offering import Offering, offering, readiness
from tests.e2e.world import rated
from tests.seeds import FULL

pytestmark = pytest.mark.chaos

Record = Callable[[str, object], None]

PROCESSES: Final = 4
RATE, BURST, OFFERED = 200.0, 100, 800.0
SKEW: Final = (0.97, 0.01, 0.01, 0.01)
WARM_SECONDS: Final = 2.5
_STALE_SECONDS: Final = 60.0
# Half a second off, and a thousandth fast or slow.
CLOCKS: Final = ("+0.5s x1.001", "-0.5s x0.999", "+0.5s x0.999", "-0.5s x1.001")


@dataclass(slots=True)
class Stage:
    """What befalls is drawn from `rng`; it returns once it is over."""

    world: Many
    load: Offering
    rng: random.Random

    def anybody(self) -> int:
        """The busy one, as often as not."""
        return self.rng.choice([0, 0, 0, 1, 2, 3])


def steady(it: Stage) -> None:
    it.world.wait(15.0)


def kills(it: Stage) -> None:
    """Of one each 4 s."""
    for _ in range(6):
        again = clock() + 4.0
        it.world.kill(it.anybody(), it.load)
        it.world.wait(max(0.0, again - clock()))


def stops(it: Stage) -> None:
    """For 10 s, with a burst at the moment of the resume or without."""
    for burst in (0, 200, 200):
        number = it.anybody()
        it.world.wait(it.rng.uniform(0, 0.5))
        it.world.stop(number, 10.0)
        it.load.burst(number, burst)
        it.world.wait(3.0)


def stops_for_long(it: Stage) -> None:
    """The busy one, until its share has ended and others have it; it goes on with a burst."""
    it.world.stop(0, _STALE_SECONDS + 8.0)
    it.load.burst(0, 250)
    it.world.wait(6.0)


def slow(it: Stage) -> None:
    it.world.slow(20.0)


def gone(it: Stage) -> None:
    it.world.gone(10.0)
    it.world.wait(2.0)


def everything(it: Stage) -> None:
    """At once, so that only what is over can be judged."""
    tables = [threading.Thread(target=befalls, args=(it,)) for befalls in (slow, gone)]
    for table in tables:
        table.start()
    until = clock() + 30.0
    while clock() < until:
        number = it.anybody()
        if it.rng.random() < 0.5:
            it.world.kill(number, it.load)
        else:
            it.world.stop(number, it.rng.uniform(0.0, 3.0))
        it.load.burst(it.rng.randrange(PROCESSES), it.rng.choice([0, 50, 250]))
        it.world.wait(it.rng.uniform(0.0, 1.0))
    for table in tables:
        table.join()


def short(it: Stage) -> None:
    """A part of it all."""
    it.world.kill(0, it.load)
    it.world.wait(1.5)
    it.world.gone(1.5)
    it.world.stop(0, 1.2)
    it.load.burst(0, 200)
    it.world.wait(1.6)


Befalls = Callable[[Stage], None]
LONG: Final[tuple[Befalls, ...]] = (steady, kills, stops, stops_for_long, slow, gone, everything)


def clocks() -> tuple[str, ...]:
    if not FAKETIME.exists():
        pytest.skip("libfaketime is not installed; run: make packages")
    return CLOCKS


@pytest.mark.parametrize("befalls", LONG if FULL else [short], ids=lambda it: it.__name__)
def test_a_limit_over_four_processes_is_never_over_and_is_used(
    state: Path, befalls: Befalls, record_property: Record
) -> None:
    played(state, befalls, record_property)


if FULL:

    def test_clocks_that_are_off_and_run_fast_or_slow_change_nothing(
        state: Path, record_property: Record
    ) -> None:
        played(state, steady, record_property, clocks())

    @pytest.mark.parametrize("off", [tuple, clocks], ids=["clocks are right", "clocks are off"])
    def test_one_a_minute_over_four_processes_is_never_over_and_is_used(
        state: Path, off: Callable[[], tuple[str, ...]], record_property: Record
    ) -> None:
        """One request a second, to anyone: of five, each but the first comes a minute behind the one before, and little later."""
        rng, wanted = seeded(record_property), 5
        minted = furnished(state, "acme", rated(1 / 60, 1))
        request = readiness(MODEL, minted.secret.reveal())
        with many(state, PROCESSES, off()) as world:
            ports = [demo.port for demo in world.demos]
            with offering(request, rng, ports, [0.25] * PROCESSES, seconds=400.0) as load:
                world.wait((wanted - 1) * 60 / LEAST_USED + 2.0)
        found = decisions(load.seen, [])
        record_property("one a minute: admitted", [round(it.latest - found[0].latest, 2) for it in found])
        assert not excess(found, 1 / 60, 1, (*WINDOWS, 59.9, 119.9))
        assert len(found) >= wanted


def played(state: Path, befalls: Befalls, record: Record, off: tuple[str, ...] = ()) -> None:
    rng, name = seeded(record), befalls.__name__
    minted = furnished(state, "acme", rated(RATE, BURST))
    request, paces = readiness(MODEL, minted.secret.reveal()), [OFFERED * part for part in SKEW]
    with many(state, PROCESSES, off) as world:
        ports = [demo.port for demo in world.demos]
        with (
            offering(request, rng, ports, paces, seconds=150.0) as load,
            world.watched(f"tenant/{minted.key.tenant_id}"),
        ):
            world.wait(WARM_SECONDS)
            since = clock()
            befalls(Stage(world, load, rng))
            until = clock()
    found = used(load.seen, world.outages, RATE, since=since, until=until, held=world.held)
    record(f"{name}: used", str(found))
    record(f"{name}: asked", f"{len(load.seen)}, and {load.unsent} more could not be")
    too_many = excess(decisions(load.seen, world.outages), RATE, BURST)
    assert not too_many
    assert found.part >= LEAST_USED or befalls is everything, found
