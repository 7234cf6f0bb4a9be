"""An answer that is kept for whoever asks the same again under the same `Idempotency-Key`. Pure.

    kept = 01 | MessagePack of [status, [[name, value], ...], body], its names, values and body binary

It is sealed as it is stored. Compatibility: this is all of version 1; another layout has another first byte, which a version 1 reader
refuses.
"""

from typing import Final

import msgspec
from msgspec import Struct

MOST_BYTES: Final = 1 << 20
"""Of a body that is kept."""

_VERSION: Final = b"\x01"


class Answer(Struct, frozen=True, array_like=True):
    """What a client was told. Over HTTP a status and headers, without x-request-id and those of RateLimit, which are each call's own;
    over gRPC the number of the status, the trailing metadata, and the message or the error's sentence.
    """

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


def encoded(answer: Answer) -> bytes:
    return _VERSION + msgspec.msgpack.encode(answer)


def decoded(kept: bytes) -> Answer:
    """ValueError for what is no answer of this version."""
    if kept[:1] != _VERSION:
        raise ValueError("an answer of a version that is not known")
    return msgspec.msgpack.decode(memoryview(kept)[1:], type=Answer)
