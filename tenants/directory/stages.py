"""Documents rolled out in one go or not at all: many changes, staged in rows of their own, become true with one write of the head.

    1 stage    the changes and who wants them are written aside, as the transactions that they will be; nobody looks there
    2 commit   one transaction writes the head (which names the stage) and the new generation; it fails if anything was changed
               since the changes were judged
    3 roll     transaction by transaction, each with its events; the head says how far

Whoever meets a head that names a stage rolls it to its end before anything else (`Journal.standing`), so it is finished whatever becomes
of the process that began. A stage can be committed only while the head is where it was judged against. Once that has moved the stage
is nothing or done, and is dropped by whoever comes by: until then it is left alone, as somebody may be about to commit it.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from msgspec import Raw, Struct

from tenants.acts import Act
from tenants.errors import Conflict, Unreadable
from tenants.events import Action, Head
from tenants.ports import MOST_ITEMS, Check, Delete, Item, Key, Put, Row
from tenants.rows import DOCUMENTS_AT, Change, encoded, new_row, read, readable, transaction

if TYPE_CHECKING:
    from tenants.directory.journal import Journal, Standing

# Of a transaction, beside the head and the record. What it writes is twice its staged row at most: the rows, and events with all of that.
_ROLLED_ITEMS: Final = MOST_ITEMS - 2
_ROLLED_BYTES: Final = 300_000
# Of a transaction that stages; what a table takes at once is a little more.
_STAGED_BYTES: Final = 3_000_000


class Also(Struct, frozen=True):
    """A row that goes with a change: written, or removed where there is no value."""

    at: tuple[str, str]
    value: str | None


class Waiting(Struct, frozen=True):
    """A change that waits; `version` is that of the row before, and 0 where there is none."""

    action: Action
    subject_id: str
    at: tuple[str, str]
    tenant_id: str | None
    version: int
    before: Raw
    after: Raw
    also: tuple[Also, ...]


class Staged(Struct, frozen=True, tag_field="v", tag=1):
    """What one transaction will change. Stored as JSON, version 1; readers refuse any other."""

    changes: tuple[Waiting, ...]


class Stage(Struct, frozen=True, tag_field="v", tag=1):
    """How many transactions wait under its id, whose they are, and behind which number of the order of changes they were judged.

    Stored as JSON, version 1; readers refuse any other.
    """

    transactions: int
    sequence: int
    actor: str
    at_us: int
    reason: str


class Generation(Struct, frozen=True, tag_field="v", tag=1):
    """How often documents were applied, and the [kind, name] of all that they declared and that is there.

    Stored as JSON, version 1; readers refuse any other.
    """

    number: int = 0
    declared: tuple[tuple[str, str], ...] = ()


def stage_at(stage: str) -> Key:
    return Key("stages", stage)


def staged_at(stage: str, number: int) -> Key:
    return Key(f"stage/{stage}", f"{number:06d}")


async def generation(journal: "Journal") -> tuple[Row | None, Generation]:
    """What documents declare now, and its row."""
    row = await journal.table.get(DOCUMENTS_AT)
    return row, read(row, Generation) if row else Generation()


async def apply(
    journal: "Journal",
    standing: "Standing",
    changes: Sequence[Change],
    declared: tuple[tuple[str, str], ...],
    act: Act,
) -> None:
    """All changes are made, or, with Conflict, none: something was changed since `standing`, which they were judged against.

    With TableUnavailable they are made wholly or not at all too, at the latest when somebody looks.
    """
    stage = await _write(journal, standing, changes, act) if changes else None
    row, before = await generation(journal)
    after = Generation(before.number + 1, declared)
    applied = Change(Action.DOCUMENTS_APPLIED, str(after.number), DOCUMENTS_AT, row, encoded(after))
    commit = transaction([applied], standing.sequence + 1, [journal.new_id("e")], act)
    try:
        await journal.table.transact(standing.put(Head(stage)), *commit)
    except Conflict:
        await drop_leftovers(journal)
        raise
    await drop_leftovers(journal)


async def roll(journal: "Journal", standing: "Standing") -> None:
    """The next transaction of the stage that the head names. Whoever else does that may be faster."""
    stage, done = standing.head.stage or "", standing.head.rolled
    wanted = [stage_at(stage), staged_at(stage, done)]
    rows = await journal.many(wanted)
    if len(rows) < len(wanted):
        if await journal.glance() == standing:  # else somebody was faster, and has cleared up
            raise Unreadable(f"the head names the stage {stage}, which is not there")
        return
    told, staged = read(rows[stage_at(stage)], Stage), read(rows[staged_at(stage, done)], Staged)
    changes = [_change(waiting) for waiting in staged.changes]
    head = Head(stage, done + 1) if done + 1 < told.transactions else Head()
    act = Act(told.actor, told.at_us, told.reason)
    ids = (journal.new_id("e") for _ in changes)
    try:
        await journal.table.transact(
            standing.put(head), *transaction(changes, standing.sequence + 1, ids, act)
        )
    except Conflict as conflict:
        if await journal.glance() == standing:  # nobody was faster
            raise Unreadable(f"the stage {stage} meets a row that was changed by no directory") from conflict


async def drop_leftovers(journal: "Journal") -> None:
    """What no head names nor will name is gone; a stage that the head names is rolled out first."""
    standing = await journal.standing()
    rows = {row.key: row for row in await journal.partition("stages")}
    for key, told in readable(rows, Stage).items():
        if told.sequence < standing.sequence:
            await _drop(journal, rows[key])


async def _write(journal: "Journal", standing: "Standing", changes: Sequence[Change], act: Act) -> str:
    """The id of a new stage. Raises Conflict when that was dropped meanwhile: the head has moved."""
    stage = journal.new_id("g")
    rows = [encoded(Staged(tuple(waiting))) for waiting in _transactions(changes)]
    told = Stage(len(rows), standing.sequence, act.actor, act.at_us, act.reason)
    items: list[Item] = [new_row(stage_at(stage), told)]
    size = 0
    for number, value in enumerate(rows):
        if len(items) == MOST_ITEMS or size + len(value) > _STAGED_BYTES:
            await journal.table.transact(*items)
            items, size = [Check(stage_at(stage), 1)], 0  # what comes behind a drop would be found by nobody
        items.append(Put(staged_at(stage, number), value, expected=0))
        size += len(value)
    await journal.table.transact(*items)
    return stage


def _transactions(changes: Sequence[Change]) -> Iterator[list[Waiting]]:
    """In their order, as many together as a transaction takes."""
    found: list[Waiting] = []
    items = size = 0
    for change in changes:
        waiting = _waiting(change)
        more, longer = len(change.also) + 2, len(encoded(waiting))  # with its row and its event
        if found and (items + more > _ROLLED_ITEMS or size + longer > _ROLLED_BYTES):
            yield found
            found, items, size = [], 0, 0
        found.append(waiting)
        items, size = items + more, size + longer
    if found:
        yield found


async def _drop(journal: "Journal", row: Row) -> None:
    """Marked first, so that nothing is added any more; its own row last: so long as that is there somebody comes back for the others."""
    with suppress(Conflict):  # somebody else drops it
        await journal.table.transact(Put(row.key, row.value, row.version))
        keys = [staged.key for staged in await journal.partition(f"stage/{row.key.sort}")]
        for first in range(0, len(keys), MOST_ITEMS):
            await journal.table.transact(*(Delete(key, None) for key in keys[first : first + MOST_ITEMS]))
        await journal.table.transact(Delete(row.key, row.version + 1))


def _waiting(change: Change) -> Waiting:
    return Waiting(
        action=change.action,
        subject_id=change.subject_id,
        at=(change.at.partition, change.at.sort),
        tenant_id=change.tenant_id,
        version=change.before.version if change.before else 0,
        before=Raw(change.before.value if change.before else b"null"),
        after=Raw(b"null" if change.after is None else change.after),
        also=tuple(_also(item) for item in change.also),
    )


def _also(item: Item) -> Also:
    if isinstance(item, Check):
        raise TypeError("a staged change is checked by the head alone")
    return Also((item.key.partition, item.key.sort), item.value.decode() if isinstance(item, Put) else None)


def _change(waiting: Waiting) -> Change:
    at = Key(*waiting.at)
    before, after = bytes(waiting.before), bytes(waiting.after)
    return Change(
        action=waiting.action,
        subject_id=waiting.subject_id,
        at=at,
        before=Row(at, before, waiting.version) if waiting.version else None,
        after=None if after == b"null" else after,
        tenant_id=waiting.tenant_id,
        also=tuple(
            Delete(Key(*it.at), None) if it.value is None else Put(Key(*it.at), it.value.encode(), None)
            for it in waiting.also
        ),
    )
