"""Under which conditions a key works beside its models and its end: from where, when, how fast. Pure."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, TypeVar

from msgspec import Struct

from tenants import hours, networks
from tenants.errors import Invalid
from tenants.hours import Hours
from tenants.plans import AtOnce, Rate

_Bound = TypeVar("_Bound")


class KeyLimits(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Of one key, beside its tenant's: both must admit. None means that the key has no such limit.

    A part of stored rows: a reader that does not know all of it refuses the row, as to overlook a limit would be to lift it.
    """

    requests_per_second: Rate | None = None
    concurrent_requests: AtOnce | None = None


@dataclass(frozen=True, slots=True)
class Terms:
    """`networks`: ranges of addresses that it may be used from. None each: no such condition."""

    networks: tuple[str, ...] | None = None
    hours: Hours | None = None
    limits: KeyLimits | None = None

    def faults(self) -> Iterator[Invalid]:
        """What is wrong with them beyond their types."""
        if self.networks is not None:
            yield from networks.faults(self.networks, "networks")
        if self.hours is not None:
            yield from hours.faults(self.hours, "hours")
        if self.limits == KeyLimits():
            yield Invalid("limits", "names no limit: leave it out")

    def are_within(self, other: "Terms") -> bool:
        """Whether under these nothing works that would not under the others. Closed: what cannot be said is not."""
        return (
            _is_within(self.networks, other.networks, networks.are_within)
            and _is_within(self.hours, other.hours, hours.are_within)
            and _are_below(self.limits or KeyLimits(), other.limits or KeyLimits())
        )


UNBOUND: Final = Terms()


def _is_within(mine: _Bound | None, theirs: _Bound | None, judge: Callable[[_Bound, _Bound], bool]) -> bool:
    if theirs is None:
        return True
    try:
        return mine is not None and judge(mine, theirs)
    except ValueError:  # a stored one that this machine cannot read
        return False


def _are_below(mine: KeyLimits, theirs: KeyLimits) -> bool:
    """No rate, burst or number at once that is more."""
    own, most = mine.concurrent_requests, theirs.concurrent_requests
    if most is not None and (own is None or own > most):
        return False
    pace, limit = mine.requests_per_second, theirs.requests_per_second
    return limit is None or (pace is not None and pace.rate <= limit.rate and pace.burst <= limit.burst)
