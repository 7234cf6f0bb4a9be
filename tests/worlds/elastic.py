"""Who has charge of Tritons and the members that send to them, over one table."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count

from gateway.scaling.autoscaler import Autoscaler
from gateway.scaling.board import Board
from gateway.scaling.desk import Desk
from gateway.scaling.draining import Member, Patience
from gateway.scaling.elsewhere import Elsewhere
from gateway.scaling.follower import Follower
from gateway.scaling.scaler import Scaler
from gateway.scaling.throttler import Throttler
from tenants.fleet import Fleet
from tenants.model import Model
from tenants.ports import Table

PATIENCE = Patience(60.0, 0.25)
HOST = "host"


@dataclass(slots=True)
class Calls:
    """Who is told to look: a word to one of that name comes at once."""

    wakes: dict[str, list[Callable[[], None]]] = field(default_factory=dict)

    def listen(self, name: str, wake: Callable[[], None]) -> None:
        self.wakes.setdefault(name, []).append(wake)

    def tell(self, name: str) -> None:
        for wake in self.wakes.get(name, ()):
            wake()


@dataclass(frozen=True, slots=True)
class Whole:
    autoscaler: Autoscaler
    follower: Follower
    calls: Calls


def follower(
    table: Table, throttler: Throttler, calls: Calls, name: str, patience: Patience = PATIENCE
) -> Follower:
    """A member that sends to what is placed on the host. Its throttler's clock is the one of all."""
    throttler.member = Member(patience)
    calls.listen(name, throttler.registry.wake.set)
    return Follower(
        table=table,
        domain=HOST,
        name=name,
        registry=throttler.registry,
        throttler=throttler,
        clock=throttler.clock,
        tell=calls.tell,
        elsewhere=lambda spawn: Elsewhere(
            throttler.registry, throttler, throttler.clock, throttler.models, spawn
        ),
    )


def autoscaler(
    table: Table,
    scaler: Scaler,
    throttler: Throttler,
    board: Board,
    calls: Calls,
    *,
    name: str,
    models: Callable[[], Mapping[str, Model]],
    fleets: Callable[[], Mapping[str, Fleet]],
    start_seconds: float = 30.0,
    is_dead: Callable[[str], bool] = lambda _: False,
    patience: Patience = PATIENCE,
) -> Autoscaler:
    """Who has charge; events go to the throttler's observer."""
    calls.listen(name, board.wake.set)
    numbers = count()
    return Autoscaler(
        scaler=scaler,
        board=board,
        desk=Desk(table, HOST, name, board, throttler.clock, patience, is_dead, calls.tell),
        observer=throttler.observer,
        clock=throttler.clock,
        models=models,
        fleets=fleets,
        new_name=lambda: f"server-{next(numbers)}",
        start_seconds=start_seconds,
    )


def whole(
    table: Table,
    scaler: Scaler,
    throttler: Throttler,
    board: Board,
    *,
    models: Callable[[], Mapping[str, Model]],
    fleets: Callable[[], Mapping[str, Fleet]],
    start_seconds: float = 30.0,
) -> Whole:
    """One process that is both."""
    calls = Calls()
    return Whole(
        autoscaler(
            table,
            scaler,
            throttler,
            board,
            calls,
            name="whole",
            models=models,
            fleets=fleets,
            start_seconds=start_seconds,
        ),
        follower(table, throttler, calls, "whole"),
        calls,
    )
