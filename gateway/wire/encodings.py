"""Content codings of HTTP (RFC 9110, 8.4): bodies are inflated here under a cap, so that what we judge is what Triton reads.

`gzip` is one member of RFC 1952, `deflate` the zlib format of RFC 1950. What bears another's label, has no end, or has something behind
its end is refused: two readers could read it in two ways.
"""

import re
import zlib
from collections.abc import Sequence
from types import MappingProxyType

from gateway.errors import Code, GatewayError
from gateway.wire.oip import bad_request

_WINDOW_BITS: MappingProxyType[bytes, int] = MappingProxyType({b"gzip": 31, b"deflate": 15})
_CHOICE = re.compile(r"\s*([A-Za-z0-9*_-]{1,32})\s*(?:;\s*q\s*=\s*([01](?:\.[0-9]{0,3})?))?\s*", re.ASCII)
_MOST_CHARACTERS = 1_000


class Inflater:
    """One compressed body, piece by piece."""

    def __init__(self, coding: bytes) -> None:
        self._reader = zlib.decompressobj(_WINDOW_BITS[coding])
        self._coding = coding.decode()

    def inflate(self, piece: bytes, most_bytes: int) -> bytes:
        """What is in it. Raises BODY_TOO_LARGE for more than so much, BAD_REQUEST for what is not of this coding."""
        try:
            data = self._reader.decompress(piece, most_bytes + 1)
        except zlib.error as fault:
            raise bad_request(f"the body is not {self._coding}: {fault}") from fault
        if len(data) > most_bytes:
            raise GatewayError(Code.BODY_TOO_LARGE, detail="the inflated body is too large")
        if self._reader.unused_data:
            raise bad_request(f"the body has something behind the end of its {self._coding}")
        return data

    def end(self) -> None:
        """The body is whole. Raises BAD_REQUEST when it is not."""
        if not self._reader.eof:
            raise bad_request(f"the body ends within its {self._coding}")


def coding_of(values: Sequence[bytes]) -> bytes:
    """Of the Content-Encoding headers of a request; b"" is none. Raises ENCODING_NOT_SUPPORTED."""
    codings = [value.strip().lower() for value in values if value.strip().lower() not in (b"", b"identity")]
    if not codings:
        return b""
    if len(codings) > 1 or codings[0] not in _WINDOW_BITS:
        raise GatewayError(Code.ENCODING_NOT_SUPPORTED)
    return codings[0]


def accepted(values: Sequence[bytes]) -> str:
    """The coding that the Accept-Encoding headers like best of those that Triton has; "" is none. What cannot be read asks for none."""
    best, weight = "", 0.0
    for choice in b",".join(values)[:_MOST_CHARACTERS].decode("latin-1").split(","):
        found = _CHOICE.fullmatch(choice)
        if found is None or found[1].lower().encode() not in _WINDOW_BITS:
            continue
        asked = float(found[2] or 1)
        if asked > weight:
            best, weight = found[1].lower(), asked
    return best
