"""Whose is the compute that Triton measured? Pure.

Between two looks at a place (a model on a replica) it computed so much. That is shared out over the calls that were there in that time, by
weight x time: each call counts with the part of the interval in which it was on the place. A call's weight is the one of its outcome, 1 for
each that went to a server: how many rows a batch had only the model's server knows. What no call explains is nobody's, and has a line.

Shares are whole microseconds and sum up to the whole: who is rounded down most gets one more first, in the order of names.
"""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

UNATTRIBUTED: Final = "unattributed"
COLD_START: Final = "cold-start"
CANARY: Final = "canary"
IDLE: Final = "idle"
LOAD: Final = "load"


class Who(NamedTuple):
    """Whose: a tenant's key. With the tenant "" it is a line of the operator's own."""

    tenant: str
    key: str


class Ran(NamedTuple):
    """A call was on the place, from one microsecond since 1970 to another."""

    who: Who
    start_us: int
    end_us: int
    weight: int = 1


class Interval(NamedTuple):
    start_us: int
    end_us: int

    def overlap(self, run: Ran) -> int:
        """So many microseconds of it the call was there, one for a call that was there at all."""
        found = min(self.end_us, run.end_us) - max(self.start_us, run.start_us)
        return max(found, 1) if run.end_us > self.start_us and run.start_us < self.end_us else 0


def shares(total_us: int, within: Interval, runs: Iterable[Ran]) -> dict[Who, int]:
    """Who is to have how much of it; together it is the total."""
    parts: dict[Who, int] = {}
    for run in runs:
        if part := within.overlap(run) * run.weight:
            parts[run.who] = parts.get(run.who, 0) + part
    if not parts:
        return {Who("", UNATTRIBUTED): total_us} if total_us else {}
    return _divided(total_us, parts)


def _divided(total: int, parts: Mapping[Who, int]) -> dict[Who, int]:
    whole = sum(parts.values())
    found = {who: total * part // whole for who, part in parts.items()}
    by_rest = sorted(parts, key=lambda who: (-(total * parts[who] % whole), who))
    for who in by_rest[: total - sum(found.values())]:
        found[who] += 1
    return found


def idle_us(within: Interval, runs: Iterable[Ran]) -> int:
    """So long nobody's call was there."""
    busy_us, until = 0, within.start_us
    for run in sorted(runs, key=lambda it: it.start_us):
        start, end = max(run.start_us, until), min(run.end_us, within.end_us)
        if end > start:
            busy_us, until = busy_us + end - start, end
    return within.end_us - within.start_us - busy_us
