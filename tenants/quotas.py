"""GCRA, the generic cell rate algorithm: rate and burst in one number, the theoretical arrival time. Pure.

The theoretical arrival time (TAT) of a limit is when it will be whole again. Each admission moves it one
interval on, and it is at most `burst` intervals ahead of now. So any window of W seconds admits at most
burst + rate * W.

Inside, time is whole nanoseconds and the interval is rounded up, so that nothing adds up and the law is never
bent in the caller's favour. Floats in seconds carry a nanosecond up to 26 days; a later `now` or `tat` is
rounded by at most one part in 2**51.
"""

import math
from fractions import Fraction
from functools import lru_cache

from msgspec import Struct

from tenants.plans import Rate

_NANOSECONDS = 1_000_000_000


class Admission(Struct, frozen=True, gc=False):
    """What a limit answered. Hand `tat` back with the next question; a limit that was never used has 0."""

    tat: float
    """Seconds of the same clock as `now`."""
    remaining: int
    """So many more would be admitted at this same instant, and not one more."""
    retry_after_seconds: float
    """0 when admitted; else the shortest wait after which one is, if nobody else comes first."""
    reset_seconds: float
    """From now until the whole burst is there again, if nobody comes."""

    @property
    def admitted(self) -> bool:
        return self.retry_after_seconds == 0


def admit(limit: Rate, tat: float, now: float) -> Admission:
    """Ask for one admission at `now`, seconds of a steady clock. A refusal leaves `tat` as it was."""
    interval = interval_nanoseconds(limit.rate)
    instant = round(now * _NANOSECONDS)
    whole_again = max(round(tat * _NANOSECONDS), instant)
    moved = whole_again + interval
    room = instant + limit.burst * interval - moved
    if room < 0:
        return Admission(tat, 0, -room / _NANOSECONDS, (whole_again - instant) / _NANOSECONDS)
    return Admission(moved / _NANOSECONDS, room // interval, 0.0, (moved - instant) / _NANOSECONDS)


def look(limit: Rate, tat: float, now: float) -> Admission:
    """How the limit stands when nothing is asked of it: whoever does not ask is always admitted."""
    interval, instant = interval_nanoseconds(limit.rate), round(now * _NANOSECONDS)
    whole_again = max(round(tat * _NANOSECONDS), instant)
    room = instant + limit.burst * interval - whole_again
    return Admission(tat, room // interval, 0.0, (whole_again - instant) / _NANOSECONDS)


@lru_cache(maxsize=1024)
def interval_nanoseconds(rate: float) -> int:
    """From one admission to the next in the long run; rounded up, exactly."""
    return math.ceil(_NANOSECONDS / Fraction(rate))
