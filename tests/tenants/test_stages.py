"""Documents are rolled out wholly or not at all, whoever dies, drops, commits or looks in between."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from random import Random

import pytest

from tenants import declare
from tenants.acts import Act
from tenants.catalogue import Value
from tenants.directory import Directory, stages
from tenants.directory.stages import Stage, stage_at, staged_at
from tenants.documents import Document, Documents
from tenants.errors import TableUnavailable, Unreadable
from tenants.events import Action, Head
from tenants.fleet import Fleet
from tenants.model import Canary, CanaryInput, Model
from tenants.outline import Prune, outlined
from tenants.plans import Limits, Plan
from tenants.ports import Item, Key, Put, Row
from tenants.rows import HEAD_AT, Change, encoded, model_at, new_row
from tests.e2e.applier import declared
from tests.tenants import replay
from tests.tenants.conftest import BY, NOW, events
from tests.tenants.test_declare import FailsOnce
from tests.worlds.table import MemoryTable

MANY = 40


def models(number: int) -> list[Value]:
    return [Fleet("local"), *(Model("", f"m{n:03}", "/models", "*") for n in range(number))]


async def apply(directory: Directory, *values: Value) -> None:
    await declare.apply(directory, Documents(tuple(map(Document, values))), act=Act(BY, NOW))


def left_aside(table: MemoryTable) -> list[Key]:
    return [key for key in table.rows if key.partition.startswith("stage")]


@dataclass(slots=True)
class Interrupted(MemoryTable):
    """Before the write with that number somebody else does something."""

    number: int = 0
    written: int = 0
    meanwhile: Callable[[], Awaitable[object]] | None = None

    async def transact(self, *items: Item) -> None:
        self.written += 1
        if self.written == self.number and self.meanwhile is not None:
            await self.meanwhile()
        await MemoryTable.transact(self, *items)


@pytest.mark.parametrize("number", range(1, 10))
async def test_whoever_looks_while_documents_are_rolled_out_finishes_them_first(number: int) -> None:
    table = Interrupted(number=number)
    looks = Directory(table, Random(8).randbytes)
    seen: list[int] = []

    async def look() -> None:
        await looks.repair()
        seen.append(len((await looks.values.catalogue()).models))

    table.meanwhile = look
    await apply(Directory(table, Random(7).randbytes), *models(MANY))
    assert seen in ([0], [MANY])
    assert (replay.faults(table.rows), left_aside(table)) == ([], [])


@pytest.mark.parametrize("number", range(1, 10))
async def test_whoever_changes_something_while_documents_are_rolled_out_comes_before_all_of_them_or_behind(
    number: int,
) -> None:
    table = Interrupted(number=number)
    changes = Directory(table, Random(8).randbytes)

    async def change() -> None:
        await changes.values.put(Fleet("other"), act=Act(BY, NOW))
        await changes.repair()

    table.meanwhile = change
    await apply(Directory(table, Random(7).randbytes), *models(MANY))
    told = sorted(events(table), key=lambda it: it.sequence)
    assert "fleet/other" in (told[0].subject, told[-1].subject)
    assert (replay.faults(table.rows), left_aside(table)) == ([], [])


async def test_a_stage_that_somebody_may_commit_is_left_alone_and_one_that_nobody_can_is_dropped(
    directory: Directory, world: MemoryTable
) -> None:
    standing = await directory.journal.standing()
    waiting = Change(Action.FLEET_CREATED, "a", Key("fleets", "a"), None, encoded(Fleet("a")))

    class Dies(MemoryTable):
        async def transact(self, *items: Item) -> None:
            if any(item.key == HEAD_AT for item in items):
                raise SystemExit
            await world.transact(*items)

    dying = Directory(Dies(rows=world.rows), Random(9).randbytes)
    with pytest.raises(SystemExit):
        await stages.apply(dying.journal, standing, [waiting], (), Act(BY, NOW))
    await directory.repair()
    assert len(left_aside(world)) == 2
    await directory.values.put(Fleet("b"), act=Act(BY, NOW))
    await directory.repair()
    assert left_aside(world) == []
    assert list(await directory.values.fleets()) == ["b"]


async def test_nothing_is_added_to_a_stage_that_is_dropped_meanwhile() -> None:
    """What would come behind the drop, nobody would find."""
    table = Interrupted(number=2)
    somebody = Directory(table, Random(8).randbytes)

    async def drop() -> None:
        await somebody.values.put(Fleet("other"), act=Act(BY, NOW))
        await somebody.repair()

    table.meanwhile = drop
    await apply(Directory(table, Random(7).randbytes), *large(40))
    assert left_aside(table) == []
    assert len(await somebody.values.models()) == 40


def large(number: int) -> list[Value]:
    """Models as large as there are; more than a transaction can stage, and more than one a transaction cannot be rolled out."""
    canary = Canary((CanaryInput("in", "BYTES", (1,), ("x" * 149_000,)),))
    return [
        Fleet("local"),
        *(Model("", f"m{n:03}", "/models", "*", canary=canary) for n in range(number)),
    ]


async def test_models_as_large_as_there_are_are_changed_together(
    directory: Directory, world: MemoryTable
) -> None:
    await apply(directory, *large(30))
    await apply(directory, *(_on(value, ("acme",)) for value in large(30)))
    assert {it.tenants for it in (await directory.values.models()).values()} == {("acme",)}
    assert replay.faults(world.rows) == []


def _on(value: Value, tenants: tuple[str, ...]) -> Value:
    return (
        Model("", value.name, "/models", tenants, canary=value.canary) if isinstance(value, Model) else value
    )


async def test_a_head_that_names_a_stage_which_is_not_there_is_said_and_nothing_is_changed(
    directory: Directory, world: MemoryTable
) -> None:
    await directory.values.put(Plan("team", 1, Limits(10)), act=Act(BY, NOW))
    world.rows[HEAD_AT] = Row(HEAD_AT, encoded(Head("g_gone")), world.rows[HEAD_AT].version)
    before = dict(world.rows)
    with pytest.raises(Unreadable, match="g_gone"):
        await directory.values.put(Plan("team", 2, Limits(10)), act=Act(BY, NOW))
    assert world.rows == before


async def test_a_row_that_was_changed_beside_the_directory_is_not_written_over() -> None:
    table = Interrupted()

    async def tamper() -> None:
        table.rows[model_at("m030")] = Row(model_at("m030"), b"{}", 1)

    table.number, table.meanwhile = 4, tamper
    directory = Directory(table, Random(7).randbytes)
    with pytest.raises(Unreadable, match="changed by no directory"):
        await apply(directory, *models(MANY))
    assert table.rows[model_at("m030")].value == b"{}"


async def test_a_damaged_row_that_was_left_aside_keeps_nobody_out(
    directory: Directory, world: MemoryTable
) -> None:
    world.rows[stage_at("g_x")] = Row(stage_at("g_x"), b"{", 1)
    await directory.repair()
    await apply(directory, Fleet("local"))
    assert list(await directory.values.fleets()) == ["local"]


@pytest.mark.parametrize("number", range(1, 5))
async def test_two_that_drop_the_same_stage_leave_nothing(number: int) -> None:
    table = Interrupted(number=number)
    one, other = (Directory(table, Random(seed).randbytes) for seed in (7, 8))
    await other.values.put(Fleet("local"), act=Act(BY, NOW))
    old = new_row(stage_at("g_old"), Stage(1, 0, BY, NOW, ""))
    await table.transact(old, Put(staged_at("g_old", 0), b"{}", 0))
    table.written, table.meanwhile = 0, lambda: stages.drop_leftovers(other.journal)
    await stages.drop_leftovers(one.journal)
    assert left_aside(table) == []


class FirstHelped(MemoryTable):
    """Before the first stage that is read somebody else has rolled it out and cleared up."""

    somebody: Directory | None = None

    async def get_many(self, keys: Sequence[Key]) -> dict[Key, Row]:
        helper = self.somebody
        if helper is not None and any(key.partition == "stages" for key in keys):
            self.somebody = None
            await helper.repair()
        return await MemoryTable.get_many(self, keys)


async def test_a_stage_that_somebody_rolled_out_and_dropped_meanwhile_is_no_damage() -> None:
    table = FirstHelped()
    one, other = Directory(table, Random(1).randbytes), Directory(table, Random(2).randbytes)
    table.somebody = other
    await declare.apply(one, declared(3), Act(BY, NOW))
    assert (await _generation(one, 3), left_aside(table)) == (3, [])


@pytest.mark.parametrize("after", [False, True], ids=["lost before", "lost after"])
async def test_whatever_write_is_lost_a_change_of_everything_is_made_wholly_or_not_at_all(
    *, after: bool
) -> None:
    """Plans, models, a tenant and its members change, come and go."""
    ready = MemoryTable()
    await declare.apply(Directory(ready, Random(7).randbytes), declared(2), Act(BY, NOW))
    outcomes = list[int]()
    for number in count(1):
        table = FailsOnce(rows=dict(ready.rows))
        table.number, table.after = number, after
        with suppress(TableUnavailable):
            await declare.apply(
                Directory(table, Random(8).randbytes), declared(4), Act(BY, NOW + 1), prune=Prune.CATALOGUE
            )
            break  # that was one more than there are
        table.number = 0
        somebody = Directory(table, Random(9).randbytes)
        await somebody.repair()
        outcomes.append(await _generation(somebody, 2, 4))
        assert replay.faults(table.rows) == []
        await declare.apply(somebody, declared(4), Act(BY, NOW + 2), prune=Prune.CATALOGUE)
        assert (await _generation(somebody, 4), left_aside(table)) == (4, [])
    assert outcomes == sorted(outcomes)
    assert set(outcomes) == {2, 4}
    assert len(outcomes) > 20


async def _generation(directory: Directory, *numbers: int) -> int:
    for number in numbers:
        stored = await declare.read(directory, declared(number))
        if not outlined(declared(number), stored, Prune.CATALOGUE).changes:
            return number
    return pytest.fail("half of something")
