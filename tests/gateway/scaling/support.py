"""Boards: servers and places to plan for, and what becomes of them; a step that may not be taken is an AssertionError."""

from dataclasses import dataclass, field

from gateway.scaling.residency import (
    Drain,
    Keep,
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
    plan,
)
from tenants.fleet import Fleet, Replicas

NOW = 1_000.0


def a_fleet(*, most: int = 2, least: int = 0, memory: int = 10, idle_seconds: float = 60.0) -> Fleet:
    return Fleet(
        name="local",
        replicas=Replicas(min=least, max=most),
        memory_bytes=memory,
        idle_seconds=idle_seconds,
    )


def a_place(model: str, memory: int, phase: Phase = Phase.READY, **more: int) -> Place:
    return Place(model=model, memory_bytes=memory, phase=phase, **more)  # type: ignore[arg-type]


def a_server(name: str, *places: Place, life: Life = Life.READY, empty_since: float = NOW) -> Server:
    return Server(
        name=name, life=life, places={place.model: place for place in places}, empty_since=empty_since
    )


@dataclass
class Board:
    """All there is of one fleet; `memory` is what each model takes."""

    fleet: Fleet
    memory: dict[str, int]
    servers: list[Server] = field(default_factory=list)
    now: float = NOW
    started: int = 0

    def steps(self, *wants: Want, may_start: bool = True) -> list[Step]:
        return plan(self.fleet, self.servers, wants, self.now, may_start=may_start)

    def server(self, name: str) -> Server:
        return next(server for server in self.servers if server.name == name)

    def take(self, step: Step) -> None:
        """What the step begins; it is not done yet."""
        match step:
            case Start():
                assert len(self.servers) < self.fleet.replicas.max, "more servers than the fleet may have"
                self.started += 1
                self.servers.append(Server(name=f"s{self.started}"))
            case Stop(name):
                server = self.server(name)
                left = {place.phase for place in server.places.values()} - {Phase.UNLOADING}
                assert not left, f"{name} still has places"
                assert server.life is Life.RETIRING or (server.life is Life.READY and not server.places)
                server.life = Life.STOPPING
            case Load(name, model):
                server = self.server(name)
                assert server.life is Life.READY, f"{name} takes no models"
                assert model not in server.places, f"{name} has a place of {model}"
                server.places[model] = Place(model=model, memory_bytes=self.memory[model])
                assert self.used(server) <= self.fleet.memory_bytes, f"too much on {name}"
            case Keep(name, model):
                place = self.server(name).places[model]
                assert place.phase is Phase.DRAINING
                assert place.in_flight, f"{model} on {name} could be unloaded"
                place.phase = Phase.READY
            case Drain(name, model):
                place = self.server(name).places[model]
                assert place.phase is Phase.READY, f"{model} on {name} is {place.phase}"
                place.phase = Phase.DRAINING
            case Unload(name, model):
                place = self.server(name).places[model]
                assert place.phase is Phase.DRAINING, f"{model} on {name} is {place.phase}"
                assert place.in_flight == 0, f"{model} on {name} has calls"
                place.phase = Phase.UNLOADING

    def used(self, server: Server) -> int:
        return sum(place.memory_bytes for place in server.places.values())

    def settle(self) -> bool:
        """All that is under way succeeds, and every call ends; whether anything was."""
        before = self._lives()
        self.servers = [server for server in self.servers if server.life is not Life.STOPPING]
        for server in self.servers:
            if server.life is Life.STARTING:
                server.life, server.empty_since = Life.READY, self.now
            for place in list(server.places.values()):
                place.in_flight = 0
                if place.phase is Phase.LOADING:
                    place.phase = Phase.READY
                elif place.phase is Phase.UNLOADING:
                    del server.places[place.model]
                    server.empty_since = self.now
        return self._lives() != before

    def _lives(self) -> list[tuple[str, Life, list[Phase]]]:
        return [
            (server.name, server.life, [place.phase for place in server.places.values()])
            for server in self.servers
        ]
