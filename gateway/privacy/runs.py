"""Runs: digits in groups, with what people put between them. Numbers of every kind are looked for inside of one. Pure."""

import re
from collections.abc import Iterator
from typing import Final

MOST_GROUPS: Final = 9
"""Of one number. Also bounds what is tried of a run: each of its groups starts at most so many."""
FEWEST_DIGITS, MOST_DIGITS = 7, 20

# Between two digits stand at most three of these, so that a failed start costs a bounded look.
_RUN: Final = re.compile(r"[0-9](?:[ ().\-/]{0,3}[0-9]){6,}")
_GROUP: Final = re.compile(r"[0-9]+")
_SHAPE: Final = str.maketrans("012345678", "999999999")
_TOKEN: Final = re.compile(r"[A-Za-z0-9_\-./#]{0,40}\Z")
_LONGEST_TOKEN: Final = 40
_TAIL: Final = re.compile(r"[-_/]?[A-Za-z]|[_@]|[-/][0-9]|\.[A-Za-z]{2,4}\b(?!\.)")
_WORD_JOINT: Final = re.compile(r"([A-Za-z][A-Za-z ]{0,38}[-_#]|[A-Z]{2,39}\.)\Z")
MONEY: Final = "$€£¥₹₩₽¢"


class Run:
    """A run of `text` from `start` to `end`, and its groups; `shape` is its text with every digit a 9."""

    __slots__ = ("ends", "shape", "start", "starts", "text")

    def __init__(self, text: str, start: int, end: int) -> None:
        self.text = text
        self.start = start
        self.shape = text[start:end].translate(_SHAPE)
        self.starts: list[int] = []
        self.ends: list[int] = []
        for group in _GROUP.finditer(self.shape):
            self.starts.append(start + group.start())
            self.ends.append(start + group.end())

    def windows(self) -> Iterator[tuple[int, int]]:
        """Of groups, first and last, that have as many digits as a number has; from each first the longest first."""
        starts, ends = self.starts, self.ends
        for first in range(len(starts)):
            lasts, digits = [], 0
            for last in range(first, min(first + MOST_GROUPS, len(starts))):
                digits += ends[last] - starts[last]
                if digits > MOST_DIGITS:
                    break
                if digits >= FEWEST_DIGITS:
                    lasts.append(last)
            for last in reversed(lasts):
                yield first, last

    def shape_of(self, first: int, last: int) -> str:
        return self.shape[self.starts[first] - self.start : self.ends[last] - self.start]

    def digits_of(self, first: int, last: int) -> str:
        text = self.text
        return "".join(text[self.starts[at] : self.ends[at]] for at in range(first, last + 1))

    def stands_alone(self, first: int, last: int) -> bool:
        """Whether the window is a number and no piece of a longer one: what joins it to its neighbours is not what joins its groups."""
        text, starts, ends = self.text, self.starts, self.ends
        inner = {text[ends[at] : starts[at + 1]] for at in range(first, last)}
        for left, right in ((first - 1, first), (last, last + 1)):
            if left >= 0 and right < len(starts):
                joint = text[ends[left] : starts[right]]
                if joint in inner or " " not in joint:
                    return False
        return (first > 0 or not self.joined_before()) and (last < len(starts) - 1 or not self.joined_after())

    def joined_before(self) -> bool:
        """Whether a letter or a code stands right before the run, as in `AB-123`; a word and a hyphen (`SSN-123`) do not count."""
        before = self.text[max(self.start - _LONGEST_TOKEN, 0) : self.start]
        if not before or (before[-1] not in "-_./#%" and not (before[-1].isascii() and before[-1].isalnum())):
            return before[-1:] != "" and before[-1] in MONEY
        if before[-1] in "-" and (len(before) == 1 or before[-2] in " (:"):
            return False
        if before[-1].isalnum() or before[-1] in "/%":
            return True
        token = _TOKEN.search(before)
        return token is None or any(char.isdigit() for char in token[0]) or _WORD_JOINT.search(before) is None

    def joined_after(self) -> bool:
        tail = _TAIL.match(self.text, self.ends[-1])
        return tail is not None


def runs(text: str) -> Iterator[Run]:
    for found in _RUN.finditer(text):
        yield Run(text, found.start(), found.end())
