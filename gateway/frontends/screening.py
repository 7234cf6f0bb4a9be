"""Masking takes a while: of a long body it is done beside the loop, by few threads that tenants share in turns."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import Any, Final, NamedTuple, TypeVar

from gateway.errors import Code, GatewayError
from gateway.frontends.turns import Turns
from gateway.privacy.detect import is_warm, warm
from gateway.privacy.mask import Screen

_Found = TypeVar("_Found")

AT_ONCE_BYTES: Final = 1024
AT_ONCE_DIGITS: Final = 128
"""What may be looked through while others wait: some 0.2 ms, 5 where it is made to take long."""
_THREADS: Final = 2
_DIGITS: Final = [str(digit).encode() for digit in range(10)]


def is_short(texts: bytes | None) -> bool:
    """None is long."""
    return (
        texts is not None and len(texts) <= AT_ONCE_BYTES and sum(map(texts.count, _DIGITS)) <= AT_ONCE_DIGITS
    )


class Desk:
    """Where texts wait to be masked. Its threads do nothing else: long texts would hold up names, keys and files that wait for others."""

    def __init__(self, threads: int = _THREADS) -> None:
        self._threads = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="masking")
        self._turns: Turns[_Job] = Turns()
        self._lock = Lock()

    async def do(self, tenant_id: str, act: Callable[[], _Found], stop: Callable[[], None]) -> _Found:
        """What `act` gives, in its tenant's turn. Raises what it raises, and TOO_MANY_AT_ONCE when too many wait. When nobody waits for it
        any more, as after its deadline, it is `stop`ped, and does not begin if it has not.
        """
        job = _Job(Future(), act)
        with self._lock:
            has_room = self._turns.add(tenant_id, job)
        if not has_room:
            private = "too many texts of the tenant wait to be masked"
            raise GatewayError(Code.TOO_MANY_AT_ONCE, private=private, retry_after_seconds=1)
        self._threads.submit(self._work)
        try:
            return await asyncio.wrap_future(job.future)
        finally:
            if not job.future.done() or job.future.cancelled():
                stop()
                with self._lock:
                    self._turns.drop(tenant_id, job)

    def _work(self) -> None:
        """In a thread: all that may be begun. What may not is begun by who ends its tenant's job."""
        while True:
            with self._lock:
                taken = self._turns.take()
            if taken is None:
                return
            tenant_id, job = taken
            try:
                job.run()
            finally:
                with self._lock:
                    self._turns.end(tenant_id)


class _Job(NamedTuple):
    future: Future[Any]
    act: Callable[[], Any]

    def run(self) -> None:
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            warm()
            found = self.act()
        except BaseException as fault:  # noqa: BLE001 - who waits is told, whatever it is
            self.future.set_exception(fault)
        else:
            self.future.set_result(found)


_desk: Final = Desk()


async def beside(tenant_id: str, texts: bytes | None, screen: Screen, act: Callable[[], _Found]) -> _Found:
    """What `act` gives, which looks through `texts` with the screen: at once when they are short, else in the tenant's turn. Raises what
    it raises, and TOO_MANY_AT_ONCE.
    """
    if is_short(texts) and is_warm():
        return act()
    return await _desk.do(tenant_id, act, screen.steps.stop)
