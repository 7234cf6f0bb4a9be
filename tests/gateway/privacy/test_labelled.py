"""The labelled set says what it claims, and the detector reaches the bar on it."""

from collections import Counter

import pytest

from tests.gateway.privacy.scoring import BAR, KINDS, Found, Line, core, labelled, read, report, score

FAILING = "failing check digits"  # the heading, in a file of its own, of what looks right and does not add up


def luhn(digits: str) -> bool:
    doubled = (int(digit) * (1 + at % 2) for at, digit in enumerate(reversed(digits)))
    return sum(it - 9 * (it > 9) for it in doubled) % 10 == 0


def mod_97(iban: str) -> bool:
    return int("".join(str(int(it, 36)) for it in iban[4:] + iban[:4])) % 97 == 1


def plain(text: str) -> str:
    return "".join(it for it in text if it.isalnum()).upper()


LINES = labelled()


def values(kind: str) -> list[str]:
    return [line.text[it.start : it.end] for line in LINES for it in line.spans if it.kind == kind]


def test_at_least_half_of_the_lines_hold_nothing_to_find() -> None:
    assert len(LINES) >= 600
    assert 2 * len([line for line in LINES if not line.spans]) >= len(LINES)
    assert len({line.text for line in LINES}) == len(LINES)


def test_every_kind_has_60_cases_to_find() -> None:
    assert {kind: count for kind, count in Counter(it.kind for line in LINES for it in line.spans).items()
            if count < 60} == {}
    assert {it.kind for line in LINES for it in line.spans} == set(KINDS)


def test_cards_and_ibans_that_are_to_be_found_add_up() -> None:
    assert [it for it in values("payment_card") if not luhn(plain(it))] == []
    assert [it for it in values("iban") if not mod_97(plain(it))] == []
    assert len({plain(it)[:2] for it in values("iban")}) >= 20


def test_cards_and_ibans_that_are_said_not_to_add_up_do_not() -> None:
    failing = [line for line in LINES if line.where.startswith("failing_")]
    assert len(failing) >= 60
    for line in failing:
        assert line.spans == ()
    cards = [line.text for line in failing if line.where.startswith("failing_cards")]
    ibans = [line.text for line in failing if line.where.startswith("failing_ibans")]
    assert [it for it in cards if any(map(luhn, long_numbers(it)))] == []
    assert [it for it in ibans if any(map(mod_97, ibans_in(it)))] == []
