"""An autoscaler over small Tritons, and what tests ask of it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest
from msgspec import structs

from gateway.admission.fair_queueing import Ticket
from gateway.errors import GatewayError
from gateway.loops import running
from gateway.scaling.board import Board, Lodging
from gateway.scaling.registry import ColdPhase, Event, Registry, Resident
from gateway.scaling.throttler import Throttler
from gateway.state import clock
from tenants.fleet import Fleet, Replicas
from tenants.model import Model, Scaling
from tests.conftest import ROOT
from tests.worlds.elastic import Whole, whole
from tests.worlds.table import MemoryTable
from tests.worlds.triton import ScalerWorld, TritonWorld

REPOSITORY = str(ROOT / "infra" / "models")


@dataclass(slots=True)
class Notes:
    """An Observer that remembers."""

    phases: list[ColdPhase] = field(default_factory=list)
    events: list[tuple[Event, str]] = field(default_factory=list)

    def phase(self, phase: ColdPhase, seconds: float) -> None:
        assert seconds >= 0
        self.phases.append(phase)

    def happened(self, event: Event, name: str) -> None:
        self.events.append((event, name))


@dataclass(slots=True)
class Elastic:
    throttler: Throttler
    registry: Registry
    board: Board
    scaler: ScalerWorld
    notes: Notes
    models: dict[str, Model]
    fleets: dict[str, Fleet]
    parts: Whole

    async def served_by(self, model: str = "digits", tenant: str = "acme") -> str:
        """One whole call: which replica took it."""
        ticket = Ticket(tenant, 1.0)
        place = await self.throttler.acquire(model, ticket)
        self.throttler.ended(place, ticket)
        self.throttler.release(place, "well", ticket)
        return place.replica.id

    async def refused(self, model: str = "digits", tenant: str = "acme") -> GatewayError:
        with pytest.raises(GatewayError) as caught:
            await self.throttler.acquire(model, Ticket(tenant, 1.0))
        return caught.value

    async def until(self, holds: Callable[[], bool]) -> None:
        """Return once it holds; the test's own timeout is the bound."""
        async with asyncio.timeout(20):
            while not holds():
                await asyncio.sleep(0.002)

    def change(self, model: str, **given: object) -> None:
        """The model's document changes."""
        self.models = self.models | {model: structs.replace(self.models[model], **given)}
        self.board.wake.set()

    def places(self, model: str) -> list[Lodging]:
        """As who has charge of them keeps them."""
        return [place for place in self.board.lodgings() if place.model == model]

    def kept(self, place: Resident) -> Lodging:
        """The same place, as who has charge of it keeps it."""
        return next(it for it in self.places(place.model) if it.loaded == place.loaded)

    async def rests(self, place: Resident) -> None:
        """Who has charge of it lets it take no calls."""
        self.kept(place).takes = False
        self.board.wake.set()
        await self.until(lambda: place not in place.demand.rotation)

    def residents(self, model: str) -> list[Resident]:
        """As they are called."""
        return [place for place in self.registry.residents() if place.model == model]


def model(name: str, **given: float | int) -> Model:
    """A model of 10 bytes; of its scaling what is given."""
    return Model(f"m_{name}", name, REPOSITORY, "*", memory_bytes=10, scaling=Scaling(**given))  # type: ignore[arg-type]


@asynccontextmanager
async def elastic(
    *worlds: TritonWorld,
    models: tuple[Model, ...] = (model("digits"),),
    fleet: Fleet | None = None,
    most_waiting: int = 1_000,
    start_seconds: float = 30.0,
) -> AsyncIterator[Elastic]:
    """A fleet with room for two models a replica unless told otherwise, and one replica for each world."""
    registry, board, notes = Registry(), Board(), Notes()
    scaler = ScalerWorld(list(worlds))
    rows = {row.name: row for row in models}
    fleets = {"local": fleet or Fleet("local", replicas=Replicas(0, len(worlds)), memory_bytes=20)}
    throttler = Throttler(registry, clock, lambda: here.models, notes, most_waiting)
    parts = whole(
        MemoryTable(),
        scaler,
        throttler,
        board,
        models=lambda: here.models,
        fleets=lambda: fleets,
        start_seconds=start_seconds,
    )
    here = Elastic(throttler, registry, board, scaler, notes, rows, fleets, parts)
    async with running(autoscaler=parts.autoscaler.run(), follower=parts.follower.run()):
        yield here
    assert [world.misuses for world in worlds] == [[] for _ in worlds]


__all__ = ["Elastic", "elastic", "model", "replace"]
