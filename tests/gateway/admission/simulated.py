"""A tenant's limit on four members in virtual time, under faults: what was admitted when, and what could have been.

A schedule is data: the same one gives the same run, a smaller one is found by leaving faults out, and it prints as a transcript.
"""

from asyncio import CancelledError
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from random import Random

from gateway.admission.bucket import MICRO, ONE, Verdict
from gateway.admission.shares import Limit, faults, place, read
from gateway.admission.sharing import Sharing
from tenants.errors import TableUnavailable
from tests.worlds.virtual import MS, SECOND, Clocks, Process, RecordingTable, VirtualTable, Weather, World

NAME = "tenant/t_1"
SLOTS = 4
SKEW = (97, 1, 1, 1)
WINDOWS_US = (100 * MS, SECOND, 5 * SECOND, 60 * SECOND)
WARM_US = 2 * SECOND
GRACE_US = SECOND
MOST_BACKLOG = 4_000
MOST_WAITING = 20
LEAST_JUDGED = 50


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that befalls a slot, or the table. `amount` is what its kind makes of it."""

    kind: str
    at_us: int
    slot: int = 0
    lasts_us: int = 0
    amount: float = 0.0

    def __str__(self) -> str:
        return f"{self.at_us / SECOND:8.3f}  {self.kind} slot {self.slot} for {self.lasts_us / SECOND:g} s ({self.amount:g})"


@dataclass(frozen=True, slots=True)
class Schedule:
    """`offered` is times the limit. `stale_us` is how long shares last. Rates in requests a second."""

    seed: int
    theme: str
    seconds: int
    rate: float
    burst: int
    offered: float
    stale_us: int
    clocks: tuple[Clocks, ...]
    faults: tuple[Fault, ...] = ()
    latency_us: int = 2 * MS
    tick_us: int = 10 * MS
    skew: tuple[int, ...] = SKEW

    @property
    def limit(self) -> Limit:
        return Limit(int(self.rate * MICRO), self.burst * ONE, 0)


@dataclass(slots=True)
class Plans:
    """The plan from when it may be in force first, and until when it may be in force last."""

    limit: Limit
    first_us: int
    last_us: int = 10**18


class Member:
    """One process: its sharing, and the one job that looks after it. What is asked of it while it is stopped waits in its socket."""

    def __init__(self, run: "Run", slot: int, name: str, limit: Limit) -> None:
        self.run, self.slot, self.limit = run, slot, limit
        self.process = Process(run.world, name, run.schedule.clocks[slot])
        self.sharing = run.kind(
            table=VirtualTable(),
            me=name,
            clock=self.process.clock,
            wall_us=self.process.wall,
            is_dead=run.certificates.__contains__,
            members=lambda: SLOTS,
            stale_us=run.schedule.stale_us,
        )
        self.backlog = self.waiting = 0
        self.works = False

    def serve(self, requests: int) -> None:
        """What came in, once the process runs."""
        if self.process.is_stopped:
            if not self.backlog:
                self.process.do(self._thawed)
            self.backlog = min(MOST_BACKLOG, self.backlog + requests)
        else:
            self.process.do(partial(self._serve, requests))

    def _serve(self, requests: int) -> None:
        for _ in range(requests):
            verdict = self.sharing.admit(NAME, self.limit)
            if verdict is None:
                self.waiting = min(MOST_WAITING, self.waiting + 1)
            else:
                self.judge(verdict)
        self._look()

    def _thawed(self) -> None:
        requests, self.backlog = self.backlog, 0
        self._serve(requests)

    def judge(self, verdict: Verdict) -> None:
        if verdict.admitted:
            self.run.admitted.append(self.process.clocks.true(verdict.at_us))
            self.run.did += self.run.is_judged

    def _look(self) -> None:
        """Start the job, if there is something to do and it is not under way."""
        if not self.works and (self.waiting or self.sharing.due()):
            self.works = True
            self.process.start(self._work())

    async def _work(self) -> None:
        while self.waiting or self.sharing.due():
            if self.waiting:
                self.waiting -= 1
                try:
                    self.judge(await self.sharing.ask(NAME, self.limit))
                except (TableUnavailable, CancelledError):
                    self.waiting = 0
            else:
                for name in self.sharing.due():
                    with suppress(CancelledError):
                        await self.sharing.renew(name)
        self.works = False


@dataclass(slots=True)
class Run:
    """All of one schedule. `kind` is what is under test, or a variant that is wrong."""

    schedule: Schedule
    kind: type[Sharing] = Sharing
    world: World = field(init=False)
    members: list[Member] = field(default_factory=list)
    certificates: set[str] = field(default_factory=set)
    admitted: list[int] = field(default_factory=list)
    plans: list[Plans] = field(default_factory=list)
    quiet_until: int = 0
    broken: list[str] = field(default_factory=list)
    could: float = 0.0
    did: int = 0
    is_judged: bool = False
    running: list[str] = field(default_factory=list)
    changed_us: int = 0
    skew: tuple[int, ...] = field(init=False)
    owed: list[float] = field(default_factory=lambda: [0.0] * SLOTS)
    generations: list[int] = field(default_factory=lambda: [0] * SLOTS)

    def __post_init__(self) -> None:
        table = RecordingTable(wrote=lambda _, __: self.landed())
        weather = Weather(self.schedule.latency_us, late_us=6 * SECOND)
        self.world = World(Random(self.schedule.seed), table, weather)
        self.skew = self.schedule.skew

    @property
    def weather(self) -> Weather:
        return self.world.weather

    def go(self) -> "Run":
        schedule = self.schedule
        self.plans.append(Plans(schedule.limit, 0))
        self.members = [Member(self, slot, f"m{slot}.0", schedule.limit) for slot in range(SLOTS)]
        for fault in schedule.faults:
            self.world.at(fault.at_us, lambda fault=fault: self.befall(fault))  # type: ignore[misc]
        self.world.at(0, self.tick)
        self.world.run(schedule.seconds * SECOND)
        self.world.end()
        return self

    # Load.

    def tick(self) -> None:
        """Requests of one tick, and what could be admitted of them."""
        self.world.at(self.world.now + self.schedule.tick_us, self.tick)
        a_tick = self.schedule.offered * self.plans[-1].limit.rate / MICRO * self.schedule.tick_us / SECOND
        to_running = 0
        for slot, member in enumerate(self.members):
            self.owed[slot] += a_tick * self.skew[slot] / 100 * self.world.random.uniform(0.5, 1.5)
            requests = int(self.owed[slot])
            self.owed[slot] -= requests
            to_running += requests if member.process.runs else 0
            self.world.at(self.world.now, partial(member.serve, requests))
        running = [it.process.name for it in self.members if it.process.runs]
        if running != self.running:
            self.running, self.changed_us = running, self.world.now
            self.quiet()
        self.count(to_running)

    def count(self, to_running: int) -> None:
        """What could have been admitted in the tick before counts, unless something has just happened."""
        if self.is_judged:
            self.could += min(to_running, self.open() / MICRO * self.schedule.tick_us / SECOND)
        self.is_judged = self.world.now >= max(WARM_US, self.quiet_until)

    def open(self) -> int:
        """Of the limit's rate what can be spent: all but what is held by those who do not run and of whose death nobody knows. While it is
        not noticed either that they are quiet, it is what the others hold. A rate without room for one request is none.
        """
        limit, row = self.plans[-1].limit, self.world.table.rows.get(place(NAME))
        holders = {} if row is None else read(row).holders
        running = {it.process.name for it in self.members if it.process.runs}
        stuck = {
            name: it.rate
            for name, it in holders.items()
            if name not in running and (name not in self.certificates or self.weather.gone)
        }
        if stuck and self.world.now < self.changed_us + self.schedule.stale_us // 8 + SECOND:
            return sum(it.rate for name, it in holders.items() if name in running and it.capacity >= ONE)
        tight = sum(it.rate for name, it in holders.items() if name in running and it.capacity < ONE)
        return max(0, limit.rate - sum(stuck.values()) - (tight if stuck else 0))

    def quiet(self, us: int = GRACE_US) -> None:
        """From now on the use is not judged for so long, and as much longer as the table is slow."""
        self.quiet_until = max(self.quiet_until, self.world.now + us + 4 * self.weather.latency_us)

    # Faults.

    def befall(self, fault: Fault) -> None:
        self.world.say(f"{fault.kind} slot {fault.slot} {fault.lasts_us / SECOND:g} s {fault.amount:g}")
        member, now = self.members[fault.slot], self.world.now
        match fault.kind:
            case "kill" | "vanish":
                self.kill(fault, is_certified=fault.kind == "kill")
            case "stop" | "stop at reading":
                if fault.kind == "stop":
                    member.process.stop(fault.lasts_us)
                else:
                    member.process.stop_at_reading_us = fault.lasts_us
                if fault.amount:
                    self.world.at(now + fault.lasts_us, lambda: member.serve(int(fault.amount)))
            case "slow":
                self.weather.latency_us = 200 * MS
                self.world.at(
                    now + fault.lasts_us,
                    lambda: setattr(self.weather, "latency_us", self.schedule.latency_us),
                )
            case "gone":
                self.weather.gone = True
                self.world.at(now + fault.lasts_us, lambda: setattr(self.weather, "gone", False))
            case "lossy":
                self.weather.lost = fault.amount
                self.world.at(now + fault.lasts_us, lambda: setattr(self.weather, "lost", 0.0))
            case "burst":
                member.serve(int(fault.amount))
            case "shift":
                self.quiet()
                self.skew = self.skew[1:] + self.skew[:1]
            case "plan":
                self.plan(fault)

    def kill(self, fault: Fault, *, is_certified: bool) -> None:
        slot = fault.slot
        name = self.members[slot].process.name
        self.members[slot].process.kill()
        if is_certified:
            self.world.at(self.world.now + 20 * MS, lambda: self.certificates.add(name))
        self.world.at(self.world.now + fault.lasts_us, lambda: self.restart(slot))

    def restart(self, slot: int) -> None:
        if self.members[slot].process.is_dead:
            self.generations[slot] += 1
            self.members[slot] = Member(self, slot, f"m{slot}.{self.generations[slot]}", self.plans[-1].limit)

    def plan(self, fault: Fault) -> None:
        """Members hear of it one by one, those that are stopped when they go on."""
        old = self.plans[-1].limit
        new = Limit(
            int(old.rate * fault.amount), max(8, int(old.capacity / ONE * fault.amount)) * ONE, old.since + 1
        )
        self.plans[-1].last_us = self.world.now
        self.plans.append(Plans(new, self.world.now))
        self.quiet(4 * SECOND)
        plans = self.plans[-2]
        for member in list(self.members):
            delay = self.world.random.randrange(3 * SECOND)

            def hear(member: Member = member) -> None:
                if not member.process.is_dead:
                    plans.last_us = max(plans.last_us, self.world.now)
                    if member.limit.since < new.since:
                        member.limit = new

            self.world.at(self.world.now + delay, lambda member=member, hear=hear: member.process.do(hear))  # type: ignore[misc]

    # Laws.

    def landed(self) -> None:
        """After every write: the row keeps its laws, and nobody holds more than it says."""
        row = self.world.table.rows.get(place(NAME))
        if row is None:
            return
        shares = read(row)
        self.broken += [f"{self.world.now / SECOND:.3f}: {fault}" for fault in faults(shares)]
        held = [
            bucket.share
            for member in self.members
            if not member.process.is_dead
            and (it := member.sharing._held.get(NAME)) is not None
            and not (bucket := it.bucket).is_over(member.process.clocks.boot(self.world.now))
        ]
        if len(self.plans) == 1 and (
            sum(it.rate for it in held) > shares.rate or sum(it.capacity for it in held) > shares.capacity
        ):
            self.broken.append(f"{self.world.now / SECOND:.3f}: more is held than there is {held} {shares}")

    def excess(self) -> list[str]:
        """The windows in which more was admitted than rate and burst allow."""
        dates, found = sorted(self.admitted), []
        for width in WINDOWS_US:
            start, worst = 0, (0.0, 0)
            for end, at in enumerate(dates):
                while at - dates[start] > width:
                    start += 1
                over = end - start + 1 - self.most(dates[start], width)
                worst = max(worst, (over, dates[start]))
            if worst[0] > 0:
                found.append(f"{worst[0]:.2f} too many in {width / SECOND:g} s from {worst[1] / SECOND:.3f}")
        return found

    def most(self, start: int, width: int) -> float:
        """What a window may admit: the larger burst of the plans that may be in force in it, and what the larger rate refills."""
        if len(self.plans) == 1:
            return (self.plans[0].limit.capacity + self.plans[0].limit.rate * (width + 5) / SECOND) / MICRO
        end = start + width + 5
        inside = [it for it in self.plans if it.first_us <= end and it.last_us >= start]
        edges = sorted(
            {start, end, *(at for it in inside for at in (it.first_us, it.last_us) if start < at < end)}
        )
        refilled = sum(
            max(it.limit.rate for it in inside if it.first_us <= before and it.last_us >= after)
            * (after - before)
            for before, after in pairwise(edges)
        )
        return (max(it.limit.capacity for it in inside) + refilled / SECOND) / MICRO

    def faults(self) -> list[str]:
        return [*self.broken[:3], *self.excess()]

    @property
    def used(self) -> float:
        """Of what could have been admitted while it was judged, but for a last token of each member; of a few nothing is said."""
        return (self.did + SLOTS) / self.could if self.could >= LEAST_JUDGED else 1.0


def smaller(schedule: Schedule, kind: type[Sharing]) -> Schedule:
    """What still fails when nothing more can be left out of it."""
    goes_on = True
    while goes_on:
        goes_on = False
        tries = [
            replace(schedule, faults=schedule.faults[:n] + schedule.faults[n + 1 :])
            for n in range(len(schedule.faults))
        ]
        if schedule.seconds > 4:
            tries.append(replace(schedule, seconds=schedule.seconds * 3 // 4))
        for found in tries:
            if Run(found, kind).go().faults():
                schedule, goes_on = found, True
                break
    return schedule


def transcript(schedule: Schedule, kind: type[Sharing]) -> str:
    """What a failure prints."""
    run = Run(schedule, kind).go()
    return "\n".join(
        [
            f"SEED {schedule.seed}: {schedule}",
            *map(str, schedule.faults),
            "...",
            *run.world.log[-40:],
            *run.faults(),
        ]
    )
