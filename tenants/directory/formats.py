"""How the rows lie in the table, as a whole: a number that says so, and the steps from one to the next.

Each row has a version of its own for what is in it (`rows.py`); this one is for what rows there must be, and for what a program must
heed: a field that was added is overlooked by those of before, and where that would serve somebody who must not be served so, they must
not start.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from tenants.errors import Conflict, Unreadable
from tenants.ports import MOST_ITEMS, Check, Item, Key, Put
from tenants.rows import TenantPointer, encoded, new_row, on_plan_at, read, readable, tenant_at
from tenants.tenant import Tenant

if TYPE_CHECKING:
    from tenants.directory.journal import Journal

AT: Final = Key("format")
_PLACED: Final = MOST_ITEMS // 2


class Format(Struct, frozen=True, tag_field="v", tag=1):
    """Stored as JSON, version 1; readers refuse any other."""

    number: int


async def migrate(journal: "Journal", steps: "Sequence[Step] | None" = None) -> None:
    """The table is as this program wants it, and says so. A step may be made twice. Raises Unreadable for one of a later program."""
    steps = STEPS if steps is None else steps
    newest = len(steps) + 1
    row = await journal.table.get(AT)
    number = read(row, Format).number if row else 1
    if number > newest:
        raise Unreadable(
            f"the directory has format {number} and this program knows {newest}: run a gateway of the version that wrote it"
        )
    if number == newest:
        return
    for step in steps[number - 1 :]:
        await step(journal)
    try:
        await journal.table.transact(
            Put(AT, encoded(Format(newest)), row.version) if row else new_row(AT, Format(newest))
        )
    except Conflict:  # another process did the same
        await migrate(journal, steps)


async def _place_tenants_on_plans(journal: "Journal") -> None:
    """1 to 2: a tenant is found by its plan. One that somebody moves meanwhile is not placed where it was: all are looked at anew."""
    named = {row.key: row for row in await journal.partition("tenants")}
    rows = await journal.many(tenant_at(it.tenant_id) for it in readable(named, TenantPointer).values())
    owners = list(readable(rows, Tenant).items())
    for first in range(0, len(owners), _PLACED):
        items: list[Item] = []
        for at, owner in owners[first : first + _PLACED]:
            items += (Check(at, rows[at].version), Put(on_plan_at(owner.plan, owner.id), b"{}", None))
        try:
            await journal.table.transact(*items)
        except Conflict:
            return await _place_tenants_on_plans(journal)
    return None


async def _heed_privacies(_: "Journal") -> None:
    """2 to 3: every row stays as it is. A program of before does not know that a tenant can have a privacy, and would send on unmasked what
    is to be masked.
    """


Step = Callable[["Journal"], Awaitable[None]]
STEPS: Final[tuple[Step, ...]] = (_place_tenants_on_plans, _heed_privacies)
NUMBER: Final = len(STEPS) + 1
