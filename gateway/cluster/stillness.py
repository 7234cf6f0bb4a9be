"""How long does a beat last for the one who writes it, and when may others take it for over? Pure.

Both sides count on their own clocks, which are never compared. The writer counts from before it sent the beat, the others from after they
first read it, which is later, whatever lies between; and they wait for longer than it goes on:

    the writer    (its clock before it sent) + lasts - margin
    the others    (their clock after they first read it) + lasts * (1 + RATE) + margin

So the writer is over first as long as the faster clock gains on the slower one by less than lasts * RATE + 2 * margin in that time. With
`lasts` 60 s and a margin of 0.25 s that is 0.56 s: clocks that are each off by a thousandth gain 0.12 s.
"""

from dataclasses import dataclass
from typing import Final

RATE: Final = 1e-3
LEAST_SECONDS: Final = 3.0
MOST_SECONDS: Final = 240.0
"""That a beat lasts; there are several in the least."""


@dataclass(frozen=True, slots=True)
class Timing:
    """In seconds. A row says how long its own beat lasts, so members that differ in this agree all the same.

    `stale_seconds`: how long a member goes on whose beats and looks the table does not answer. `leadership_seconds`: the same of a leader,
    shorter, so that another one acts soon. `swept_seconds`: behind so much silence a row without a certificate goes; more than any call
    takes. Raises ValueError for what leaves no time to beat.
    """

    stale_seconds: float = 60.0
    leadership_seconds: float = 4.0
    margin_seconds: float = 0.25
    swept_seconds: float = 3600.0

    def __post_init__(self) -> None:
        if not LEAST_SECONDS <= self.leadership_seconds <= self.stale_seconds <= MOST_SECONDS:
            raise ValueError(
                f"a beat lasts {LEAST_SECONDS:g} to {MOST_SECONDS:g} seconds, a leader's no longer than a member's"
            )
        if not self.stale_seconds * RATE <= self.margin_seconds <= self.leadership_seconds / 10:
            raise ValueError("the margin is less than clocks differ by, or more than a leader has time for")
        if self.swept_seconds < 2 * self.stale_seconds:
            raise ValueError("rows of the silent stay for at least twice the time that a beat lasts")


def ends(sent: float, lasts_seconds: float, margin_seconds: float) -> float:
    """From then on, on its own clock, whoever sent a beat at `sent` does not act by it."""
    return sent + lasts_seconds - margin_seconds


def is_over(still_seconds: float, lasts_seconds: float, margin_seconds: float) -> bool:
    """Whether a beat that stood still for so long on the clock of somebody else is over for the one who wrote it."""
    return still_seconds >= lasts_seconds * (1 + RATE) + margin_seconds
