"""How slots come to members: three of them with one model, over one table, step by step."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from gateway.admission.fair_queueing import Ticket
from gateway.admission.handing import GRANTED_AT, SLOTS, Granted, Handing, Said, Wanted
from gateway.admission.slots import Demand, Grant, Report
from gateway.scaling.registry import KnownServer, Registry, Resident, Waiter
from gateway.scaling.residency import Life, Phase
from gateway.scaling.scaler import Replica
from gateway.scaling.throttler import Throttler
from gateway.triton.client import Client
from gateway.triton.control import Deployment
from gateway.triton.grpc_client import GrpcClient
from tenants.errors import TableUnavailable
from tenants.model import Model
from tenants.ports import VALUE_BYTES, Item, Key
from tests.gateway.house import Silence
from tests.worlds.table import MemoryTable

SLOTS_OF_ALL = 8
SECONDS = 0.5  # of a call: nothing is sent ahead


class Unsure(MemoryTable):
    """Gives no answer while it is gone."""

    is_gone = False

    async def transact(self, *items: Item) -> None:
        if self.is_gone:
            raise TableUnavailable("gone")
        await super().transact(*items)


@dataclass(slots=True)
class Site:
    """One member, and what it knows of the others."""

    world: "World"
    name: str
    throttler: Throttler
    place: Resident
    is_silent: bool = False
    running: list[Ticket] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    waits: list[Ticket] = field(default_factory=list)

    # Members

    def live(self) -> int:
        return len([it for it in self.world.sites if not it.is_silent])

    def standing(self, name: str) -> Literal["live", "silent", "dead"] | None:
        found = [it for it in self.world.sites if it.name == name]
        return "dead" if not found else "silent" if found[0].is_silent else "live"

    def acting(self) -> int | None:
        return self.world.term if self.world.leader == self.name else None

    def outranked(self, term: int) -> None:
        self.world.outranked.append(self.name)

    # Calls

    def call(self, tenant: str, weight: float = 1.0) -> None:
        ticket = Ticket(tenant, weight)
        assert self.place.demand.order.offer(ticket, self.world.now) is None
        if ticket.state == "waiting":
            future = asyncio.get_running_loop().create_future()
            self.place.demand.waiting[ticket] = Waiter(future, self.world.now)
            self.waits.append(ticket)
        else:
            self.place.slots_taken += 1
            self.running.append(ticket)

    def called_up(self) -> None:
        """What the throttler has let go."""
        self.throttler._call_up(self.place.demand)
        self.running += [it for it in self.waits if it.state == "running"]
        self.waits = [it for it in self.waits if it.state == "waiting"]

    def end(self) -> None:
        """All that has run for long enough."""
        for ticket in [it for it in self.running if it.started_at + SECONDS <= self.world.now]:
            self.running.remove(ticket)
            self.place.slots_taken -= 1
            self.place.demand.order.end(ticket, SECONDS, self.world.now)
            self.ended.append(ticket.tenant)
        self.called_up()


class World:
    """Members that come with their calls; each turn takes a quarter of a second."""

    def __init__(self, members: int = 3) -> None:
        self.table, self.now, self.term, self.leader = Unsure(), 100.0, 1, "m0"
        self.outranked: list[str] = []
        self.sites: list[Site] = []
        self.handings: list[Handing] = []
        for number in range(members):
            site = self._site(f"m{number}")
            self.sites.append(site)
            self.handings.append(Handing(self.table, site, site.throttler))

    def _site(self, name: str) -> Site:
        registry, row = Registry(), Model("m", "digits", "/x", "*")
        throttler = Throttler(registry, lambda: self.now, lambda: {"digits": row}, Silence())
        server = KnownServer(name="s", fleet="local", life=Life.READY, replica=Replica("r", "127.0.0.1", 1))
        place = Resident(
            model="digits",
            memory_bytes=0,
            phase=Phase.READY,
            row=row,
            server=server,
            replica=Replica("r", "127.0.0.1", 1),
            client=Client("127.0.0.1", 1),
            grpc=GrpcClient("127.0.0.1", 2, clock=lambda: self.now),
            demand=registry.demand("digits"),
            deployment=msgspec.convert({"instance_group": [{"count": SLOTS_OF_ALL}]}, Deployment),
            at_once=SLOTS_OF_ALL,
        )
        place.demand.order.costs.held_seconds = SECONDS
        throttler.admit(place)
        return Site(self, name, throttler, place)

    @property
    def parts(self) -> list[int]:
        return [site.throttler._part(site.place.demand) for site in self.sites]

    @property
    def under_way(self) -> int:
        return sum(len(site.running) for site in self.sites)

    async def turns(self, count: int, come: Callable[[], None] = lambda: None) -> int:
        """So many turns; the most calls that were under way."""
        most = 0
        for _ in range(count):
            self.now += 0.25
            come()
            for site in self.sites:
                if not site.is_silent:
                    site.end()
            for site, handing in zip(self.sites, self.handings, strict=True):
                if not site.is_silent:
                    await handing.step()
                    site.called_up()
            most = max(most, self.under_way)
        return most

    def keeps_busy(self, **tenants: int) -> Callable[[], None]:
        """Always twenty calls of one tenant at each member that is named."""

        def come() -> None:
            for tenant, number in tenants.items():
                site = self.sites[number]
                while sum(it.tenant == tenant for it in (*site.running, *site.waits)) < 20:
                    site.call(tenant)

        return come

    async def rows(self) -> dict[str, bytes]:
        return {row.key.sort: row.value for row in (await self.table.list(SLOTS)).rows}


async def test_a_process_that_is_alone_has_all_slots_and_asks_no_table() -> None:
    world = World(members=1)
    world.table.is_gone = True
    await world.turns(4, world.keeps_busy(a=0))
    assert (world.parts, world.under_way) == ([SLOTS_OF_ALL], SLOTS_OF_ALL)


async def test_while_no_member_has_more_calls_than_its_part_nothing_is_written() -> None:
    world = World()
    await world.turns(1)
    for site in world.sites:
        site.call("a")
    await world.turns(4)
    assert world.parts == [3, 3, 3]
    assert await world.rows() == {}


async def test_what_is_more_than_fits_in_a_row_divides_nothing_and_ends_nobody() -> None:
    world = World()
    await world.turns(1)
    await world.turns(4, world.keeps_busy(**{"t" * VALUE_BYTES: 1}))
    assert world.parts == [3, 3, 3]
    assert world.under_way == 3


async def test_the_member_that_has_all_calls_gets_all_slots() -> None:
    world = World()
    most = await world.turns(12, world.keeps_busy(a=1))
    assert world.parts[1] == SLOTS_OF_ALL
    assert most <= SLOTS_OF_ALL


async def test_tenants_at_different_members_share_the_slots_by_weight_and_never_more_run_than_there_are() -> (
    None
):
    world = World()
    busy = world.keeps_busy(a=0, b=1)
    await world.turns(8, busy)
    before = [len(site.ended) for site in world.sites]
    most = await world.turns(80, busy)
    a, b, _ = (len(site.ended) - began for site, began in zip(world.sites, before, strict=True))
    assert most <= SLOTS_OF_ALL
    assert abs(a - b) <= 0.04 * (a + b)
    assert a + b >= 0.9 * 80 * 0.25 / SECONDS * SLOTS_OF_ALL


async def test_slots_follow_the_calls_also_after_a_time_in_which_nothing_changed() -> None:
    world = World()
    await world.turns(20, world.keeps_busy(a=1))
    assert world.parts[1] == SLOTS_OF_ALL
    most = await world.turns(20, world.keeps_busy(a=1, b=2))
    assert world.parts[1:] == [4, 4]
    assert most <= SLOTS_OF_ALL + 1  # a member without a slot lets one call pass


async def test_who_has_no_calls_any_more_does_not_come_back_to_the_slots_that_others_were_given() -> None:
    world = World()
    await world.turns(12, world.keeps_busy(a=1, b=2))
    assert world.parts[1] == 4
    while world.sites[1].running or world.sites[1].waits:
        await world.turns(1, world.keeps_busy(b=2))
    assert world.parts[1] == 0  # in the very step in which it said nothing more


async def test_without_a_leader_or_a_table_members_keep_what_they_have() -> None:
    world = World()
    busy = world.keeps_busy(a=0, b=1)
    await world.turns(8, busy)
    parts, world.leader = world.parts, ""
    await world.turns(8, busy)
    world.table.is_gone = True
    most = await world.turns(8, busy)
    assert (world.parts, most <= SLOTS_OF_ALL) == (parts, True)


async def test_a_new_leader_goes_on_with_what_members_have_and_an_old_one_gives_nothing_more() -> None:
    world = World()
    busy = world.keeps_busy(a=0, b=1)
    await world.turns(8, busy)
    world.leader, world.term = "m2", 2
    most = await world.turns(8, busy)
    assert most <= SLOTS_OF_ALL
    row = (await world.rows())[""]
    assert msgspec.json.decode(row, type=Granted).term == 2
    world.leader, world.term = "m0", 1
    await world.turns(1, busy)
    assert world.outranked == ["m0"]
    assert (await world.rows())[""] == row


async def test_what_a_silent_member_may_use_is_given_to_nobody_until_it_is_gone() -> None:
    world = World()
    busy = world.keeps_busy(a=0, b=1)
    await world.turns(8, busy)
    world.sites[1].is_silent = True
    held = world.parts[1]
    await world.turns(8, world.keeps_busy(a=0))
    assert world.parts[0] == SLOTS_OF_ALL - held
    gone = world.sites.pop(1)
    world.handings.pop(1)
    await world.turns(8, world.keeps_busy(a=0))
    assert world.parts[0] == SLOTS_OF_ALL
    assert gone.name not in await world.rows()


async def test_when_nobody_calls_any_more_nothing_is_left_and_parts_are_even_again() -> None:
    world = World()
    await world.turns(8, world.keeps_busy(a=0, b=1))
    await world.turns(40)
    assert world.parts == [3, 3, 3]
    rows = await world.rows()
    assert list(rows) in ([], [""])
    assert not rows or msgspec.json.decode(rows[""], type=Granted).models == {}


async def test_who_leaves_in_order_leaves_no_row() -> None:
    world = World()
    await world.turns(4, world.keeps_busy(a=1))
    await world.handings[1].leave()
    assert "m1" not in await world.rows()


def test_the_rows_are_told_from_later_versions_and_old_ones_are_read() -> None:
    said = Said({"digits": Wanted(8, Report(3, 4, 2, {"t": Demand(2.0, 5)}))})
    granted = Granted(7, {"digits": {"m0": Grant(5, {"t": 0.5}, 9)}})
    assert msgspec.json.encode(said) == (
        b'{"v":1,"models":{"digits":{"total":8,"report":{"seen":3,"slots":4,"running":2,'
        b'"demands":{"t":{"weight":2.0,"calls":5}}}}}}'
    )
    assert msgspec.json.encode(granted) == (
        b'{"v":1,"term":7,"models":{"digits":{"m0":{"slots":5,"fractions":{"t":0.5},"round":9}}}}'
    )
    assert msgspec.json.decode(b'{"v":1}', type=Granted) == Granted()
    assert Key("slots") == GRANTED_AT
