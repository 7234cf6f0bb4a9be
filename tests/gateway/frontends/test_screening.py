"""Texts that take long to mask hold up their own calls and nothing else."""

import asyncio
import threading

from gateway.frontends.screening import AT_ONCE_BYTES, beside

_MANY = 40  # more than the threads that a loop has


async def test_texts_that_take_long_leave_the_loops_own_threads_to_names_keys_and_files() -> None:
    go_on = threading.Event()
    try:
        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            for _ in range(_MANY):
                group.create_task(beside(AT_ONCE_BYTES + 1, go_on.wait))
            await asyncio.sleep(0)  # all have begun
            here = await asyncio.to_thread(threading.current_thread)
            assert "masking" not in here.name
            go_on.set()
    finally:
        go_on.set()


async def test_a_short_text_is_masked_at_once() -> None:
    assert await beside(AT_ONCE_BYTES, threading.get_ident) == threading.get_ident()
