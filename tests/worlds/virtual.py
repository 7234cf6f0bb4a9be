"""Processes in virtual time: real coroutines, stepped by a world of our own, over a Table whose calls take time, get lost, or come late.

    world     true time, in microseconds, what happens when, and the one Table that all share
    process   something that runs, with clocks of its own; it may be stopped or killed at any await and behind any reading of a clock
    job       one of its coroutines
    call      what a job asks of the Table: two events, as it arrives and as it is answered
    weather   how the Table is at the moment

What a process sent arrives whether or not it lives then. One that is stopped gets its answers when it goes on; one that is stopped behind
a reading of its clock goes on with what it read. Nothing waits for real time, and all chance comes from one Random, so a seed gives the
same again.
"""

from asyncio import CancelledError
from collections.abc import Callable, Coroutine, Generator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from heapq import heappop, heappush
from inspect import CORO_RUNNING, getcoroutinestate
from itertools import count
from random import Random
from typing import Any, Final, Literal, NamedTuple, TypeVar

from tenants.errors import TableUnavailable, TenantsError
from tenants.ports import Item, Key, Page, Row
from tests.worlds.table import MemoryTable

T = TypeVar("T")
Job = Coroutine[Any, Any, Any]
MS: Final = 1_000
SECOND: Final = 1_000_000
PATIENCE_US: Final = SECOND
"""Behind it a call is cancelled by who made it."""


class Killed(BaseException):
    """Unwinds what a killed process was in the middle of."""


class Loss(Enum):
    BEFORE = "never arrived"
    AFTER = "was made, and its answer was lost"
    LATE = "is made later than it was given up"


@dataclass(slots=True)
class Weather:
    """A call takes `latency_us`, twice that at most. `lost` is the part of the calls whose answers are lost, one way or another; those that
    are made late are so by `late_us` at most.
    """

    latency_us: int = 2 * MS
    lost: float = 0.0
    gone: bool = False
    late_us: int = 90 * SECOND


class Asked(NamedTuple):
    """What a job waits for: a call, or so many microseconds on the clock of its process."""

    kind: Literal["a read", "a write", "a pause"]
    call: Callable[[MemoryTable], Job] | None = None
    us: int = 0

    def __await__(self) -> Generator["Asked", Any, Any]:
        return (yield self)


async def pause(us: int) -> None:
    await Asked("a pause", us=us)


class VirtualTable:
    """The port; each call goes to the world of the process that makes it."""

    async def get(self, key: Key) -> Row | None:
        return await _read(lambda table: table.get(key))

    async def get_many(self, keys: Sequence[Key]) -> dict[Key, Row]:
        return await _read(lambda table: table.get_many(keys))

    async def list(
        self, partition: str, prefix: str = "", after: str | None = None, limit: int = 100
    ) -> Page:
        return await _read(lambda table: table.list(partition, prefix, after, limit))

    async def transact(self, *items: Item) -> None:
        return await _written(lambda table: table.transact(*items))

    async def take(self, key: Key, amount: int, ceiling: int) -> int | None:
        return await _written(lambda table: table.take(key, amount, ceiling))


async def _read(call: Callable[[MemoryTable], Coroutine[Any, Any, T]]) -> T:
    found: T = await Asked("a read", call)
    return found


async def _written(call: Callable[[MemoryTable], Coroutine[Any, Any, T]]) -> T:
    found: T = await Asked("a write", call)
    return found


@dataclass(slots=True)
class RecordingTable(MemoryTable):
    """Tells of each row that it writes, as it was and as it is: what really happened."""

    wrote: Callable[[Row | None, Row | None], None] = lambda _, __: None

    async def transact(self, *items: Item) -> None:
        before = [self.rows.get(item.key) for item in items]
        await MemoryTable.transact(self, *items)
        for old, item in zip(before, items, strict=True):
            self.wrote(old, self.rows.get(item.key))


Step = Callable[[Job], Asked]
"""How a job goes on: with an answer, or with a fault."""


