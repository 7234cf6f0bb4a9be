"""Four members spend one budget, never more than it, and nearly all of it, whatever becomes of them and of the table; in virtual time.

SEEDS=N       so many schedules of each theme instead of 2; CHAOS=full: 100

The seed of a schedule that fails is printed with its transcript, cut down to what it takes.
"""

from collections.abc import Callable
from random import Random

import pytest

from gateway.admission import budget as rows
from gateway.admission.budget import Limit
from gateway.admission.budgets import Budgets, Refused, _Held
from gateway.admission.chunk import Chunk
from tests.gateway.admission.budget_world import SKEW, SLOTS, Run, Schedule, smaller, transcript
from tests.gateway.admission.simulated import Fault
from tests.seeds import seeds
from tests.worlds.virtual import MS, SECOND, Clocks

SEEDS = seeds(2, 100)
LEAST_USED = 0.99
EVEN = (25,) * SLOTS
SECONDS = 170  # two whole minutes, and parts of two more


def _kills(draw: Random, seconds: int) -> list[Fault]:
    first = draw.randrange(2 * SECOND, 5 * SECOND)
    return [
        Fault("kill", at, draw.choice([0, 0, 1, 2, 3]), draw.randrange(50 * MS, 800 * MS))
        for at in range(first, seconds * SECOND, 4 * SECOND)
    ]


def _one_kill(draw: Random, _seconds: int) -> list[Fault]:
    return [Fault("kill", draw.randrange(42 * SECOND, 80 * SECOND), 0, 300 * MS)]


def _stops(draw: Random, seconds: int) -> list[Fault]:
    kinds = ["stop", "stop at reading"]
    return [
        Fault(
            draw.choice(kinds),
            draw.randrange(seconds * SECOND),
            draw.randrange(SLOTS),
            draw.randrange(10 * SECOND),
        )
        for _ in range(8)
    ]


def _over_the_end(draw: Random, _seconds: int) -> list[Fault]:
    """Stopped behind a reading of the clock, or anywhere, from one period to the next."""
    return [
        Fault(
            draw.choice(["stop", "stop at reading"]),
            end * SECOND - draw.randrange(2 * SECOND),
            slot,
            5 * SECOND,
        )
        for end in (40, 100, 160)
        for slot in (0, draw.randrange(1, SLOTS))
    ]


def _slow(draw: Random, _seconds: int) -> list[Fault]:
    return [Fault("slow", draw.randrange(5 * SECOND))]


def _gone(draw: Random, _seconds: int) -> list[Fault]:
    return [Fault("gone", draw.randrange(45 * SECOND, 75 * SECOND), lasts_us=10 * SECOND)]


def _lossy(draw: Random, seconds: int) -> list[Fault]:
    lossy = Fault(
        "lossy", draw.randrange(3 * SECOND), lasts_us=seconds * SECOND, amount=draw.choice([0.1, 0.5])
    )
    return [lossy, *_shifts(draw, seconds)]


def _shifts(draw: Random, seconds: int) -> list[Fault]:
    return [
        Fault("shift", at)
        for at in range(draw.randrange(2 * SECOND, 5 * SECOND), seconds * SECOND, 7 * SECOND)
    ]


def _plans(draw: Random, _seconds: int) -> list[Fault]:
    return [
        Fault("plan", 50 * SECOND + draw.randrange(30 * SECOND), amount=draw.choice([0.5, 0.9])),
        Fault("plan", 115 * SECOND + draw.randrange(30 * SECOND), amount=2.0),
    ]


def _all(draw: Random, seconds: int) -> list[Fault]:
    found = [
        it
        for part in (_kills, _stops, _over_the_end, _lossy, _gone, _slow)
        if draw.random() < 0.6
        for it in part(draw, seconds)
    ]
    return [it for it in found if draw.random() < 0.7]


JUDGED = {
    "steady": lambda _draw, _seconds: [],
    "kills": _kills,
    "one kill, and nobody knows": _one_kill,
    "stops": _stops,
    "over the end": _over_the_end,
    "slow": _slow,
    "gone": _gone,
    "shifts": _shifts,
    "tokens": _shifts,
}
"""Themes whose use is judged too."""
HOSTILE = {
    "lossy": _lossy,
    "plans": _plans,
    "all": _all,
    "tokens, lossy": _lossy,
    "tight, lossy": _lossy,
    "tokens, tight, lossy": _lossy,
    "tokens, all": _all,
}
THEMES: dict[str, Callable[[Random, int], list[Fault]]] = JUDGED | HOSTILE


