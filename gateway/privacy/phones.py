"""Telephone numbers, by the plans of numbers that phonenumbers carries. Pure.

An international one (`+`, or `00` and a sign that it is one) is one where it is valid in its country. A national one must be valid in a
region that was given, and be written as one: in that country's groups, with its 0, in brackets, or beside a word for a telephone.
"""

import re
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from typing import Final, NamedTuple

import phonenumbers
from phonenumbers import (
    COUNTRY_CODE_TO_REGION_CODE,
    SUPPORTED_REGIONS,
    NumberParseException,
    PhoneMetadata,
    PhoneNumber,
    PhoneNumberFormat,
    PhoneNumberType,
)
from phonenumbers.re_util import enable_pattern_cache

from gateway.privacy.looks import A_PLACE, ASKED, PLANS, WORDS_AROUND, Look
from gateway.privacy.runs import Run
from gateway.privacy.words import Around

# The plans have some 2,000 expressions: of numbers of many countries the cache of `re` would compile each again and again.
enable_pattern_cache()

MOST_TRIES: Final = 6
"""Lengths that are tried from one start: what stands behind a number is often a group or two of something else."""
_MOST_PREFIXES: Final = 2  # that a number is freed of: before a country's code, and behind it
_AREA: Final = 3  # digits of an area's code: fewer in front are a country's, or count something
_SURELY_ABROAD: Final = 13
_FEWEST, _MOST = 7, 15  # digits; E.164 has at most 15
_DATE: Final = re.compile(
    r"(?:19|20)[0-9]{2}[-/. ](?:0?[1-9]|1[0-2])[-/. ](?:[0-2]?[0-9]|3[01])(?![0-9])"
    r"|(?:[0-2]?[0-9]|3[01])[-/. ](?:[0-2]?[0-9]|3[01])[-/. ](?:19|20)[0-9]{2}(?![0-9])"
    r"|(?:19|20)[0-9]{2} ?- ?(?:19|20)[0-9]{2}(?![0-9])"
)
_ADDRESS: Final = re.compile(
    r"(?:25[0-5]|2[0-4][0-9]|1?[0-9]{1,2})(?:\.(?:25[0-5]|2[0-4][0-9]|1?[0-9]{1,2})){3}(?!\.{0,3}[0-9])"
)
_DECIMAL: Final = re.compile(
    r"[0-9]{1,3}\.[0-9]{1,20}(?:[,;]?\s{0,8}[-+]?[0-9]{1,3}\.[0-9]{1,20})?\s{0,8}(?:[,;)\]°NSEW]|$)"
)
_THOUSANDS: Final = re.compile(
    r"[0-9]{1,3}(?:[. ][0-9]{3}){1,9}(?:,[0-9]{2})?(?:\s?(?:[$€£¥₹₩₽%]|EUR|USD|kr|zł))|[0-9]{1,3}\.000"
)


class _Plan(NamedTuple):
    """Of a country's national numbers, enough to pass most others by: to parse one costs fifty times as much."""

    region: str
    code: str  # of the country
    trunk: str
    lengths: frozenset[int]
    pattern: re.Pattern[str]
    types: tuple[re.Pattern[str], ...]  # what its numbers of each length are, of every type
    abroad: re.Pattern[str] | None  # what is dialled before a country's code
    prefix: re.Pattern[str] | None  # what is dialled before a national number
    rule: str  # what becomes of a number with a prefix, "" for what is behind it

    def may_be(self, digits: str) -> bool:
        if self.trunk and digits.startswith(self.trunk):
            rest = digits[len(self.trunk) :]
            if len(rest) in self.lengths and self.pattern.fullmatch(rest):
                return True
        return len(digits) in self.lengths and self.pattern.fullmatch(digits) is not None

    def may_be_valid(self, digits: str) -> bool:
        """Whether a type of the country's numbers is written so, however they are understood: never False of what is valid."""
        if self.abroad is not None and self.abroad.match(digits):
            return True
        return self.has(digits) or (digits.startswith(self.code) and self.has(digits[len(self.code) :]))

    def has(self, digits: str) -> bool:
        """The same of digits before which there is no code of a country."""
        for _ in range(_MOST_PREFIXES + 1):
            if any(type_.fullmatch(digits) for type_ in self.types):
                return True
            found = self.prefix.match(digits) if self.prefix is not None else None
            if self.prefix is None or found is None:
                return False
            groups = found.groups()
            digits = (
                self.prefix.sub(self.rule, digits, count=1)
                if self.rule and groups[-1] is not None
                else digits[found.end() :]
            )
        return False


