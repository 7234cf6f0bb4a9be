"""Four members keep one limit exactly, and use it, whatever becomes of them, of their clocks and of the table; in virtual time.

SEEDS=N       so many schedules of each theme instead of 8
CHAOS=full    200 of each

The seed of a schedule that fails is printed with its transcript, cut down to what it takes.
"""

import os

import pytest

from gateway.admission.bucket import Share, Verdict
from gateway.admission.drawing import Drawing, _Seen
from gateway.admission.shares import Limit, Shares, topped
from gateway.admission.shares import lacking as room
from gateway.admission.sharing import Sharing, _Held
from tenants.ports import Row
from tests.gateway.admission.schedules import HOSTILE, JUDGED, SLOW, drawn, slow
from tests.gateway.admission.simulated import Run, smaller, transcript

IS_FULL = os.environ.get("CHAOS") == "full"
SEEDS = int(os.environ.get("SEEDS") or (200 if IS_FULL else 8))
LEAST_USED = 0.95


@pytest.mark.chaos
@pytest.mark.parametrize("theme", [*JUDGED, *HOSTILE])
def test_no_window_admits_more_than_rate_and_burst_and_what_is_there_is_used(theme: str) -> None:
    for seed in range(SEEDS):
        run = Run(drawn(seed, theme)).go()
        if run.faults():
            pytest.fail(transcript(smaller(run.schedule, Sharing), Sharing))
        if theme in JUDGED:
            assert run.used >= LEAST_USED, transcript(run.schedule, Sharing)


@pytest.mark.chaos
@pytest.mark.parametrize("theme", SLOW)
def test_a_limit_that_is_spent_from_the_row_is_never_over_and_is_used(theme: str) -> None:
    """One a minute is for four members one a minute, whatever their clocks say of each other; a lost answer costs one."""
    for seed in range(max(2, SEEDS // 4)):
        schedule = slow(seed, theme)
        run = Run(schedule).go()
        if run.faults():
            pytest.fail(transcript(smaller(run.schedule, Sharing), Sharing))
        if theme.startswith("1 a minute"):
            most = schedule.rate * schedule.seconds + schedule.burst
            lost = sum("a write" in it for it in run.world.log)
            found = len(run.admitted) + lost + 1  # the last one is there as it ends, or a moment later
            assert found >= LEAST_USED * most, transcript(run.schedule, Sharing)


class Trusting(Drawing):
    """Takes what others wrote of their clocks for its own time."""

    def _stood_us(self, seen: _Seen, now_us: int, wall_us: int) -> int:
        return max(now_us - seen.since_us, wall_us - seen.shares.at_us)


class TrustingSharing(Sharing):
    def __post_init__(self) -> None:
        self._drawing = Trusting(self.table, self.me, self.clock, self.wall_us)


def test_who_trusts_the_clocks_of_others_is_caught() -> None:
    schedules = (slow(seed, "4 a second") for seed in range(10))
    assert any(Run(it, TrustingSharing).go().excess() for it in schedules)


class Unchecked(Sharing):
    """Looks at no deadline before it spends."""

    def admit(self, name: str, limit: Limit) -> Verdict | None:
        if name in self._held:
            self._held[name].bucket.deadline_us = 2**62
        return Sharing.admit(self, name, limit)


class Keeping(Sharing):
    """Takes a lost answer for a write that was not made."""

    def _doubted(self, held: _Held, share: Share, limit: Limit, tokens: int) -> None:
        self._returned(held, share, limit, tokens)


class Full(Sharing):
    """Gives everybody who comes a fresh bucket."""

    def _found(self, row: Row | None, held: _Held) -> Shares:
        shares = Sharing._found(self, row, held)
        return topped(shares, room(shares))


@pytest.mark.parametrize(
    ("theme", "kind"),
    [("short stops", Unchecked), ("lossy", Keeping), ("shifts", Full)],
    ids=["no check before spending", "tokens kept after a lost answer", "a fresh bucket for whoever comes"],
)
def test_who_keeps_one_rule_less_is_caught(theme: str, kind: type[Sharing]) -> None:
    """Else the schedules above would show nothing. What it takes is a few faults."""
    failing = next(
        (it for it in (drawn(seed, theme) for seed in range(40)) if Run(it, kind).go().faults()), None
    )
    assert failing is not None
    found = smaller(failing, kind)
    assert len(found.faults) <= len(failing.faults)
    assert "too many in" in transcript(found, kind) or "more is held" in transcript(found, kind)


def test_a_seed_gives_the_same_again() -> None:
    first, second = (Run(drawn(3, "all")).go() for _ in range(2))
    assert first.admitted == second.admitted
    assert first.world.log == second.world.log
