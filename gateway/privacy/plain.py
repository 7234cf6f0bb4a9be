"""A text as the detector reads it, and where its characters stood. Pure.

People and programs write one number in many ways, and a mask that a no-break space defeats is none. So for reading

- every decimal digit (full-width, Arabic-Indic, Devanagari, mathematical ...) is its ASCII digit,
- full-width and mathematical letters and signs are their ASCII ones,
- every space of Unicode is a space, every dash a hyphen; ends of lines stay what they are,
- what is not seen (soft hyphens, zero-width and direction marks, variation selectors) is left out.

Letters that only look like others, words spelled out ("at", "dot") and superscripts are not undone.
"""

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

_DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u2043\ufe58\ufe63\uff0d\u30fc"
_UNSEEN = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\u20e3\ufe00-\ufe0f\ufeff]"
)
_LAST = 0x1FFFF
"""Digits and letters of their own stand below."""


class Plain(NamedTuple):
    """`text` to be read; `gaps`: before which of its positions something was left out, ascending, one for each character."""

    text: str
    gaps: list[int]

    def where(self, start: int, end: int) -> tuple[int, int]:
        """The span of the original text that text[start:end] was, with what is not seen inside it. start < end."""
        if not self.gaps:
            return start, end
        return start + bisect_right(self.gaps, start), end + bisect_right(self.gaps, end - 1)


def plain(text: str) -> Plain:
    if text.isascii():
        return Plain(text, [])
    odd, table = _odd()
    text = odd.sub(lambda found: table[found[0]], text)
    gaps = [found.start() - before for before, found in enumerate(_UNSEEN.finditer(text))]
    return Plain(_UNSEEN.sub("", text) if gaps else text, gaps)


@cache
def _odd() -> tuple[re.Pattern[str], dict[str, str]]:
    """What is read as an ASCII character, one for one."""
    table = {char: ascii_ for char in map(chr, range(0x80, _LAST)) for ascii_ in _ascii(char)}
    return re.compile(f"[{''.join(table)}]"), table


def _ascii(char: str) -> Iterator[str]:
    category = unicodedata.category(char)
    if char in _DASHES:
        yield "-"
    elif category == "Zs":
        yield " "
    elif category == "Nd":
        yield str(unicodedata.decimal(char))
    elif "\uff01" <= char <= "\uff5e" or "\U0001d400" <= char <= "\U0001d6a3":
        yield from filter(str.isascii, unicodedata.normalize("NFKC", char))
