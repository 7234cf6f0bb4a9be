"""Masking takes a while: of a long body it is done beside the loop."""

import asyncio
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

_Given = ParamSpec("_Given")
_Found = TypeVar("_Found")

AT_ONCE_BYTES: Final = 4 * 1024
"""What may be looked through while others wait: it takes some 20 ms. Of a thread nobody waits for its end but the call itself."""


async def beside(
    size: int, act: Callable[_Given, _Found], /, *args: _Given.args, **kwargs: _Given.kwargs
) -> _Found:
    """What `act` gives, which looks through so many bytes. Raises what it raises. Who stops waiting does not stop it: it ends by itself,
    as a screen takes only so much text.
    """
    if size <= AT_ONCE_BYTES:
        return act(*args, **kwargs)
    return await asyncio.to_thread(act, *args, **kwargs)
