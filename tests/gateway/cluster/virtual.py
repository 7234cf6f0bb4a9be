"""Processes in virtual time: a scheduler of our own drives their coroutines, over a Table whose calls take time, get lost, or come late.

A call of the Table is two events, as it arrives and as it is answered; what was sent arrives whether or not the process that sent it lives
then. A process that is stopped gets its answers when it goes on, and its clock may have been read at any moment in between: that is what a
stop between reading the clock and acting looks like. Nothing here has chance of its own: all of it comes from one Random.
"""

import heapq
from asyncio import CancelledError
from collections.abc import Callable, Coroutine, Generator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, NamedTuple, TypeVar

from tenants.errors import TableUnavailable, TenantsError
from tenants.ports import Item, Key, Page, Row
from tests.worlds.table import MemoryTable

T = TypeVar("T")
Job = Coroutine[Any, Any, Any]
LATE_SECONDS = 90.0


@dataclass(slots=True)
class Weather:
    """How the Table is: how long a call takes one way at most, how many are lost, and whether it answers at all."""

    seconds: float = 0.02
    lost: float = 0.0
    gone: bool = False


class Request(NamedTuple):
    """What a coroutine waits for: a call, or so many seconds on its own clock."""

    call: Callable[[MemoryTable], Job] | None
    seconds: float = 0.0

    def __await__(self) -> Generator["Request", Any, Any]:
        return (yield self)


async def sleep(seconds: float) -> None:
    await Request(None, seconds)


class VirtualTable:
    """The port; each call is a request to the scheduler."""

    async def get(self, key: Key) -> Row | None:
        return await _sent(lambda table: table.get(key))

    async def get_many(self, keys: Sequence[Key]) -> dict[Key, Row]:
        return await _sent(lambda table: table.get_many(keys))

    async def list(
        self, partition: str, prefix: str = "", after: str | None = None, limit: int = 100
    ) -> Page:
        return await _sent(lambda table: table.list(partition, prefix, after, limit))

    async def transact(self, *items: Item) -> None:
        return await _sent(lambda table: table.transact(*items))

    async def take(self, key: Key, amount: int, ceiling: int) -> int | None:
        return await _sent(lambda table: table.take(key, amount, ceiling))


async def _sent(call: Callable[[MemoryTable], Coroutine[Any, Any, T]]) -> T:
    found: T = await Request(call)
    return found


@dataclass(slots=True, eq=False)
class Host:
    """One process: its clock runs at a rate of its own from a start of its own, and it may be stopped or dead."""

    name: str
    rate: float = 1.0
    start: float = 0.0
    stopped_until: float = 0.0
    is_dead: bool = False
    lag: float = 0.0
    """The next reading of its clock is so old."""
    jobs: list[Job] = field(default_factory=list)
    held: list[Callable[[], None]] = field(default_factory=list)
    """What goes on once it runs again."""


