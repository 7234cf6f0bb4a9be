"""Where a text has personal data. Pure; time grows with the text's length, whatever the text, and is bounded by who counts its steps.

A candidate is found by an expression that looks at most a bounded number of characters ahead, and counts only when its check digits, its
country's structure or plan of numbers agree. Where two overlap the more specific one wins: an address, an IBAN, a card, a number of a
person, a telephone. A number of a kind that was not asked for is not found as another.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from functools import cache
from typing import Final, NamedTuple

from gateway.privacy.cards import is_card, may_start
from gateway.privacy.emails import emails
from gateway.privacy.ibans import iban_at
from gateway.privacy.looks import A_PLACE, SUMS, WORDS_AROUND, Look
from gateway.privacy.national_ids import LETTERED, Asked, Lettered, by_shape, own_words
from gateway.privacy.phones import Phones, load_plans, start_of
from gateway.privacy.plain import plain
from gateway.privacy.runs import Run, runs
from gateway.privacy.words import Around
from tenants.privacy import KINDS, Kind


class Span(NamedTuple):
    """text[start:end] is personal data of that kind."""

    start: int
    end: int
    kind: Kind


_OF_EACH_KIND: Final = (
    "é a@example.org, +49 30 123456, 4111111111111111, DE89370400440532013000, id 110101199003071233, "
    "440524188001010014, 87101512345"
)


@cache
def warm() -> None:
    """Load what the first texts would load, some 0.2 s: tables of characters, of countries and of their telephone numbers."""
    load_plans()
    find(_OF_EACH_KIND, KINDS)


def is_warm() -> bool:
    return warm.cache_info().currsize > 0


# The first digit of what has letters too. Every branch begins with a digit, of which prose has few, and looks a bounded way.
_ANCHOR: Final = re.compile(
    r"[0-9](?:"
    r"(?<=[A-Za-z].)"
    r"|(?<=[A-Za-z]{2}[ -].)(?=[0-9] ?(?:[0-9]{2} ?|[0-9]{2}-?){2}[ -]?[A-Da-d](?![A-Za-z0-9])"
    r"|[0-9][ -]?[0-9A-Za-z]{4}[ -]?[0-9A-Za-z]{4}[ -]?[0-9]{3})"
    r"|(?<=[XYZxyz][ -].)(?=[0-9]{6}[ -]?[A-Za-z])"
    r"|(?<=[A-Za-z]{3} [A-Za-z]{3} .)(?=[0-9][A-Za-z][0-9])"
    r"|(?<![A-Za-z0-9].)(?="
    r"[0-9]{6,7}(?:[ -]?[A-Za-z]|[A-Za-z]{2})(?![A-Za-z0-9])|[0-9]?\.[0-9]{3}\.[0-9]{3}[ -]?[A-Za-z](?![A-Za-z0-9])|[0-9]{6,7}-[Kk]"
    r"|[0-9]{5}[-+A-FU-Ya-fu-y][0-9]{3}|[0-9]{5} ?[0-9]{8} ?[0-9]{3}[Xx]|[ 0-9]{4,6}2[ABab]"
    r"|[0-9]{7} ?[0-9] ?[A-Za-z0-9]{2}[0-9](?![A-Za-z0-9])"
    r"))"
)
_LETTERS: Final = re.compile(r"[A-Za-z&Ññ]{1,6}\Z")
_MOST_BEFORE: Final = 7
_BY_BEFORE: Final[dict[int, tuple[Lettered, ...]]] = {
    before: tuple(one for one in LETTERED if one.before == before) for before in range(_MOST_BEFORE + 1)
}


def find(
    text: str, kinds: Collection[Kind], phone_regions: Sequence[str] = (), look: Look = bool
) -> list[Span]:
    """The spans of these kinds, by where they start; none overlap. `phone_regions`: whose national numbers count, ISO 3166-1 alpha-2.
    `look` is told what each look will cost, before it is taken, and may raise: this ends then.
    """
    read, original = plain(text), text
    text = read.text
    found: list[Span] = []
    if "email" in kinds:
        found += (Span(start, end, "email") for start, end in emails(text, look))
    if "iban" in kinds or "national_id" in kinds:
        found += (span for span in _lettered(text, look) if span.kind in kinds)
    numbers = {"payment_card", "national_id", "phone"}.intersection(kinds)
    if numbers:
        phones = Phones(phone_regions, look) if "phone" in kinds else None
        for run in runs(text):
            found += (span for span in _in_run(run, phones, look) if span.kind in kinds)
    spans = _resolved(found)
    if text is not original:
        spans = [Span(*read.where(span.start, span.end), span.kind) for span in spans]
    return spans


def _resolved(found: list[Span]) -> list[Span]:
    """The most specific first, then the longest; what overlaps with one that is taken is dropped."""
    order: tuple[Kind, ...] = ("email", "iban", "payment_card", "national_id", "phone")
    found.sort(key=lambda span: (span.start, order.index(span.kind), -span.end))
    taken: list[Span] = []
    for span in found:
        if not taken or span.start >= taken[-1].end:
            taken.append(span)
        elif order.index(span.kind) < order.index(taken[-1].kind):
            taken[-1] = span
    return taken


def _lettered(text: str, look: Look) -> Iterator[Span]:
    done = 0
    for anchor in _ANCHOR.finditer(text):
        look(A_PLACE)
        at = anchor.start()
        if at < done:
            continue
        span = _iban(text, at) or _lettered_id(text, at)
        if span is not None:
            done = span.end
            yield span


def _iban(text: str, at: int) -> Span | None:
    for before in (2, 3):
        start = at - before
        if start >= 0 and text[start : start + 2].isalpha() and not _word_before(text, start):
            end = iban_at(text, start)
            if end is not None:
                return Span(start, end, "iban")
    return None


def _lettered_id(text: str, at: int) -> Span | None:
    letters = _LETTERS.search(text, max(at - 7, 0), at)
    befores = (at - letters.start(),) if letters else (0, 2, 3, 7)
    for before in befores:
        start = at - before
        if start < 0 or _word_before(text, start) or before > _MOST_BEFORE:
            continue
        for one in _BY_BEFORE[before]:
            match = one.written.match(text, start)
            if (
                match is not None
                and one.valid(match[0])
                and _believed(Around(text, *match.span()), one.asked, one.words)
            ):
                return Span(*match.span(), "national_id")
    return None


def _word_before(text: str, start: int) -> bool:
    """Whether the character before is one of the same word."""
    before = text[start - 1 : start]
    return before.isascii() and before.isalnum()


def _in_run(run: Run, phones: Phones | None, look: Look) -> Iterator[Span]:
    """Cards and persons' numbers first, then telephones in what they leave."""
    done, taken = -1, list[Span]()
    for first, last in run.windows():
        look(A_PLACE)
        if first > done and (kind := _number(run, first, last, look)) is not None:
            taken.append(Span(run.starts[first], run.ends[last], kind))
            done = last
    yield from taken
    if phones is None:
        return
    first = passed = 0
    while first < len(run.starts):
        look(A_PLACE)
        end = phones.find(run, first)
        if end is None:
            first += 1
            continue
        span = Span(start_of(run.text, run.starts[first]), run.ends[end], "phone")
        while passed < len(taken) and taken[passed].end <= span.start:
            passed += 1
        if passed == len(taken) or span.end <= taken[passed].start:
            yield span
        first = end + 1


def _number(run: Run, first: int, last: int, look: Look) -> Kind | None:
    if may_start(run, first, last) and is_card(run, first, last):
        return "payment_card"
    shaped = by_shape().get(run.shape_of(first, last))
    if (
        shaped is None
        or not run.stands_alone(first, last)
        or run.text[run.starts[first] - 1 : run.starts[first]] == "+"
    ):
        return None
    # What stands around it is looked at first: it is one for all schemes, and most of what has no word beside it needs no sums.
    look(WORDS_AROUND)
    around = Around(run.text, run.starts[first], run.ends[last])
    if around.denied:
        return None
    is_named = around.says(shaped.words)
    digits = run.digits_of(first, last)
    for scheme, asked in shaped.schemes:
        if asked != "alone" and not is_named and (asked == "named" or around.topic != "identity"):
            continue
        look(SUMS)
        if scheme.valid(digits) and _believed(around, asked, scheme.words):
            return "national_id"
    return None


def _believed(around: Around, asked: Asked, words: str) -> bool:
    if around.denied:
        return False
    if asked == "alone":
        return True
    topic = around.topic
    return topic not in ("phone", "other", "card") and (
        around.says(own_words(words)) or (asked == "told" and topic == "identity")
    )
