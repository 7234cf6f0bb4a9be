"""One life of a cluster in virtual time: four members start, are killed, stopped and drained, over a Table that is slow, gone and lossy.

A story is its seed and what befalls it. What is promised is checked whenever somebody has done something, against what really happened.
"""

from asyncio import CancelledError
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from math import inf
from random import Random
from typing import Any, Literal, NamedTuple

import msgspec

from gateway.cluster import certificates
from gateway.cluster.leadership import LEADER_AT, Leader, Leadership
from gateway.cluster.member import MEMBERS, Member, Says
from gateway.cluster.membership import Ended, Membership, certify
from gateway.cluster.stillness import RATE, Timing
from tenants.errors import Conflict, TableUnavailable
from tenants.ports import Key, Put, Row
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

PLACES = 4
SECONDS = 120.0
STALE = 20.0
TIMING = Timing(stale_seconds=STALE, swept_seconds=2 * STALE)
WANTED_AT = Key("wanted")
LAPSE = (STALE * (1 + RATE) + TIMING.margin_seconds) * 1.002
"""In real seconds at most, on the slowest clock."""
PROMISED_SECONDS = 10.0
CALM_SECONDS = 25.0
_KERNEL, _SUPERVISOR = "kernel", certificates.Process("here", "kernel", 1, 1)

Kind = Literal["kill", "kill unseen", "stop", "drain", "slow", "gone", "lossy", "fine", "stalls"]


class Befalls(NamedTuple):
    """At that moment, to the member at that place, or to the Table, for so long."""

    at: float
    kind: Kind
    place: int
    seconds: float


class Broken(AssertionError):
    """What is promised did not hold."""


@dataclass(eq=False)
class Life:
    """One member, and what it heard: when its looks began and ended."""

    process: Process
    membership: Membership
    leadership: Leadership
    looks: list[tuple[float, float]] = field(default_factory=list)
    left: bool = False


@dataclass
class Kinds:
    """What is under test; a negative control has another one."""

    membership: type[Membership] = Membership
    leadership: type[Leadership] = Leadership
    acts_by_term: bool = True


