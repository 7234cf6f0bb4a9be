"""A process that measures ends, whatever the table does."""

import asyncio

import pytest

from gateway.loops import running
from gateway.usage.heard import Calls
from gateway.usage.measuring import Measuring
from tests.worlds.jumping import jumping
from tests.worlds.table import MemoryTable, Pause


@pytest.mark.parametrize("answer", ["at once that there is none", "never", "a look, never"])
def test_a_process_that_measures_ends_soon_whatever_the_table_answers(answer: str) -> None:
    async def story() -> float:
        table = MemoryTable(gone=answer == "at once that there is none")
        measuring, loops = Measuring(table, Calls(), list, lambda: 0), {}
        if answer != "at once that there is none":
            table.pauses_before.append(Pause())
        if answer == "a look, never":
            loops["look"] = measuring.look()
        async with running(**loops):
            await asyncio.sleep(0)
            await measuring.close()
        return asyncio.get_running_loop().time()

    assert jumping(story()) <= 5
