"""As much of HTTP/2 as a gRPC client needs that has one stream at a time on a connection: frames and header blocks. Pure.

RFC 9113 (HTTP/2), RFC 7541 (HPACK). We let the server keep no table of headers (SETTINGS_HEADER_TABLE_SIZE 0), so that every header it
sends is of the static table or in full, and a header block means the same at any time. What is coded by Huffman is skipped: gRPC's core
codes only binary metadata so, which nobody here reads.
"""

import struct
from collections.abc import Iterator, Mapping
from enum import IntEnum
from functools import lru_cache
from types import MappingProxyType
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAME_HEAD: Final = struct.Struct(">HBBBI")  # the length in two parts, kind, flags, stream
FRAME_HEAD_BYTES: Final = FRAME_HEAD.size
MOST_FRAME_BYTES: Final = 16 * 1024  # of both sides, as nobody asks for more
FIRST_WINDOW_BYTES: Final = 65_535
MOST_WINDOW_BYTES: Final = 2**31 - 1

END_STREAM: Final = 0x01
ACK: Final = 0x01
END_HEADERS: Final = 0x04
_PADDED: Final = 0x08
_PRIORITY: Final = 0x20

_HEADER_TABLE_SIZE: Final = 1
_ENABLE_PUSH: Final = 2
INITIAL_WINDOW_SIZE: Final = 4

_STATIC_STATUS: Final = {8: "200", 9: "204", 10: "206", 11: "304", 12: "400", 13: "404", 14: "500"}
_STATIC_NAMES: Final = {**dict.fromkeys(_STATIC_STATUS, ":status"), 31: "content-type"}
_STATIC_SIZE: Final = 61
_MOST_SHIFT: Final = 28


class Kind(IntEnum):
    """Of a frame (RFC 9113, 6)."""

    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


class Malformed(ValueError):
    """What the peer sent is not HTTP/2, or more of it than is asked for here."""


def frame(kind: Kind, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return frame_head(kind, flags, stream, len(payload)) + payload


def frame_head(kind: Kind, flags: int, stream: int, length: int) -> bytes:
    return FRAME_HEAD.pack(length >> 8, length & 0xFF, kind, flags, stream)


def frame_length(high: int, low: int) -> int:
    """Of the two parts in a frame's head. Raises Malformed."""
    length = high << 8 | low
    if length > MOST_FRAME_BYTES:
        raise Malformed("a frame that is too large")
    return length


def window_update(stream: int, size: int) -> bytes:
    return frame(Kind.WINDOW_UPDATE, 0, stream, struct.pack(">I", size))


# What a client says first: no table of headers, no pushes, and windows that never close. Whoever cannot keep up stops to read.
GREETING: Final = (
    PREFACE
    + frame(
        Kind.SETTINGS,
        0,
        0,
        struct.pack(
            ">HIHIHI", _HEADER_TABLE_SIZE, 0, _ENABLE_PUSH, 0, INITIAL_WINDOW_SIZE, MOST_WINDOW_BYTES
        ),
    )
    + window_update(0, MOST_WINDOW_BYTES - FIRST_WINDOW_BYTES)
)


def literal(name: bytes, value: bytes) -> bytes:
    """A header in full, not to be kept (RFC 7541, 6.2.2)."""
    return b"\x00" + _string(name) + _string(value)


def _string(text: bytes) -> bytes:
    return _integer(len(text), 7) + text


def _integer(value: int, prefix: int) -> bytes:
    """RFC 7541, 5.1, with no flag before it."""
    most = (1 << prefix) - 1
    if value < most:
        return bytes((value,))
    value -= most
    coded = bytearray((most,))
    while value >= 0x80:  # noqa: PLR2004
        coded.append(value & 0x7F | 0x80)
        value >>= 7
    coded.append(value)
    return bytes(coded)


def settings(payload: bytes) -> Iterator[tuple[int, int]]:
    """Identifier and value of each setting. Raises Malformed."""
    if len(payload) % 6:
        raise Malformed("a SETTINGS frame of a wrong size")
    return struct.iter_unpack(">HI", payload)


def unpadded(kind: Kind, flags: int, payload: memoryview) -> memoryview:
    """What DATA or HEADERS carry. Raises Malformed."""
    if not flags & (_PADDED | _PRIORITY):  # as most are
        return payload
    padding = 0
    if flags & _PADDED:
        if not payload:
            raise Malformed("a padded frame without its padding")
        padding, payload = payload[0], payload[1:]
    if flags & _PRIORITY and kind is Kind.HEADERS:
        payload = payload[5:]
    if padding > len(payload):
        raise Malformed("a frame of more padding than bytes")
    return payload[: len(payload) - padding]


@lru_cache(maxsize=64)  # replies that went well all have the same two
def headers(block: bytes) -> Mapping[str, str]:
    """The headers of a block, but those coded by Huffman and those of the static table that mean nothing here. Raises Malformed."""
    found: dict[str, str] = {}
    at = 0
    try:
        while at < len(block):
            first = block[at]
            if first & 0x80:  # 6.1 of the table
                index, at = _read_integer(block, at, 7)
                if index in _STATIC_STATUS:
                    found[":status"] = _STATIC_STATUS[index]
                elif not 0 < index <= _STATIC_SIZE:
                    raise Malformed("a header of a table that is empty")
                continue
            if first & 0xE0 == 0x20:  # noqa: PLR2004 - 6.3 the table's size
                if _read_integer(block, at, 5)[0]:
                    raise Malformed("a table of headers that was not allowed")
                at += 1
                continue
            index, at = _read_integer(block, at, 6 if first & 0x40 else 4)  # 6.2 in full
            if index > _STATIC_SIZE:
                raise Malformed("a header's name of a table that is empty")
            name: str | None = _STATIC_NAMES.get(index, "") if index else None
            if name is None:
                name, at = _read_string(block, at)
            value, at = _read_string(block, at)
            if name and value is not None:
                found[name] = value
    except IndexError as fault:
        raise Malformed("a header block that breaks off") from fault
    return MappingProxyType(found)


def _read_integer(block: bytes, at: int, prefix: int) -> tuple[int, int]:
    """The integer and where it ends."""
    most = (1 << prefix) - 1
    value = block[at] & most
    at += 1
    if value < most:
        return value, at
    shift = 0
    while True:
        value += (block[at] & 0x7F) << shift
        at += 1
        if not block[at - 1] & 0x80:
            return value, at
        shift += 7
        if shift > _MOST_SHIFT:
            raise Malformed("an integer without an end")


def _read_string(block: bytes, at: int) -> tuple[str | None, int]:
    """The string, None for one that is coded by Huffman, and where it ends."""
    is_coded = block[at] & 0x80
    length, at = _read_integer(block, at, 7)
    if at + length > len(block):
        raise Malformed("a header that breaks off")
    text = None if is_coded else block[at : at + length].decode("latin-1")
    return text, at + length
