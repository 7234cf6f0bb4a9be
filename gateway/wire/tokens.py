"""How many tokens a text has: by the model's own tokenizer where the optional `tokenizers` is installed, else not at all. Pure."""

from collections.abc import Callable, Iterable
from typing import Final

Count = Callable[[str], int]

AT_ONCE_CHARACTERS: Final = 16 * 1024
"""What may be counted while others wait: it takes milliseconds."""

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


def counted(texts: Iterable[str], count: Count | None) -> int | None:
    """By the model's tokenizer; None without one, or when it fails: no call fails for that, its usage is a guess then."""
    if count is None:
        return None
    try:
        return sum(map(count, texts))
    except BaseException:  # noqa: BLE001 - the library raises no more exact one, and its panics are not even Exceptions
        return None


def extrapolated(texts: Iterable[str], count: Count | None) -> int | None:
    """As `counted`, at once however long the texts are: of long ones the beginning is counted, and the rest taken to be like it."""
    text = "".join(texts)
    found = counted([text[:AT_ONCE_CHARACTERS]], count)
    return None if found is None else found * max(len(text), AT_ONCE_CHARACTERS) // AT_ONCE_CHARACTERS


def estimated(text: str) -> int:
    """A guess from the length of the text."""
    return -(-len(text) // _CHARACTERS_A_TOKEN)
