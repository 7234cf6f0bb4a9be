"""Tenants as documents declare them: made, moved, suspended, and their members just those; and what is declared no more."""

from random import Random

import pytest

from tenants import declare
from tenants.acts import Act
from tenants.directory import Directory
from tenants.directory.customers import GRACE_SECONDS
from tenants.directory.journal import Judged
from tenants.directory.tenants import created
from tenants.documents import Documents, Source, parse
from tenants.errors import Faulty, Moved
from tenants.events import Action
from tenants.fleet import Fleet
from tenants.ids import is_id
from tenants.outline import Outline, Prune, outlined
from tenants.plans import Limits, Plan
from tenants.ports import MOST_KEYS, Item, Page
from tenants.tenant import Tenant
from tests.tenants import replay
from tests.tenants.conftest import BY, NOW, actions, events
from tests.worlds.table import MemoryTable

LATER = NOW + 5_000_000
PLAN = "kind: Plan\nname: team\nweight: 1\nlimits: {body_bytes: 1000}"
GOLD = PLAN.replace("team", "gold")
FLEET = "kind: Fleet\nname: local"
MODEL = "kind: Model\nname: digits\nrepository: /m\ntenants: [acme]"
ACME = """\
kind: Tenant
name: acme
plan: team
members:
  - {email: Ann@acme.example, role: admin}
  - {email: ben@acme.example, role: viewer}
"""


def read(*documents: str) -> Documents:
    return parse([Source("a.yaml", "/", "\n---\n".join(documents).encode())])


async def apply(directory: Directory, *documents: str, prune: Prune = Prune.NOTHING) -> Outline:
    return await declare.apply(directory, read(*documents), Act("cli:ann", LATER), prune=prune)


async def look(directory: Directory, *documents: str) -> Outline:
    return outlined(read(*documents), await declare.read(directory, read(*documents)))


async def refused(directory: Directory, *documents: str, prune: Prune = Prune.NOTHING) -> list[str]:
    with pytest.raises(Faulty) as fault:
        await apply(directory, *documents, prune=prune)
    return [str(it) for it in fault.value.faults]


async def roles(directory: Directory, name: str = "acme") -> dict[str, str]:
    return {it.email: it.role for it in (await directory.members.list(name)).values}


def told(outline: Outline) -> list[str]:
    return [f"{it.action} {' '.join(name)}" for name, it in outline.changes.items()]


# Tenants


async def test_a_tenant_is_made_with_its_plan_members_and_models_at_once(
    directory: Directory, world: MemoryTable
) -> None:
    outline = await apply(directory, ACME, MODEL, FLEET, PLAN)
    assert told(outline) == [
        "create Tenant acme",
        "create Model digits",
        "create Fleet local",
        "create Plan team",
    ]
    assert outline.notes == ()
    acme = await directory.tenants.show("acme")
    assert (acme.plan, acme.state, acme.created_us, is_id(acme.id)) == ("team", "active", LATER, True)
    assert await roles(directory) == {"ann@acme.example": "admin", "ben@acme.example": "viewer"}
    assert await directory.values.tenants_have("plan", "team")
    minted = await directory.keys.create("acme", act=Act(BY, LATER))
    assert minted.key.tenant_id == acme.id
    assert replay.faults(world.rows) == []
    assert not (await apply(directory, ACME, MODEL, FLEET, PLAN)).changes


async def test_a_tenant_moves_is_suspended_and_gets_just_the_members_that_are_declared(
    directory: Directory, world: MemoryTable
) -> None:
    await apply(directory, ACME, PLAN)
    before = {it.email: it.id for it in (await directory.members.list("acme")).values}
    members = "[{email: ben@acme.example, role: admin}, {email: cat@acme.example, role: billing}]"
    wanted = f"kind: Tenant\nname: acme\nplan: gold\nstate: suspended\nmembers: {members}"
    outline = await apply(directory, wanted, PLAN, GOLD)
    assert outline.differences[0].fields == {
        "plan": ("team", "gold"),
        "state": ("active", "suspended"),
        "members.ann@acme.example": ("admin", None),
        "members.ben@acme.example": ("viewer", "admin"),
        "members.cat@acme.example": (None, "billing"),
    }
    acme = await directory.tenants.show("acme")
    assert (acme.plan, acme.state) == ("gold", "suspended")
    assert await roles(directory) == {"ben@acme.example": "admin", "cat@acme.example": "billing"}
    after = {it.email: it.id for it in (await directory.members.list("acme")).values}
    assert after["ben@acme.example"] == before["ben@acme.example"]
    assert not await directory.values.tenants_have("plan", "team")
    done = [it.action for it in events(world)]
    assert sorted(done[-5:]) == [
        Action.MEMBER_CHANGED,
        Action.MEMBER_INVITED,
        Action.MEMBER_REMOVED,
        Action.PLAN_CREATED,
        Action.TENANT_SUSPENDED,
    ]
    assert not (await apply(directory, wanted.replace("state: suspended\n", ""))).changes
    assert (await directory.tenants.show("acme")).state == "suspended"
    await apply(directory, wanted.replace("state: suspended\n", "state: active\n"))
    assert (await directory.tenants.show("acme")).state == "active"
    assert actions(world).count("tenant.resumed") == 1
    assert replay.faults(world.rows) == []


