"""How much one request may be looked through, and whether it is to end. Pure: what is counted are steps, not time.

A failure closes the door: what was not looked through is refused.
"""

from collections.abc import Callable
from typing import Final

Look = Callable[[int], object]
"""Told what the next step costs, before it is taken. What it raises ends the search."""

A_PLACE: Final = 1  # where something may begin or end: some 8 µs
WORDS_AROUND: Final = 4
SUMS: Final = 4  # of one scheme of numbers of persons
PLANS: Final = 4  # of a country's telephone numbers
ASKED: Final = 16  # of all that is known of telephone numbers

MOST_STEPS: Final = 600_000
"""Of one request's texts together: some 4 s. A million characters of prose take a hundredth of them, a table of 8,000 persons
(date, telephone, address) all."""


class NotScreened(Exception):
    """The text could not be looked at, or is too much, or holds too many values: the request is refused. Its words are public."""


class Steps:
    """Those of one request. `stop` may be called in another thread."""

    __slots__ = ("_is_stopped", "_left")

    def __init__(self, most: int = MOST_STEPS) -> None:
        self._left = most
        self._is_stopped = False

    def stop(self) -> None:
        """Nobody waits for the end any more."""
        self._is_stopped = True

    def take(self, cost: int) -> None:
        """Raises NotScreened."""
        self._left -= cost
        if self._is_stopped:
            raise NotScreened("nobody waits for it any more")
        if self._left < 0:
            raise NotScreened(
                "it holds more numbers and signs than can be looked at in one request; send its texts in several requests"
            )
