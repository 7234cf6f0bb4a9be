"""Processes in virtual time: real coroutines, stepped by a scheduler that can stop or kill a process at any await and at any reading of
its clock, over a Table whose answers are late, lost, or made yet. Nothing here waits for real time, and a seed gives the same again.
"""

from collections.abc import Callable, Coroutine, Generator
from dataclasses import dataclass, field
from enum import Enum
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import Any, ClassVar

from tenants.errors import TableUnavailable
from tenants.ports import Item, Key, Row
from tests.worlds.table import MemoryTable

MS = 1_000
SECOND = 1_000_000


class Killed(BaseException):
    """Unwinds what a killed process was in the middle of."""


class World:
    """True time, in microseconds, and what happens when."""

    def __init__(self) -> None:
        self.now = 0
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._numbers = count()

    def at(self, when: int, act: Callable[[], None]) -> None:
        heappush(self._events, (max(when, self.now), next(self._numbers), act))

    def run(self, until: int) -> None:
        """Up to and including this time. An act may run the world on from within itself."""
        while self._events and self._events[0][0] <= until:
            when, _, act = heappop(self._events)
            self.now = max(self.now, when)
            act()
        self.now = max(self.now, until)


@dataclass(slots=True)
class Clocks:
    """Of one process: how far they are off, and by how many parts in a million they run fast."""

    boot_us: int = 0
    wall_us: int = 0
    fast: int = 0

    def boot(self, now: int) -> int:
        return self.boot_us + now + now * self.fast // 1_000_000

    def wall(self, now: int) -> int:
        return self.wall_us + now + 1_700_000_000 * SECOND

    def true(self, boot: int) -> int:
        """When the boot clock read this, to two microseconds."""
        return (boot - self.boot_us) * 1_000_000 // (1_000_000 + self.fast)


class Process:
    """What is to go on in it waits while it is stopped, and never does once it is dead."""

    def __init__(self, world: World, name: str, clocks: Clocks) -> None:
        self.world, self.name, self.clocks = world, name, clocks
        self.is_dead = self.is_stopped = False
        self.stop_at_reading_us = 0
        """The next reading of a clock is followed by a stop of so long, before anything is done with it."""
        self._waiting: list[Callable[[], None]] = []

    @property
    def runs(self) -> bool:
        return not self.is_dead and not self.is_stopped

    def clock(self) -> int:
        return self._stopped_behind(self.clocks.boot(self.world.now))

    def wall(self) -> int:
        return self._stopped_behind(self.clocks.wall(self.world.now))

    def _stopped_behind(self, reading: int) -> int:
        if self.stop_at_reading_us:
            lasts, self.stop_at_reading_us = self.stop_at_reading_us, 0
            self.is_stopped = True
            self.world.run(self.world.now + lasts)
            self.world.at(self.world.now, self.thaw)
            if self.is_dead:
                raise Killed
            self.is_stopped = False
        return reading

    def stop(self, lasts: int) -> None:
        if self.runs:
            self.is_stopped = True
            self.world.at(self.world.now + lasts, self.thaw)

    def kill(self) -> None:
        self.is_dead = True
        self._waiting.clear()

    def thaw(self) -> None:
        self.is_stopped = False
        waiting, self._waiting = self._waiting, []
        for act in waiting:
            self.do(act)

    def do(self, act: Callable[[], None]) -> None:
        """Now, or once it runs again."""
        if self.is_dead:
            return
        if self.is_stopped:
            self._waiting.append(act)
            return
        try:
            act()
        except Killed:
            self._waiting.clear()

    def start(self, job: Coroutine[Any, Any, None]) -> None:
        self._step(job, None, None)

    def _step(self, job: Coroutine[Any, Any, None], value: object, fault: Exception | None) -> None:
        try:
            call = job.send(value) if fault is None else job.throw(fault)
        except StopIteration:
            return
        assert isinstance(call, Call)
        call.begin(lambda value, fault: self.do(lambda: self._step(job, value, fault)))


Answered = Callable[[object, Exception | None], None]


@dataclass(slots=True)
class Call:
    """Something outside of the process, which answers in its own time."""

    begin: Callable[[Answered], None]

    def __await__(self) -> "Generator[Call, Any, Any]":
        return (yield self)


class Loss(Enum):
    BEFORE = "never arrived"
    AFTER = "was made, and its answer was lost"
    LATE = "is made later than it was given up"


@dataclass(slots=True)
class Weather:
    """How the table is at the moment. `lost` is the part of the writes whose answers are lost, one way or another."""

    latency_us: int = 2 * MS
    lost: float = 0.0
    gone: bool = False


@dataclass(slots=True)
class Link(MemoryTable):
    """A process's way to the table that all share. `landed` is called when a write was made."""

    world: World = field(default_factory=World)
    weather: Weather = field(default_factory=Weather)
    draw: Random = field(default_factory=Random)
    landed: Callable[[], None] = lambda: None
    say: Callable[[str], None] = lambda _: None

    GIVEN_UP_US: ClassVar[int] = 500 * MS

    async def get(self, key: Key) -> Row | None:
        found: Row | None = await Call(lambda told: self._asked(lambda: MemoryTable.get(self, key), told))
        return found

    async def transact(self, *items: Item) -> None:
        def begin(told: Answered) -> None:
            loss = self.draw.choice([*Loss]) if self.draw.random() < self.weather.lost else None
            if loss is None:
                self._asked(lambda: MemoryTable.transact(self, *items), told)
                return
            self.say(f"a write {loss.value}")
            if loss is not Loss.BEFORE:
                late = self.draw.randrange(6 * SECOND) if loss is Loss.LATE else 0
                self._after(self._way() + late, lambda: self._make(*items))
            self._after(self.GIVEN_UP_US, lambda: told(None, TableUnavailable(loss.value)))

        await Call(begin)

    def _asked(self, ask: Callable[[], Coroutine[Any, Any, Any]], told: Answered) -> None:
        def arrive() -> None:
            if self.weather.gone:
                self._after(self.GIVEN_UP_US, lambda: told(None, TableUnavailable("gone")))
                return
            value, fault = self._made(ask())
            self._after(self._way(), lambda: told(value, fault))

        self._after(self._way(), arrive)

    def _make(self, *items: Item) -> None:
        self._made(MemoryTable.transact(self, *items))

    def _made(self, asked: Coroutine[Any, Any, Any]) -> tuple[object, Exception | None]:
        try:
            asked.send(None)
        except StopIteration as end:
            self.landed()
            return end.value, None
        except Exception as fault:  # noqa: BLE001 - it is the answer
            return None, fault
        raise AssertionError("a table in memory has nothing to wait for")

    def _way(self) -> int:
        return int(self.weather.latency_us * self.draw.uniform(0.3, 0.7))

    def _after(self, us: int, act: Callable[[], None]) -> None:
        self.world.at(self.world.now + us, act)
