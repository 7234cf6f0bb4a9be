"""International bank account numbers (ISO 13616): the country's length and structure, and the remainder by 97. Pure.

Grouped or not, in any case. A country's own check digits inside of it are not asked for.
"""

import re
from functools import cache
from typing import Final

from stdnum import iban, numdb

_NEXT: Final = re.compile(r"[ .-]?[0-9A-Za-z]")


def iban_at(text: str, start: int) -> int | None:
    """Where the IBAN that begins with the two letters at `start` ends; None: there is none."""
    length = _lengths().get(text[start : start + 2].upper())
    if length is None:
        return None
    at, compact = start, []
    for _ in range(length):
        found = _NEXT.match(text, at)
        if found is None:
            return None
        compact.append(found[0][-1])
        at = found.end()
    following = text[at : at + 1]
    if following.isascii() and (following.isalnum() or following == "_"):
        return None
    return at if iban.is_valid("".join(compact), check_country=False) else None


@cache
def _lengths() -> dict[str, int]:
    """By country; characters."""
    found: dict[str, int] = {}
    letters = [chr(code) for code in range(ord("A"), ord("Z") + 1)]
    for country in (first + second for first in letters for second in letters):
        for _, properties in numdb.get("iban").info(country):
            if "bban" in properties:
                found[country] = 4 + sum(map(int, re.findall(r"([0-9]+)!", properties["bban"])))
    return found
