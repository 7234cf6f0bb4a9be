"""A world of blobs in memory: the Blobs port, with a loss on demand, before the change and after it."""

import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from gateway.kept.ports import BlobsUnavailable

MOST_BYTES = 64 * 1024 * 1024
_NAME = re.compile(r"(?!.{201})[\w-][\w.-]*(/[\w-][\w.-]*)*", re.ASCII)


class Fault(Enum):
    LOST_BEFORE = "the error came instead of the change, or the answer"
    LOST_AFTER = "the error came instead of the answer, and the change was made"


@dataclass
class BlobWorld:
    held: dict[str, bytes] = field(default_factory=dict)
    faults: deque[Fault | None] = field(default_factory=deque)  # of the next calls, one each
    is_down: bool = False  # then every call fails, and changes nothing
    calls: int = 0

    async def put(self, name: str, data: bytes) -> bool:
        _check(name)
        if len(data) > MOST_BYTES:
            raise ValueError(f"{len(data)} bytes in one object, more than {MOST_BYTES}")
        fault = self._begin()
        is_new = name not in self.held
        self.held.setdefault(name, bytes(data))
        _end(fault)
        return is_new

    async def get(self, name: str) -> bytes | None:
        _check(name)
        _end(self._begin())
        return self.held.get(name)

    async def delete(self, name: str) -> None:
        _check(name)
        fault = self._begin()
        self.held.pop(name, None)
        _end(fault)

    async def names(self, prefix: str, after: str | None = None, limit: int = 1000) -> Sequence[str]:
        _end(self._begin())
        return sorted(name for name in self.held if name.startswith(prefix) and name > (after or ""))[:limit]

    def _begin(self) -> Fault | None:
        self.calls += 1
        fault = self.faults.popleft() if self.faults else None
        if self.is_down or fault is Fault.LOST_BEFORE:
            raise BlobsUnavailable("lost before")
        return fault


def _end(fault: Fault | None) -> None:
    if fault is Fault.LOST_AFTER:
        raise BlobsUnavailable("lost after")


def _check(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError(f"not a name of a blob: {name!r}")
