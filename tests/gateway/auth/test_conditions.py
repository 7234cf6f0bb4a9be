"""A key that is bound works from there and then alone, hears why it does not elsewhere, and what it was last used is noted."""

import pytest

from gateway.auth.conditions import AT_ANOTHER_HOUR, ELSEWHERE, Conditions, conditions
from gateway.auth.last_used import MOST_NOTES, LastUsed
from gateway.errors import Code, GatewayError
from tenants import hours
from tenants.conditions import KeyLimits, Terms
from tenants.directory import Minted
from tenants.errors import TableUnavailable
from tenants.hours import Hours, Window
from tenants.ports import Item
from tests.gateway.auth.world import ACT, HERE, NOW_US, World
from tests.worlds.table import Fault

HOUR_US = 3_600 * 1_000_000
# NOW_US is a Tuesday, 22:13:20 UTC.


@pytest.fixture
async def world() -> World:
    return await World().open()


async def bound(world: World, terms: Terms) -> Minted:
    minted = await world.directory.keys.create("acme", act=ACT, terms=terms)
    await world.seen()
    return minted


async def refusal(world: World, minted: Minted, address: str) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        await world.called(minted.secret, address)
    return caught.value


async def test_a_key_for_some_networks_is_forbidden_elsewhere_and_the_refusal_knows_whose_it_is(
    world: World,
) -> None:
    minted = await bound(world, Terms(("192.0.2.0/24", "2001:db8::/32")))
    for address in (HERE, "::ffff:192.0.2.9", "2001:db8::7"):
        assert (await world.called(minted.secret, address)).id == minted.key.id
    for address in ("198.51.100.1", "::ffff:198.51.100.1", "2001:db9::1", "", "unix:/run/gateway"):
        error = await refusal(world, minted, address)
        assert (error.code, error.rendering.http, error.sentence) == (Code.FORBIDDEN, 403, ELSEWHERE)
        assert error.who is not None
        assert (error.who.id, error.who.tenant_id) == (minted.key.id, minted.key.tenant_id)


async def test_a_key_for_some_hours_is_forbidden_from_the_very_microsecond_on(world: World) -> None:
    minted = await bound(world, Terms(hours=hours.read("tue 22:00-23:00")))
    await world.called(minted.secret)
    end_us = NOW_US - NOW_US % HOUR_US + HOUR_US
    world.now_us = end_us - 1
    await world.called(minted.secret)
    world.now_us = end_us
    error = await refusal(world, minted, HERE)
    assert (error.code, error.sentence) == (Code.FORBIDDEN, AT_ANOTHER_HOUR)


async def test_a_key_that_has_ended_hears_nothing_of_its_conditions(world: World) -> None:
    minted = await world.directory.keys.create(
        "acme", act=ACT, expires_us=NOW_US + 1, terms=Terms(("192.0.2.0/24",))
    )
    await world.seen()
    world.now_us += 1
    assert (await refusal(world, minted, "198.51.100.1")).code is Code.UNAUTHENTICATED


async def test_a_rotated_keys_successor_is_bound_as_it_was(world: World) -> None:
    terms = Terms(("192.0.2.0/24",), hours.read("tue 22:00-23:00"), KeyLimits(concurrent_requests=1))
    minted = await bound(world, terms)
    again = await world.directory.keys.rotate("acme", minted.key.id, ACT, overlap_seconds=60)
    assert again.key.terms == terms
    await world.seen()
    assert (await world.called(again.secret)).limits == terms.limits
    assert (await refusal(world, again, "198.51.100.1")).code is Code.FORBIDDEN


async def test_conditions_that_cannot_be_read_here_open_no_door(world: World) -> None:
    minted = await bound(world, Terms(("192.0.2.0/24",)))
    for at, row in list(world.table.rows.items()):
        if at.sort == f"key/{minted.key.id}":
            world.table.rows[at] = type(row)(
                at, row.value.replace(b"192.0.2.0/24", b"192.0.2.0/99"), row.version
            )
    assert await world.refused(minted.secret) is Code.UNAUTHENTICATED


