"""How many tokens a text has: by the model's own tokenizer where the optional `tokenizers` is installed, else not at all. Pure."""

from collections.abc import Callable

Count = Callable[[str], int]

_CHARACTERS_A_TOKEN = 4  # of English, in the tokenizers that are common


def counter(tokenizer: bytes) -> Count | None:
    """Counts as this `tokenizer.json` does. None for b"" and without the library. Raises ValueError for what is no tokenizer."""
    if not tokenizer:
        return None
    try:
        from tokenizers import Tokenizer  # the extra `tokens`
    except ImportError:
        return None
    try:
        encode = Tokenizer.from_buffer(tokenizer).encode
    except Exception as fault:  # the library raises no more exact one
        raise ValueError(f"not a tokenizer: {fault}") from fault
    return lambda text: len(encode(text, add_special_tokens=False).ids)


def estimated(text: str) -> int:
    """A guess from the length of the text."""
    return -(-len(text) // _CHARACTERS_A_TOKEN)
