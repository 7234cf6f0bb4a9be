"""Telephone numbers, by the plans of numbers that phonenumbers carries. Pure.

An international one (`+`, or `00` and a sign that it is one) is one where it is valid in its country. A national one must be valid in a region
that was given, and be written as one: in that country's groups, with its 0, in brackets, or beside a word for a telephone.
"""

import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import phonenumbers
from phonenumbers import NumberParseException, PhoneNumber, PhoneNumberFormat, PhoneNumberType

from gateway.privacy.runs import MONEY, Run
from gateway.privacy.words import Around

MOST_TRIES: Final = 6
"""Lengths that are tried from one start: what stands behind a number is often a group or two of something else."""
_FEWEST, _MOST = 7, 15  # digits; E.164 has at most 15
_DATE: Final = re.compile(
    r"(?:19|20)[0-9]{2}[-/. ](?:0?[1-9]|1[0-2])[-/. ](?:[0-2]?[0-9]|3[01])(?![0-9])"
    r"|(?:[0-2]?[0-9]|3[01])[-/. ](?:[0-2]?[0-9]|3[01])[-/. ](?:19|20)[0-9]{2}(?![0-9])"
    r"|(?:19|20)[0-9]{2} ?- ?(?:19|20)[0-9]{2}(?![0-9])"
)
_ADDRESS: Final = re.compile(r"(?:25[0-5]|2[0-4][0-9]|1?[0-9]{1,2})(?:\.(?:25[0-5]|2[0-4][0-9]|1?[0-9]{1,2})){3}(?![.0-9]*[0-9])")
_DECIMAL: Final = re.compile(r"[0-9]{1,3}\.[0-9]+(?:[,;]?\s*[-+]?[0-9]{1,3}\.[0-9]+)?\s*(?:[,;)\]°NSEW]|$)")
_THOUSANDS: Final = re.compile(r"[0-9]{1,3}(?:[. ][0-9]{3})+(?:,[0-9]{2})?(?:\s?(?:[$€£¥₹₩₽%]|EUR|USD|kr|zł))|[0-9]{1,3}(?:\.000)+")


class Phones:
    """What finds the telephone numbers of these regions, ISO 3166-1 alpha-2."""

    def __init__(self, regions: Sequence[str]) -> None:
        self._regions = tuple(regions)

    def find(self, run: Run, first: int) -> int | None:
        """The last group of a telephone number that starts with the run's group `first`; None: none starts there."""
        text, start = run.text, run.starts[first]
        plus = _plus(text, start)
        if plus is None and not self._regions and not text.startswith("00", start):
            return None
        if first == 0 and plus is None and run.joined_before():
            return None
        if first > 0 and plus is None and not _new_start(run, first):
            return None
        if _DATE.match(text, start) or _ADDRESS.match(text, start) or _THOUSANDS.match(text, start):
            return None
        if plus is not None and _DECIMAL.match(text, start):
            return None
        for last in self._lasts(run, first):
            if self._is_phone(run, first, last, international=plus is not None):
                return last
        return None

    @staticmethod
    def _lasts(run: Run, first: int) -> list[int]:
        lasts, digits = [], 0
        for last in range(first, len(run.starts)):
            digits += run.ends[last] - run.starts[last]
            if digits > _MOST + 3:  # 00, and a 0 in brackets
                break
            if digits >= _FEWEST and (last < len(run.starts) - 1 or not run.joined_after()):
                lasts.append(last)
        return lasts[: -MOST_TRIES - 1 : -1]

    def _is_phone(self, run: Run, first: int, last: int, *, international: bool) -> bool:
        text, start, end = run.text, run.starts[first], run.ends[last]
        written = text[start:end]
        if international:
            return _valid("+" + written, None) is not None
        around = Around(text, _with_bracket(text, start), end)
        topic = around.topic()
        if topic in ("identity", "card", "other"):
            return False
        if written.startswith("00"):
            number = _valid("+" + written[2:], None)
            if number is not None and (topic == "phone" or last > first or end - start >= 13):
                return True
        return any(self._is_national(run, first, last, region, told=topic == "phone") for region in self._regions)

    @staticmethod
    def _is_national(run: Run, first: int, last: int, region: str, *, told: bool) -> bool:
        text, start, end = run.text, run.starts[first], run.ends[last]
        number = _valid(text[start:end], region)
        if number is None:
            return False
        if told:
            return True
        groups = [text[run.starts[at] : run.ends[at]] for at in range(first, last + 1)]
        trunk = groups[0].startswith("0") and region != "US"
        if len(groups) == 1:
            return trunk and phonenumbers.number_type(number) == PhoneNumberType.MOBILE
        bracketed = text[start - 1 : start] == "(" and ")" in text[start:end]
        return bracketed or trunk or groups == _groups(number)


def _groups(number: PhoneNumber) -> list[str]:
    return re.findall(r"[0-9]+", phonenumbers.format_number(number, PhoneNumberFormat.NATIONAL))


def _valid(written: str, region: str | None) -> PhoneNumber | None:
    with suppress(NumberParseException):
        number = phonenumbers.parse(written, region)
        if phonenumbers.is_valid_number(number) and (region is None or phonenumbers.is_valid_number_for_region(number, region)):
            return number
    return None


def _plus(text: str, start: int) -> int | None:
    """Where the `+` before a number stands: `+49`, `(+49)`, `+ 49`, `+(49)`."""
    for width in (1, 2):
        at = start - width
        if at >= 0 and text[at] == "+" and text[at + 1 : start] in ("", " ", "("):
            before = text[at - 1 : at]
            return None if before and before.isascii() and (before.isalnum() or before in "+-*=/^)") and before != "=" else at
    return None


def start_of(text: str, start: int) -> int:
    """Where what is written begins, signs before its first digit included."""
    plus = _plus(text, start)
    at = _with_bracket(text, start if plus is None else plus)
    return at if at < start and ")" in text[start : start + 20] else (start if plus is None else plus)


def _with_bracket(text: str, start: int) -> int:
    return start - 1 if text[start - 1 : start] == "(" else start


def _new_start(run: Run, first: int) -> bool:
    """Whether a group may begin a number, behind another: something other than one space or hyphen parts them, or a 0 or a bracket begins it."""
    joint = run.text[run.ends[first - 1] : run.starts[first]]
    return " " in joint and (len(joint) > 1 or run.text[run.starts[first]] == "0" or run.ends[first - 1] - run.starts[first - 1] <= 2)


__all__ = ["MONEY", "Phones", "start_of"]
