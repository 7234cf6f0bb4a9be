"""Four members have as many calls at once as there may be, whatever becomes of them and of the table; in virtual time.

SEEDS=N       so many schedules of each theme instead of 1
CHAOS=full    100 of each

The seed of a schedule that fails is printed with its transcript, cut down to what it takes.
"""

import os
from asyncio import CancelledError
from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest

from gateway.admission.permits import NOBODY, Hand, Permits
from gateway.admission.permitting import Permitting, _Held
from tenants.errors import TableUnavailable
from tests.gateway.admission.permit_world import SLOTS, Run, Schedule, smaller, transcript
from tests.gateway.admission.simulated import Fault
from tests.worlds.virtual import MS, SECOND, Clocks

IS_FULL = os.environ.get("CHAOS") == "full"
SEEDS = int(os.environ.get("SEEDS") or (100 if IS_FULL else 1))
EVEN, SKEWED = (25,) * SLOTS, (97, 1, 1, 1)
SECONDS = 60


def _kills(draw: Random, kind: str = "kill") -> list[Fault]:
    return [
        Fault(kind, at, draw.randrange(SLOTS), draw.randrange(50 * MS, 800 * MS))
        for at in range(draw.randrange(2 * SECOND, 5 * SECOND), SECONDS * SECOND, 4 * SECOND)
    ]


def _stops(draw: Random) -> list[Fault]:
    kinds = ["stop", "stop at reading"]
    return [
        Fault(
            draw.choice(kinds),
            draw.randrange(SECONDS * SECOND),
            draw.randrange(SLOTS),
            draw.randrange(30 * SECOND),
        )
        for _ in range(8)
    ]


def _long_stops(draw: Random) -> list[Fault]:
    """Of one or two members, so long that others take what they had."""
    return [
        Fault(
            "stop", draw.randrange(8 * SECOND, 25 * SECOND), slot, draw.randrange(14 * SECOND, 48 * SECOND), 9
        )
        for slot in draw.sample(range(SLOTS), draw.choice([1, 1, 2]))
    ]


def _shifts(draw: Random) -> list[Fault]:
    return [
        Fault("shift", at)
        for at in range(draw.randrange(2 * SECOND, 5 * SECOND), SECONDS * SECOND, 7 * SECOND)
    ]


def _lossy(draw: Random) -> list[Fault]:
    return [Fault("lossy", draw.randrange(3 * SECOND), amount=draw.choice([0.1, 0.4])), *_shifts(draw)]


def _plans(draw: Random) -> list[Fault]:
    at = sorted(draw.randrange(5 * SECOND, SECONDS * SECOND) for _ in range(3))
    return [Fault("plan", it, amount=draw.choice([0.3, 0.5, 2.0])) for it in at]


def _gone(draw: Random) -> list[Fault]:
    return [
        Fault("gone", draw.randrange(5 * SECOND, 20 * SECOND), lasts_us=draw.choice([3, 10, 30]) * SECOND)
    ]


def _all(draw: Random) -> list[Fault]:
    found = [
        *_kills(draw, draw.choice(["kill", "vanish"]))[::3],
        *_stops(draw)[:4],
        *_lossy(draw),
        *draw.choice([_gone, _plans])(draw),
    ]
    return sorted(found, key=lambda it: it.at_us)


THEMES: dict[str, Callable[[Random], list[Fault]]] = {
    "steady": lambda _: [],
    "kills": _kills,
    "vanishings": lambda draw: _kills(draw, "vanish")[::4],
    "stops": _stops,
    "long stops": _long_stops,
    "shifts": _shifts,
    "lossy": _lossy,
    "slow": lambda draw: [Fault("slow", draw.randrange(5 * SECOND))],
    "gone": _gone,
    "plans": _plans,
    "all": _all,
}