@dataclass(slots=True)
class World:
    """`seen` is called whenever a job has gone on. `stalls` is how often a process is stopped just as one of its jobs goes on, or behind
    what that reads first of a clock, for `stall_us` at most.
    """

    random: Random
    table: MemoryTable = field(default_factory=MemoryTable)
    weather: Weather = field(default_factory=Weather)
    stalls: float = 0.0
    stall_us: int = SECOND
    seen: Callable[[], None] = lambda: None
    now: int = 0
    log: list[str] = field(default_factory=list)
    _processes: list["Process"] = field(default_factory=list)
    _events: list[tuple[int, int, Callable[[], None]]] = field(default_factory=list)
    _numbers: "count[int]" = field(default_factory=count)

    def at(self, when: int, act: Callable[[], None]) -> None:
        heappush(self._events, (max(when, self.now), next(self._numbers), act))

    def after(self, us: int, act: Callable[[], None]) -> None:
        self.at(self.now + us, act)

    def run(self, until: int) -> None:
        """Up to and including this time. An act may run the world on from within itself."""
        while self._events and self._events[0][0] <= until:
            when, _, act = heappop(self._events)
            self.now = max(self.now, when)
            act()
        self.now = max(self.now, until)

    def add(self, process: "Process") -> None:
        self._processes.append(process)

    def end(self) -> None:
        for process in self._processes:
            process.kill()

    def say(self, what: str) -> None:
        self.log.append(f"{self.now / SECOND:9.3f}  {what}")

    def ask(self, asked: Asked, told: Callable[[Step], None]) -> None:
        """The call is made, or is not, and who asked is told what came of it."""
        assert asked.call is not None
        call, there, back = asked.call, self._way(), self._way()
        loss = self.random.choice([*Loss]) if self.random.random() < self.weather.lost else None
        if loss is not None:
            self.say(f"{asked.kind} {loss.value}")
        if loss is Loss.BEFORE:
            self._refuse(there, told)
        elif loss is Loss.LATE:
            self._refuse(there, told)
            self.after(there + self.random.randrange(self.weather.late_us), lambda: _ignore(self._made(call)))
        else:
            self.after(there, lambda: self._arrived(call, back, loss, told))

    def _arrived(
        self, call: Callable[[MemoryTable], Job], back: int, loss: Loss | None, told: Callable[[Step], None]
    ) -> None:
        if self.weather.gone:
            self._refuse(back, told)
            return
        step = self._made(call)
        if loss is None:
            self.after(back, lambda: told(step))
        else:
            self._refuse(back, told)

    def _made(self, call: Callable[[MemoryTable], Job]) -> Step:
        """What the Table did at this moment, as the step of who waits for it."""
        try:
            call(self.table).send(None)
        except StopIteration as done:
            value = done.value
            return lambda job: job.send(value)
        except TenantsError as fault:
            found = fault
            return lambda job: job.throw(found)
        raise AssertionError("a table in memory has nothing to wait for")

    def _refuse(self, soon: int, told: Callable[[Step], None]) -> None:
        """No answer: the Table says so, or who asked waits no longer."""
        fault: BaseException = TableUnavailable("lost")
        if self.random.random() < 0.5:
            fault, soon = CancelledError(), PATIENCE_US
        self.after(soon, lambda: told(lambda job: job.throw(fault)))

    def _way(self) -> int:
        return int(self.weather.latency_us * self.random.random())


def _ignore(_step: Step) -> None:
    """Nobody waits for it any more."""


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


@dataclass(slots=True, eq=False)
class Process:
    """What is to go on in it waits while it is stopped, and never does once it is dead."""

    world: World
    name: str
    clocks: Clocks = field(default_factory=Clocks)
    is_dead: bool = False
    is_stopped: bool = False
    stop_at_reading_us: int = 0
    """The next reading of a clock is followed by a stop of so long, before anything is done with it."""
    _until: int = 0
    """When it goes on, while it is stopped."""
    _is_reading: bool = False
    _jobs: list[Job] = field(default_factory=list)
    _waiting: list[Callable[[], None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.world.add(self)

    @property
    def runs(self) -> bool:
        return not self.is_dead and not self.is_stopped

    def clock(self) -> int:
        return self._stopped_behind(self.clocks.boot(self.world.now))

    def seconds(self) -> float:
        return self.clock() / SECOND

    def wall(self) -> int:
        return self._stopped_behind(self.clocks.wall(self.world.now))

    def _stopped_behind(self, reading: int) -> int:
        if self.stop_at_reading_us:
            us, self.stop_at_reading_us = self.stop_at_reading_us, 0
            self._is_reading = True
            self.stop(us)
            while self.world.now < self._until and not self.is_dead:
                self.world.run(self._until)
            self._is_reading = False
            if self.is_dead:
                raise Killed
            self.is_stopped = False
            self.world.at(self.world.now, self.thaw)  # what waits goes on behind what it is in the middle of
        return reading

    def stop(self, us: int) -> None:
        """From now on; if it is stopped already, until the later end."""
        self.is_stopped, self._until = True, max(self._until, self.world.now + us)
        self.world.at(self._until, self._over)

    def _over(self) -> None:
        if self.is_stopped and self.world.now >= self._until and not self._is_reading:
            self.thaw()

    def thaw(self) -> None:
        self.is_stopped, self._until = False, self.world.now
        waiting, self._waiting = self._waiting, []
        for act in waiting:
            self.do(act)

    def kill(self) -> None:
        """What it sent arrives; nothing else of it does."""
        self.is_dead = True
        self._waiting.clear()
        for job in self._jobs:
            if getcoroutinestate(job) != CORO_RUNNING:  # it is killed at a reading, which ends it
                job.close()

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

    def start(self, job: Job) -> None:
        """Goes on with it at this moment, behind what happens at it already."""
        self._jobs.append(job)
        self.world.at(self.world.now, lambda: self._goes_on(job, lambda job: job.send(None)))

    def _goes_on(self, job: Job, step: Step) -> None:
        world = self.world
        if self.runs and world.random.random() < world.stalls:
            us = world.random.randrange(world.stall_us)
            if world.random.random() < 0.5:
                self.stop(us)
            else:
                self.stop_at_reading_us = us
        self.do(lambda: self._step(job, step))

    def _step(self, job: Job, step: Step) -> None:
        try:
            asked = step(job)
        except StopIteration:
            self._jobs.remove(job)
        else:
            if asked.call is None:
                us = asked.us * 1_000_000 // (1_000_000 + self.clocks.fast)
                self.world.after(us, lambda: self._goes_on(job, lambda job: job.send(None)))
            else:
                self.world.ask(asked, lambda step: self._goes_on(job, step))
        self.world.seen()
