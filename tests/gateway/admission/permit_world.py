"""Calls at once on four members in virtual time, under faults: how many there are at any moment, of how many there may be.

A schedule is data, as in `simulated.py`: the same one gives the same run, and a smaller one is found by leaving faults out.
"""

from asyncio import CancelledError
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random

from gateway.admission.permits import AtOnce, Hand, faults, place, read
from gateway.admission.permitting import Permitting
from tenants.errors import TableUnavailable
from tests.gateway.admission.simulated import Fault
from tests.worlds.virtual import (
    MS,
    SECOND,
    Clocks,
    Process,
    RecordingTable,
    VirtualTable,
    Weather,
    World,
    pause,
)

NAME = "tenant/t_1"
SLOTS = 4
CALL_US = 20 * SECOND
STALE_US = 12 * SECOND
WARM_US = 3 * SECOND
_TICK_US = 10 * MS
_STEP_US = 50 * MS
_MOST_WAITING = 20


@dataclass(frozen=True, slots=True)
class Schedule:
    """`offered` is times the limit. A call takes `call_us` on average, if it were not over after CALL_US."""

    seed: int
    theme: str
    most: int
    offered: float
    skew: tuple[int, ...]
    clocks: tuple[Clocks, ...]
    faults: tuple[Fault, ...] = ()
    seconds: int = 60
    call_us: int = 100 * MS
    latency_us: int = 2 * MS


@dataclass(slots=True)
class Call:
    """Under way until it ends, its deadline comes, or its process is dead."""

    process: Process
    ends: int


