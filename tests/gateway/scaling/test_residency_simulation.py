"""Random lives of a fleet in virtual time: 12 models, bursts of calls, crashes, documents that change; what is promised holds at each step.

The seed is in the name of the test; SEEDS can be raised for a longer run.

How long a call waits at most (`_bound`): when its model's first call comes, `ahead` other models wait for longer. Once they starve each
of them is promised room that nobody younger gets, and has it after a `_TURN`: what loads there ends, the calls on it end, it is
unloaded, a place loads; between these are ticks. They are served in their turn, at worst one after the other, at last this model.
Before that its own old place may still be leaving on the only server there is: calls, unload, and a boot if the server goes too.
A crash, a failed load or a changed document begins the count anew, for who is ahead too.
"""

import heapq
import random
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

import pytest

from gateway.scaling.balancer import least_loaded
from gateway.scaling.decider import SCALE_DOWN_DELAY_SECONDS, STABLE_SECONDS, Decider
from gateway.scaling.residency import (
    STARVING_SECONDS,
    Drain,
    Life,
    Load,
    Phase,
    Place,
    Server,
    Start,
    Step,
    Stop,
    Unload,
    Want,
)
from tenants.model import Scaling
from tests.gateway.scaling.support import Board, a_fleet
from tests.seeds import seeds

SEEDS = seeds(6, 60)
MODELS = [f"m{number}" for number in range(12)]
ZIPF = [1 / rank for rank in range(1, 13)]

MEMORY = 7
TICK, BOOT, CALL = 0.05, 0.3, 0.5
LOAD, UNLOAD = (0.3, 1.4), (0.1, 1.2)
BUSY_SECONDS, IDLE_SECONDS = 60.0, 4.0
_TURN = LOAD[1] + CALL + UNLOAD[1] + LOAD[1] + 6 * TICK


def _bound(ahead: int) -> float:
    return STARVING_SECONDS + CALL + UNLOAD[1] + BOOT + 6 * TICK + (ahead + 1) * _TURN


@dataclass
class Asked:
    """Of one model: who waits, and the promise made to them."""

    waiting: deque[float] = field(default_factory=deque)
    decider: Decider = field(default_factory=Decider)
    wanted: int = 1
    is_there: bool = True
    in_flight: int = 0
    used_at: float = -1_000.0
    since: float | None = None  # the bound counts from here
    ahead: int = 0


