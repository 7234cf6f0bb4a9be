"""Documents against what is there: judged as a whole, applied as a whole where that fits, and valid after every transaction where not."""

from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenants import declare
from tenants.acts import Act
from tenants.catalogue import Value, misfits, name_of
from tenants.declare import Outline, Stored
from tenants.directory import Directory
from tenants.documents import Document, Documents, Source, applicable, parse
from tenants.errors import Conflict, Faulty, Invalid, TableUnavailable, Unreadable
from tenants.events import Head
from tenants.fleet import Fleet, Replicas
from tenants.model import Model, Scaling
from tenants.plans import Limits, Plan
from tenants.ports import Item, Key, Row
from tenants.rows import HEAD_AT, fleet_at, model_at, read
from tests.tenants.conftest import BY, NOW, events
from tests.worlds.table import Fault, MemoryTable


def documents(*values: Value) -> Documents:
    return Documents(tuple(Document(value) for value in values))


def declared(text: str) -> Documents:
    return applicable(parse([Source("a.yaml", "/", text.encode())]))


def model(name: str, *, fleet: str = "local", most: int = 1, memory: int = 64) -> Model:
    return Model("", name, "/models", "*", fleet, memory, Scaling(max_replicas=most))


def plan(name: str) -> Plan:
    return Plan(name, 1, Limits(10))


def left_aside(table: MemoryTable) -> list[Key]:
    """What is of a stage that came to be or never will."""
    return [key for key in table.rows if key.partition.startswith("stage")]


def fleet(name: str = "local", *, most: int = 2, memory: int = 1000) -> Fleet:
    return Fleet(name, replicas=Replicas(0, most), memory_bytes=memory)


async def apply(directory: Directory, *values: Value) -> Outline:
    return await declare.apply(directory, documents(*values), act=Act(BY, NOW))


async def values_of(directory: Directory) -> dict[str, Value]:
    there: list[Value] = [
        *(await directory.values.fleets()).values(),
        *(await directory.values.models()).values(),
    ]
    return {value.name: value for value in there}


def told(outline: Outline) -> dict[str, str]:
    return {" ".join(name_of(it.value)): it.action for it in outline.differences}


# One transaction


async def test_what_is_declared_is_there_afterwards_with_an_event_each(
    directory: Directory, world: MemoryTable
) -> None:
    outline = await apply(directory, model("digits"), fleet(), plan("team"))
    assert told(outline) == {"Model digits": "create", "Fleet local": "create", "Plan team": "create"}
    there = await values_of(directory)
    assert there["local"] == fleet()
    made = there["digits"]
    assert isinstance(made, Model)
    assert made == msgspec.structs.replace(model("digits"), id=made.id)
    assert made.id.startswith("m_")
    assert await directory.values.plans() == {"team": plan("team")}
    assert [
        (it.actor, it.at_us, it.action, it.subject) for it in sorted(events(world), key=lambda it: it.action)
    ] == [
        (BY, NOW, "fleet.created", "fleet/local"),
        (BY, NOW, "model.created", f"model/{made.id}"),
        (BY, NOW, "plan.created", "plan/team"),
    ]


async def test_applying_again_changes_nothing(directory: Directory, world: MemoryTable) -> None:
    await apply(directory, fleet(), model("digits"))
    before = dict(world.rows)
    assert set(told(await apply(directory, fleet(), model("digits"))).values()) == {"unchanged"}
    assert world.rows == before


async def test_what_is_not_declared_stays(directory: Directory) -> None:
    await apply(directory, fleet(), model("digits"))
    await apply(directory, model("story"))
    assert set(await values_of(directory)) == {"local", "digits", "story"}