@dataclass
class Story:
    seed: int
    befalls: list[Befalls]
    kinds: Kinds = field(default_factory=Kinds)
    calm: bool = True
    """Whether it ends with kills of leaders while nothing else is wrong."""
    lives: dict[str, Life] = field(default_factory=dict)
    here: list[Life | None] = field(default_factory=lambda: [None] * PLACES)
    writes: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    certified_at: dict[str, float] = field(default_factory=dict)
    led: dict[int, str] = field(default_factory=dict)
    over: set[str] = field(default_factory=set)
    """Those whom somebody has called dead."""
    terms: int = 0
    acts: int = 0
    refused: int = 0
    longest_gap: float = 0.0
    gaps: dict[Kind, float] = field(default_factory=dict)
    """How long nobody led behind each kind of kill, while nothing else was wrong."""
    last_led: float = 0.0
    is_calm: bool = False
    told: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
        self.world = World(self.random, RecordingTable(wrote=self.wrote), Weather(20 * MS), seen=self.check)
        self.table = VirtualTable()

    @property
    def now(self) -> float:
        return self.world.now / SECOND

    def at(self, when: float, act: Callable[[], None]) -> None:
        self.world.at(us(when), act)

    def run(self, until: float) -> None:
        self.world.run(us(until))

    # What is told

    def play(self) -> None:
        """Raises Broken."""
        for place in range(PLACES):
            self.at(self.random.uniform(0, 3), lambda place=place: self.born(place))  # type: ignore[misc]
        for it in self.befalls:
            self.at(it.at, lambda it=it: self.befall(it))  # type: ignore[misc]
        try:
            self.run(SECONDS)
            if self.calm:
                self.end_calmly()
        finally:
            self.world.end()

    def end_calmly(self) -> None:
        """The Table answers, nobody is stopped, and leaders are killed: somebody leads within the time that is promised."""
        self.world.weather, self.world.stalls = Weather(200 * MS), 0.0
        for life in self.present():
            life.process.stop_at_reading_us = 0
            life.process.thaw()
        self.run(self.now + CALM_SECONDS)
        self.is_calm, self.last_led = True, self.now
        self.run(self.now + 1)
        kinds: tuple[Kind, ...] = ("kill", "kill unseen")
        for kind in kinds:
            leader = [place for place, life in enumerate(self.here) if life and self.leads(life)]
            if not leader:
                raise Broken("nobody leads though nothing is wrong")
            self.befall(Befalls(self.now, kind, leader[0], 15.0))
            self.run(self.now + 20)
            self.gaps[kind] = self.longest_gap
            self.longest_gap = 0.0

    def befall(self, it: Befalls) -> None:
        world, life = self.world, self.here[it.place]
        world.say(f"{it.kind} {life.process.name if life else it.place} {it.seconds:.1f}")
        match it.kind:
            case "slow":
                world.weather = Weather(400 * MS)
            case "gone":
                world.weather = Weather(20 * MS, gone=True)
            case "lossy":
                world.weather = Weather(200 * MS, lost=0.3)
            case "fine":
                world.weather, world.stalls = Weather(50 * MS), 0.0
            case "stalls":
                world.stalls, world.stall_us = 0.05, us(it.seconds / 4)
            case _ if life is None:
                pass
            case "stop":
                life.process.stop(us(it.seconds))
            case "drain":
                life.process.start(self.drained(life, it.place))
            case "kill" | "kill unseen":
                self.die(life, it.place, it.seconds)
                if it.kind == "kill":
                    certificate = certificates.reaped(
                        life.process.name, life.membership.process, pid_of(life), _SUPERVISOR
                    )
                    self.at(self.now + self.random.uniform(0, 0.1), lambda: self.certified(certificate))

    def certified(self, certificate: Any) -> None:
        async def until_it_is() -> None:
            while True:
                if await self.answered(certify(self.table, certificate, STALE)):
                    return
                await pause(us(0.2))

        Process(self.world, "supervisor").start(until_it_is())

    def die(self, life: Life, place: int, seconds: float) -> None:
        life.process.kill()
        self.here[place] = None
        self.at(self.now + seconds, lambda: self.born(place))

    # What members do

    def born(self, place: int) -> None:
        if self.here[place] is not None:
            return
        name = f"m{len(self.lives)}"
        clocks = Clocks(us(self.random.uniform(-1e5, 1e5)), fast=self.random.choice([-1, 0, 1]) * us(RATE))
        process = Process(self.world, name, clocks)
        identity = certificates.Process("here", _KERNEL, 100 + len(self.lives), 7)
        membership = self.kinds.membership(self.table, name, identity, process.seconds, TIMING)
        leadership = self.kinds.leadership(
            self.table, name, process.seconds, membership.is_here, membership.is_dead, TIMING
        )
        life = self.here[place] = self.lives[name] = Life(process, membership, leadership)
        self.world.say(f"{name} starts")
        process.start(self.lived(life, place))

    async def lived(self, life: Life, place: int) -> None:
        try:
            while not await self.answered(life.membership.join()):
                await pause(us(0.5))
            life.process.start(self.led_by(life))
            life.process.start(self.acted(life))
            count = 0
            while True:
                await pause(us(0.7))
                began = self.now
                if await self.answered(life.membership.look()):
                    self.looked(life, began)
                await self.answered(life.membership.beat())
                count += 1
                if count % 5 == 0:
                    await self.answered(life.membership.sweep())
        except Ended as why:
            self.world.say(f"{life.process.name} ended: {why}")
            # Its process ends, as one of its loops failed; whatever else it was doing with it.
            self.at(self.now, lambda: self.die(life, place, 1.0))

    async def led_by(self, life: Life) -> None:
        while True:
            await self.answered(life.leadership.tick())
            await pause(us(0.7))

    async def acted(self, life: Life) -> None:
        """Beside its ticks: an act that takes long must not hold up what keeps it in the lead."""
        while True:
            await self.answered(self.act(life))
            await pause(us(0.6))

    async def act(self, life: Life) -> None:
        """One that is a write: it carries the term, and is not made over a higher one."""
        term = life.leadership.acting(life.membership.clock())
        if term is None:
            return
        if self.random.random() < 0.1:
            await pause(
                us(self.random.uniform(0, 2 * TIMING.leadership_seconds))
            )  # what it does takes its time
        row = await self.table.get(WANTED_AT)
        if row is not None and int(row.value) > term and self.kinds.acts_by_term:
            self.refused += 1
            life.leadership.outranked(int(row.value))
            return
        try:
            await self.table.transact(Put(WANTED_AT, str(term).encode(), row.version if row else 0))
        except Conflict:
            self.refused += 1

    async def drained(self, life: Life, place: int) -> None:
        life.membership.say(Says(draining=True))
        await self.answered(life.leadership.hand_over())
        await pause(us(1.0))
        life.left = True
        await self.answered(life.membership.leave())
        if self.here[place] is life:
            self.at(self.now, lambda: self.die(life, place, 1.0))

    async def answered(self, call: Coroutine[Any, Any, None]) -> bool:
        try:
            await call
        except (TableUnavailable, CancelledError):
            return False
        return True

    # What must hold

    def present(self) -> list[Life]:
        return [life for life in self.here if life is not None]

    def now_of(self, life: Life) -> float:
        return life.process.clocks.boot(self.world.now) / SECOND

    def leads(self, life: Life) -> bool:
        return not life.process.is_dead and life.leadership.leads(self.now_of(life))

    def check(self) -> None:
        present = self.present()
        leaders = [life.process.name for life in present if self.leads(life)]
        if len(leaders) > 1:
            raise Broken(f"{' and '.join(leaders)} lead at once")
        now = self.now
        if leaders:
            self.last_led = now
        elif self.is_calm:
            self.longest_gap = max(self.longest_gap, now - self.last_led)
            if self.longest_gap > PROMISED_SECONDS:
                raise Broken(f"nobody leads since {self.last_led:.3f}")
        for life in present:
            if life.process.name in self.over and life.membership.is_here(self.now_of(life)):
                raise Broken(f"{life.process.name} is called dead and is here")

    def wrote(self, old: Row | None, new: Row | None) -> None:
        row = new or old
        if row is None:
            return
        now, name = self.now, row.key.sort
        if row.key == LEADER_AT:
            found = msgspec.json.decode(row.value, type=Leader)
            if found.term < self.terms:
                raise Broken(f"term {found.term} behind {self.terms}")
            if found.name and self.led.setdefault(found.term, found.name) != found.name:
                raise Broken(f"{found.name} and {self.led[found.term]} in term {found.term}")
            if found.term > self.terms:
                self.world.say(f"{found.name} is elected in term {found.term}")
            self.terms = found.term
        elif row.key == WANTED_AT:
            if old is not None and int(old.value) > int(row.value):
                raise Broken(f"an act of term {row.value!r} undid one of {old.value!r}")
            self.acts += 1
        elif row.key.partition == MEMBERS and new is None:
            self.told.add("swept")
            self.world.say(f"{name} is swept")
        elif row.key.partition == MEMBERS:
            self.writes[name].append(now)
            if old is None:  # a join that came later than its row was swept
                self.over.discard(name)
            if old is None and self.certified_at.pop(name, 0.0):
                self.told.add("late")
                self.world.say(f"{name} is written behind its sweep")
            if msgspec.json.decode(row.value, type=Member).certificate:
                self.certified_at.setdefault(name, now)
                self.world.say(f"{name} is certified")

    def looked(self, life: Life, began: float) -> None:
        """What an answered look says is what really is."""
        membership = life.membership
        # By its clock, that it may have read before it was stopped.
        judged = life.process.clocks.true(us(membership._looked_at)) / SECOND
        for name, other in self.lives.items():
            standing = membership.standing(name)
            if standing:
                self.told.add(standing)
            # Asked for since before the look began, unless it has not joined.
            named_at = life.process.clocks.boot(us(began)) / SECOND - 10.0
            was_there = bool(self.writes[name]) and self.writes[name][0] < began - 11.0
            if (standing == "dead" or was_there) and membership.is_dead(name, named_at):
                self.over.add(name)
            if standing == "dead" and not (other.process.is_dead or other.left):
                raise Broken(f"{name} lives and {life.process.name} calls it dead")
            if self.certified_at.get(name, began) < began and standing not in ("dead", None):
                raise Broken(f"{name} is dead by certificate and {life.process.name} calls it {standing}")
            if standing == "silent" and not other.process.is_dead and self.beats(name, judged):
                raise Broken(f"{name} beats and {life.process.name} calls it silent")
            if standing == "live" and self.is_overdue(life, name, judged):
                raise Broken(f"{name} is over and {life.process.name} calls it live")
        life.looks.append((began, self.now))

    def beats(self, name: str, when: float) -> bool:
        """Whether its row was written so lately, at that moment."""
        writes = self.writes[name]
        return when - writes[bisect_right(writes, when) - 1] < STALE

    def is_overdue(self, life: Life, name: str, began: float) -> bool:
        """Whether this look began so long behind the end of the first one that found the row as it is."""
        place = bisect_right(life.looks, (self.writes[name][-1], inf))
        return place < len(life.looks) and began >= life.looks[place][1] + LAPSE


def us(seconds: float) -> int:
    return round(seconds * SECOND)


def pid_of(life: Life) -> int:
    return life.membership.process.pid


def befalls(random: Random) -> list[Befalls]:
    """What befalls one cluster."""
    kinds: list[Kind] = [
        *("kill", "kill unseen", "stop", "stop", "stop", "drain"),
        *("slow", "gone", "lossy", "lossy", "fine", "stalls"),
    ]
    found = []
    at = 5.0
    while at < SECONDS:
        seconds = random.choice([1.0, 3.0, 4.3, 8.0, STALE, 30.0, 70.0])
        found.append(Befalls(at, random.choice(kinds), random.randrange(PLACES), seconds))
        at += random.choice([0.1, 2.0, 5.0, 15.0])
    return found
