"""The labelled set says what it claims, and the detector reaches the bar on it."""

from collections import Counter

import pytest

from tests.gateway.privacy import scoring
from tests.gateway.privacy.scoring import FAILING, KINDS, Found, core, labelled, read

LINES = labelled()


def luhn(digits: str) -> bool:
    doubled = (int(digit) * (1 + at % 2) for at, digit in enumerate(reversed(digits)))
    return sum(it - 9 * (it > 9) for it in doubled) % 10 == 0


def mod_97(iban: str) -> bool:
    return int("".join(str(int(it, 36)) for it in iban[4:] + iban[:4])) % 97 == 1


def values(kind: str) -> list[str]:
    """Without spaces and punctuation."""
    pieces = [
        line.text[it.start : it.end] for line in LINES for it in line.spans + line.failing if it.kind == kind
    ]
    return ["".join(filter(str.isalnum, it)).upper() for it in pieces]


def test_at_least_half_of_the_lines_hold_nothing_to_find_and_none_comes_twice() -> None:
    assert len(LINES) >= 600
    assert 2 * len([line for line in LINES if not line.spans]) >= len(LINES)
    assert len({line.text for line in LINES}) == len(LINES)


def test_every_kind_has_at_least_60_to_find_and_20_that_do_not_add_up() -> None:
    assert {kind for kind in KINDS if len(values(kind)) < 60} == set()
    assert {kind for kind in FAILING if len(values(kind)) < 20} == set()
    assert len({iban[:2] for iban in values("iban")}) >= 20


def test_no_value_to_find_stands_more_than_three_times() -> None:
    assert {it: n for kind in KINDS for it, n in Counter(values(kind)).items() if n > 3} == {}


def test_cards_and_ibans_to_find_add_up() -> None:
    assert [it for it in values("payment_card") if not luhn(it)] == []
    assert [it for it in values("iban") if not mod_97(it)] == []


def test_cards_and_ibans_that_are_said_not_to_add_up_do_not() -> None:
    assert [it for it in values("not_card") if luhn(it)] == []
    assert [it for it in values("not_iban") if mod_97(it)] == []


def test_marks_are_taken_out_and_give_what_they_cover() -> None:
    line = read("x:1", "⟦in:DE,AT⟧a ⟦email:b@example.org⟧,⏎no ⟦not_card:42⟧")
    assert line.text == "a b@example.org,\nno 42"
    assert (line.regions, line.spans, line.failing) == (
        ("DE", "AT"),
        (Found(2, 15, "email"),),
        (Found(20, 22, "not_card"),),
    )


@pytest.mark.parametrize("line", ["⟦mail:a⟧", "⟦email:⟧", "⟦email:a", "a⟧", "a ⟦in:DE⟧"])
def test_a_mark_that_is_none_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="x:1"):
        read("x:1", line)


def test_punctuation_and_spaces_at_the_ends_of_a_span_do_not_count() -> None:
    assert core("tel (030) 1.", Found(3, 12, "phone")) == Found(5, 11, "phone")


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_to_be_found_is_found_and_little_else(kind: str) -> None:
    (found,) = (it for it in scoring.score(LINES) if it.kind == kind)
    assert found.holds, "\n".join(scoring.report([found]))
