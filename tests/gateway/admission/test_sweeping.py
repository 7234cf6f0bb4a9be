"""Rows of limits that say nothing any more go, and no other; nobody gets a burst by it."""

from dataclasses import dataclass, field

import pytest

from gateway.admission import permits, shares
from gateway.admission.sweeping import LIMITS, STOOD_US, Sweeping
from tenants.errors import TableUnavailable
from tenants.plans import Rate
from tenants.ports import Key
from tests.gateway.admission.alone import Clock, admitted, limiter
from tests.gateway.admission.test_limiter import principal
from tests.worlds.table import MemoryTable

NAME = "tenant/t_a"
HOUR = STOOD_US / 1_000_000


@dataclass
class House:
    table: MemoryTable = field(default_factory=MemoryTable)
    clock: Clock = field(default_factory=Clock)
    dead: set[str] = field(default_factory=set)
    leads: bool = True
    sweeping: Sweeping = field(init=False)

    def __post_init__(self) -> None:
        self.sweeping = Sweeping(
            self.table, lambda: round(self.clock() * 1e6), self.dead.__contains__, lambda: self.leads
        )

    async def used(self, rate: Rate, calls: int = 1) -> None:
        """By a process that is dead then."""
        it = limiter(self.clock, self.table)
        it.noted = self.sweeping.note
        who = principal(requests_per_second=rate, concurrent_requests=5)
        for _ in range(calls):
            (await admitted(it, who)).release()
        await self.sweeping.tell()

    async def pass_(self, seconds: float) -> None:
        await self.sweeping.look()
        self.clock.now += seconds
        await self.sweeping.look()

    @property
    def rows(self) -> int:
        return len({shares.place(NAME), permits.place(NAME), Key(LIMITS, NAME)} & self.table.rows.keys())


async def test_what_nobody_uses_any_more_goes_behind_an_hour() -> None:
    house = House()
    await house.used(Rate(100, 100), 50)
    house.dead.add("m1")
    await house.pass_(HOUR - 1)
    assert house.rows == 3
    await house.pass_(1)
    assert (house.rows, house.sweeping.swept) == (0, 2)


async def test_what_somebody_may_hold_stays() -> None:
    house = House()
    await house.used(Rate(100, 100))
    await house.pass_(3 * HOUR)
    assert house.rows == 3


async def test_what_is_not_whole_yet_stays_as_its_end_would_be_a_burst() -> None:
    house = House()
    await house.used(Rate(0.0001, 3), 2)
    house.dead.add("m1")
    await house.pass_(2 * HOUR)
    assert house.rows == 3
    await house.pass_(4 * HOUR)
    assert house.rows == 0


async def test_a_row_that_moves_stays_and_stands_from_then() -> None:
    house = House()
    await house.used(Rate(1, 3))
    house.dead.add("m1")
    await house.pass_(HOUR - 1)
    await house.used(Rate(1, 3))
    await house.pass_(HOUR - 1)
    assert house.rows == 3


async def test_only_who_leads_sweeps_and_it_looks_for_an_hour_itself() -> None:
    house = House(leads=False)
    await house.used(Rate(100, 100))
    house.dead.add("m1")
    await house.pass_(3 * HOUR)
    house.leads = True
    await house.sweeping.look()
    assert house.rows == 3
    await house.pass_(HOUR)
    assert house.rows == 0


async def test_a_name_is_told_once_and_again_by_the_next_pass_if_there_was_no_answer() -> None:
    house = House()
    house.sweeping.note(NAME)
    house.table.throttled = 1
    with pytest.raises(TableUnavailable):
        await house.sweeping.tell()
    assert house.rows == 0
    for _ in range(2):
        await house.sweeping.tell()
    assert house.table.rows[Key(LIMITS, NAME)].version == 1
