"""Tokens are counted by the model's own tokenizer, or not at all."""

import json

import pytest

from gateway.wire.tokens import counter, estimated

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