async def test_members_that_a_document_does_not_name_at_all_stay_as_they_are(directory: Directory) -> None:
    await apply(directory, ACME, PLAN)
    without = "kind: Tenant\nname: acme\nplan: team"
    assert not (await apply(directory, without)).changes
    assert len(await roles(directory)) == 2
    await apply(directory, f"{without}\nmembers: []")
    assert await roles(directory) == {}


async def test_a_tenant_that_was_made_elsewhere_is_found_by_its_name_and_keeps_its_keys(
    acme: Directory,
) -> None:
    minted = await acme.keys.create("acme", act=Act(BY, NOW))
    before = await acme.tenants.show("acme")
    assert not (await apply(acme, "kind: Tenant\nname: acme\nplan: team")).changes
    await apply(acme, "kind: Tenant\nname: acme\nplan: gold", GOLD)
    after = await acme.tenants.show("acme")
    assert (after.id, after.created_us, after.plan) == (before.id, before.created_us, "gold")
    assert [it.id for it in (await acme.keys.list("acme")).values] == [minted.key.id]


@pytest.mark.parametrize("closes_us", [None, NOW + 1_000], ids=["closed", "closing"])
async def test_a_tenant_that_is_closed_is_a_fault_in_its_line(
    acme: Directory, world: MemoryTable, closes_us: int | None
) -> None:
    await acme.tenants.do("acme", "close", Act(BY, NOW), closes_us=closes_us)
    before = dict(world.rows)
    state = "closing" if closes_us else "closed"
    assert await refused(acme, FLEET, "kind: Tenant\nname: acme\nplan: team") == [
        f"a.yaml:5: name: the tenant 'acme' is {state}: take its document away"
    ]
    assert world.rows == before


async def test_a_plan_that_is_nowhere_is_a_fault_in_its_line_and_one_with_a_fault_is_not_another(
    directory: Directory, world: MemoryTable
) -> None:
    assert await refused(directory, ACME) == ["a.yaml:3: plan: there is no plan 'team'"]
    faults = await refused(directory, ACME, PLAN.replace("weight: 1", "weight: none"))
    assert [it.partition(": ")[0] for it in faults] == ["a.yaml:11"]
    assert world.rows == {}


async def by_an_earlier_version(directory: Directory, tenant: Tenant) -> None:
    """Made when its name was not kept back yet."""

    async def judge() -> Judged[None]:
        return Judged(None, (created(tenant),))

    await directory.journal.change(Act(BY, NOW), judge)


async def test_a_new_tenant_gets_no_word_of_the_gateways_own_and_one_that_has_it_is_declared_as_any(
    directory: Directory,
) -> None:
    named = "kind: Tenant\nname: admin\nplan: team"
    (fault,) = await refused(directory, PLAN, named)
    assert fault.startswith("a.yaml:7: name: 'admin' is a word of the gateway's own")
    await directory.values.put(Plan("team", 1, Limits(1000)), act=Act(BY, NOW))
    await by_an_earlier_version(directory, Tenant("t_00000000000000000000", "admin", "team", "active", NOW))
    assert not (await apply(directory, named)).changes


async def test_many_tenants_with_members_become_true_at_once(
    directory: Directory, world: MemoryTable
) -> None:
    many = [ACME.replace("acme", f"t{number:03}") for number in range(60)]
    await apply(directory, PLAN, *many)
    assert len((await directory.tenants.list()).values) == 60
    assert await roles(directory, "t059") == {"ann@t059.example": "admin", "ben@t059.example": "viewer"}
    assert replay.faults(world.rows) == []


# What is declared no more


