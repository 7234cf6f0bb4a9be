"""Identifiers: random, and they say nothing of whose they are, so they alone enter the audit log. Pure."""

import re
from typing import Annotated, Final

from msgspec import Meta

ID_CHARACTERS: Final = 20
ID_RANDOM_BYTES: Final = 24

# By what one stored row names another. A longer text is in no key, and a table would refuse all that is asked with it.
Reference = Annotated[str, Meta(max_length=128)]

_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"
_FORM = re.compile(rf"[a-z]_[0-9a-z]{{{ID_CHARACTERS}}}")


def new_id(prefix: str, random: bytes) -> str:
    """`<prefix>_` and 20 of 0-9a-z: 103 bits from at least 24 random bytes, uniform to one part in 2**88."""
    if len(random) < ID_RANDOM_BYTES:
        raise ValueError(f"{len(random)} random bytes, an id needs {ID_RANDOM_BYTES}")
    return f"{prefix}_{digits(int.from_bytes(random), _ALPHABET, ID_CHARACTERS)}"


def is_id(text: str) -> bool:
    """Whether the text has the form of an id."""
    return _FORM.fullmatch(text) is not None


def digits(number: int, alphabet: str, length: int) -> str:
    """The last `length` digits of the number in the base that the alphabet spans, zero-padded."""
    found = []
    for _ in range(length):
        number, digit = divmod(number, len(alphabet))
        found.append(alphabet[digit])
    return "".join(reversed(found))
