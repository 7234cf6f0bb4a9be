"""What gRPC's messages take of the process's memory.

grpc hands a message over when it is whole, and says before neither how large it will be nor how much of it is here. So:

- of a message that nobody awaits it takes 64 KiB (`options` of grpc_server), and none is awaited of who is not known;
- one that is whole is on its tenant's account until its call is settled, or is refused;
- one that is awaited may arrive, or come minutes later, as on an idle stream. Its size is not known, but the process's is: while that has
  grown by more than the budget, whoever has awaited one since an earlier look must have room for the largest message on their account. Who
  has not is refused, and what has arrived is freed.

Thus the process grows by the budget, and by what can arrive between two looks.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from gateway.errors import Code, GatewayError
from gateway.frontends.memory import Memory

log = logging.getLogger(__name__)

SMALL_BYTES: Final = 64 * 1024  # a reply that counts for nothing


@dataclass(slots=True)
class MessageMemory(Memory):
    """`most_bytes` is the largest message. `resident_bytes` gives what the process has, `used_bytes` what it has without what is free: a
    question that takes time.
    """

    what: ClassVar[str] = "messages"

    resident_bytes: Callable[[], int]
    used_bytes: Callable[[], int]
    _awaited: "dict[Awaited, None]" = field(default_factory=dict, init=False)  # the oldest first
    _looks: int = field(default=0, init=False)
    _was_full: bool = field(default=False, init=False)
    _start_bytes: int = field(init=False)

    def __post_init__(self) -> None:
        self._start_bytes = self.resident_bytes()

    def awaiting(self, tenant_id: str) -> "Awaited":
        """To be entered at once: its block awaits one message, and raises TOO_MANY_AT_ONCE or OVERLOADED when it must make room."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("only a task awaits a message")
        return Awaited(self._awaited, task, tenant_id, self._looks)

    def keep(self, tenant_id: str, size: int) -> None:
        """The reply of the RPC whose task this is stays on the account until the client has taken it; none is refused for that."""
        if size <= SMALL_BYTES or (task := asyncio.current_task()) is None:
            return
        self.add(tenant_id, size)
        task.add_done_callback(lambda _: self.give_back(tenant_id, size))

    async def look(self) -> None:
        """Make room, if the process has grown too large. What one tenant has too much goes first; if that did not help, what all have."""
        self._looks += 1
        most_bytes = self._start_bytes + self.budget_bytes
        is_full = (
            bool(self._awaited) and self.resident_bytes() > most_bytes and self.used_bytes() > most_bytes
        )
        if is_full != self._was_full:
            is_over = "is over" if is_full else "is within"
            log.warning("the process %s its budget for gRPC's messages (grpc.memory_bytes)", is_over)
        if is_full:
            self._make_room()
        self._was_full = is_full

    def _make_room(self) -> None:
        claims = []
        for awaited in tuple(self._awaited):
            if awaited.since == self._looks - 1:  # no look has seen it before, nor those behind it
                break
            try:
                self.take(awaited.tenant_id, self.most_bytes)
            except GatewayError as refusal:
                if self._was_full or refusal.code is Code.TOO_MANY_AT_ONCE:
                    awaited.end(refusal)
            else:
                claims.append(awaited)
        for awaited in claims:
            self.give_back(awaited.tenant_id, self.most_bytes)


class Held:
    """What is here of one call, on its tenant's account until `close`."""

    __slots__ = ("_memory", "_taken_bytes", "_tenant_id")

    def __init__(self, memory: Memory, tenant_id: str) -> None:
        self._memory = memory
        self._tenant_id = tenant_id
        self._taken_bytes = 0

    def take(self, size: int) -> None:
        """Raises TOO_MANY_AT_ONCE, OVERLOADED."""
        self._memory.take(self._tenant_id, size)
        self._taken_bytes += size

    def close(self) -> None:
        self._memory.give_back(self._tenant_id, self._taken_bytes)
        self._taken_bytes = 0


class Awaited:
    """One message that a task awaits."""

    __slots__ = ("_all", "_refusal", "_task", "since", "tenant_id")

    def __init__(
        self, everyone: "dict[Awaited, None]", task: "asyncio.Task[Any]", tenant_id: str, since: int
    ) -> None:
        self.tenant_id = tenant_id
        self.since = since
        self._all = everyone
        self._task = task
        self._refusal: GatewayError | None = None

    def __enter__(self) -> None:
        self._all[self] = None

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, _: object) -> None:
        del self._all[self]
        if self._refusal is not None and self._task.uncancel() == 0 and kind is asyncio.CancelledError:
            raise self._refusal from fault

    def end(self, refusal: GatewayError) -> None:
        if self._refusal is None:
            self._refusal = refusal
            self._task.cancel()