class Noting(MemoryTable):
    """Notes what is listed."""

    listed: frozenset[str] = frozenset()

    async def list(
        self, partition: str, prefix: str = "", after: str | None = None, limit: int = MOST_KEYS
    ) -> Page:
        self.listed |= {partition}
        return await MemoryTable.list(self, partition, prefix, after, limit)


async def test_all_tenants_of_a_plan_are_looked_at_only_where_it_may_go() -> None:
    world = Noting()
    directory = Directory(world, Random(7).randbytes)
    await apply(directory, PLAN, GOLD, ACME)
    world.listed = frozenset()
    await apply(directory, GOLD, ACME.replace("team", "gold"))
    assert "plan/team" not in world.listed
    await apply(directory, GOLD, ACME.replace("team", "gold"), prune=Prune.CATALOGUE)
    assert "plan/team" in world.listed


async def test_what_is_declared_no_more_stays_and_goes_with_prune(
    directory: Directory, world: MemoryTable
) -> None:
    await apply(directory, PLAN, GOLD, FLEET, FLEET.replace("local", "old"), MODEL, ACME)
    await directory.values.put(Fleet("by-hand"), act=Act(BY, NOW))
    kept = (PLAN, FLEET, ACME)
    assert not (await apply(directory, *kept)).changes
    outline = await apply(directory, *kept, prune=Prune.CATALOGUE)
    assert told(outline) == ["remove Fleet old", "remove Model digits", "remove Plan gold"]
    assert set(await directory.values.fleets()) == {"local", "by-hand"}
    assert (await directory.values.models(), set(await directory.values.plans())) == ({}, {"team"})
    assert not (await apply(directory, *kept, prune=Prune.ALL)).changes
    assert replay.faults(world.rows) == []


async def test_what_was_made_by_hand_goes_once_documents_have_declared_it(directory: Directory) -> None:
    await directory.values.put(Fleet("local"), act=Act(BY, NOW))
    assert not (await apply(directory, FLEET)).changes
    assert told(await apply(directory, PLAN, prune=Prune.CATALOGUE)) == [
        "create Plan team",
        "remove Fleet local",
    ]


async def test_what_others_removed_is_not_missed(directory: Directory) -> None:
    await apply(directory, PLAN, FLEET)
    await directory.values.remove(Fleet, "local", act=Act(BY, NOW))
    assert not (await apply(directory, PLAN, prune=Prune.CATALOGUE)).changes
    await directory.values.put(Fleet("local"), act=Act(BY, NOW))
    assert not (await apply(directory, PLAN, prune=Prune.CATALOGUE)).changes


async def test_a_tenant_is_closed_only_when_that_is_asked_for_and_can_come_back_for_a_while(
    directory: Directory, world: MemoryTable
) -> None:
    await apply(directory, PLAN, ACME)
    outline = await apply(directory, PLAN, prune=Prune.CATALOGUE)
    assert not outline.changes
    assert [it.reason for it in outline.notes] == [
        "the tenant 'acme' is declared no more and stays: --prune-tenants closes it"
    ]
    assert told(await apply(directory, PLAN, prune=Prune.ALL)) == ["remove Tenant acme"]
    acme = await directory.tenants.show("acme")
    assert (acme.state, acme.closes_us) == ("closing", LATER + GRACE_SECONDS * 1_000_000)
    assert not (await apply(directory, PLAN, prune=Prune.ALL)).changes
    await directory.tenants.do("acme", "reopen", Act(BY, LATER + 1))
    assert not (await apply(directory, PLAN, ACME)).changes
    assert replay.faults(world.rows) == []


async def test_a_fleet_or_plan_that_somebody_uses_cannot_go_and_it_is_said_who(
    directory: Directory, world: MemoryTable
) -> None:
    await apply(directory, PLAN, FLEET, ACME, GOLD)
    await directory.values.put(read(MODEL).documents[0].value, act=Act(BY, NOW))  # type: ignore[arg-type]
    await directory.tenants.create("beta", "team", act=Act(BY, NOW))
    before = dict(world.rows)
    assert await refused(directory, GOLD, prune=Prune.ALL) == [
        "the fleet 'local' is declared no more and cannot go: it is in use by the model 'digits'",
        "the plan 'team' is declared no more and cannot go: it is in use by the tenant 'beta'",
    ]
    assert await refused(directory, ACME, MODEL, prune=Prune.CATALOGUE) == [
        "the plan 'team' is declared no more and cannot go: it is in use by the tenant 'beta'",
        "a.yaml:3: plan: there is no plan 'team'",
        "a.yaml:9: fleet: there is no fleet 'local'",
    ]
    assert world.rows == before


