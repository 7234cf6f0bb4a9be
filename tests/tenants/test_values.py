"""Plans, models and fleets: what is used stays, what was changed meanwhile is not overwritten, and who moves is on one plan."""

import pytest

from tenants.acts import Act
from tenants.directory import Directory
from tenants.directory.journal import MOST_CHANGES
from tenants.errors import InUse, Invalid, NotFound, Stale
from tenants.fleet import Fleet
from tenants.model import Model
from tenants.plans import Limits, Plan
from tenants.ports import Row
from tenants.rows import model_at
from tests.tenants.conftest import BY, NOW, TEAM, events
from tests.worlds.table import MemoryTable

ACT = Act(BY, NOW + 1)
FREE = Plan("free", 1, Limits(10))


@pytest.mark.parametrize("closed", [False, True], ids=["served", "closed"])
async def test_a_plan_stays_while_a_tenant_is_on_it_also_a_closed_one(
    acme: Directory, world: MemoryTable, *, closed: bool
) -> None:
    await acme.values.put(FREE, act=ACT)
    if closed:
        await acme.tenants.do("acme", "close", ACT)
    rows = dict(world.rows)
    with pytest.raises(InUse, match="plan 'team' is in use by tenants"):
        await acme.values.remove(Plan, "team", ACT)
    assert world.rows == rows
    await acme.tenants.move("acme", "free", ACT)
    await acme.values.remove(Plan, "team", ACT)
    assert list(await acme.values.plans()) == ["free"]
    assert (await acme.tenants.show("acme")).plan == "free"


async def test_who_moves_is_found_under_the_new_plan_alone_and_moving_again_changes_nothing(
    acme: Directory, world: MemoryTable
) -> None:
    await acme.values.put(FREE, act=ACT)
    moved = await acme.tenants.move("acme", "free", ACT)
    assert await acme.tenants.move("acme", "free", ACT) == moved
    assert [await acme.values.tenants_have("plan", plan) for plan in ("team", "free")] == [False, True]
    assert [it.action for it in events(world) if it.action.startswith("tenant.")] == [
        "tenant.created",
        "tenant.changed",
    ]
    with pytest.raises(NotFound, match="plan 'gold'"):
        await acme.tenants.move("acme", "gold", ACT)


async def test_a_fleet_stays_while_a_model_is_on_it(acme: Directory) -> None:
    with pytest.raises(InUse, match="fleet 'local' is in use by the model"):
        await acme.values.remove(Fleet, "local", ACT)
    for name in ("digits", "secret"):
        await acme.values.remove(Model, name, ACT)
    await acme.values.remove(Fleet, "local", ACT)
    assert await acme.values.fleets() == {}


async def test_what_is_removed_is_told_with_what_it_was_and_is_not_found_again(
    acme: Directory, world: MemoryTable
) -> None:
    model = (await acme.values.find(Model, "digits")).value
    await acme.values.remove(Model, "digits", ACT)
    (told,) = [event for event in events(world) if event.at_us > NOW]
    assert (told.action, told.subject) == ("model.removed", f"model/{model.id}")
    assert (model.id.encode() in bytes(told.before), bytes(told.after)) == (True, b"null")
    for gone in ("digits", "never"):
        with pytest.raises(NotFound, match=f"model '{gone}'"):
            await acme.values.remove(Model, gone, ACT)
        with pytest.raises(NotFound):
            await acme.values.find(Model, gone)


async def test_a_value_that_was_changed_meanwhile_is_not_overwritten(acme: Directory) -> None:
    seen = await acme.values.find(Plan, "team")
    assert seen.value == TEAM
    smaller, smallest = Plan("team", 1, Limits(10)), Plan("team", 1, Limits(1))
    await acme.values.put(smaller, act=ACT, expected=seen.version)
    with pytest.raises(Stale, match="plan 'team'"):
        await acme.values.put(smallest, act=ACT, expected=seen.version)
    with pytest.raises(Stale, match="plan 'team'"):
        await acme.values.remove(Plan, "team", ACT, expected=seen.version)
    assert (await acme.values.find(Plan, "team")).value == smaller


async def test_one_is_found_without_reading_the_others_and_no_text_is_a_name_that_no_table_can_hold(
    acme: Directory, world: MemoryTable
) -> None:
    world.rows[model_at("other")] = Row(model_at("other"), b"?", 1)
    world.page_rows.append(1)
    assert (await acme.values.find(Model, "digits")).value.name == "digits"
    assert list(world.page_rows) == [1]  # nothing was listed
    for text in ("", "x" * 2000, "\ud800", "../digits"):
        with pytest.raises(NotFound):
            await acme.values.find(Model, text)


async def test_a_value_that_must_be_new_is_not_overwritten(acme: Directory) -> None:
    with pytest.raises(Stale):
        await acme.values.put(TEAM, act=ACT, expected=0)
    await acme.values.put(FREE, act=ACT, expected=0)
    with pytest.raises(Stale):
        await acme.values.put(FREE, act=ACT, expected=0)


async def test_a_tenant_that_was_changed_meanwhile_is_not_moved(acme: Directory) -> None:
    await acme.values.put(FREE, act=ACT)
    seen = await acme.tenants.find("acme")
    await acme.tenants.do("acme", "suspend", ACT)
    with pytest.raises(Stale, match="tenant 'acme'"):
        await acme.tenants.move("acme", "free", ACT, expected=seen.version)
    now = await acme.tenants.find("acme")
    assert (await acme.tenants.move("acme", "free", ACT, expected=now.version)).plan == "free"


async def test_several_values_are_put_together_or_not_at_all(acme: Directory) -> None:
    fleet, model = Fleet("gpu"), Model("", "big", "models", "*", fleet="gpu")
    with pytest.raises(Invalid, match="no fleet 'gpu'"):
        await acme.values.put(FREE, model, act=ACT)
    assert "free" not in await acme.values.plans()
    made = await acme.values.put(FREE, model, fleet, act=ACT)
    assert [value.name for value in made] == ["free", "big", "gpu"]
    many = [Plan(f"p{number}", 1, Limits(10)) for number in range(MOST_CHANGES + 1)]
    with pytest.raises(ValueError, match="at most 8"):
        await acme.values.put(*many, act=ACT)
    await acme.values.put(*many[:MOST_CHANGES], act=ACT)


async def test_values_are_listed_by_name_page_by_page(acme: Directory) -> None:
    for number in range(3):
        await acme.values.put(Plan(f"p{number}", 1, Limits(10)), act=ACT)
    first = await acme.values.list(Plan, limit=2)
    rest = await acme.values.list(Plan, first.next_after, limit=2)
    assert [plan.name for plan in (*first.values, *rest.values)] == ["p0", "p1", "p2", "team"]
    assert rest.next_after is None
