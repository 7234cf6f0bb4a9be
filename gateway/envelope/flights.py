"""One call for all who wait for the same thing. It goes on without the one who asked first, and its failure is remembered for a while: a
thousand callers make one call, while it lasts and after it has failed.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from gateway.envelope.ports import KeyFault, KeysUnavailable
from gateway.loops import Spawn

MOST_SECONDS: Final = 60.0
"""So long somebody waits here. What is called has limits of its own, which are shorter."""

Place = tuple[str, str]
"""A tenant's id, and the id of a key or a purpose."""

_log: Final = logging.getLogger(__name__)


@dataclass(slots=True)
class Flights:
    """`clock` gives seconds; `spawn` starts a task by name. `expected` are failures that whoever waits is to see as they are, each made of
    one text; any other is logged, and is KeysUnavailable to them. Of `most` failures at once the oldest is forgotten.
    """

    spawn: Spawn
    clock: Callable[[], float]
    retry_seconds: float
    most: int
    expected: tuple[type[Exception], ...]
    _under_way: dict[Place, "asyncio.Future[None]"] = field(default_factory=dict)
    _failed: OrderedDict[Place, tuple[float, Exception]] = field(default_factory=OrderedDict)
    """Until when it is not tried again, and how it failed."""

    async def join(self, place: Place, fly: Callable[[], Awaitable[None]]) -> None:
        """Returns when the flight to this place has landed, which is another's or this one. Raises how it failed, or how the last one did
        less than `retry_seconds` ago, and then says when the next one can be. Who is cancelled here leaves the flight to the others.
        """
        self._check(place)
        landing = self._under_way.get(place)
        if landing is None:
            landing = self._under_way[place] = asyncio.get_running_loop().create_future()
            self.spawn(f"data key {place[1]} of {place[0]}", self._fly(place, fly, landing))
        await asyncio.wait([landing], timeout=MOST_SECONDS)
        if not landing.done():  # the task was ended before it began, as the gateway stops
            raise KeysUnavailable(f"the data key {place[1]} of {place[0]} did not come in time")
        if (fault := landing.exception()) is not None:
            raise self._again(place, fault)

    async def _fly(
        self, place: Place, fly: Callable[[], Awaitable[None]], landing: "asyncio.Future[None]"
    ) -> None:
        fault: Exception | None = KeysUnavailable("the gateway stops")
        try:
            await fly()
            fault = None
        except self.expected as expected:
            fault = expected
        except Exception as unexpected:  # noqa: BLE001 - it is of those who wait, and no reason to end the process
            _log.exception("the data key %s of %s", place[1], place[0])
            fault = KeysUnavailable(f"{type(unexpected).__name__}: {unexpected}")
        finally:
            del self._under_way[place]
            self._failed.pop(place, None)
            if fault is None:
                landing.set_result(None)
            else:
                self._note(place, fault)
                landing.set_exception(fault)
                landing.exception()  # there may be nobody left who waits

    def _note(self, place: Place, fault: Exception) -> None:
        self._failed[place] = (self.clock() + self.retry_seconds, fault)
        if len(self._failed) > self.most:
            self._failed.popitem(last=False)

    def _check(self, place: Place) -> None:
        until, fault = self._failed.get(place, (0.0, None))
        if fault is not None and self.clock() < until:
            raise self._again(place, fault)

    def _again(self, place: Place, fault: BaseException) -> BaseException:
        """The same for another one who waits: an exception that many raise would gather all their tracebacks."""
        again = type(fault)(str(fault))
        until, _ = self._failed.get(place, (0.0, None))
        if isinstance(again, KeyFault):
            again.retry_after_seconds = max(until - self.clock(), again.retry_after_seconds)
        return again