@dataclass(slots=True)
class Scheduler:
    """`patience_seconds`: behind it a call is cancelled by who made it. `seen` is called whenever a process has gone on."""

    random: Random
    patience_seconds: float = 1.0
    now: float = 0.0
    table: MemoryTable = field(default_factory=MemoryTable)
    weather: Weather = field(default_factory=Weather)
    stalls: float = 0.0
    """How often a process is stopped for a while just when it was to go on."""
    stall_seconds: float = 1.0
    seen: Callable[[], None] = lambda: None
    log: list[str] = field(default_factory=list)
    hosts: set[Host] = field(default_factory=set)
    _events: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _count: int = 0

    def clock(self, host: Host) -> Callable[[], float]:
        def read() -> float:
            found = self.local(host, self.now - host.lag)
            host.lag = self.random.choice([0.0, host.lag / 2]) if host.lag else 0.0
            return found

        return read

    def local(self, host: Host, at: float) -> float:
        return host.start + at * host.rate

    def at(self, when: float, act: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._events, (when, self._count, act))

    def start(self, host: Host, job: Job) -> None:
        host.jobs.append(job)
        self.hosts.add(host)
        self.at(self.now, lambda: self._resume(host, job, self.now, lambda: job.send(None)))

    def kill(self, host: Host) -> None:
        """What it sent arrives; nothing else of it does."""
        host.is_dead = True
        for job in host.jobs:
            job.close()

    def stop(self, host: Host, seconds: float) -> None:
        host.stopped_until = max(host.stopped_until, self.now + seconds)
        self.at(host.stopped_until, lambda: self.release(host))

    def release(self, host: Host) -> None:
        """Unless it was stopped for longer meanwhile."""
        if self.now >= host.stopped_until:
            held, host.held = host.held, []
            for act in held:
                act()

    def end(self) -> None:
        for host in self.hosts:
            if not host.is_dead:
                self.kill(host)

    def run(self, until: float) -> None:
        while self._events and self._events[0][0] <= until:
            self.now, _, act = heapq.heappop(self._events)
            act()
        self.now = until

    def say(self, text: str) -> None:
        self.log.append(f"{self.now:9.3f}  {text}")

    def _resume(self, host: Host, job: Job, ready: float, step: Callable[[], Request]) -> None:
        """The job goes on by that step, which is ready since then, once its process runs."""
        if self.random.random() < self.stalls and not host.is_dead:
            self.stop(host, self.random.uniform(0.0, self.stall_seconds))
        self._go_on(host, job, ready, step)

    def _go_on(self, host: Host, job: Job, ready: float, step: Callable[[], Request]) -> None:
        if host.is_dead:
            return
        if self.now < host.stopped_until:
            host.held.append(lambda: self._go_on(host, job, ready, step))
            return
        host.lag = self.random.choice([0.0, self.now - ready])
        try:
            request = step()
        except StopIteration:
            host.jobs.remove(job)
        else:
            self._send(host, job, request)
        host.lag = 0.0
        self.seen()

    def _send(self, host: Host, job: Job, request: Request) -> None:
        if request.call is None:
            when = self.now + request.seconds / host.rate
            self.at(when, lambda: self._resume(host, job, when, lambda: job.send(None)))
            return
        call, weather, dice = request.call, self.weather, self.random
        there, back = dice.uniform(0, weather.seconds), dice.uniform(0, weather.seconds)
        fate = dice.choice(["before", "after", "late"]) if dice.random() < weather.lost else "answered"
        if weather.gone:
            fate = "before"
        if fate == "before":
            self._refuse(host, job, there)
            return
        if fate == "late":
            self._refuse(host, job, there)
            there = dice.uniform(0, LATE_SECONDS)
        self.at(self.now + there, lambda: self._arrived(host, job, call, back, fate))

    def _arrived(
        self, host: Host, job: Job, call: Callable[[MemoryTable], Job], back: float, fate: str
    ) -> None:
        step = self._done(call, job)
        if fate == "answered":
            when = self.now + back
            self.at(when, lambda: self._resume(host, job, when, step))
        elif fate == "after":
            self._refuse(host, job, back)

    def _done(self, call: Callable[[MemoryTable], Job], job: Job) -> Callable[[], Request]:
        """What the Table did at this moment, as the step of who waits for it."""
        try:
            call(self.table).send(None)
        except StopIteration as done:
            value = done.value
            return lambda: job.send(value)
        except TenantsError as fault:
            found = fault
            return lambda: job.throw(found)
        raise AssertionError("the table waits")

    def _refuse(self, host: Host, job: Job, soon: float) -> None:
        """No answer: the Table says so, or who asked waits no longer."""
        fault: BaseException = TableUnavailable("lost")
        if self.random.random() < 0.5:
            fault, soon = CancelledError(), self.patience_seconds
        when = self.now + soon
        self.at(when, lambda: self._resume(host, job, when, lambda: job.throw(fault)))