async def test_a_change_says_from_what_to_what_and_keeps_the_id(
    directory: Directory, world: MemoryTable
) -> None:
    await apply(directory, fleet(), model("digits"))
    before = await values_of(directory)
    outline = await apply(directory, model("digits", most=2, memory=65))
    assert outline.differences[0].fields == {"memory_bytes": (64, 65), "scaling.max_replicas": (1, 2)}
    after = await values_of(directory)
    assert isinstance(before["digits"], Model)
    assert after["digits"] == msgspec.structs.replace(
        before["digits"], memory_bytes=65, scaling=Scaling(max_replicas=2)
    )
    (event,) = [it for it in events(world) if it.action == "model.changed"]
    assert msgspec.json.decode(event.before, type=Model) == before["digits"]
    assert msgspec.json.decode(event.after, type=Model) == after["digits"]


async def test_a_transaction_that_is_refused_leaves_nothing(directory: Directory, world: MemoryTable) -> None:
    class Refuses(MemoryTable):
        async def transact(self, *items: Item) -> None:
            raise Conflict

    with pytest.raises(Conflict):
        await apply(Directory(Refuses(), directory.journal.entropy), fleet(), model("digits"))
    world.write_faults.append(Fault.LOST_BEFORE)
    with pytest.raises(TableUnavailable):
        await apply(directory, fleet(), model("digits"))
    assert world.rows == {}


class FailsOnce(MemoryTable):
    """The write with that number is lost, before it is made or after."""

    number = 0
    after = False
    _written = 0

    async def transact(self, *items: Item) -> None:
        self._written += 1
        if self._written != self.number:
            await MemoryTable.transact(self, *items)
            return
        if self.after:
            await MemoryTable.transact(self, *items)
        raise TableUnavailable(f"write {self.number}")


@pytest.mark.parametrize("after", [False, True], ids=["lost before", "lost after"])
@pytest.mark.parametrize("number", range(1, 9))
async def test_whatever_write_is_lost_all_of_the_documents_are_true_or_none(number: int, after: bool) -> None:  # noqa: FBT001
    table = FailsOnce()
    table.number, table.after = number, after
    many: list[Value] = [fleet(), *(model(f"m{n:02}") for n in range(12))]
    failed = False
    try:
        await apply(Directory(table, Random(7).randbytes), *many)
    except TableUnavailable:
        failed = True
    table.number = 0
    somebody = Directory(table, Random(8).randbytes)
    await somebody.repair()
    there = await values_of(somebody)
    assert len(there) in ((0, 13) if failed else (13,))
    assert len(events(table)) == len(there)
    assert set(told(await apply(somebody, *many)).values()) == {"unchanged" if there else "create"}
    assert set(told(await apply(somebody, *many, plan("team"))).values()) == {"unchanged", "create"}
    assert left_aside(table) == []


async def test_two_that_apply_the_same_at_once_both_succeed_and_write_it_once(
    directory: Directory, world: MemoryTable
) -> None:
    class AnotherIsFaster(MemoryTable):
        async def transact(self, *items: Item) -> None:
            if not world.rows:
                await apply(directory, fleet(), model("digits"))
            await world.transact(*items)

    second = Directory(AnotherIsFaster(rows=world.rows), directory.journal.entropy)
    assert set(told(await apply(second, fleet(), model("digits"))).values()) == {"unchanged"}
    assert len(events(world)) == 2


# What is refused


async def refused(directory: Directory, text: str) -> list[str]:
    with pytest.raises(Faulty) as fault:
        await declare.apply(directory, declared(text), act=Act(BY, NOW))
    assert fault.value.sentence == "\n".join(map(str, fault.value.faults))
    return [str(it) for it in fault.value.faults]


async def test_a_model_without_its_fleet_or_larger_than_it_is_refused_with_its_line(
    directory: Directory, world: MemoryTable
) -> None:
    text = """\
kind: Fleet
name: small
replicas: {max: 2}
memory_bytes: 1000
---
kind: Model
name: a
fleet: large
repository: /m
tenants: "*"
---
kind: Model
name: b
fleet: small
repository: /m
tenants: "*"
memory_bytes: 1001
scaling: {max_replicas: 3}
"""
    assert await refused(directory, text) == [
        "a.yaml:8: fleet: there is no fleet 'large'",
        "a.yaml:17: memory_bytes: is 1001, more than the 1000 of a replica of fleet 'small'",
        "a.yaml:18: scaling.max_replicas: is 3, more than the 2 of fleet 'small'",
    ]
    assert world.rows == {}


