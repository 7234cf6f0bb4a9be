"""Masking takes a while: of a long body it is done beside the loop."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, ParamSpec, TypeVar

_Given = ParamSpec("_Given")
_Found = TypeVar("_Found")

AT_ONCE_BYTES: Final = 1024
"""What may be looked through while others wait: some 5 ms, and 40 of a text that is made to take long. Of a thread nobody waits for its end
but the call itself."""
# Threads of its own: long texts would hold up names, keys and files that wait for the loop's.
_threads: Final = ThreadPoolExecutor(max_workers=2, thread_name_prefix="masking")


async def beside(
    size: int, act: Callable[_Given, _Found], /, *args: _Given.args, **kwargs: _Given.kwargs
) -> _Found:
    """What `act` gives, which looks through so many bytes. Raises what it raises. Who stops waiting does not stop it: it ends by itself,
    as a screen takes only so much text.
    """
    if size <= AT_ONCE_BYTES:
        return act(*args, **kwargs)
    return await asyncio.get_running_loop().run_in_executor(_threads, partial(act, *args, **kwargs))
