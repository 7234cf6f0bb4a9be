"""Issuers as documents declare them: a tenant's and shared ones, each with one owner, made, changed, pruned and exported."""

from contextlib import suppress
from random import Random

import pytest

from tenants import declare
from tenants.acts import Act
from tenants.directory import Directory
from tenants.documents import Source, parse
from tenants.errors import TableUnavailable
from tenants.issuers import Issuer, id_of
from tenants.outline import Prune
from tenants.writing import tree, written
from tests.tenants import replay
from tests.tenants.conftest import BY, NOW, actions
from tests.tenants.test_declare import FailsOnce
from tests.tenants.test_declare_tenants import PLAN, apply, look, refused, told
from tests.worlds.table import MemoryTable

URL = "https://login.acme.example"
OWN = f'{{issuer: "{URL}", audience: gateway, roles_claim: roles}}'
ACME = f"kind: Tenant\nname: acme\nplan: team\nissuers: [{OWN}]"
BETA = ACME.replace("name: acme", "name: beta")
SHARED = 'kind: Issuer\nissuer: "https://login.example"\naudience: gateway\ntenant_claim: tenant'
STAFF = (
    'kind: Issuer\nissuer: "https://staff.example"\naudience: gateway\nroles_claim: groups\noperators: true'
)


async def trusted(directory: Directory, url: str = URL) -> list[str | None]:
    """For whom."""
    return [it.tenant_id for it in await directory.issuers.trusted(url)]


async def test_issuers_are_made_with_what_they_are_of(directory: Directory, world: MemoryTable) -> None:
    outline = await apply(directory, ACME, SHARED, STAFF, PLAN)
    assert told(outline) == [
        "create Tenant acme",
        "create Issuer https://login.example",
        "create Issuer https://staff.example",
        "create Plan team",
    ]
    acme = await directory.tenants.show("acme")
    assert await trusted(directory) == [acme.id]
    assert await trusted(directory, "https://staff.example") == [None]
    assert replay.faults(world.rows) == []
    assert not (await apply(directory, ACME, SHARED, STAFF, PLAN)).changes


async def test_a_diff_tells_what_becomes_of_a_shared_issuer(directory: Directory, world: MemoryTable) -> None:
    await apply(directory, SHARED)
    wider = SHARED.replace(
        "tenant_claim: tenant", "tenant_claim: org\nroles_claim: groups\nroles: {a: admin}"
    )
    (shared,) = (await look(directory, wider)).differences
    assert shared.fields == {
        "roles_claim": (None, "groups"),
        "tenant_claim": ("tenant", "org"),
        "roles.a": (None, "admin"),
    }
    await apply(directory, wider)
    assert (await directory.values.find(Issuer, id_of("https://login.example"))).value.tenant_claim == "org"
    assert replay.faults(world.rows) == []


async def test_what_a_tenant_has_the_platform_gets_not_and_the_other_way_round(
    directory: Directory, world: MemoryTable
) -> None:
    same = f'kind: Issuer\nissuer: "{URL}"\naudience: gateway\ntenant_claim: tenant'
    assert await refused(directory, PLAN, ACME, same) == [
        f"a.yaml:12: issuer: the issuer '{URL}' with the audience 'gateway' is declared in a.yaml:6 already",
    ]
    await apply(directory, PLAN, ACME, SHARED)
    before = dict(world.rows)
    rest = "which must give it up first, by an apply of its own"
    taken = f"the issuer '{URL}' with the audience 'gateway' is that of the tenant 'acme'"
    assert await refused(directory, same) == [f"a.yaml:2: issuer: {taken}, {rest}"]
    platforms = BETA.replace(URL, "https://login.example")
    taken = "the issuer 'https://login.example' with the audience 'gateway' is that of the platform"
    assert f"issuers[0]: {taken}, {rest}" in (await refused(directory, platforms, prune=Prune.ALL))[0]
    assert world.rows == before


async def test_a_shared_issuer_that_is_declared_no_more_is_pruned_and_a_tenants_stay_with_it(
    directory: Directory, world: MemoryTable
) -> None:
    await apply(directory, PLAN, ACME, SHARED)
    made = "https://made.example"
    await directory.values.put(Issuer(made, "gateway", tenant_claim="t"), act=Act(BY, NOW))
    outline = await apply(directory, PLAN, prune=Prune.CATALOGUE)
    assert told(outline) == ["remove Issuer https://login.example"]
    assert await trusted(directory, "https://login.example") == []
    assert (len(await trusted(directory)), len(await trusted(directory, made))) == (1, 1)
    assert actions(world).count("issuer.removed") == 1
    assert replay.faults(world.rows) == []


async def test_an_issuer_that_is_declared_twice_is_a_fault(directory: Directory) -> None:
    assert await refused(directory, SHARED, SHARED.replace("gateway", "else")) == [
        "a.yaml:7: issuer: an Issuer of this issuer is declared in a.yaml:1 already"
    ]


async def test_what_is_exported_is_applied_elsewhere_to_the_same(directory: Directory) -> None:
    await apply(directory, PLAN, ACME, BETA.replace(URL, "https://b.example"), SHARED, STAFF)
    exported = await declare.everything(directory)
    text = written(map(tree, exported))
    assert "operators: true" in text
    other = Directory(MemoryTable(), Random(3).randbytes)
    await declare.apply(other, parse([Source("a.yaml", "/", text.encode())]), Act(BY, NOW))
    assert await declare.everything(other) == exported
    assert not (
        await declare.apply(directory, parse([Source("a.yaml", "/", text.encode())]), Act(BY, NOW))
    ).changes


@pytest.mark.parametrize("after", [False, True], ids=["lost before", "lost after"])
@pytest.mark.parametrize("number", range(1, 8))
async def test_an_apply_whose_answer_was_lost_is_done_by_whoever_applies_next(
    directory: Directory,
    world: MemoryTable,
    number: int,
    after: bool,  # noqa: FBT001 - of a table of cases
) -> None:
    await apply(directory, PLAN, ACME)
    table = FailsOnce(rows=world.rows)
    table.number, table.after = number, after
    wanted = (
        ACME.replace("audience: gateway", "audience: else"),
        BETA.replace(URL, "https://b.example"),
        SHARED,
    )
    with suppress(TableUnavailable):
        await apply(Directory(table, Random(4).randbytes), *wanted)
    second = Directory(world, Random(5).randbytes)
    await apply(second, *wanted)
    assert [it.issuer.audience for it in await second.issuers.trusted(URL)] == ["else"]
    assert len(await trusted(second, "https://b.example")) == 1
    assert await trusted(second, "https://login.example") == [None]
    assert actions(world).count("issuer.assigned") == 3
    assert replay.faults(world.rows) == []
