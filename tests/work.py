"""How much work something is, told without a clock: what is called, what is cut out of a text, how far an expression looks."""

import re
import sys
from collections.abc import Callable
from typing import Any, SupportsIndex


def calls(act: Callable[[], object]) -> int:
    """How many functions, of Python or of C, are called for that."""
    made = 0

    def count(_: object, event: str, __: object) -> None:
        nonlocal made
        made += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        act()
    finally:
        sys.setprofile(None)
    return made


class Sliced(str):
    """A text that counts the characters that are cut out of it."""

    characters = 0

    def __getitem__(self, key: SupportsIndex | slice) -> str:
        found = super().__getitem__(key)
        self.characters += len(found)
        return found


class SlicedBytes(bytes):
    """The same of bytes."""

    octets = 0

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        if isinstance(found, bytes):
            self.octets += len(found)
        return found


_CLASS = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]")
_UNBOUNDED = re.compile(r"[*+]|\{[0-9]*,\}")


def looks_far(expression: re.Pattern[str]) -> bool:
    """Whether it has a repeat without a bound: from one place it may look at all that is left of a text."""
    return _UNBOUNDED.search(_CLASS.sub("x", expression.pattern)) is not None
