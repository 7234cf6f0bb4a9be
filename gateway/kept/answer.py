"""An answer that is kept for whoever asks the same again under the same `Idempotency-Key`. Pure."""

from typing import Final

from msgspec import Struct

MOST_BYTES: Final = 1 << 20
"""Of a body that is kept."""


class Answer(Struct, frozen=True, array_like=True):
    """What a client was told. Over HTTP a status and headers, without x-request-id and those of RateLimit, which are each call's own;
    over gRPC the number of the status, the trailing metadata, and the message or the error's sentence.
    """

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