def schedule(seed: int, theme: str, most: int | None = None) -> Schedule:
    draw = Random(f"{theme} {seed}")
    clocks = tuple(Clocks(draw.randrange(10**12), fast=draw.choice([-900, 0, 900])) for _ in range(SLOTS))
    return Schedule(
        seed,
        theme,
        most or draw.choice([1, 2, 3, 5, 8, 20, 50]),
        draw.choice([0.5, 1.5, 4.0]),
        draw.choice([EVEN, SKEWED, (50, 50, 0, 0)]),
        clocks,
        tuple(THEMES[theme](draw)),
        SECONDS,
        draw.choice([100 * MS, SECOND, 8 * SECOND]),
    )


@pytest.mark.chaos
@pytest.mark.parametrize("theme", THEMES)
def test_there_are_never_more_calls_at_once_than_there_may_be(theme: str) -> None:
    for seed in range(SEEDS):
        found = schedule(seed, theme)
        if Run(found).go().over:
            pytest.fail(transcript(smaller(found, Permitting), Permitting))


@pytest.mark.chaos
@pytest.mark.parametrize("skew", [EVEN, SKEWED, (50, 50, 0, 0)])
@pytest.mark.parametrize(("most", "least"), [(1, 0.7), (4, 0.75), (20, 0.85), (100, 0.95)])
def test_what_there_may_be_is_used(most: int, least: float, skew: tuple[int, ...]) -> None:
    """Of what is asked for all the time, by calls of 0.1 s; a tight limit waits for writes between two of them."""
    for seed in range(max(1, SEEDS // 4)):
        found = replace(schedule(seed, "steady", most), skew=skew, offered=4.0, seconds=10, call_us=100 * MS)
        run = Run(found).go()
        assert run.used >= least * run.could, (run.used / run.could, found)


# Variants that leave one rule out, which the same schedules must catch


class Unchecked(Hand):
    """Lets in behind its deadline."""

    def take(self, now_us: int) -> bool:
        return Hand.take(self, min(now_us, self.deadline_us - 1))


class Impatient(Permitting):
    """Takes what a silent member had as soon as that lets nobody in any more, whatever calls of it are under way."""

    @property
    def _calls_us(self) -> int:
        return 0


class Generous(Permitting):
    """Gives what is in use."""

    def _target(self, held: _Held, permits: Permits, need: int) -> tuple[int, int]:
        mine = permits.holders.get(self.me, NOBODY).held
        target, allowed = Permitting._target(self, held, permits, need)
        return (min(mine, allowed), allowed) if target < mine else (target, allowed)


class Trusting(Permitting):
    """Takes a write without an answer for one that was not made."""

    async def _written(self, held: _Held, permits: Permits, target: int, allowed: int, version: int) -> bool:
        before, named = held.hand.held, held.named
        try:
            return await Permitting._written(self, held, permits, target, allowed, version)
        except (TableUnavailable, CancelledError):
            held.hand.held, held.named = before, named
            raise


@pytest.mark.chaos
@pytest.mark.parametrize(
    ("kind", "hand", "theme"),
    [
        (Permitting, Unchecked, "long stops"),
        (Generous, Hand, "shifts"),
        (Trusting, Hand, "lossy"),
    ],
)
def test_the_same_schedules_catch_a_member_that_leaves_one_rule_out(
    kind: type[Permitting], hand: type[Hand], theme: str
) -> None:
    assert any(Run(schedule(seed, theme), kind, hand).go().over for seed in range(40))


@pytest.mark.chaos
def test_what_a_silent_member_had_is_not_taken_while_calls_of_it_may_be_under_way() -> None:
    steady = replace(schedule(0, "steady", 20), skew=EVEN, offered=6.0, call_us=8 * SECOND)

    def stopped(at: int) -> Schedule:
        return replace(steady, faults=(Fault("stop", at * SECOND, 1, 45 * SECOND),))

    assert not any(Run(stopped(at)).go().over for at in (12, 24))
    assert any(Run(stopped(at), Impatient).go().over for at in range(10, 40, 2))
