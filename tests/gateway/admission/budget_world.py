"""A budget on four members in virtual time, under faults: what was admitted in which period, and what of it was used.

A schedule is data, as in `simulated.py`: the same one gives the same run, and a smaller one is found by leaving faults out.
"""

from asyncio import CancelledError
from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random

from gateway.admission.budget import Limit, ended, faults, place, read, total
from gateway.admission.budgets import Budgets, Refused
from gateway.admission.chunk import Chunk
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

NAME = "tenant/t_1/requests-minute"
SLOTS = 4
SKEW = (97, 1, 1, 1)
APART_US = SECOND
"""Between the clocks of two members, at most."""
EPOCH_US = 1_700_000_000 * SECOND
MOST_WAITING = 100


@dataclass(frozen=True, slots=True)
class Schedule:
    """`offered` is times the budget. A call reserves up to `ceiling` units, and uses any part of that, or a little more if `overruns`."""

    seed: int
    theme: str
    seconds: int
    units: int
    offered: float
    clocks: tuple[Clocks, ...]
    faults: tuple[Fault, ...] = ()
    latency_us: int = 2 * MS
    ceiling: int = 1
    answers_us: int = 2 * SECOND
    """So long after a death it is known what the dead one used; 0: never."""

    skew: tuple[int, ...] = SKEW
    tick_us: int = 20 * MS


@dataclass(slots=True)
class Life:
    """What one process used in each period, as whoever counts calls finds out later."""

    used: Counter[int] = field(default_factory=Counter)
    unused: Counter[int] = field(default_factory=Counter)
    """What its calls under way have reserved beyond that."""
    is_known: bool = False


class Member:
    """One process: its budgets, and the one job that looks after them."""

    def __init__(self, run: "Run", slot: int, name: str, limit: Limit) -> None:
        self.run, self.slot, self.limit = run, slot, limit
        self.process = Process(run.world, name, run.schedule.clocks[slot])
        self.life = run.lives[name] = Life()
        self.reading = 0
        self.budgets = run.kind(
            table=VirtualTable(),
            me=name,
            clock=self.process.clock,
            wall_us=self._wall,
            is_dead=run.certificates.__contains__,
            members=lambda: SLOTS,
            spent=run.spent,
        )
        self.waiting: deque[int] = deque(maxlen=MOST_WAITING)
        self.works = False

    def _wall(self) -> int:
        self.reading = self.process.wall()
        return self.reading

    def serve(self, calls: int) -> None:
        self.process.do(partial(self._serve, calls))

    def _serve(self, calls: int) -> None:
        for _ in range(calls):
            units = self.run.world.random.randint(1, self.run.schedule.ceiling)
            found = self.budgets.admit(NAME, self.limit, units, self._wall())
            if found is None:
                self.waiting.append(units)
            else:
                self.judge(found, units)
        self._look()

    def judge(self, found: Chunk | Refused, units: int) -> None:
        if isinstance(found, Chunk):
            found.reserve(units)
            used = self.run.world.random.randint(0, units) if self.run.schedule.ceiling > 1 else units
            start_us = found.start_us
            self.run.admit(start_us, units, self.reading)
            self.life.used[start_us] += used
            self.life.unused[start_us] += units - used
            later = self.run.world.now + self.run.world.random.randrange(2 * SECOND)
            settle = partial(self._settle, found, units, used, start_us)
            self.run.world.at(later, lambda: self.process.do(settle))

    def _settle(self, chunk: Chunk, units: int, used: int, start_us: int) -> None:
        chunk.settle(units, used, start_us)
        self.life.unused[start_us] -= units - used
        self.run.worth[start_us] -= units - used

    def _look(self) -> None:
        if not self.works and (self.waiting or self.budgets.due()):
            self.works = True
            self.process.start(self._work())

    async def _work(self) -> None:
        while self.waiting or self.budgets.due():
            if self.waiting:
                await self._ask(self.waiting.popleft())
            else:
                for name in self.budgets.due():
                    with suppress(CancelledError):
                        await self.budgets.renew(name)
        self.works = False

    async def _ask(self, units: int) -> None:
        """One call asks, while the others wait for their turn behind it."""
        found = self.budgets.admit(NAME, self.limit, units, self._wall())
        if found is None:
            held, behind = self.budgets._held.get(NAME), list(self.waiting)
            if held is not None:
                held.waits += behind
            try:
                found = await self.budgets.ask(NAME, self.limit, units)
            except (TableUnavailable, CancelledError):
                self.waiting.clear()
                return
            finally:
                if held is not None:
                    for it in behind:
                        held.waits.remove(it)
        self.judge(found, units)


