"""Schedules, drawn from a seed: what befalls four members that keep a limit of 200 requests a second, of which 800 are asked for.

Three of four have a fifth of that, which is as much to get wrong in a fifth of the time.
"""

from collections.abc import Callable
from random import Random
from typing import Final

from tests.gateway.admission.simulated import SLOTS, Fault, Schedule
from tests.worlds.virtual import MS, SECOND, Clocks

RATE, LESS_RATE, OFFERED = 200.0, 40.0, 4.0
FULL_STALE_US = 60 * SECOND


def _nothing(_draw: Random, _seconds: int) -> list[Fault]:
    return []


def _kills(kind: str) -> Callable[[Random, int], list[Fault]]:
    def faults(draw: Random, seconds: int) -> list[Fault]:
        first = draw.randrange(2 * SECOND, 5 * SECOND)
        return [
            Fault(kind, at, draw.choice([0, 0, 1, 2, 3]), draw.randrange(50 * MS, 800 * MS))
            for at in range(first, seconds * SECOND, 4 * SECOND)
        ]

    return faults


def _stops(draw: Random, seconds: int) -> list[Fault]:
    """For 10 s, at an await or behind a reading of the clock, with a burst at the moment of the resume or without."""
    found = []
    at = draw.randrange(2 * SECOND, 6 * SECOND)
    while at < (seconds - 12) * SECOND:
        kind = draw.choice(["stop", "stop at reading"])
        burst = draw.choice([0, 0, 1000])
        found.append(Fault(kind, at + draw.randrange(20 * MS), draw.randrange(SLOTS), 10 * SECOND, burst))
        at += draw.randrange(500 * MS, 13 * SECOND)
    return found


def _slow(draw: Random, seconds: int) -> list[Fault]:
    at = draw.randrange(2 * SECOND, 5 * SECOND)
    return [Fault("slow", at, lasts_us=seconds * SECOND)]


def _gone(draw: Random, _seconds: int) -> list[Fault]:
    return [Fault("gone", draw.randrange(2 * SECOND, 6 * SECOND), lasts_us=10 * SECOND)]


def _lossy(draw: Random, seconds: int) -> list[Fault]:
    at = draw.randrange(3 * SECOND)
    return [
        Fault("lossy", at, lasts_us=(seconds - 5) * SECOND, amount=draw.choice([0.1, 0.5])),
        *_shifts(draw, seconds),
    ]


def _shifts(draw: Random, seconds: int) -> list[Fault]:
    return [
        Fault("shift", at)
        for at in range(draw.randrange(2 * SECOND, 5 * SECOND), seconds * SECOND, 4 * SECOND)
    ]


def _plans(draw: Random, seconds: int) -> list[Fault]:
    amounts = [0.5, 2.0] if draw.random() < 0.5 else [2.0, 0.25]
    return [
        Fault("plan", 3 * SECOND + draw.randrange(3 * SECOND) + n * 7 * SECOND, amount=it)
        for n, it in enumerate(amounts)
        if n * 7 + 6 < seconds
    ]


def _slow_plans(draw: Random, seconds: int) -> list[Fault]:
    """What is shared out is to be drawn from the row, and shared out again; somebody is killed or stopped meanwhile."""
    plans = [Fault("plan", (4 + n * 7) * SECOND, amount=it) for n, it in enumerate([0.02, 50.0])]
    return [
        *plans,
        *(it for it in _spread(draw, seconds, "kill", "stop at reading", "lossy") if draw.random() < 0.3),
    ]


def _bursts(draw: Random, seconds: int) -> list[Fault]:
    return [
        Fault("burst", draw.randrange(seconds * SECOND), draw.randrange(SLOTS), amount=draw.choice([50, 500]))
        for _ in range(8)
    ]


def _all(draw: Random, seconds: int) -> list[Fault]:
    found = [
        it
        for part in (_kills("kill"), _kills("vanish"), _stops, _lossy, _gone, _slow, _bursts)
        if draw.random() < 0.6
        for it in part(draw, seconds)
    ]
    return [it for it in found if draw.random() < 0.7]


