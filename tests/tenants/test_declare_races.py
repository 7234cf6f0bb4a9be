"""Somebody else is faster while documents are applied: what was seen of an older instant is never written."""

from random import Random

import pytest

from tenants.directory import Directory
from tenants.outline import Prune
from tenants.ports import MOST_KEYS, Page
from tests.tenants.conftest import actions
from tests.tenants.test_declare_tenants import PLAN, apply
from tests.worlds.table import MemoryTable


@pytest.mark.parametrize("look", range(1, 14))
async def test_who_removes_what_another_was_about_to_remove_is_met_with_a_second_look(
    directory: Directory, world: MemoryTable, look: int
) -> None:
    """Before each list that an apply reads, somebody else is faster with all of the same."""
    older = [PLAN, *(f"kind: Fleet\nname: f{number}" for number in range(3))]
    await apply(directory, *older)

    class RemovesFirst(MemoryTable):
        lists = 0

        async def list(
            self, partition: str, prefix: str = "", after: str | None = None, limit: int = MOST_KEYS
        ) -> Page:
            self.lists += 1
            if self.lists == look:
                await apply(directory, PLAN, prune=Prune.CATALOGUE)
            return await MemoryTable.list(self, partition, prefix, after, limit)

    second = Directory(RemovesFirst(rows=world.rows), Random(9).randbytes)
    await apply(second, PLAN, prune=Prune.CATALOGUE)
    assert await directory.values.fleets() == {}
    assert actions(world).count("fleet.removed") == 3
