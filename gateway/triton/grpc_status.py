"""gRPC's statuses: their numbers, and what HTTP says instead, which is what figures and the audit log tell. Pure."""

from enum import IntEnum
from types import MappingProxyType
from urllib.parse import unquote_to_bytes


class Status(IntEnum):
    """google.rpc.Code."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16

    @classmethod
    def of(cls, number: int) -> "Status":
        """One that nobody knows is UNKNOWN, as gRPC has it."""
        return _ALL[number] if 0 <= number < len(_ALL) else cls.UNKNOWN


_ALL = tuple(Status)

# As google/rpc/code.proto maps them; UNIMPLEMENTED and UNAVAILABLE are what Triton's HTTP says, too.
_HTTP: MappingProxyType[Status, int] = MappingProxyType(
    {
        Status.OK: 200,
        Status.CANCELLED: 499,
        Status.UNKNOWN: 500,
        Status.INVALID_ARGUMENT: 400,
        Status.DEADLINE_EXCEEDED: 504,
        Status.NOT_FOUND: 404,
        Status.ALREADY_EXISTS: 409,
        Status.PERMISSION_DENIED: 403,
        Status.RESOURCE_EXHAUSTED: 429,
        Status.FAILED_PRECONDITION: 400,
        Status.ABORTED: 409,
        Status.OUT_OF_RANGE: 400,
        Status.UNIMPLEMENTED: 501,
        Status.INTERNAL: 500,
        Status.UNAVAILABLE: 503,
        Status.DATA_LOSS: 500,
        Status.UNAUTHENTICATED: 401,
    }
)


def http_status(status: Status) -> int:
    return _HTTP[status]


def unquoted(message: str) -> bytes:
    """The text of a grpc-message, which is percent-encoded UTF-8."""
    return unquote_to_bytes(message.encode("latin-1")) if message else b""
