"""How many tokens a text has: by the model's own tokenizer where the optional `tokenizers` is installed, else not at all. Pure."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from math import ceil
from typing import Any, Final

import msgspec
from msgspec import UNSET, Struct, UnsetType

Count = Callable[[str], int]

AT_ONCE_CHARACTERS: Final = 16 * 1024
"""What may be counted while others wait: it takes milliseconds."""

_CHARACTERS_A_TOKEN = 4  # of English, in the tokenizers that are common


REPLY_TOKENS: Final = 1024
"""What a reply is taken to have at most, where neither the request nor its model says."""
_BYTES_A_TOKEN: Final = 4
_PIECE_BYTES: Final = 100
"""Of an event of a stream, what is not its text, more or less."""
_TEXTS: Final = b"BYTES"


class _Bounded(Struct):
    max_tokens: Any = None


class _Asked(_Bounded):
    parameters: _Bounded | UnsetType = UNSET


_asked = msgspec.json.Decoder(_Asked)


def most_of_generate(head: bytes) -> int:
    """Prompt and reply of a generate request at most: four bytes a token, and what it allows the reply under the name `max_tokens`. Of an
    input and a parameter of that name, and of several numbers, the largest, as which of them the model reads is not known here.
    """
    named: list[int] = []
    with suppress(msgspec.DecodeError):
        found = _asked.decode(head)
        named += _whole(found.max_tokens)
        if found.parameters is not UNSET:
            named += _whole(found.parameters.max_tokens)
    return of_bytes(len(head)) + max(0, max(named, default=REPLY_TOKENS))


def _whole(value: object) -> Iterator[int]:
    """The numbers that an input or a parameter gives."""
    for it in value if isinstance(value, list) else (value,):
        if isinstance(it, int | float) and not isinstance(it, bool):
            yield ceil(it)


def most_of_infer(head: bytes, tensor_bytes: int) -> int:
    """Of tensors: none, unless there are texts among them."""
    return of_bytes(len(head) + tensor_bytes) + REPLY_TOKENS if _TEXTS in head else 0


def of_bytes(size: int) -> int:
    return -(-size // _BYTES_A_TOKEN)


def of_pieces(pieces: int, size: int) -> int:
    """Of a reply of so many events and bytes. A piece is a token at least, as models give them; a long one is as long as it is."""
    return max(pieces, of_bytes(max(0, size - _PIECE_BYTES * pieces)))


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