class Simulation:
    def __init__(self, rng: random.Random, *, most: int, memory: dict[str, int]) -> None:
        self.rng = rng
        fleet = a_fleet(most=most, memory=MEMORY, idle_seconds=IDLE_SECONDS)
        self.board = Board(fleet, memory, now=0.0)
        self.asked = {model: Asked() for model in MODELS}
        self.scaling = Scaling(max_replicas=2, target_concurrency=4.0, idle_seconds=IDLE_SECONDS)
        self.fails = False  # a load, now and then
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.ids, self.uses = count(), count(1)
        self.served, self.longest, self.taken = 0, 0.0, Counter[type[Step]]()

    # What the world does

    def later(self, between: tuple[float, float], event: Callable[[], None]) -> None:
        heapq.heappush(self.events, (self.board.now + self.rng.uniform(*between), next(self.ids), event))

    def call(self, model: str) -> None:
        asked = self.asked[model]
        if asked.is_there:
            asked.waiting.append(self.board.now)

    def calls(self) -> None:
        """A burst every now and then; between them a few, most for a few models."""
        many = self.rng.choice([0, 0, 1, 2]) if self.rng.random() > 0.02 else self.rng.randint(20, 100)
        for model in self.rng.choices(MODELS, ZIPF, k=many):
            self.call(model)

    def disturb(self) -> None:
        kind = self.rng.choices(["", "crash", "change", "retire", "delete"], [2_000, 4, 4, 2, 2])[0]
        model = self.rng.choice(MODELS)
        servers = [server for server in self.board.servers if server.life is not Life.STOPPING]
        if kind == "crash" and servers:
            self.gone(self.rng.choice(servers))
        elif kind == "retire" and (ready := [each for each in servers if each.life is Life.READY]):
            self.rng.choice(ready).life = Life.RETIRING
        elif kind == "change":
            self.board.memory[model] = self.rng.randint(1, 4)
            for server in self.board.servers:
                if model in server.places:
                    server.places[model].outdated = True
        elif kind == "delete":
            self.asked[model] = Asked(is_there=not self.asked[model].is_there)
        if kind:
            self.count_anew()

    def count_anew(self) -> None:
        for asked in self.asked.values():
            asked.since = None

    def gone(self, server: Server) -> None:
        if server in self.board.servers:
            self.board.servers.remove(server)

    # What the autoscaler does

    def take(self, step: Step) -> None:
        self.board.take(step)
        self.taken[type(step)] += 1
        match step:
            case Start():
                server = self.board.servers[-1]
                self.later((BOOT, BOOT), lambda: self.up(server))
            case Stop(name):
                server = self.board.server(name)
                self.later((0.0, TICK), lambda: self.gone(server))
            case Load(name, model):
                server = self.board.server(name)
                place = server.places[model]
                self.later(LOAD, lambda: self.loaded(server, place))
            case Unload(name, model):
                server = self.board.server(name)
                self.later(UNLOAD, lambda: self.unloaded(server, model))
            case Drain():
                pass

    def up(self, server: Server) -> None:
        server.life, server.empty_since = Life.READY, self.board.now

    def loaded(self, server: Server, place: Place) -> None:
        if self.fails and self.rng.random() < 0.03:
            self.unloaded(server, place.model)
            self.count_anew()
        else:
            place.phase = Phase.READY

    def unloaded(self, server: Server, model: str) -> None:
        del server.places[model]
        if not server.places:
            server.empty_since = self.board.now

    def dispatch(self) -> None:
        """Who waits goes on where its model is ready, also where it is outdated or its server retires."""
        ready = defaultdict[str, list[Place]](list)
        for server in self.board.servers:
            for place in server.places.values():
                if place.phase is Phase.READY and server.life is not Life.STOPPING:
                    ready[place.model].append(place)
        for model, places in ready.items():
            asked = self.asked[model]
            while asked.waiting:
                self.longest = max(self.longest, self.board.now - asked.waiting.popleft())
                place = least_loaded(places)
                place.in_flight, place.last_use = place.in_flight + 1, next(self.uses)
                asked.in_flight += 1
                self.served += 1
                self.later((0.01, CALL), lambda place=place, asked=asked: self.done(place, asked))  # type: ignore[misc]

    def done(self, place: Place, asked: Asked) -> None:
        """Whether answered, or cut off with its server: it is over."""
        assert place.phase in (Phase.READY, Phase.DRAINING), "a call on a place that is not there"
        place.in_flight, asked.in_flight, asked.used_at = (
            place.in_flight - 1,
            asked.in_flight - 1,
            self.board.now,
        )

    def want(self, model: str) -> Want:
        asked = self.asked[model]
        is_used = asked.waiting or asked.in_flight or self.board.now - asked.used_at < IDLE_SECONDS
        replicas = asked.wanted if is_used and asked.is_there else 0
        return Want(model, self.board.memory[model], replicas, asked.waiting[0] if asked.waiting else None)

    def decide(self) -> None:
        for model, asked in self.asked.items():
            has = sum(model in server.places for server in self.board.servers)
            calls = asked.in_flight + len(asked.waiting)
            asked.wanted = asked.decider.decide(self.scaling, calls, has, self.board.now)

    # One tick

    def tick(self, number: int) -> list[Step]:
        self.board.now = now = number * TICK
        while self.events and self.events[0][0] <= now:
            heapq.heappop(self.events)[2]()
        self.dispatch()
        if number % 10 == 0:
            self.decide()
        wants = [self.want(model) for model in MODELS if self.asked[model].is_there]
        steps = self.board.steps(*wants)
        self.check_drains(steps, {want.model: want for want in wants})
        for step in steps:
            self.take(step)
        self.check_waits()
        return steps

    def check_drains(self, steps: list[Step], wants: dict[str, Want]) -> None:
        evicted = list[str]()
        for step in steps:
            if isinstance(step, Drain):
                server, want = self.board.server(step.server), wants.get(step.model)
                holding = [each for each in self.board.servers if step.model in each.places]
                counted = sum(each.is_open and each.places[step.model].counts for each in holding)
                is_replaced = server.life is Life.RETIRING or server.places[step.model].outdated
                if want and not is_replaced and counted <= want.replicas:
                    assert want.waiting_since is None, "who waits is not evicted"
                    evicted.append(step.model)
        assert not evicted or any(want.waiting_since is not None for want in wants.values())

    def check_waits(self) -> None:
        now = self.board.now
        waiting = {model: asked.waiting[0] for model, asked in self.asked.items() if asked.waiting}
        for model, asked in self.asked.items():
            if model not in waiting:
                asked.since = None
            elif asked.since is None:
                asked.since = now
                asked.ahead = sum(first <= waiting[model] for first in waiting.values()) - 1
            else:
                late = now - asked.since - _bound(asked.ahead)
                assert late < 0, f"{model} waits for {now - asked.since:.1f} s behind {asked.ahead}"


@pytest.mark.chaos
@pytest.mark.parametrize("seed", SEEDS)
def test_a_fleet_serves_everybody_in_time_evicts_with_reason_and_goes_to_zero(seed: int) -> None:
    rng = random.Random(seed)
    world = Simulation(rng, most=rng.randint(1, 3), memory={model: rng.randint(1, 4) for model in MODELS})
    ticks = count()
    world.fails = True
    while world.board.now < BUSY_SECONDS:
        world.calls()
        world.disturb()
        world.tick(next(ticks))
    world.fails = False
    while any(asked.waiting or asked.in_flight for asked in world.asked.values()):
        world.tick(next(ticks))
    last, loads = world.board.now, Counter[str]()
    while world.board.now < last + STABLE_SECONDS + SCALE_DOWN_DELAY_SECONDS:
        for step in world.tick(next(ticks)):
            assert not isinstance(step, Start), "a server started for nobody"
            loads.update([step.model] if isinstance(step, Load) else [])
        if world.board.now > last + 2 * IDLE_SECONDS + LOAD[1] + UNLOAD[1] + 6 * TICK:
            assert world.board.servers == [], "nobody calls, and something runs"
    assert set(loads.values()) <= {1}, "loaded again and again for nobody"
    assert world.served > 1_000
    taken = {kind.__name__: times for kind, times in world.taken.items()}
    print(f"seed {seed}: {world.served} calls, the longest waited {world.longest:.1f} s; {taken}")


@pytest.mark.chaos
@pytest.mark.parametrize("seed", SEEDS)
def test_a_model_that_needs_a_whole_server_gets_it_though_small_ones_never_stop(seed: int) -> None:
    rng = random.Random(seed)
    world = Simulation(rng, most=1, memory=dict.fromkeys(MODELS, 1) | {MODELS[0]: MEMORY})
    for number in range(int(BUSY_SECONDS / TICK)):
        for model in rng.choices(MODELS[1:], k=2):
            world.call(model)
        if number % 200 == 0:
            world.call(MODELS[0])
        world.tick(number)
