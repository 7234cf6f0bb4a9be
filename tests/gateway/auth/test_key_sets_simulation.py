"""Hours of rotations, outages, strangers and impatient clients: what a gateway promises of its issuers' keys holds at every moment.

The seed is in the name of the test; SEEDS can be raised for a longer run.
"""

import asyncio
import random
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from gateway.auth.key_sets import Source
from tests.gateway.auth.key_world import Gateway, Provider, gateway
from tests.seeds import seeds

SEEDS = seeds(12, 120)
STEPS = 400
REFRESH, COOLDOWN, OUTAGE, FETCH = 300.0, 10.0, 3600.0, 10.0
"""As the knobs say; a fetch of two documents takes so long at most here, as no real time passes."""
TICK = 3.0


@dataclass(slots=True)
class Simulation:
    world: Gateway
    random: random.Random
    made_at: dict[tuple[Source, str], float] = field(default_factory=dict)
    taken_at: dict[tuple[Source, str], float] = field(default_factory=dict)
    """When each kid came to its provider, and when it went."""
    pending: "set[asyncio.Task[None]]" = field(default_factory=set)
    outcomes: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    _ticked_at: float = 0.0
    _kids: int = 0

    async def run(self) -> None:
        for source, provider in self.world.providers.items():
            provider.latency = lambda: self.random.choice([0.0, 0.1, self.random.uniform(0, 4.9)])
            self.made_at[source, provider.kids[0]] = 0.0
        self._ticked_at = self.world.time.now
        for _ in range(STEPS):
            self.step()
            rare = self.random.random() < 0.02
            await self.pass_(self.random.uniform(100, 4500) if rare else self.random.expovariate(1 / 4))
        await self.pass_(4 * FETCH)
        assert not self.pending, "somebody waits for ever"

    def step(self) -> None:
        source, provider = self.random.choice([*self.world.providers.items()])
        match self.random.choices(
            ["known", "any", "stranger", "strangers", "leaves", "rotates", "fails", "recovers"],
            [8, 3, 3, 1, 3, 2, 1, 2],
        )[0]:
            case "known":
                self.ask(source, provider.kids[-1], times=self.random.choice([1, 1, 20]))
            case "any":
                self.ask(source, self.random.choice([kid for of, kid in self.made_at if of == source]))
            case "stranger":
                self.ask(source, f"made up {self.random.random()}")
            case "strangers":
                for _ in range(30):
                    self.ask(source, f"made up {self.random.random()}")
            case "leaves":
                for task in self.random.sample(sorted(self.pending, key=id), min(3, len(self.pending))):
                    task.cancel()
            case "rotates":
                self.rotate(source, provider)
            case "fails":
                provider.fault = self.random.choice(["lost before", "lost after", "hangs", "not readable"])
                provider.fault_at = "keys" if source.jwks_url else self.random.choice(["keys", "discovery"])
            case "recovers":
                provider.fault = None

    def rotate(self, source: Source, provider: Provider) -> None:
        """A key comes, at most two stay; sometimes tokens with it are there in the same moment."""
        self._kids += 1
        kid = f"kid-{self._kids}"
        provider.kids.append(kid)
        self.made_at[source, kid] = self.world.time.now
        while len(provider.kids) > self.random.choice([1, 2, 3]):
            self.taken_at[source, provider.kids.pop(0)] = self.world.time.now
        if self.random.random() < 0.5:
            self.ask(source, kid, times=20)

    def ask(self, source: Source, kid: str, times: int = 1) -> None:
        for _ in range(times):
            task = asyncio.ensure_future(self.judge(source, kid))
            self.pending.add(task)
            task.add_done_callback(self.ended)

    def ended(self, task: "asyncio.Task[None]") -> None:
        self.pending.discard(task)
        if not task.cancelled() and (fault := task.exception()):
            self.faults.append(f"a request failed with {fault!r}")

    async def judge(self, source: Source, kid: str) -> None:
        """One request, and whether what became of it is what was promised."""
        asked_at = self.world.time.now
        outcome = await self.world.authenticate(source, kid)
        now = self.world.time.now
        self.outcomes.append(outcome)
        provider = self.world.providers[source]
        failed_lately = provider.fault is not None or asked_at - provider.failed_at <= COOLDOWN + FETCH
        made_at = self.made_at.get((source, kid))
        taken_at = self.taken_at.get((source, kid))
        if now - asked_at > 3 * FETCH:
            self.faults.append(f"{kid} waited from {asked_at} to {now}")
        if outcome == "unavailable" and not failed_lately:
            self.faults.append(f"{kid} was unavailable at {now}, and its provider was there")
        if outcome == "accepted":
            held = self.world.sets.held(source)
            assert held is not None
            age = now - provider.served_at[held.digest]
            if made_at is None or age > OUTAGE:
                self.faults.append(f"{kid} was accepted at {now} by a set that is {age} s old")
            if (
                taken_at is not None
                and now - taken_at > 2 * REFRESH + FETCH
                and provider.failed_at < taken_at
            ):
                self.faults.append(f"{kid} was accepted at {now}, and was taken back at {taken_at}")
        if (
            outcome == "unknown"
            and made_at is not None
            and taken_at is None
            and asked_at - made_at > COOLDOWN + FETCH
        ):
            self.faults.append(f"{kid} of {made_at} was unknown to whoever asked at {asked_at}")

    async def pass_(self, seconds: float) -> None:
        end = self.world.time.now + seconds
        while self._ticked_at + TICK <= end:
            self._ticked_at += TICK
            await self.world.time.pass_(self._ticked_at - self.world.time.now)
            await self.world.refresh()
        await self.world.time.pass_(end - self.world.time.now)
        assert self.faults == []


@pytest.mark.chaos
@pytest.mark.parametrize("seed", SEEDS)
async def test_no_key_too_long_no_fetch_too_many_and_no_rotation_missed(seed: int) -> None:
    chance = random.Random(seed)
    async with gateway("https://a.example", "https://b.example", jwks=chance.random() < 0.5) as world:
        simulation = Simulation(world, chance)
        await simulation.run()
        for issuer in ("https://a.example", "https://b.example"):
            asked = [at for of, at in world.starts["asked"] if of == issuer]
            refreshed = [at for of, at in world.starts["refresh"] if of == issuer]
            for starts in (asked, refreshed):
                gaps = [after - before for before, after in pairwise(starts)]
                assert min(gaps, default=COOLDOWN) >= COOLDOWN
        assert world.sets.fetches == len(world.starts["asked"]) + len(world.starts["refresh"])
    assert set(simulation.outcomes) == {"accepted", "unknown", "unavailable"}