@cache
def _plan(region: str) -> _Plan | None:
    metadata = PhoneMetadata.metadata_for_region(region)
    if (
        metadata is None
        or metadata.general_desc is None
        or metadata.general_desc.national_number_pattern is None
    ):
        return None
    types = (
        *(
            metadata.fixed_line,
            metadata.mobile,
            metadata.toll_free,
            metadata.premium_rate,
            metadata.shared_cost,
        ),
        *(metadata.voip, metadata.personal_number, metadata.pager, metadata.uan, metadata.voicemail),
    )
    patterns = {one.national_number_pattern for one in types if one is not None}
    prefix, abroad = metadata.national_prefix_for_parsing, metadata.international_prefix
    return _Plan(
        region,
        code=str(metadata.country_code),
        trunk=metadata.national_prefix or "",
        lengths=frozenset(metadata.general_desc.possible_length),
        pattern=re.compile(metadata.general_desc.national_number_pattern),
        types=tuple(re.compile(pattern) for pattern in sorted(filter(None, patterns))),
        abroad=re.compile(abroad) if abroad else None,
        prefix=re.compile(prefix) if prefix else None,
        rule=metadata.national_prefix_transform_rule or "",
    )


def load_plans() -> None:
    for region in SUPPORTED_REGIONS:
        _plan(region)


class Phones:
    """What finds the telephone numbers of these regions, ISO 3166-1 alpha-2."""

    def __init__(self, regions: Sequence[str], look: Look) -> None:
        self._look = look
        self._plans = tuple(plan for plan in map(_plan, regions) if plan is not None)

    def find(self, run: Run, first: int) -> int | None:
        """The last group of a telephone number that starts with the run's group `first`; None: none starts there."""
        text, start = run.text, run.starts[first]
        plus = _plus(text, start)
        if plus is None and not self._plans and not text.startswith("00", start):
            return None
        if first == 0 and plus is None and run.joined_before():
            return None
        if first > 0 and plus is None and not _new_start(run, first):
            return None
        if _DATE.match(text, start) or _ADDRESS.match(text, start) or _THOUSANDS.match(text, start):
            return None
        if plus is not None and _DECIMAL.match(text, start):
            return None
        lasts = self._lasts(run, first)
        if plus is not None:
            return next((last for last in lasts if self._is_international(run, first, last)), None)
        if not lasts or (
            run.ends[first] - start == 1 and run.ends[lasts[0]] - start > 1 and text[run.ends[first]] == "."
        ):
            return None
        if _DATE.search(text, start, run.ends[lasts[0]]):
            return None
        self._look(WORDS_AROUND)
        topic = Around(text, _with_bracket(text, start), run.ends[lasts[0]]).topic
        if topic in ("identity", "card", "other"):
            return None
        return next((last for last in lasts if self._is_phone(run, first, last, told=topic == "phone")), None)

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

    def _is_international(self, run: Run, first: int, last: int) -> bool:
        written = run.text[run.starts[first] : run.ends[last]]
        self._look(PLANS)
        digits = run.digits_of(first, last)
        return self._may_be_abroad(digits) and self._valid("+" + written, None) is not None

    def _may_be_abroad(self, digits: str) -> bool:
        return _is_possible(digits, self._look) and _may_be_valid(digits, self._look)

    def _is_phone(self, run: Run, first: int, last: int, *, told: bool) -> bool:
        self._look(PLANS)
        digits = run.digits_of(first, last)
        if (
            digits.startswith("00")
            and (told or last > first or len(digits) >= _SURELY_ABROAD)
            and self._may_be_abroad(digits[2:])
        ) and self._valid("+" + digits[2:], None) is not None:
            return True
        return any(
            plan.may_be(digits)
            and plan.may_be_valid(digits)
            and self._is_national(run, first, last, plan, told=told)
            for plan in self._plans
        )

    def _is_national(self, run: Run, first: int, last: int, plan: _Plan, *, told: bool) -> bool:
        text, start, end = run.text, run.starts[first], run.ends[last]
        groups = [text[run.starts[at] : run.ends[at]] for at in range(first, last + 1)]
        trunk = plan.trunk == "0" and groups[0].startswith("0")
        if not told and not trunk and (len(groups) == 1 or min(map(len, groups)) == 1):
            return False
        number = self._valid(text[start:end], plan.region)
        if number is None:
            return False
        if told:
            return True
        if len(groups) == 1:
            return trunk and phonenumbers.number_type(number) == PhoneNumberType.MOBILE
        bracketed = text[start - 1 : start] == "(" and ")" in text[start:end]
        return bracketed or trunk or groups == _groups(number)

    def _valid(self, written: str, region: str | None) -> PhoneNumber | None:
        self._look(ASKED)
        with suppress(NumberParseException):
            number = phonenumbers.parse(written, region)
            if phonenumbers.is_valid_number(number) and (
                region is None or phonenumbers.is_valid_number_for_region(number, region)
            ):
                return number
        return None


