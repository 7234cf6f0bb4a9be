"""What one member may spend of a budget without asking: a claim, and what of it is used or reserved. Pure; all that a warm call touches.

    claim  =  used  +  reserved by calls under way  +  left

The claim is at most what the row says of its holder: it is made less before a row is written that says less, and more once one is written
that says more. So a write whose answer is lost leaves the smaller of the two until another is answered.
"""

from gateway.admission.budget import Limit, Span, ended


class Chunk:
    """Of one budget. Whole units throughout; `now_us` is the time since 1970 by the member's own clock, which says what period it is."""

    __slots__ = (
        "asked",
        "asked_most",
        "claim",
        "left",
        "limit",
        "rest",
        "span",
        "start_us",
        "total",
        "until_us",
        "used",
    )

    def __init__(self, limit: Limit, start_us: int) -> None:
        self.limit = limit.units
        self.span: Span = limit.span
        self.asked = 0
        """Units that were asked for; whoever measures demand counts from there."""
        self.asked_most = 1
        """By one call, the most of late."""
        self.rest = 0
        """Less than a unit, that was used and is counted with the next call: whoever settles keeps it here."""
        self.begin(start_us)

    def begin(self, start_us: int) -> None:
        """Another period: nothing is held of it. What calls under way had reserved was of the old one."""
        self.start_us, self.until_us = start_us, ended(self.span, start_us)
        self.claim = self.used = self.left = 0
        self.total = 0
        """What all used or held, this claim among it, when it was last written."""

    @property
    def reserved(self) -> int:
        return self.claim - self.used - self.left

    def has(self, units: int, now_us: int) -> bool:
        """Whether these may be reserved at this reading of the clock."""
        return units <= self.left and now_us < self.until_us

    def reserve(self, units: int) -> None:
        """`has` has said that it may be."""
        self.left -= units
        self.asked += units
        self.asked_most = max(self.asked_most, units)

    def settle(self, units: int, used: int, start_us: int) -> None:
        """Of what was reserved in the period that began then, so much was used. More than that is charged, too: the next calls are refused.

        A call that ends in another period than it began in has been charged what it reserved.
        """
        if start_us == self.start_us:
            self.left += units - used
            self.used += used

    def told(self, units: int) -> None:
        """The plan. What was taken beyond a smaller one is not spent."""
        self.limit = units
        if self.total > units and self.left > 0:
            self.claim -= self.left
            self.left = 0

    def allow(self, claim: int) -> None:
        """The claim is exactly this from now on."""
        self.left += claim - self.claim
        self.claim = claim