JUDGED: Final = {
    "steady": _nothing,
    "kills": _kills("kill"),
    "vanished": _kills("vanish"),
    "stops": _stops,
    "slow": _slow,
    "gone": _gone,
    "shifts": _shifts,
}
"""Themes whose use is judged too."""
HOSTILE: Final = {
    "lossy": _lossy,
    "plans": _plans,
    "slow plans": _slow_plans,
    "bursts": _bursts,
    "all": _all,
    "short shares": _all,
    "short stops": _stops,
}
"""Themes in which it is only judged that nothing is over the limit. Short shares end while somebody is stopped."""
THEMES: Final = JUDGED | HOSTILE


def _clocks(draw: Random) -> tuple[Clocks, ...]:
    return tuple(
        Clocks(
            boot_us=draw.randrange(10**12),
            wall_us=draw.choice([-1, 0, 1]) * SECOND // 2,
            fast=draw.choice([-1000, 0, 1000]),
        )
        for _ in range(SLOTS)
    )


def _spread(draw: Random, seconds: int, *kinds: str) -> list[Fault]:
    """Some of these, at any time."""
    return [
        Fault(
            draw.choice(kinds),
            draw.randrange(seconds * SECOND),
            draw.randrange(SLOTS),
            draw.randrange(100 * MS, 10 * SECOND),
            0.3,  # of the writes, where they are lost
        )
        for _ in range(12)
    ]


SLOW: Final = {
    # Requests a second, at once, seconds that it goes on, times the limit that is asked for, whether somebody is killed or stopped
    "1 a minute": (1 / 60, 1, 3600, 60.0, False),
    "1 a minute, hostile": (1 / 60, 1, 1800, 60.0, True),
    "1 a minute, 5 at once": (1 / 60, 5, 1800, 30.0, True),
    "4 a second": (4.0, 1, 60, 10.0, False),
    "4 a second, hostile": (4.0, 6, 60, 10.0, True),
    "50 a second, 5 at once": (50.0, 5, 20, 4.0, False),
    "50 a second, 5 at once, hostile": (50.0, 5, 20, 4.0, True),
}
"""Limits that are spent from the row."""


def slow(seed: int, theme: str) -> Schedule:
    draw = Random(seed)
    rate, burst, seconds, offered, is_hostile = SLOW[theme]
    faults = (
        _spread(draw, seconds, "kill", "vanish", "stop", "stop at reading", "gone", "lossy")
        if is_hostile
        else []
    )
    return Schedule(
        seed=seed,
        theme=theme,
        seconds=seconds,
        rate=rate,
        burst=burst,
        offered=offered,
        stale_us=FULL_STALE_US,
        clocks=_clocks(draw),
        faults=tuple(sorted(faults, key=lambda it: it.at_us)),
        latency_us=draw.choice([1, 2, 10]) * MS,
        tick_us=500 * MS if rate < 1 else 10 * MS,
        skew=draw.choice([(97, 1, 1, 1), (25, 25, 25, 25)]),
    )


def drawn(seed: int, theme: str | None = None) -> Schedule:
    draw = Random(seed)
    theme = theme or draw.choice([*THEMES])
    seconds = draw.randrange(14, 24) + (8 if theme in ("stops", "short stops", "all", "short shares") else 0)
    clocks = _clocks(draw)
    return Schedule(
        seed=seed,
        theme=theme,
        seconds=seconds,
        rate=RATE if seed % 4 == 0 else LESS_RATE,
        burst=draw.choice([20, 100, 400]),
        offered=draw.choice([OFFERED, OFFERED, 0.9]) if theme in HOSTILE else OFFERED,
        stale_us=draw.choice([3, 5, 8]) * SECOND if theme.startswith("short") else FULL_STALE_US,
        clocks=clocks,
        faults=tuple(sorted(THEMES[theme](draw, seconds), key=lambda it: it.at_us)),
        latency_us=draw.choice([1, 2, 10, 30]) * MS,
        tick_us=10 * MS if seed % 4 == 0 else 20 * MS,
    )
