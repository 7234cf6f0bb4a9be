"""gRPC's messages in the data of a stream: each has a prefix with its length, and begins and ends anywhere. Pure."""

import struct
from collections.abc import Iterator
from typing import Final

from gateway.triton.http2 import Malformed

_PREFIX: Final = struct.Struct(">BI")


def prefix(length: int) -> bytes:
    """Of a message that is not compressed."""
    return _PREFIX.pack(0, length)


class Messages:
    """Puts together what comes in."""

    __slots__ = ("_gathered_bytes", "_pieces", "_wanted_bytes")

    def __init__(self) -> None:
        self._pieces: list[memoryview] = []
        self._gathered_bytes = 0
        self._wanted_bytes = -1  # -1: its prefix is not whole

    @property
    def is_partial(self) -> bool:
        """A message has begun and not ended."""
        return self._gathered_bytes > 0 or self._wanted_bytes >= 0

    def feed(self, data: memoryview) -> Iterator[bytes]:
        """The messages that end in this data. Raises Malformed."""
        size = len(data) - _PREFIX.size
        if not self.is_partial and size >= 0 and _PREFIX.unpack_from(data) == (0, size):
            yield bytes(data[_PREFIX.size :])  # a whole one, as most are
            return
        while data:
            if self._wanted_bytes < 0:
                data = self._gather(data, _PREFIX.size)
                if self._gathered_bytes < _PREFIX.size:
                    return
                is_compressed, self._wanted_bytes = _PREFIX.unpack(self._joined())
                if is_compressed:
                    raise Malformed("a compressed message that nobody asked for")
            data = self._gather(data, self._wanted_bytes)
            if self._gathered_bytes == self._wanted_bytes:
                self._wanted_bytes = -1
                yield self._joined()

    def _gather(self, data: memoryview, wanted_bytes: int) -> memoryview:
        """Take up to so many; gives the rest."""
        missing = wanted_bytes - self._gathered_bytes
        piece = data[:missing]
        self._pieces.append(piece)
        self._gathered_bytes += len(piece)
        return data[missing:]

    def _joined(self) -> bytes:
        joined = b"".join(self._pieces)
        self._pieces, self._gathered_bytes = [], 0
        return joined
