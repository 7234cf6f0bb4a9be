"""The only place that starts tasks: what runs beside the requests, by name, for as long as the process serves.

A loop that fails takes the process down: a gateway without its committer or its feed must not go on as if
nothing were wrong. What a loop expects to fail at, it handles itself.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any

log = logging.getLogger(__name__)

Spawn = Callable[[str, Coroutine[Any, Any, None]], None]
"""Starts a task by name, for as long as the process serves."""


@asynccontextmanager
async def running(**loops: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run the loops while the block runs; cancel them when it ends. A failing loop cancels the block, and its error is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(loop, name=name) for name, loop in loops.items()]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
    except BaseExceptionGroup as faults:
        raise faults.exceptions[0] from None


@asynccontextmanager
async def jobs() -> AsyncIterator[Spawn]:
    """Gives what starts a task, by name, for work that a loop does not wait for. All are cancelled when the block ends, and what is given
    later is dropped; one that fails cancels the block, and its error is raised."""
    started: set[asyncio.Task[None]] = set()
    is_over = False

    def start(name: str, job: Coroutine[Any, Any, None]) -> None:
        if is_over:
            job.close()
            return
        task = group.create_task(job, name=name)
        started.add(task)
        task.add_done_callback(started.discard)

    try:
        async with asyncio.TaskGroup() as group:
            try:
                yield start
            finally:
                is_over = True
                for task in started:
                    task.cancel()
    except BaseExceptionGroup as faults:
        raise faults.exceptions[0] from None


class Outliving:
    """Work that goes on when who awaits it is cancelled."""

    def __init__(self) -> None:
        self._under_way: set[asyncio.Task[None]] = set()

    async def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Raises what it raises; once nobody awaits it, that is dropped: it has been told to whom it concerns."""
        task = asyncio.get_running_loop().create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._ended)
        await asyncio.shield(task)

    async def over(self, seconds: float | None = None) -> None:
        """Return when none is under way, or after so long."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=seconds)

    def end(self) -> None:
        """Cancel what is under way."""
        for task in self._under_way:
            task.cancel()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()


async def every(seconds: float, act: Callable[[], Awaitable[None]], *expected: type[Exception]) -> None:
    """Act, wait, act again. A failure of an expected kind is logged and tried again next time."""
    while True:
        try:
            await act()
        except expected as fault:
            log.warning("%s failed, next try in %.0f s: %s", act.__qualname__, seconds, fault)
        await asyncio.sleep(seconds)


async def at_once(most: int, acts: Iterable[Awaitable[None]]) -> None:
    """All are done, `most` of them at a time, in their order. One that fails ends this, and its error is raised; those that had not begun
    never do.
    """
    waiting = iter(acts)

    async def take() -> None:
        for act in waiting:
            await act

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(most):
                group.create_task(take())
    except BaseExceptionGroup as faults:
        raise faults.exceptions[0] from None


class Deadlines:
    """One timer for the deadlines of all calls under way; each is kept, up to `tick_seconds` late, for the price of a set's entry."""

    def __init__(self, tick_seconds: float = 0.1) -> None:
        self._tick_seconds = tick_seconds
        self._under_way: set[Deadline] = set()
        self._timer: asyncio.TimerHandle | None = None

    def within(self, seconds: float) -> "Deadline":
        """To be entered at once: its block raises TimeoutError after so many seconds, as one of asyncio.timeout does."""
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        if task is None:
            raise RuntimeError("only a task has a deadline")
        if self._timer is None:
            self._timer = loop.call_later(self._tick_seconds, self._end_late, loop)
        return Deadline(self._under_way, task, loop.time() + seconds)

    def _end_late(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for deadline in [deadline for deadline in self._under_way if deadline.at <= now]:
            deadline.end()
        self._timer = loop.call_later(self._tick_seconds, self._end_late, loop) if self._under_way else None


class Deadline:
    """Of one block of one task."""

    __slots__ = ("_has_passed", "_task", "_under_way", "at")

    def __init__(self, under_way: "set[Deadline]", task: "asyncio.Task[Any]", at: float) -> None:
        self.at = at
        self._under_way = under_way
        self._task = task
        self._has_passed = False

    def __enter__(self) -> "Deadline":
        self._under_way.add(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, _: object) -> None:
        self._under_way.discard(self)
        if self._has_passed and self._task.uncancel() == 0 and kind is asyncio.CancelledError:
            raise TimeoutError from fault

    def put_off(self, seconds: float) -> None:
        """So long from now, instead."""
        self.at = self._task.get_loop().time() + seconds

    def end(self) -> None:
        if not self._has_passed:
            self._has_passed = True
            self._task.cancel()


def request_task(loop: asyncio.AbstractEventLoop, request: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """The task of one request of a connection; the protocol that asked for it owns and ends it."""
    return loop.create_task(request)