@dataclass(slots=True)
class Run:
    """All of one schedule. `kind` is what is under test, or a variant that is wrong."""

    schedule: Schedule
    kind: type[Budgets] = Budgets
    world: World = field(init=False)
    members: list[Member] = field(default_factory=list)
    lives: dict[str, Life] = field(default_factory=dict)
    certificates: set[str] = field(default_factory=set)
    units: int = 0
    cap: dict[int, int] = field(default_factory=dict)
    """Of periods in which the plan became smaller: what they may come to."""
    worth: Counter[int] = field(default_factory=Counter)
    """By periods, what was used or is reserved by calls under way."""
    offered: Counter[int] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    owed: list[float] = field(default_factory=lambda: [0.0] * SLOTS)
    skew: tuple[int, ...] = field(init=False)
    generations: list[int] = field(default_factory=lambda: [0] * SLOTS)

    def __post_init__(self) -> None:
        table = RecordingTable(wrote=lambda _, __: self.landed())
        weather = Weather(self.schedule.latency_us, late_us=6 * SECOND)
        self.world = World(Random(self.schedule.seed), table, weather)
        self.units, self.skew = self.schedule.units, self.schedule.skew

    @property
    def weather(self) -> Weather:
        return self.world.weather

    @property
    def limit(self) -> Limit:
        return Limit(self.units, "minute")

    def go(self) -> "Run":
        self.members = [Member(self, slot, f"m{slot}.0", self.limit) for slot in range(SLOTS)]
        for fault in self.schedule.faults:
            self.world.at(fault.at_us, partial(self.befall, fault))
        self.world.at(0, self.tick)
        self.world.run(self.schedule.seconds * SECOND)
        self.world.end()
        return self

    def tick(self) -> None:
        schedule = self.schedule
        self.world.at(self.world.now + schedule.tick_us, self.tick)
        a_call = (schedule.ceiling + 1) / 2 if schedule.ceiling > 1 else 1
        a_tick = schedule.offered * self.units / a_call * schedule.tick_us / (60 * SECOND)
        for slot, member in enumerate(self.members):
            self.owed[slot] += a_tick * self.skew[slot] / 100 * self.world.random.uniform(0.5, 1.5)
            calls = int(self.owed[slot])
            self.owed[slot] -= calls
            if member.process.runs:
                self.offered[self._period(self.world.now + EPOCH_US)] += calls
                member.serve(calls)

    def _period(self, wall_us: int) -> int:
        return wall_us - wall_us % (60 * SECOND)

    def admit(self, start_us: int, units: int, reading_us: int) -> None:
        """Judged when it is admitted: what was used and what is reserved then are within the budget, in the period of that reading."""
        self.worth[start_us] += units
        if self.worth[start_us] > (most := self.cap.get(start_us, self.units)):
            self.broken.append(
                f"{self.world.now / SECOND:.3f}: {self.worth[start_us]} of {most} were admitted"
            )
        if not start_us - APART_US <= reading_us < ended("minute", start_us):
            self.broken.append(
                f"{self.world.now / SECOND:.3f}: admitted in another period than it is charged to"
            )

    async def spent(self, member: str, _name: str, start_us: int) -> int | None:
        await pause(self.weather.latency_us)
        life = self.lives[member]
        return life.used[start_us] if life.is_known else None

    def befall(self, fault: Fault) -> None:
        self.world.say(f"{fault.kind} slot {fault.slot} {fault.lasts_us / SECOND:g} s {fault.amount:g}")
        member, now = self.members[fault.slot], self.world.now
        match fault.kind:
            case "kill":
                self.kill(fault)
            case "stop":
                member.process.stop(fault.lasts_us)
            case "stop at reading":
                member.process.stop_at_reading_us = fault.lasts_us
            case "slow":
                self.weather.latency_us = 200 * MS
            case "gone":
                self.weather.gone = True
                self.world.at(now + fault.lasts_us, lambda: setattr(self.weather, "gone", False))
            case "lossy":
                self.weather.lost = fault.amount
                self.world.at(now + fault.lasts_us, lambda: setattr(self.weather, "lost", 0.0))
            case "shift":
                self.skew = self.skew[1:] + self.skew[:1]
            case "plan":
                self.plan(fault)

    def kill(self, fault: Fault) -> None:
        slot, member = fault.slot, self.members[fault.slot]
        if member.process.is_dead:
            return
        member.process.kill()
        if self.schedule.answers_us:
            self.world.at(self.world.now + self.schedule.answers_us, partial(self.known, member.life))
        self.world.at(self.world.now + 20 * MS, lambda: self.certificates.add(member.process.name))
        self.world.at(self.world.now + fault.lasts_us, lambda: self.restart(slot))

    def known(self, life: Life) -> None:
        life.is_known = True
        self.worth.subtract(life.unused)

    def restart(self, slot: int) -> None:
        if self.members[slot].process.is_dead:
            self.generations[slot] += 1
            self.members[slot] = Member(self, slot, f"m{slot}.{self.generations[slot]}", self.limit)

    def plan(self, fault: Fault) -> None:
        """Members hear of it one by one. Until all have, the larger of the two may be in force."""
        before, self.units = self.units, int(self.units * fault.amount)
        heard_us = 0
        for member in self.members:
            delay = self.world.random.randrange(3 * SECOND)
            heard_us = max(heard_us, delay)
            hear = partial(setattr, member, "limit", self.limit)
            self.world.at(self.world.now + delay, partial(member.process.do, hear))
        if before < self.units:
            self.cap.clear()
        else:
            for start_us in (
                self._period(self.world.now + EPOCH_US),
                self._period(self.world.now + EPOCH_US) + 60 * SECOND,
            ):
                self.cap[start_us] = before
            self.world.at(self.world.now + heard_us + 10 * SECOND, partial(self.heard, self.units))

    def heard(self, units: int) -> None:
        """All have: nothing more is taken than the plan has, but what was held before is spent."""
        row = read(self.world.table.rows[place(NAME)])
        for start_us in self.cap:
            self.cap[start_us] = units if start_us > row.start_us else max(units, total(row))

    def landed(self) -> None:
        row = self.world.table.rows.get(place(NAME))
        if row is not None:
            found = read(row)
            self.broken += [f"{self.world.now / SECOND:.3f}: {fault}" for fault in faults(found)]
            most = self.cap.get(found.start_us, self.units)
            if self.kind is Budgets and not self.cap and total(found) > most:
                self.broken.append(
                    f"{self.world.now / SECOND:.3f}: {total(found)} of {most} are used or held"
                )

    def faults(self) -> list[str]:
        return self.broken[:3]

    @property
    def used(self) -> float:
        """Of the periods that were wholly offered more than they have, the least used; but for one call of each member."""
        last = self._period(self.world.now + EPOCH_US)
        first = self._period(EPOCH_US)
        parts = [
            (self.worth[start_us] + (SLOTS * self.schedule.ceiling if self.schedule.ceiling > 1 else 0))
            / self.units
            for start_us, calls in self.offered.items()
            if first < start_us < last
            and calls * (1 if self.schedule.ceiling == 1 else self.schedule.ceiling / 4) >= 1.2 * self.units
        ]
        return min(parts, default=1.0)


def smaller(schedule: Schedule, kind: type[Budgets]) -> Schedule:
    """What still fails when nothing more can be left out of it."""
    goes_on = True
    while goes_on:
        goes_on = False
        for n in range(len(schedule.faults)):
            found = replace(schedule, faults=schedule.faults[:n] + schedule.faults[n + 1 :])
            if Run(found, kind).go().faults():
                schedule, goes_on = found, True
                break
    return schedule


def transcript(schedule: Schedule, kind: type[Budgets]) -> str:
    """What a failure prints."""
    run = Run(schedule, kind).go()
    said = [f"SEED {schedule.seed}: {schedule}", *map(str, schedule.faults), "...", *run.world.log[-40:]]
    return "\n".join([*said, *run.faults(), f"used {run.used:.4f} {dict(run.worth)}"])
