"""Tokens are counted by the model's own tokenizer, or not at all."""

import json

import pytest

from gateway.wire.tokens import AT_ONCE_CHARACTERS, counted, counter, estimated, extrapolated

TOKENIZER = {
    "version": "1.0",
    "added_tokens": [],
    "pre_tokenizer": {"type": "Whitespace"},
    "model": {"type": "WordLevel", "vocab": {"[UNK]": 0, "hello": 1}, "unk_token": "[UNK]"},
}


def test_a_tokenizer_counts_as_its_file_says() -> None:
    pytest.importorskip("tokenizers")
    count = counter(json.dumps(TOKENIZER).encode())
    assert count is not None
    assert [count(text) for text in ("", "hello", "hello, hello you")] == [0, 1, 4]


def test_without_a_file_nothing_is_counted() -> None:
    assert counter(b"") is None


def test_what_is_no_tokenizer_is_told() -> None:
    pytest.importorskip("tokenizers")
    with pytest.raises(ValueError, match="not a tokenizer"):
        counter(b"{}")


def test_a_guess_is_never_none_for_some_text() -> None:
    assert [estimated(text) for text in ("", "a", "four", "fives")] == [0, 1, 1, 2]


class Panic(BaseException):
    """As a library's may be."""


@pytest.mark.parametrize("fault", [ValueError, Panic])
def test_a_tokenizer_that_fails_counts_nothing_and_fails_nobody(fault: type[BaseException]) -> None:
    def count(text: str) -> int:
        raise fault

    assert counted(["a"], count) is None
    assert extrapolated(["a"], count) is None
    assert counted(["a"], None) is None


def test_of_a_long_text_the_beginning_is_counted_and_the_rest_is_taken_to_be_like_it() -> None:
    asked: list[int] = []

    def count(text: str) -> int:
        asked.append(len(text))
        return len(text) // 2

    assert extrapolated(["ab", "cd"], count) == 2
    assert extrapolated(["ab" * AT_ONCE_CHARACTERS] * 5, count) == 5 * AT_ONCE_CHARACTERS
    assert max(asked) == AT_ONCE_CHARACTERS