async def test_a_model_may_name_a_fleet_that_is_there_already(directory: Directory) -> None:
    await apply(directory, fleet("gpu"))
    assert told(await apply(directory, model("digits", fleet="gpu"))) == {"Model digits": "create"}


async def test_a_model_that_leaves_its_fleet_out_names_the_local_one_and_the_fault_has_a_line(
    directory: Directory,
) -> None:
    assert await refused(directory, 'kind: Model\nname: a\nrepository: /m\ntenants: "*"') == [
        "a.yaml:1: fleet: there is no fleet 'local'"
    ]


async def test_a_fleet_that_no_longer_holds_a_model_that_is_there_is_refused(
    directory: Directory, world: MemoryTable
) -> None:
    await apply(directory, fleet(), model("digits", most=2, memory=900))
    before = dict(world.rows)
    assert await refused(directory, "kind: Fleet\nname: local\nreplicas: {max: 1}\nmemory_bytes: 500") == [
        "a.yaml:3: replicas.max: the model 'digits' is there already, and its scaling.max_replicas: is 2, "
        "more than the 1 of fleet 'local'",
        "a.yaml:4: memory_bytes: the model 'digits' is there already, and its memory_bytes: is 900, "
        "more than the 500 of a replica of fleet 'local'",
    ]
    assert world.rows == before


async def test_a_fleet_may_shrink_with_its_models(directory: Directory) -> None:
    await apply(directory, fleet(), model("digits", most=2, memory=900))
    await apply(directory, fleet(most=1, memory=500), model("digits", memory=500))
    assert (await values_of(directory))["local"] == fleet(most=1, memory=500)


async def test_one_fault_in_one_document_and_nothing_of_all_is_applied(
    directory: Directory, world: MemoryTable
) -> None:
    text = "kind: Fleet\nname: good\n---\nkind: Fleet\nname: bad\ncolour: red"
    assert len(await refused(directory, text)) == 1
    assert world.rows == {}


async def test_a_model_of_a_fleet_with_a_fault_is_not_blamed_for_it(directory: Directory) -> None:
    text = 'kind: Fleet\nname: local\ncolour: red\n---\nkind: Model\nname: a\nrepository: /m\ntenants: "*"'
    assert [fault.partition(": ")[0] for fault in await refused(directory, text)] == ["a.yaml:3"]


async def test_a_tenant_that_is_not_there_yet_is_noted(acme: Directory) -> None:
    text = "kind: Model\nname: digits\nrepository: /m\ntenants: [acme, beta]"
    outline = await declare.apply(acme, declared(text), act=Act(BY, NOW))
    assert list(map(str, outline.notes)) == ["a.yaml:4: tenants[1]: there is no tenant 'beta' yet"]


async def test_the_directory_refuses_by_itself_what_does_not_fit(acme: Directory, world: MemoryTable) -> None:
    before = dict(world.rows)
    for wanted, path in (
        ((model("x", fleet="none"),), "fleet"),
        ((model("x", memory=2**40),), "memory_bytes"),
        ((fleet(memory=5),), "memory_bytes"),
        ((fleet("new"), model("x", fleet="new", most=3)), "scaling.max_replicas"),
        ((Fleet("No"),), "name"),
        ((Fleet("no", replicas=Replicas(2, 1)),), "replicas.min"),
    ):
        with pytest.raises(Invalid) as refusal:
            await acme.values.put(*wanted, act=Act(BY, NOW))
        assert refusal.value.path == path
    assert world.rows == before


async def test_a_model_is_not_put_on_a_fleet_that_changes_meanwhile(
    acme: Directory, world: MemoryTable
) -> None:
    class ShrinksFirst(MemoryTable):
        async def transact(self, *items: Item) -> None:
            await acme.values.put(fleet("gpu", memory=10), act=Act(BY, NOW))
            await world.transact(*items)

    await acme.values.put(fleet("gpu"), act=Act(BY, NOW))
    racing = Directory(ShrinksFirst(rows=world.rows), acme.journal.entropy)
    with pytest.raises(Invalid, match="more than the 10"):
        await racing.values.put(model("large", fleet="gpu", memory=1000), act=Act(BY, NOW))
    assert model_at("large") not in world.rows