class Member:
    """One process."""

    def __init__(self, run: "Run", slot: int, name: str) -> None:
        self.run, self.slot = run, slot
        self.limit, self.hand = run.limit, run.hand()
        self.process = Process(run.world, name, run.schedule.clocks[slot])
        self.reading = 0
        self.permitting = run.kind(
            table=VirtualTable(),
            me=name,
            clock=self._clock,
            is_dead=run.certificates.__contains__,
            members=lambda: SLOTS,
            call_us=CALL_US,
            stale_us=STALE_US,
        )
        self.waiting = 0
        self.process.start(self._work())

    def _clock(self) -> int:
        self.reading = self.process.clock()
        return self.reading

    def serve(self, calls: int) -> None:
        self.process.do(partial(self._serve, calls))

    def _serve(self, calls: int) -> None:
        for _ in range(calls):
            if self._admit() is None and self.waiting < _MOST_WAITING:
                self.waiting += 1

    def _admit(self) -> bool | None:
        is_in = self.permitting.admit(NAME, self.limit, self.hand)
        if is_in:
            began = self.process.clocks.true(self.reading)
            mean = self.run.schedule.call_us
            lasts = min(CALL_US, round(self.run.world.random.expovariate(1 / mean)))
            self.run.admit(Call(self.process, min(self.run.world.now + lasts, began + CALL_US)))
            self.run.world.after(lasts, lambda: self.process.do(self._leave))
        return is_in

    def _leave(self) -> None:
        self.hand.used -= 1

    async def _work(self) -> None:
        """One call asks while the others wait behind it, as its turn makes them; between them all that is due is looked after."""
        while True:
            with suppress(CancelledError):
                for name in self.permitting.due():
                    await self.permitting.renew(name)
            while self.waiting:
                with suppress(TableUnavailable, CancelledError):
                    await self.permitting.ask(NAME, self.limit, self.hand)
                    self._admit()
                self.waiting -= 1
            await pause(_STEP_US // 5)


@dataclass(slots=True)
class Run:
    schedule: Schedule
    kind: Callable[..., Permitting] = Permitting
    hand: Callable[[], Hand] = Hand
    world: World = field(init=False)
    table: RecordingTable = field(init=False)
    limit: AtOnce = field(init=False)
    certificates: set[str] = field(default_factory=set)
    members: list[Member] = field(init=False)
    calls: list[Call] = field(default_factory=list)
    over: list[str] = field(default_factory=list)
    owed: list[float] = field(default_factory=lambda: [0.0] * SLOTS)
    births: int = SLOTS
    quiet_until: int = WARM_US
    used: float = 0.0
    could: float = 0.0
    skew: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        schedule = self.schedule
        self.table = RecordingTable(wrote=lambda _, __: self._judge_row())
        self.world = World(Random(schedule.seed), self.table, Weather(schedule.latency_us))
        self.limit, self.skew = AtOnce(schedule.most, 0), schedule.skew

    def go(self) -> "Run":
        self.members = [Member(self, slot, f"m{slot}") for slot in range(SLOTS)]
        for fault in self.schedule.faults:
            self.world.at(fault.at_us, partial(self._befall, fault))
        self.world.at(0, self._tick)
        self.world.run(self.schedule.seconds * SECOND)
        self.world.end()
        return self

    def admit(self, call: Call) -> None:
        self.calls.append(call)
        there = self._there()
        if there > self.limit.most and self.world.now >= self.quiet_until - WARM_US + SECOND:
            self.over.append(
                f"{self.world.now / SECOND:.3f}: {there} calls at once, {self.limit.most} allowed"
            )

    def _there(self) -> int:
        self.calls = [it for it in self.calls if it.ends > self.world.now and not it.process.is_dead]
        return len(self.calls)

    def _judge_row(self) -> None:
        permits = read(self.table.rows[place(NAME)])
        self.over += [f"{self.world.now / SECOND:.3f}: {it}" for it in faults(permits)]
        if permits.free < 0 and not permits.since:
            self.over.append(f"{self.world.now / SECOND:.3f}: more is held than there is")

    def _tick(self) -> None:
        self.world.after(_TICK_US, self._tick)
        schedule = self.schedule
        a_tick = schedule.offered * schedule.most * _TICK_US / schedule.call_us
        for slot, member in enumerate(self.members):
            self.owed[slot] += a_tick * self.skew[slot] / 100 * self.world.random.uniform(0.5, 1.5)
            calls = int(self.owed[slot])
            self.owed[slot] -= calls
            self.world.at(self.world.now, partial(member.serve, calls))
        self.world.at(self.world.now, self._count)

    def _count(self) -> None:
        if self.world.now >= self.quiet_until:
            self.used += self._there()
            self.could += self.limit.most

    def _befall(self, fault: Fault) -> None:
        self.world.say(f"{fault.kind} slot {fault.slot} {fault.lasts_us / SECOND:g} s {fault.amount:g}")
        member = self.members[fault.slot]
        match fault.kind:
            case "kill" | "vanish":
                member.process.kill()
                if fault.kind == "kill":
                    name = member.process.name
                    self.world.after(fault.lasts_us, lambda: self.certificates.add(name))
                self.members[fault.slot] = Member(self, fault.slot, f"m{self.births}")
                self.births += 1
            case "stop":
                member.process.stop(fault.lasts_us)
                if fault.amount:  # and so many calls as it goes on
                    self.world.after(fault.lasts_us, lambda: member.serve(int(fault.amount)))
            case "stop at reading":
                member.process.stop_at_reading_us = fault.lasts_us
            case "slow":
                self.world.weather.latency_us = 200 * MS
            case "gone":
                self.world.weather.gone = True
                self.world.after(fault.lasts_us, lambda: setattr(self.world.weather, "gone", False))
            case "lossy":
                self.world.weather.lost = fault.amount
            case "shift":
                self.skew = self.skew[1:] + self.skew[:1]
            case "plan":
                self.limit = AtOnce(max(1, int(self.limit.most * fault.amount)), self.limit.since + 1)
                # Those who are in under a larger plan stay.
                self.quiet_until = self.world.now + CALL_US + WARM_US
                for it in self.members:
                    it.process.do(partial(setattr, it, "limit", self.limit))
            case _:
                raise AssertionError(fault.kind)


def smaller(schedule: Schedule, kind: Callable[..., Permitting]) -> Schedule:
    """With as few faults as still break it."""
    number = 0
    while number < len(schedule.faults):
        without = schedule.faults[:number] + schedule.faults[number + 1 :]
        less = replace(schedule, faults=without)
        if Run(less, kind).go().over:
            schedule = less
        else:
            number += 1
    return schedule


def transcript(schedule: Schedule, kind: Callable[..., Permitting]) -> str:
    run = Run(schedule, kind).go()
    return "\n".join(
        [f"seed {schedule.seed}, {schedule.theme}: {schedule}", *run.world.log[-60:], *run.over[:9]]
    )