def test_without_bounds_there_is_nothing_to_judge_and_of_two_both_are() -> None:
    assert conditions(None, None) is None
    week = Hours((Window(("mon",), "00:00", "24:00"),))
    both = conditions(("192.0.2.0/24",), week)
    assert both is not None
    monday = NOW_US - 24 * HOUR_US
    assert both.refusal(HERE, monday) is None
    assert both.refusal(HERE, NOW_US) == AT_ANOTHER_HOUR
    assert both.refusal("198.51.100.1", monday) == ELSEWHERE
    assert Conditions().refusal("", NOW_US) is None
    with pytest.raises(ValueError, match="zone"):
        conditions(None, Hours(week.windows, "Europe/Nowhere"))


# When it was last used


async def used(world: World, minted: Minted) -> int | None:
    return (await world.directory.uses.record(minted.key)).used_us


async def test_a_use_is_noted_on_the_path_and_kept_by_a_flush_without_an_event(world: World) -> None:
    last = LastUsed(world.directory.uses, notes=world.keys.used)
    minted = await world.warm()
    before = await world.directory.journal.last(), [at for at in world.table.rows if "event" in at.sort]
    world.table.reads.clear()
    world.now_us += 5
    await world.called(minted.secret)
    assert world.table.reads == []
    assert await used(world, minted) is None
    await last.flush()
    assert await used(world, minted) == NOW_US + 5
    assert last.notes == {}
    assert before == (
        await world.directory.journal.last(),
        [at for at in world.table.rows if "event" in at.sort],
    )


async def test_a_refused_use_is_no_use(world: World) -> None:
    minted = await bound(world, Terms(("192.0.2.0/24",)))
    await refusal(world, minted, "198.51.100.1")
    assert world.keys.used == {}


@pytest.mark.parametrize("fault", Fault)
async def test_a_table_that_gives_no_answer_keeps_the_notes_for_the_next_time(
    world: World, fault: Fault
) -> None:
    last = LastUsed(world.directory.uses, notes=world.keys.used)
    minted = await world.warm()
    world.table.write_faults.append(fault)
    with pytest.raises(TableUnavailable):
        await last.flush()
    assert last.notes == {minted.key.id: (minted.key.tenant_id, NOW_US)}
    await last.flush()
    assert await used(world, minted) == NOW_US


async def test_what_is_noted_while_a_flush_fails_is_newer_and_stays(world: World) -> None:
    last = LastUsed(world.directory.uses, notes=world.keys.used)
    minted = await world.warm()
    whole = world.table.transact

    async def meanwhile(*items: Item) -> None:
        world.now_us += 1
        await world.called(minted.secret)
        await whole(*items)

    world.table.write_faults.append(Fault.LOST_BEFORE)
    watched = LastUsed(type(last.uses)(_Journal(meanwhile)), notes=last.notes)  # type: ignore[arg-type]
    with pytest.raises(TableUnavailable):
        await watched.flush()
    assert last.notes[minted.key.id][1] == NOW_US + 1


class _Journal:
    """A journal whose table does this at each write."""

    def __init__(self, transact: object) -> None:
        self.table = type("Table", (), {"transact": staticmethod(transact)})  # type: ignore[arg-type]


async def test_many_notes_are_kept_in_transactions_of_twenty_five(world: World) -> None:
    sizes: list[int] = []

    async def counted(*items: Item) -> None:
        sizes.append(len(items))

    notes = {f"k_{number}": ("t_1", number) for number in range(60)}
    await LastUsed(type(world.directory.uses)(_Journal(counted)), notes=notes).flush()  # type: ignore[arg-type]
    assert (sizes, notes) == ([25, 25, 10], {})


async def test_notes_that_nobody_takes_have_a_bound_and_the_oldest_go(world: World) -> None:
    async def lost(*_: Item) -> None:
        raise TableUnavailable("out of reach")

    notes = {f"k_{number}": ("t_1", number) for number in range(MOST_NOTES + 7)}
    last = LastUsed(type(world.directory.uses)(_Journal(lost)), notes=notes)  # type: ignore[arg-type]
    await last.close()
    assert len(notes) == MOST_NOTES
    assert "k_6" not in notes
    assert "k_7" in notes


async def test_the_last_flush_is_at_the_end_of_the_process(world: World) -> None:
    last = LastUsed(world.directory.uses, notes=world.keys.used)
    minted = await world.warm()
    await last.close()
    assert await used(world, minted) == NOW_US
