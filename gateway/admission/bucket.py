"""What one member may spend of a limit: tokens that refill here, up to a deadline. Pure, and all that a warm admission touches.

Whole numbers throughout: time in microseconds of the member's own clock, rates and capacities in millionths of a request (a second), tokens
in millionths of those, so that a rate times a time is exactly what it refills. Refill counts 999 of each 1,000 microseconds: a clock may
run that much too fast, and the limit is kept all the same.
"""

from typing import Final, NamedTuple

from msgspec import Struct

MICRO: Final = 1_000_000
ONE: Final = MICRO
"""A request, in the unit of capacities."""
_TOKEN: Final = MICRO * MICRO
_SLOWER: Final = 999  # of 1,000
_UNKNOWN_WAIT_US: Final = MICRO  # how long until somebody gives is not ours to know


class Share(NamedTuple):
    """Of a limit: millionths of a request a second, and millionths of a request at once."""

    rate: int
    capacity: int


NOTHING: Final = Share(0, 0)


class Verdict(Struct, frozen=True, gc=False):
    """What a limit answered. Admitted, or so long to wait: the shortest, if nobody else comes first."""

    at_us: int
    """The reading of the member's clock that it is dated by."""
    remaining: int
    """So many more this member would admit at this instant."""
    retry_after_us: int
    reset_us: int
    """From then until all that this member may spend is there again, if nobody comes."""

    @property
    def admitted(self) -> bool:
        return self.retry_after_us == 0


def slowed(rate: int, elapsed_us: int) -> int:
    """What a rate adds in this time of a clock that may run fast by a thousandth, in millionths of millionths of a request."""
    return rate * elapsed_us * _SLOWER // 1000


class Bucket:
    """The share of one holder, as it spends it. At and after the deadline it admits nothing and does not refill.

    What it holds is at most what the row says that it holds: it is made less before a row is written that says less, and more once a row
    is written that says more.
    """

    __slots__ = ("_full", "_refill", "_tokens", "asked", "at_us", "deadline_us", "share")

    def __init__(self, at_us: int) -> None:
        self.share = NOTHING
        self.at_us = at_us
        self.deadline_us = at_us
        self.asked = 0
        """How often `admit` was called; whoever measures demand counts from there."""
        self._full = self._refill = self._tokens = 0

    @property
    def tokens(self) -> int:
        """Whole millionths of a request, as of the last reading of the clock."""
        return self._tokens // MICRO

    def is_over(self, now_us: int) -> bool:
        return now_us >= self.deadline_us

    def is_full(self, now_us: int) -> bool:
        """Whether waiting brings nothing more."""
        self.settle(now_us)
        return self._tokens >= self._full or not self._refill

    def admit(self, now_us: int) -> Verdict:
        """Spend one token, if there is one at this reading of the clock and the deadline has not come."""
        self.asked += 1
        if now_us >= self.deadline_us:
            return Verdict(now_us, 0, _UNKNOWN_WAIT_US, _UNKNOWN_WAIT_US)
        full, refill, tokens = self._full, self._refill, self._tokens
        if now_us > self.at_us:
            tokens += refill * (now_us - self.at_us)
            tokens = min(tokens, full)
            self.at_us = now_us
        if tokens >= _TOKEN:
            self._tokens = tokens = tokens - _TOKEN
            return Verdict(now_us, tokens // _TOKEN, 0, (full - tokens) // refill + 1 if refill else 0)
        self._tokens = tokens
        if not refill or full < _TOKEN:
            return Verdict(now_us, 0, _UNKNOWN_WAIT_US, _UNKNOWN_WAIT_US)
        return Verdict(now_us, 0, (_TOKEN - tokens) // refill + 1, (full - tokens) // refill + 1)

    def look(self, now_us: int) -> Verdict:
        """How it stands, for one who asks for nothing: admitted where there is one, and no less than before."""
        if now_us >= self.deadline_us:
            return Verdict(now_us, 0, _UNKNOWN_WAIT_US, _UNKNOWN_WAIT_US)
        self.settle(now_us)
        full, refill, tokens = self._full, self._refill, self._tokens
        reset_us = (full - tokens) // refill + 1 if refill and tokens < full else 0
        if tokens >= _TOKEN:
            return Verdict(now_us, tokens // _TOKEN, 0, reset_us)
        if not refill or full < _TOKEN:
            return Verdict(now_us, 0, _UNKNOWN_WAIT_US, _UNKNOWN_WAIT_US)
        return Verdict(now_us, 0, (_TOKEN - tokens) // refill + 1, reset_us)

    def refund(self) -> None:
        """The last admission has not been. Only in the same breath: with nothing awaited since, the bucket is as it was before, so it is as
        if nobody had asked. Later it would not be: what refilled meanwhile might have found no room, and the share may be another's.
        """
        self._tokens += _TOKEN

    def settle(self, now_us: int) -> None:
        """The tokens of this reading: what refilled until then, or until the deadline."""
        until = min(now_us, self.deadline_us)
        if until > self.at_us:
            self._tokens = min(self._full, self._tokens + self._refill * (until - self.at_us))
        self.at_us = max(self.at_us, now_us)

    def lower(self, share: Share, now_us: int) -> int:
        """Hold no more than this from now on. Gives the tokens that go with the capacity, in millionths of a request."""
        self.settle(now_us)
        before, after = self.share.capacity, min(self.share.capacity, share.capacity)
        given = self.tokens * (before - after) // before if before else 0
        self._hold(Share(min(self.share.rate, share.rate), after))
        self.spend(given)
        return given

    def spend(self, tokens: int) -> None:
        """So many millionths of a request are no more this member's."""
        self._tokens = max(0, min(self._tokens - tokens * MICRO, self._full))

    def hold(self, share: Share, tokens: int, now_us: int) -> None:
        """Hold exactly this from now on, with so many tokens more."""
        self.settle(now_us)
        self._hold(share)
        self._tokens = min(self._full, self._tokens + tokens * MICRO)

    def _hold(self, share: Share) -> None:
        self.share = share
        self._full = share.capacity * MICRO
        self._refill = slowed(share.rate, 1)