async def test_a_plan_stays_for_the_record_of_those_that_had_it_and_keeps_nothing_else(
    directory: Directory,
) -> None:
    await apply(directory, PLAN, ACME, GOLD)
    outline = await apply(directory, GOLD, prune=Prune.ALL)
    assert told(outline) == ["remove Tenant acme"]
    assert [it.reason for it in outline.notes] == [
        "the plan 'team' is declared no more and stays: 'acme' had it"
    ]
    assert set(await directory.values.plans()) == {"team", "gold"}


# Others


class Others:
    """Two that apply at once: the second has looked, and then the first is done."""

    def __init__(self) -> None:
        self.table = MemoryTable()
        self.first, self.second = (Directory(self.table, Random(seed).randbytes) for seed in (7, 8))

    async def late(self, seen: Outline, *documents: str) -> Outline:
        return await declare.apply(self.second, read(*documents), Act("cli:ben", LATER), seen=seen)


async def test_who_comes_second_is_told_what_was_changed_meanwhile_by_whom_and_when() -> None:
    others = Others()
    await apply(others.first, PLAN, FLEET)
    wanted = (PLAN.replace("weight: 1", "weight: 2"), FLEET)
    seen = await look(others.second, *wanted)
    await apply(others.first, PLAN.replace("weight: 1", "weight: 3"), ACME)
    before = dict(others.table.rows)
    with pytest.raises(Moved) as moved:
        await others.late(seen, *wanted)
    assert moved.value.sentence == (
        "nothing was applied, as this was changed meanwhile: cli:ann changed plan team, tenant acme, member "
        "ann@acme.example, member ben@acme.example at 2023-11-14T22:13:25Z. Run it again"
    )
    assert others.table.rows == before


async def test_who_comes_second_with_the_same_or_with_something_else_goes_on() -> None:
    others = Others()
    seen = await look(others.second, PLAN, FLEET)
    await apply(others.first, PLAN, GOLD)
    assert told(await others.late(seen, PLAN, FLEET)) == ["create Fleet local"]
    assert not (await others.late(seen, PLAN, FLEET)).changes


async def test_a_removal_of_what_was_changed_meanwhile_is_not_made() -> None:
    others = Others()
    await apply(others.first, PLAN, FLEET)
    documents = read(PLAN)
    seen = outlined(documents, await declare.read(others.second, documents), Prune.ALL)
    await apply(others.first, FLEET + "\nidle_seconds: 5")
    with pytest.raises(Moved, match="cli:ann changed fleet local"):
        await declare.apply(others.second, documents, Act(BY, LATER), prune=Prune.ALL, seen=seen)


async def test_what_became_impossible_meanwhile_is_said_to_be_changed_and_not_to_be_a_fault() -> None:
    others = Others()
    await apply(others.first, PLAN, FLEET)
    seen = await look(others.second, MODEL)
    await others.first.values.remove(Fleet, "local", act=Act("key:k_1", LATER))
    with pytest.raises(Moved, match="key:k_1 changed fleet local"):
        await others.late(seen, MODEL)


async def test_between_the_last_look_and_the_commit_nothing_slips_in() -> None:
    others = Others()

    class Busy(MemoryTable):
        async def transact(self, *items: Item) -> None:
            if busy:
                busy.pop()
                await apply(others.first, PLAN.replace("weight: 1", "weight: 3"))
            await others.table.transact(*items)

    busy = [True]
    second = Directory(Busy(rows=others.table.rows), Random(8).randbytes)
    seen = await look(others.second, PLAN)
    with pytest.raises(Moved, match="cli:ann changed plan team"):
        await declare.apply(second, read(PLAN), Act(BY, LATER), seen=seen)
    assert (await others.first.values.plans())["team"].weight == 3
    assert replay.faults(others.table.rows) == []


async def test_more_than_can_be_remembered_of_documents_is_refused_and_pruning_makes_room(
    directory: Directory, world: MemoryTable
) -> None:
    def named(letter: str, many: int) -> list[str]:
        return [MODEL.replace("digits", f"{letter * 120}{it:04}") for it in range(many)]

    await apply(directory, FLEET, *named("a", 999))
    before = dict(world.rows)
    (fault,) = await refused(directory, FLEET, *named("b", 99))
    assert "remove some with --prune" in fault
    assert {key for key in world.rows if key.partition in ("models", "documents")} == {
        key for key in before if key.partition in ("models", "documents")
    }
    await apply(directory, FLEET, *named("b", 99), prune=Prune.CATALOGUE)
    assert len(await directory.values.models()) == 99
