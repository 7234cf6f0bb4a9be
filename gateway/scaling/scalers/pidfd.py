"""A process that is meant by a descriptor of the kernel's and not by its number, which another one may have next: it is told things, and
its end is noticed, whoever its parent is.
"""

import asyncio
import os
import signal
import subprocess
from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class Held:
    """`ended` has its exit code once it has ended: that of the `child` that it is of this process, and None of any other's."""

    pid: int
    child: "subprocess.Popen[bytes] | None" = None
    ended: "asyncio.Future[int | None]" = field(init=False)
    _descriptor: int = field(init=False)

    def __post_init__(self) -> None:
        """Raises ProcessLookupError: there is none of that number."""
        loop = asyncio.get_running_loop()
        self._descriptor = os.pidfd_open(self.pid)
        self.ended = loop.create_future()
        loop.add_reader(self._descriptor, self._over, loop)

    def tell(self, number: signal.Signals) -> None:
        """Nothing, if it has ended."""
        if not self.ended.done():
            try:
                signal.pidfd_send_signal(self._descriptor, number)
            except ProcessLookupError:
                return  # and `ended` is about to say so

    def forget(self) -> None:
        """Its end does not matter any more, and who waits for it waits no more. A child is reaped all the same, once it has ended."""
        if not self.ended.done():
            if self.child is None:
                self._drop(asyncio.get_running_loop())
            self.ended.set_result(None)

    async def over(self, seconds: float | None = None) -> None:
        """It has ended, or so long has passed."""
        await asyncio.wait([self.ended], timeout=seconds)

    def _over(self, loop: asyncio.AbstractEventLoop) -> None:
        self._drop(loop)
        code = self.child.wait() if self.child is not None else None  # which it is ready for
        if not self.ended.done():
            self.ended.set_result(code)

    def _drop(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.remove_reader(self._descriptor)
        os.close(self._descriptor)