async def test_a_row_that_cannot_be_read_is_not_written_over(acme: Directory, world: MemoryTable) -> None:
    world.rows[fleet_at("local")] = Row(fleet_at("local"), b'{"v":2}', 1)
    with pytest.raises(Unreadable):
        await acme.values.put(fleet(), act=Act(BY, NOW))


# More than fits in one transaction


class Watched(MemoryTable):
    """After every transaction, what is there must be valid, unless whoever reads it would finish it first."""

    async def transact(self, *items: Item) -> None:
        await MemoryTable.transact(self, *items)
        if HEAD_AT in self.rows and read(self.rows[HEAD_AT], Head).stage is not None:
            return
        rows = list(self.rows.values())
        there: list[Value] = [
            msgspec.json.decode(it.value, type=Fleet) for it in rows if it.key.partition == "fleets"
        ]
        there += [msgspec.json.decode(it.value, type=Model) for it in rows if it.key.partition == "models"]
        assert not list(misfits(there))


@st.composite
def worlds(draw: st.DrawFn) -> list[Value]:
    """Fleets, and models that fit them."""
    fleets = [
        fleet(name, most=draw(st.integers(1, 4)), memory=draw(st.integers(1, 1000)))
        for name in draw(st.sets(st.sampled_from("abcd"), min_size=1))
    ]
    names = draw(st.sets(st.sampled_from([f"m{n:02}" for n in range(30)]), max_size=30))
    made: list[Value] = [*fleets]
    for name in sorted(names):
        home = draw(st.sampled_from(fleets))
        most = draw(st.integers(1, home.replicas.max))
        made.append(model(name, fleet=home.name, most=most, memory=draw(st.integers(1, home.memory_bytes))))
    return draw(st.permutations(made))


@given(before=worlds(), wanted=worlds())
async def test_every_state_on_the_way_is_valid_and_the_last_is_as_declared(
    before: list[Value], wanted: list[Value]
) -> None:
    directory = Directory(Watched(), Random(7).randbytes)
    await apply(directory, *before)
    declared = {it.name for it in wanted}
    kept = [it for it in before if it.name not in declared and isinstance(it, Model)]
    try:
        await apply(directory, *wanted)
    except Faulty:  # what is there and stays does not fit
        assert list(misfits([*{it.name: it for it in (*before, *wanted)}.values()]))
        return
    there = await values_of(directory)
    assert {it.name: _without_id(it) for it in there.values() if it.name in declared} == {
        it.name: it for it in wanted
    }
    assert all(_without_id(there[it.name]) == it for it in kept)
    again = await apply(directory, *wanted)
    assert not again.changes


async def test_a_fleet_that_grows_in_one_way_and_shrinks_in_another_takes_all_its_models_along() -> None:
    directory = Directory(Watched(), Random(7).randbytes)
    await apply(directory, fleet(most=4, memory=10), *(model(f"m{n}", most=4, memory=10) for n in range(30)))
    wanted: list[Value] = [fleet(most=1, memory=99), *(model(f"m{n}", memory=99) for n in range(30))]
    assert len((await apply(directory, *wanted)).changes) == 31
    assert not (await apply(directory, *wanted)).changes


def _without_id(value: Value) -> Value:
    return msgspec.structs.replace(value, id="") if isinstance(value, Model) else value


async def test_forty_models_are_applied_at_once(directory: Directory, world: MemoryTable) -> None:
    many = [model(f"m{n}") for n in range(40)]
    assert set(told(await apply(directory, *many, fleet())).values()) == {"create"}
    assert len(await values_of(directory)) == 41
    assert len(events(world)) == 41


def test_an_outline_of_nothing_stored_needs_no_directory() -> None:
    assert told(declare.outlined(documents(fleet(), model("a")), Stored())) == {
        "Fleet local": "create",
        "Model a": "create",
    }
