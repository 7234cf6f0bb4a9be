"""A gateway in a hostile schedule: reads answer late, the table goes, the machine sleeps, and keys, tenants and plans change meanwhile.

SEEDS=N runs so many schedules; the seed of one that fails is in its name.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from math import inf

import pytest

from gateway.auth.principal import Principal
from gateway.errors import Code, GatewayError
from tenants.directory import Minted
from tenants.plans import Limits, Plan
from tenants.tenant import Deed
from tests.gateway.auth.world import ACT, World
from tests.seeds import seeds

SEEDS = seeds(15, 150)
PROMISED_SECONDS = 5.0
STALE_SECONDS = 60.0
STEPS = 400
POLL_SECONDS = 1.0

Aspect = tuple[str, str]  # of what, and its name: ("key", id), ("tenant", name), ("plan", name)


@dataclass(slots=True)
class Truth:
    """What was true when: of each aspect its values, each from the time that it may have been first to when it was surely over."""

    spans: dict[Aspect, list[list[object]]] = field(default_factory=dict)
    gone: list[list[float]] = field(default_factory=list)

    def begins(self, aspect: Aspect, value: object, now: float) -> None:
        """Its change was asked for at `now`; the value before is over when `ended` says so."""
        self.spans.setdefault(aspect, []).append([value, now, inf])

    def ended(self, aspect: Aspect, now: float) -> None:
        if len(self.spans[aspect]) > 1:
            self.spans[aspect][-2][2] = now

    def held(self, aspect: Aspect, value: object, start: float, end: float) -> bool:
        """Whether it may have been so at some moment between these."""
        return any(it[0] == value and it[1] <= end and it[2] >= start for it in self.spans[aspect])  # type: ignore[operator]

    def out_of_reach(self, start: float, end: float) -> bool:
        return any(begin <= end and over >= start for begin, over in self.gone)


class Schedule:
    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.world, self.truth = World(most_keys=12, entropy=self.draw.randbytes), Truth()
        self.world.table.answer = self.late
        self.minted: list[tuple[str, Minted]] = []
        self.polled_at = -inf
        self.is_over = False
        self.served = self.refused = 0

    @property
    def now(self) -> float:
        return self.world.clock.now

    async def late(self, _partition: str) -> None:
        for _ in range(self.draw.choice([0, 1, 2, 30])):
            await asyncio.sleep(0)

    async def change(self, aspect: Aspect, value: object, act: Callable[[], Awaitable[object]]) -> None:
        self.truth.begins(aspect, value, self.now)
        await act()
        self.truth.ended(aspect, self.now)

    async def key(self) -> None:
        """Another one, of a tenant that may have it."""
        name = self.draw.choice(["acme", "globex"])
        if self.truth.spans["tenant", name][-1][0] != "active":
            return
        minted = await self.world.key(name)
        self.truth.begins(("key", minted.key.id), "works", self.now)
        self.minted.append((name, minted))

    async def write(self) -> None:
        """One change of some kind."""
        directory, draw = self.world.directory, self.draw
        name = draw.choice(["acme", "globex"])
        match draw.choice(["key", "key", "revoke", "revoke", "state", "plan", "body"]):
            case "key":
                await self.key()
            case "revoke":
                name, minted = draw.choice(self.minted[-8:])
                if self.truth.spans["key", minted.key.id][-1][0] == "works":
                    await self.change(
                        ("key", minted.key.id), "revoked", lambda: self.world.revoke(minted, name)
                    )
            case "state":
                is_active = self.truth.spans["tenant", name][-1][0] == "active"
                deed: Deed = "suspend" if is_active else "resume"
                value = "suspended" if is_active else "active"
                await self.change(("tenant", name), value, lambda: directory.tenants.do(name, deed, act=ACT))
            case "plan":
                plan = draw.choice(["team", "big"])
                await self.change(("on", name), plan, lambda: directory.tenants.move(name, plan, act=ACT))
            case "body":
                plan, size = draw.choice(["team", "big"]), draw.randrange(1, 1000)
                wanted = Plan(plan, 1, Limits(body_bytes=size))
                await self.change(("plan", plan), size, lambda: directory.values.put(wanted, act=ACT))

    async def writer(self) -> None:
        """Changes the directory while the table is there; nobody takes it away under a change."""
        while not self.is_over:
            for _ in range(self.draw.randrange(40)):
                await asyncio.sleep(0)
            if self.draw.random() < 0.06:
                self.truth.gone.append([self.now, inf])
                self.world.table.gone = True
                for _ in range(self.draw.randrange(1500)):
                    await asyncio.sleep(0)
                self.world.table.gone = False
                self.truth.gone[-1][1] = self.now
            await self.write()

    async def poller(self) -> None:
        while not self.is_over:
            await asyncio.sleep(0)
            if self.now >= self.polled_at + POLL_SECONDS:
                await self.world.feed.look()
                self.polled_at = self.now

    async def clock(self) -> None:
        while not self.is_over:
            await asyncio.sleep(0)
            sleeps = self.draw.random() < 0.002
            self.world.clock.now += (
                self.draw.uniform(1, 25) if sleeps else self.draw.choice([0.0, 0.01, 0.05])
            )

    async def caller(self) -> None:
        for _ in range(STEPS):
            for _ in range(self.draw.randrange(10)):
                await asyncio.sleep(0)
            name, minted = self.draw.choice(self.minted[-16:])
            asked = self.now
            try:
                principal = await self.world.called(minted.secret)
            except GatewayError as refusal:
                self.judge_refusal(minted, refusal.code, asked)
            else:
                self.judge_service(name, minted, principal, asked)

    def judge_service(self, name: str, minted: Minted, principal: Principal, asked: float) -> None:
        """All that it was served by was true within the time that is promised, or since the table was last in reach."""
        self.served += 1
        since = asked - PROMISED_SECONDS
        if self.truth.out_of_reach(since, self.now):
            since = asked - STALE_SECONDS - PROMISED_SECONDS
        told: dict[Aspect, object] = {
            ("key", minted.key.id): "works",
            ("tenant", name): principal.subject.tenant_state,
            ("on", name): principal.plan.name,
            ("plan", principal.plan.name): principal.plan.limits.body_bytes,
        }
        for aspect, value in told.items():
            assert self.truth.held(aspect, value, since, self.now), (aspect, value, asked, self.now)

    def judge_refusal(self, minted: Minted, code: Code, asked: float) -> None:
        """Only a key that was revoked is unknown, and nobody is told to come again while the table is in reach."""
        self.refused += 1
        if code is Code.UNAUTHENTICATED:
            assert self.truth.held(("key", minted.key.id), "revoked", -inf, self.now)
        else:
            assert code is Code.DIRECTORY_UNAVAILABLE
            assert self.truth.out_of_reach(asked - PROMISED_SECONDS, self.now)

    async def run(self) -> None:
        await self.world.open()
        for name, plan in (("acme", "team"), ("globex", "big")):
            self.truth.begins(("tenant", name), "active", self.now)
            self.truth.begins(("on", name), plan, self.now)
            self.truth.begins(("plan", plan), 10, self.now)
        for _ in range(8):
            await self.key()
        async with asyncio.TaskGroup() as group:
            for beside in (self.writer(), self.poller(), self.clock()):
                group.create_task(beside)
            callers = [group.create_task(self.caller()) for _ in range(4)]
            await asyncio.wait(callers)
            self.is_over = True


@pytest.mark.chaos
@pytest.mark.parametrize("seed", SEEDS)
async def test_nobody_is_served_by_what_ended_more_than_five_seconds_ago_and_nobody_refused_who_may(
    seed: int,
) -> None:
    schedule = Schedule(seed)
    await schedule.run()
    assert schedule.served > 0
    assert schedule.refused > 0