def drawn(seed: int, theme: str) -> Schedule:
    draw = Random(f"{theme} {seed}")
    clocks = tuple(
        Clocks(
            boot_us=draw.randrange(10**12),
            wall_us=draw.choice([-1, 0, 1]) * SECOND // 2,
            fast=draw.choice([-1000, 0, 1000]),
        )
        for _ in range(SLOTS)
    )
    ceiling = draw.choice([40, 400]) if theme.startswith("tokens") else 1
    is_tight = "tight" in theme
    units = 100 if is_tight else draw.choice([200, 2_000, 6_000])
    return Schedule(
        seed=seed,
        theme=theme,
        seconds=SECONDS,
        units=units * (ceiling // 4 or 1),
        offered=0.9
        if theme == "over the end" and seed % 2
        else 8.0
        if is_tight
        else 1.6
        if ceiling == 1
        else 4.0,
        clocks=clocks,
        faults=tuple(sorted(THEMES[theme](draw, SECONDS), key=lambda it: it.at_us)),
        latency_us=draw.choice([1, 2, 10, 30]) * MS,
        ceiling=ceiling,
        skew=EVEN if is_tight else draw.choice([SKEW, EVEN]) if theme in HOSTILE else SKEW,
        answers_us=0 if theme.endswith("nobody knows") else draw.choice([1, 5]) * SECOND,
    )


@pytest.mark.chaos
@pytest.mark.parametrize("theme", THEMES)
def test_no_period_has_more_than_its_budget_and_what_is_there_is_used(theme: str) -> None:
    for seed in SEEDS:
        run = Run(drawn(seed, theme)).go()
        if run.faults():
            pytest.fail(transcript(smaller(run.schedule, Budgets), Budgets))
        if theme in JUDGED:
            assert run.used >= LEAST_USED, transcript(run.schedule, Budgets)


class Unchecked(Budgets):
    """Spends what it holds without a look at the clock."""

    def admit(self, name: str, limit: Limit, units: int, now_us: int) -> Chunk | Refused | None:
        held = self._held.get(name)
        if held is not None and held.chunk.left >= units:
            return held.chunk
        return Budgets.admit(self, name, limit, units, now_us)


class Hoping(Budgets):
    """Takes a write without an answer for one that was made, whatever the row says."""

    def _lost(self, held: _Held, start_us: int, units: int) -> None:
        held.doubted = -1
        self._returned(held, start_us, max(0, units))

    async def _look(self, held: _Held) -> None:
        claim = held.chunk.claim
        await Budgets._look(self, held)
        held.chunk.allow(max(claim, held.chunk.claim))


class Despairing(Budgets):
    """Takes a write without an answer for one that was not made, and never will be."""

    def _lost(self, held: _Held, start_us: int, units: int) -> None:
        held.doubted = -1
        self._returned(held, start_us, max(0, -units))


class Forgetting(Budgets):
    """Takes what a dead member held for what it did not spend."""

    async def _judged(self, name: str, held: _Held) -> rows.Budget:
        row = await Budgets._judged(self, name, held)
        for gone in [it for it in row.holders if self.is_dead(it)]:
            row = rows.left(row, gone, 0)
        return row


@pytest.mark.parametrize(
    ("theme", "kind"),
    [
        ("over the end", Unchecked),
        ("tight, lossy", Hoping),
        ("tokens, tight, lossy", Despairing),
        ("kills", Forgetting),
    ],
    ids=lambda it: it if isinstance(it, str) else it.__doc__,
)
def test_who_keeps_one_rule_less_is_caught(theme: str, kind: type[Budgets]) -> None:
    """Else the schedules above would show nothing. What it takes is a few faults."""
    failing = next(
        (it for it in (drawn(seed, theme) for seed in range(20)) if Run(it, kind).go().faults()), None
    )
    assert failing is not None
    assert "admitted" in transcript(failing, kind)


def test_what_fails_is_cut_down_to_what_it_takes() -> None:
    failing = drawn(1, "over the end")
    found = smaller(failing, Unchecked)
    assert len(found.faults) < len(failing.faults)
    assert "admitted" in transcript(found, Unchecked)


def test_a_seed_gives_the_same_again() -> None:
    first, second = (Run(drawn(3, "all")).go() for _ in range(2))
    assert first.worth == second.worth
    assert first.world.log == second.world.log
