"""A limiter of one process alone, over a table in memory, with a clock that a test moves."""

from collections.abc import Callable, Set
from dataclasses import dataclass, field

from gateway.admission.budgets import Budgets
from gateway.admission.limiter import Limiter, Reservation
from gateway.admission.permitting import Permitting
from gateway.admission.sharing import Sharing
from gateway.admission.spending import Spending
from gateway.auth.principal import Principal
from tests.gateway.admission.counted import Counted
from tests.worlds.table import MemoryTable


@dataclass(slots=True)
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def limiter(
    clock: Callable[[], float],
    table: MemoryTable | None = None,
    me: str = "m1",
    members: int = 1,
    dead: Set[str] = frozenset(),
) -> Limiter:
    """`clock` gives seconds."""

    def clock_us() -> int:
        return round(clock() * 1_000_000)

    store = MemoryTable() if table is None else table
    return Limiter(
        Sharing(store, me, clock_us, clock_us, dead.__contains__, lambda: members),
        Permitting(store, me, clock_us, dead.__contains__, lambda: members),
    )


def spending(
    clock: Callable[[], float], table: MemoryTable | None = None, me: str = "m1", members: int = 1
) -> Spending:
    """`clock` gives seconds, since 1970 among others."""

    def clock_us() -> int:
        return round(clock() * 1_000_000)

    store = MemoryTable() if table is None else table
    return Spending(Budgets(store, me, clock_us, clock_us, lambda _: False, lambda: members), clock_us)


async def admitted(
    limiter: Limiter, who: Principal, declared_bytes: int | None = 0, model: str = ""
) -> Reservation:
    """As the pipeline asks."""
    return limiter.admit(who, declared_bytes, model) or await limiter.ask(who, declared_bytes, model)


@dataclass
class Alone:
    """One limiter, its clock and its table, whose calls are counted."""

    clock: Clock = field(default_factory=Clock)
    table: Counted = field(default_factory=Counted)
    limiter: Limiter = field(init=False)

    def __post_init__(self) -> None:
        self.limiter = limiter(self.clock, self.table)
