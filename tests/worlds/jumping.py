"""An asyncio loop whose clock jumps: what waits for a time has it at once, and nothing that happens takes any."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")


class _Selector(selectors.SelectSelector):
    """Does not wait: the time that it would have taken has passed."""

    passed = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0)
        if not found:
            assert timeout is not None, "all wait, and for no time"
            self.passed += max(0.0, timeout)
        return found


class JumpingLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _Selector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.passed


def jumping(story: Coroutine[Any, Any, _T]) -> _T:
    """What the story gives, in no time."""
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        return runner.run(story)
