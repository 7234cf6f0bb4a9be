"""Documents rolled out in one go or not at all: many changes, staged in rows of their own, become true with one write of the head.

    1 stage    the changes and who wants them are written aside; nobody looks there
    2 commit   one transaction writes the head (which names the stage) and the new generation; it fails if anything was changed
               since the changes were judged, or if somebody dropped the stage
    3 roll     a transaction for every few changes, with their events; the head says how far

Whoever meets a head that names a stage rolls it to its end before anything else (`Journal.standing`), so it is finished whatever becomes
of the process that began. A stage that no head names is dropped when a gateway or command starts.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from msgspec import Raw, Struct

from tenants.acts import Act
from tenants.errors import Conflict, Unreadable
from tenants.events import Action, Head
from tenants.ports import MOST_ITEMS, Check, Delete, Item, Key, Put, Row
from tenants.rows import DOCUMENTS_AT, Change, encoded, new_row, read, transaction

if TYPE_CHECKING:
    from tenants.directory.journal import Journal, Standing

_AT_ONCE: Final = 5  # each with its event and up to two more items, beside the head and the record


class Also(Struct, frozen=True):
    """A row that goes with a change: written, or removed where there is no value."""

    at: tuple[str, str]
    value: str | None


class Staged(Struct, frozen=True, tag_field="v", tag=1):
    """A change that waits. Stored as JSON, version 1; readers refuse any other."""

    action: Action
    subject_id: str
    at: tuple[str, str]
    tenant_id: str | None
    version: int
    before: Raw
    after: Raw
    also: tuple[Also, ...]


class Stage(Struct, frozen=True, tag_field="v", tag=1):
    """How many changes wait under its id, and whose they are. Stored as JSON, version 1; readers refuse any other."""

    changes: int
    actor: str
    at_us: int
    reason: str


class Generation(Struct, frozen=True, tag_field="v", tag=1):
    """How often documents were applied, and the [kind, name] of all that they declare.

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
    stage = journal.new_id("g")
    await _write(journal, stage, changes, act)
    row, before = await generation(journal)
    after = Generation(before.number + 1, declared)
    applied = Change(Action.DOCUMENTS_APPLIED, str(after.number), DOCUMENTS_AT, row, encoded(after))
    commit = transaction([applied], standing.sequence + 1, [journal.new_id("e")], act)
    there = Check(stage_at(stage), 1)
    try:
        await journal.table.transact(standing.put(Head(stage)), *commit, there)
    except Conflict:
        await _drop(journal, stage)
        raise
    await journal.standing()


async def roll(journal: "Journal", standing: "Standing") -> None:
    """The next few changes of the stage that the head names, and its end behind the last. Whoever else does that may be faster."""
    stage, first = standing.head.stage or "", standing.head.rolled
    rows = await journal.many(
        [stage_at(stage), *(staged_at(stage, first + more) for more in range(_AT_ONCE))]
    )
    if stage_at(stage) not in rows:
        if await journal.glance() == standing:  # else somebody was faster, and has cleared up
            raise Unreadable(f"the head names the stage {stage}, which is not there")
        return
    told = read(rows.pop(stage_at(stage)), Stage)
    changes = [_change(read(row, Staged)) for row in rows.values()]
    last = first + len(changes)
    head = Head(stage, last) if last < told.changes else Head()
    act = Act(told.actor, told.at_us, told.reason)
    ids = (journal.new_id("e") for _ in changes)
    try:
        await journal.table.transact(
            standing.put(head), *transaction(changes, standing.sequence + 1, ids, act)
        )
    except Conflict:
        if (
            await journal.glance() == standing
        ):  # nobody was faster: a row is not as it was judged, which cannot be
            raise
        return
    if head.stage is None:
        await _drop(journal, stage)


async def drop_leftovers(journal: "Journal") -> int:
    """How many stages were dropped that never came to be; who is still writing one begins anew."""
    committed = (await journal.standing()).head.stage
    left = [row.key.sort for row in await journal.partition("stages")]
    for stage in left:
        if stage != committed:
            await _drop(journal, stage)
    return len(left)


async def _write(journal: "Journal", stage: str, changes: Sequence[Change], act: Act) -> None:
    told = Stage(len(changes), act.actor, act.at_us, act.reason)
    await journal.table.transact(new_row(stage_at(stage), told))
    for number, change in enumerate(changes):
        # One a transaction: a change holds two rows of up to 150,000 bytes.
        await journal.table.transact(new_row(staged_at(stage, number), _staged(change)))


async def _drop(journal: "Journal", stage: str) -> None:
    """Its first row last: so long as that is there somebody will come back for the others."""
    rows = [row.key for row in await journal.partition(f"stage/{stage}")]
    for first in range(0, len(rows), MOST_ITEMS):
        await journal.table.transact(*(Delete(key, None) for key in rows[first : first + MOST_ITEMS]))
    await journal.table.transact(Delete(stage_at(stage), None))


def _staged(change: Change) -> Staged:
    return Staged(
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


def _change(staged: Staged) -> Change:
    at = Key(*staged.at)
    before, after = bytes(staged.before), bytes(staged.after)
    return Change(
        action=staged.action,
        subject_id=staged.subject_id,
        at=at,
        before=Row(at, before, staged.version) if staged.version else None,
        after=None if after == b"null" else after,
        tenant_id=staged.tenant_id,
        also=tuple(
            Delete(Key(*it.at), None) if it.value is None else Put(Key(*it.at), it.value.encode(), None)
            for it in staged.also
        ),
    )
