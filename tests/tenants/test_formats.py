"""A table of an older format becomes one of this program's, whoever else is at it, and a newer one is refused."""

import pytest

from tenants.acts import Act
from tenants.directory import Directory, formats
from tenants.errors import InUse, Unreadable
from tenants.plans import Limits, Plan
from tenants.ports import Item, Put, Row
from tenants.rows import encoded, name_at, on_plan_at
from tests.tenants.conftest import BY, NOW, TEAM
from tests.worlds.table import MemoryTable

ACT = Act(BY, NOW)
FREE = Plan("free", 1, Limits(10))


class Moving(MemoryTable):
    """Somebody else moves a tenant as the first places are written."""

    somebody: Directory | None = None

    async def transact(self, *items: Item) -> None:
        mover = self.somebody
        if mover is not None and any(isinstance(it, Put) and it.key.partition == "plan/team" for it in items):
            self.somebody = None
            await mover.tenants.move("t00", "free", ACT)
        await MemoryTable.transact(self, *items)


async def older(world: MemoryTable, directory: Directory, many: int = 30) -> None:
    """Tenants on a plan, as they were before format 2."""
    await directory.values.put(TEAM, act=ACT)
    await directory.values.put(FREE, act=ACT)
    for number in range(many):
        await directory.tenants.create(f"t{number:02}", "team", ACT)
    for key in [key for key in world.rows if key.partition.startswith("plan/")]:
        del world.rows[key]


async def test_the_tenants_of_an_older_table_are_on_their_plans_and_one_bad_row_harms_no_other(
    directory: Directory, world: MemoryTable
) -> None:
    await older(world, directory)
    world.rows[name_at("bad")] = Row(name_at("bad"), b"?", 1)
    await directory.repair()
    assert len(await directory.tenants.on_plan("team")) == 30
    with pytest.raises(InUse):
        await directory.values.remove(Plan, "team", ACT)
    rows = dict(world.rows)
    await directory.repair()
    assert world.rows == rows


async def test_who_moves_while_an_older_table_is_brought_up_is_on_the_new_plan_alone(
    directory: Directory,
) -> None:
    world = Moving()
    own = Directory(world, directory.journal.entropy)
    await older(world, own)
    world.somebody = Directory(world, directory.journal.entropy)
    await own.repair()
    moved = await own.tenants.show("t00")
    assert (on_plan_at("team", moved.id) in world.rows, on_plan_at("free", moved.id) in world.rows) == (
        False,
        True,
    )
    assert len(await own.tenants.on_plan("team")) == 29


async def test_a_program_that_would_overlook_a_tenants_privacy_does_not_start(directory: Directory) -> None:
    await formats.migrate(directory.journal, formats.STEPS[:1])  # as before there were privacies
    await directory.repair()
    with pytest.raises(Unreadable, match="this program knows 2"):
        await formats.migrate(directory.journal, formats.STEPS[:1])
    await directory.repair()


async def test_a_table_of_a_later_program_is_refused_with_what_to_do(
    directory: Directory, world: MemoryTable
) -> None:
    world.rows[formats.AT] = Row(formats.AT, encoded(formats.Format(formats.NUMBER + 1)), 1)
    with pytest.raises(Unreadable) as refused:
        await directory.repair()
    assert "run a gateway of the version that wrote it" in str(refused.value)
