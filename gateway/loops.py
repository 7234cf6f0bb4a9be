"""The only place that starts tasks: what runs beside the requests, by name, for as long as the process serves.

A loop that fails takes the process down: a gateway without its committer or its re-reader must not go on as if
nothing were wrong. What a loop expects to fail at, it handles itself.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

log = logging.getLogger(__name__)


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


async def every(seconds: float, act: Callable[[], Awaitable[None]], *expected: type[Exception]) -> None:
    """Act, wait, act again. A failure of an expected kind is logged and tried again next time."""
    while True:
        try:
            await act()
        except expected as fault:
            log.warning("%s failed, next try in %.0f s: %s", act.__qualname__, seconds, fault)
        await asyncio.sleep(seconds)


def request_task(loop: asyncio.AbstractEventLoop, request: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """The task of one request of a connection; the protocol that asked for it owns and ends it."""
    return loop.create_task(request)
