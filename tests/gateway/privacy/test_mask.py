"""What a model sees of a request that is masked, and what its caller gets back."""

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.privacy.detect import find
from gateway.privacy.looks import MOST_STEPS, NotScreened, Steps
from gateway.privacy.mask import (
    MOST_REMEMBERED_BYTES,
    PLACEHOLDER,
    BytesRestorer,
    Restorer,
    Screen,
)
from tenants.privacy import KINDS, Privacy

UNHURRIED = settings(deadline=None)  # the first number that is looked at loads all countries' plans
PIECES = st.sampled_from(
    [
        *(
            "jane@example.com",
            "bob@example.org",
            "+49 30 901820",
            "4111 1111 1111 1111",
            "DE89 3704 0044 0532 0130 00",
            "811228-9874",
        ),
        *(
            "[EMAIL_1]",
            "[TEXT_1]",
            "[EMAIL_",
            "[",
            "]",
            "1]",
            " ",
            "\n",
            "é",
            "\u00ad",
            "12",
            "@",
            "\\",
            '"',
            "[PHONE_2]",
            "😀",
            "order ",
        ),
    ]
)
TEXTS = st.lists(st.one_of(PIECES, st.text(max_size=5)), max_size=12).map("".join)


def screen(*, reversible: bool = True) -> Screen:
    return Screen(Privacy(name="strict", mask=KINDS, reversible=reversible, phone_regions=("DE",)))


def test_what_is_found_is_not_in_the_masked_text_and_is_counted() -> None:
    one = screen(reversible=False)
    assert one.text("Jane <jane@example.com>, +49 30 901820") == "Jane <[EMAIL]>, [PHONE]"
    assert one.masked == {"email": 1, "phone": 1}
    assert not one.restores


def test_the_same_value_has_the_same_number_within_a_request_and_another_has_another() -> None:
    one = screen()
    assert one.text("a@example.com b@example.com a@example.com") == "[EMAIL_1] [EMAIL_2] [EMAIL_1]"
    assert one.text("b@example.com") == "[EMAIL_2]"


def test_a_text_that_looks_like_a_placeholder_is_never_restored_to_somebodys_data() -> None:
    one = screen()
    masked = one.text("a@example.com and [EMAIL_1]")
    assert masked == "[EMAIL_1] and [TEXT_1]"
    assert one.restore(masked) == "a@example.com and [EMAIL_1]"


@UNHURRIED
@given(TEXTS)
def test_restoring_what_was_masked_gives_the_text(text: str) -> None:
    one = screen()
    assert one.restore(one.text(text)) == text


@UNHURRIED
@given(TEXTS)
def test_restoring_within_json_gives_the_text_that_the_json_then_says(text: str) -> None:
    one = screen()
    assert json.loads(one.restore_json(json.dumps({"text": one.text(text)}))) == {"text": text}


@UNHURRIED
@given(TEXTS, st.lists(st.integers(0, 200)))
def test_however_a_stream_is_cut_the_same_comes_out(text: str, cuts: list[int]) -> None:
    one = screen()
    masked = one.text(text)
    places = sorted({min(cut, len(masked)) for cut in cuts} | {0, len(masked)})
    restorer = Restorer(one.restore)
    pieces = [restorer.feed(masked[start:end]) for start, end in itertools.pairwise(places)]
    assert "".join((*pieces, restorer.end())) == text


@UNHURRIED
@given(TEXTS, st.integers(1, 7))
def test_bytes_may_be_cut_within_a_character_and_within_a_placeholder(text: str, width: int) -> None:
    one = screen()
    masked = one.text(text).encode(errors="surrogatepass")
    restorer = BytesRestorer(one.restore)
    pieces = [restorer.feed(masked[at : at + width]) for at in range(0, len(masked), width)]
    assert b"".join((*pieces, restorer.end())) == text.encode(errors="surrogatepass")


def test_only_what_may_begin_a_placeholder_is_held_back() -> None:
    one = screen()
    one.text("a@example.com")
    restorer = Restorer(one.restore)
    assert restorer.feed("Hello [EM") == "Hello "
    assert restorer.feed("AIL_1] and [emphasis") == "a@example.com and [emphasis"
    assert restorer.end() == ""


@UNHURRIED
@given(TEXTS)
def test_a_request_that_restores_nothing_shows_no_numbered_placeholder_of_its_own(text: str) -> None:
    masked = screen(reversible=False).text(text)
    assert PLACEHOLDER.findall(masked) == PLACEHOLDER.findall(text)


def test_an_error_of_the_detector_refuses_the_text_and_does_not_quote_it() -> None:
    class Broken:
        mask = KINDS
        reversible = False

        @property
        def phone_regions(self) -> tuple[str, ...]:
            raise RuntimeError("secret words")

    with pytest.raises(NotScreened, match="RuntimeError") as refused:
        Screen(Broken()).text("secret words")
    assert "secret" not in str(refused.value)


def test_a_request_that_holds_too_many_numbers_is_refused_over_all_its_texts() -> None:
    numbers = ", ".join(f"+49 30 {number:07}" for number in range(500))
    one = screen()
    for _ in range(10):
        assert "+49" not in one.text(numbers)
    with pytest.raises(NotScreened, match="more numbers and signs than can be looked at"):
        "".join(map(one.text, itertools.repeat(numbers, MOST_STEPS)))


@pytest.mark.parametrize("text", ["+1 212 555 0100", "id 12345678901, ", "a@b ", "x1A", "1 2 3 4 5 6 7 8 9 "])
def test_every_look_is_counted_before_it_is_taken(text: str) -> None:
    steps = Steps(most=10)
    with pytest.raises(NotScreened):
        find(text * 20, KINDS, ("US",), steps.take)


def test_what_is_remembered_is_told_and_bounded() -> None:
    one = Screen(Privacy(name="strict", mask=KINDS, reversible=True))
    one.text("a@example.com a@example.com")
    told = one.remembered_bytes
    assert told >= len("a@example.com") + len("[EMAIL_1]")
    one.text("a@example.com")
    assert one.remembered_bytes == told  # a value is remembered once
    with pytest.raises(NotScreened, match="more personal data"):
        one.text(" ".join(f"a{number}@example.com" for number in range(MOST_REMEMBERED_BYTES // told + 1)))
