"""The format of a captured call: what a model was asked and what it replied. Pure.

    object = "GWC" 01 | u32 n | head, n bytes of JSON | request | reply

The integer is big-endian. The head says how many bytes of either body are here, and how many there were. Both are as they went to the
model's server and came back: JSON, JSON with binary tensors behind it, a protobuf message, or events; a reply may be compressed.

Compatibility: version 1 bytes never change. A field may be added to the head whose default is left out and means what its absence meant; no
field is renamed, retyped or used again. Anything else has another fourth byte, which a version 1 reader refuses.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

import msgspec

from gateway.audit.record import Status

MAGIC: Final = b"GWC\x01"
MOST_BYTES: Final = 1 << 20
"""Of either body that are kept; what is longer is cut."""
MOST_HEAD_BYTES: Final = 1 << 16

_SIZE_BYTES: Final = 4


class Unreadable(Exception):
    """This is no capture, or one of a version that is not known here."""


class Head(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Version 1 (rule above). `asked_us` and `ended_us` are microseconds since 1970: when it was sent to the model's server, and when it
    was over. `ending` and `reason` are those of the audit log, `http_status` is what the client was told, `reply_status` what the model's
    server said (0: nothing), over gRPC in HTTP's words. `*_bytes` went by, the first `*_kept` of them are here. `*_head_bytes` are JSON
    and tensors follow; 0 where the body is of one kind.
    """

    request: str
    model: str
    model_version: str = ""
    protocol: str
    endpoint: str
    asked_us: int
    ended_us: int
    ending: Status
    http_status: int
    reason: str = ""
    request_bytes: int = 0
    request_kept: int = 0
    request_head_bytes: int = 0
    reply_status: int = 0
    reply_type: str = ""
    reply_encoding: str = ""
    reply_bytes: int = 0
    reply_kept: int = 0
    reply_head_bytes: int = 0

    @property
    def is_request_cut(self) -> bool:
        return self.request_kept < self.request_bytes

    @property
    def is_reply_cut(self) -> bool:
        return self.reply_kept < self.reply_bytes


class Captured(NamedTuple):
    head: Head
    request: bytes
    reply: bytes


def written(head: Head, request: Iterable[bytes | bytearray], reply: Iterable[bytes | bytearray]) -> bytes:
    """The object. ValueError when a body is not as long as the head says."""
    said = msgspec.json.encode(head)
    bodies = [b"".join(request), b"".join(reply)]
    if [len(body) for body in bodies] != [head.request_kept, head.reply_kept]:
        raise ValueError("the head says another size")
    return b"".join((MAGIC, len(said).to_bytes(_SIZE_BYTES, "big"), said, *bodies))


def read(data: bytes) -> Captured:
    """What `written` made. Raises Unreadable."""
    start = len(MAGIC) + _SIZE_BYTES
    if data[: len(MAGIC)] != MAGIC or len(data) < start:
        raise Unreadable("it is no capture of a version that is known here")
    end = start + int.from_bytes(data[len(MAGIC) : start], "big")
    if end - start > MOST_HEAD_BYTES or end > len(data):
        raise Unreadable("its head is cut, or longer than any")
    try:
        head = msgspec.json.decode(data[start:end], type=Head)
    except ValueError as fault:  # of msgspec, or of UTF-8
        raise Unreadable(f"its head says nothing that is known here: {fault}") from fault
    middle = end + head.request_kept
    if min(head.request_kept, head.reply_kept) < 0 or middle + head.reply_kept != len(data):
        raise Unreadable("its bodies are not as long as its head says")
    return Captured(head, data[end:middle], data[middle:])
