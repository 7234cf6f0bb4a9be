"""Whether a limit was kept by several processes, and used, judged by what a client saw and by what befell them when. Pure.

Only the process knows when it decided; a client knows that it did so between what it sent and what it heard. So a window counts those
decisions that lie in it for certain, and what is found over the limit is so. While a process is stopped it decides nothing: what was sent
to it meanwhile was decided behind its end. With that an interval is some milliseconds long, less than a request of any limit here.

Times are seconds of one clock.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal

WINDOWS: Final = (0.1, 1.0, 5.0)
LEAST_USED: Final = 0.95
GRACE_SECONDS: Final = 1.0
"""Behind each kill, resume and start; what is used then is not judged."""
_TICK: Final = 0.5
_EXACT: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Offer:
    """One request, to which process, when it was sent and answered; `status` 0: it was not answered."""

    process: int
    sent: float
    ended: float
    status: int

    @property
    def is_admitted(self) -> bool:
        return self.status == 200


@dataclass(frozen=True, slots=True)
class Outage:
    """A process serves nothing from then until then."""

    process: int
    kind: Literal["killed", "stopped"]
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Held:
    """What each process held of the rate at that moment, in requests a second, by the row."""

    at: float
    rates: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Decided:
    """No sooner and no later than this."""

    earliest: float
    latest: float


def decisions(offers: Iterable[Offer], outages: Sequence[Outage]) -> list[Decided]:
    """Of the admitted ones."""
    found = []
    for it in offers:
        if it.is_admitted:
            stops = [o for o in outages if o.process == it.process and o.kind == "stopped"]
            behind = [o.end for o in stops if o.start <= it.sent < o.end <= it.ended]
            found.append(Decided(max([it.sent, *behind]), it.ended))
    return found


def excess(
    decided: Iterable[Decided], rate: float, burst: int, windows: Sequence[float] = WINDOWS
) -> list[str]:
    """The worst window of each width in which more was decided for certain than rate and burst allow."""
    ordered = sorted(decided, key=lambda it: it.earliest)
    starts, found = [it.earliest for it in ordered], []
    for width in windows:
        most, worst, at = burst + rate * width, 0, 0.0
        for place, start in enumerate(starts):
            behind = bisect_right(starts, start + width)
            if behind - place > max(worst, most):
                inside = sum(it.latest <= start + width for it in ordered[place:behind])
                worst, at = max((worst, at), (inside, start))
        if worst > most + _EXACT:
            found.append(f"{worst} in {width:g} s from {at:.3f}, at most {most:g}")
    return found


@dataclass(frozen=True, slots=True)
class Used:
    """How much was admitted of what could have been, while it is judged."""

    did: float
    could: float

    @property
    def part(self) -> float:
        return self.did / self.could if self.could else 1.0

    def __str__(self) -> str:
        return f"{self.did:.0f} of {self.could:.0f} ({self.part:.1%})"


def used(
    offers: Sequence[Offer],
    outages: Sequence[Outage],
    rate: float,
    *,
    since: float,
    until: float,
    held: Sequence[Held] = (),
) -> Used:
    """In each tick what was offered to those that run, up to the rate; while one is stopped, up to what the others held of it."""
    edges = sorted({at for it in outages for at in (it.start, it.end)})
    admitted = sorted(it.ended for it in offers if it.is_admitted)
    by_process = {
        number: sorted(it.sent for it in offers if it.process == number)
        for number in {it.process for it in offers}
    }
    did = could = 0.0
    for start, end in pairwise(_ticks(since, until)):
        if any(at - _TICK <= start < at + GRACE_SECONDS for at in edges):
            continue
        away = {it.process for it in outages if it.start <= start < it.end}
        offered = sum(
            _within(found, start, end) for number, found in by_process.items() if number not in away
        )
        could += min(offered, _open(rate, start, away, outages, held) * (end - start))
        did += _within(admitted, start, end)
    return Used(did, could)


def _open(rate: float, at: float, away: set[int], outages: Sequence[Outage], held: Sequence[Held]) -> float:
    """What is dead is the others' by then; what is stopped keeps its share."""
    is_stopped = any(it.kind == "stopped" and it.start <= at < it.end for it in outages)
    place = bisect_left(held, at, key=lambda it: it.at)
    if not is_stopped or not held:
        return rate
    found = held[min(place, len(held) - 1)]
    return sum(it for number, it in enumerate(found.rates) if number not in away)


def _ticks(since: float, until: float) -> list[float]:
    return [since + number * _TICK for number in range(int((until - since) / _TICK) + 1)]


def _within(ordered: Sequence[float], start: float, end: float) -> int:
    return bisect_left(ordered, end) - bisect_left(ordered, start)