def _is_possible(digits: str, look: Look) -> bool:
    """Whether these digits begin with a country's code and go on as long as its numbers do. A 0 in brackets is one too many. Where several
    countries share a code, each behind the first costs a look: of +1 there are 25.
    """
    for width in (1, 2, 3):
        for place, region in enumerate(COUNTRY_CODE_TO_REGION_CODE.get(int(digits[:width] or 0), ())):
            if place:
                look(A_PLACE)
            if region == "001":
                return True
            plan = _plan(region)
            rest = digits[width:]
            if plan is not None and (plan.may_be(rest) or (rest.startswith("0") and plan.may_be(rest[1:]))):
                return True
    return False


def _may_be_valid(digits: str, look: Look) -> bool:
    """Whether these digits are a country's code and what may be valid behind it. Costs as `_is_possible`."""
    for width in (1, 2, 3):
        regions = COUNTRY_CODE_TO_REGION_CODE.get(int(digits[:width] or 0), ())
        if "001" in regions:
            return True
        for place, region in enumerate(regions):
            if place:
                look(A_PLACE)
            plan = _plan(region)
            if plan is not None and plan.has(digits[width:]):
                return True
    return False


def _groups(number: PhoneNumber) -> list[str]:
    return re.findall(r"[0-9]+", phonenumbers.format_number(number, PhoneNumberFormat.NATIONAL))


def _plus(text: str, start: int) -> int | None:
    """Where the `+` before a number stands: `+49`, `(+49)`, `+ 49`, `+(49)`."""
    for width in (1, 2):
        at = start - width
        if at >= 0 and text[at] == "+" and text[at + 1 : start] in ("", " ", "("):
            before = text[at - 1 : at]
            return (
                None
                if before and before.isascii() and (before.isalnum() or before in "+-*=/^)") and before != "="
                else at
            )
    return None


def start_of(text: str, start: int) -> int:
    """Where what is written begins, signs before its first digit included."""
    plus = _plus(text, start)
    at = _with_bracket(text, start if plus is None else plus)
    return at if at < start and ")" in text[start : start + 20] else (start if plus is None else plus)


def _with_bracket(text: str, start: int) -> int:
    return start - 1 if text[start - 1 : start] == "(" else start


def _new_start(run: Run, first: int) -> bool:
    """Whether a group may begin a number, behind another: more than a space parts them, or a 0 or a bracket begins it."""
    joint = run.text[run.ends[first - 1] : run.starts[first]]
    if len(joint) == 1 and run.joined_before():
        return False
    return " " in joint and (
        len(joint) > 1
        or run.text[run.starts[first]] == "0"
        or (first == 1 and run.ends[0] - run.starts[0] < _AREA)
    )
