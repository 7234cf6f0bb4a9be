"""Whose a name in certificates is: one tenant's, whoever asks at once, and by documents as by hand; what is no exact name is refused."""

import asyncio
from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from gateway.cluster.feed import subjects_of
from tenants import declare
from tenants.acts import Act
from tenants.certificates import (
    MOST_CERTIFICATES,
    Identity,
    TenantCertificate,
    TenantCertificates,
    faults,
    list_faults,
)
from tenants.directory import Directory
from tenants.documents import Source, parse
from tenants.errors import InUse, Invalid, NotFound, Stale
from tenants.events import Changed
from tenants.ports import Key, Row
from tenants.rows import certificates_at, change_at, identity_at, read
from tenants.writing import tree, written
from tests.tenants import replay
from tests.tenants.conftest import BY, NOW, events
from tests.tenants.test_declare_tenants import PLAN, apply, look, refused
from tests.worlds.table import MemoryTable

ACT = Act(BY, NOW + 1)
URI = "spiffe://acme.example/ingest"
OWN = TenantCertificate("ingest", uri=URI)
OTHER = TenantCertificate("batch", dns="batch.acme.example", models=("digits",))


@pytest.fixture
async def two(acme: Directory) -> Directory:
    """A directory with the tenants acme and beta."""
    await acme.tenants.create("beta", "team", Act(BY, NOW))
    return acme


# What a name is


@pytest.mark.parametrize(
    "one",
    [
        OWN,
        OTHER,
        TenantCertificate("a", uri="urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6"),
        TenantCertificate("a", dns="localhost"),
        TenantCertificate("a", dns="_srv.a-b.example"),
        TenantCertificate("a", email="Ingest+1@acme.example"),
    ],
)
def test_an_exact_name_is_taken(one: TenantCertificate) -> None:
    assert list(faults(one)) == []


@pytest.mark.parametrize(
    ("one", "path"),
    [
        (TenantCertificate("A b", uri=URI), "name"),
        (TenantCertificate("a"), ""),
        (TenantCertificate("a", uri=URI, dns="a.example"), ""),
        (TenantCertificate("a", uri="acme.example/ingest"), "uri"),
        (TenantCertificate("a", uri="SPIFFE://acme.example"), "uri"),
        (TenantCertificate("a", uri="spiffe://acme.example/a b"), "uri"),
        (TenantCertificate("a", uri="spiffe://acme.example/é"), "uri"),
        (TenantCertificate("a", dns="*.acme.example"), "dns"),
        (TenantCertificate("a", dns="Acme.example"), "dns"),
        (TenantCertificate("a", dns="acme.example."), "dns"),
        (TenantCertificate("a", dns="-a.example"), "dns"),
        (TenantCertificate("a", dns="a.example\n"), "dns"),
        (TenantCertificate("a", dns="a" * 64), "dns"),
        (TenantCertificate("a", email="acme.example"), "email"),
        (TenantCertificate("a", email="*@acme.example@x"), "email"),
        (TenantCertificate("a", uri=URI, models=("..",)), "models[0]"),
        (TenantCertificate("a", uri=URI, models=("digits", "digits")), "models[1]"),
    ],
)
def test_what_is_no_exact_name_is_refused_in_its_place(one: TenantCertificate, path: str) -> None:
    assert [it.path for it in faults(one)] == [path]


def test_names_and_identities_are_each_there_once() -> None:
    twice = [OWN, replace(OWN, name="else"), replace(OTHER, name="ingest")]
    assert [it.sentence for it in list_faults(twice)] == [
        "certificates[1].uri: is that of certificates[0]",
        "certificates[2].name: is that of certificates[0]",
    ]
    (fault,) = list_faults([TenantCertificate("a")])
    assert fault.sentence == "certificates[0]: must have exactly one of uri, dns and email"
    many = [replace(OTHER, name=f"a{it}", dns=f"a{it}.example") for it in range(MOST_CERTIFICATES + 1)]
    assert [it.path for it in list_faults(many)] == ["certificates"]


# Changing


async def mapped(directory: Directory, *identities: Identity) -> list[tuple[str, str]]:
    """The tenant and the mapping of each that is somebody's."""
    found = await directory.certificates.mapped(identities)
    names = {(await directory.tenants.show(it)).id: it for it in ("acme", "beta")}
    return [(names[it.tenant_id], it.certificate.name) for it in found]


async def test_all_certificates_of_a_tenant_are_put_as_one_and_told_as_one(
    two: Directory, world: MemoryTable
) -> None:
    owner = await two.tenants.show("acme")
    assert (await two.certificates.find("acme")).version == 0
    put = await two.certificates.put("acme", [OWN, OTHER], ACT, expected=0)
    assert put == TenantCertificates(owner.id, (OTHER, OWN))
    assert await two.certificates.put("acme", [OTHER, OWN], ACT) == put  # in another order it is the same
    with pytest.raises(Stale):
        await two.certificates.put("acme", [], ACT, expected=0)
    wanted: Sequence[Identity] = (("uri", URI), ("dns", "batch.acme.example"), ("dns", URI), ("email", URI))
    assert sorted(await mapped(two, *wanted)) == [("acme", "batch"), ("acme", "ingest")]
    await two.certificates.put("acme", [OTHER], ACT, expected=1)
    assert await mapped(two, *wanted) == [("acme", "batch")]
    assert identity_at(OWN.identity) not in world.rows
    told = [it for it in events(world) if it.action == "certificate.assigned"]
    assert [it.subject for it in told] == [f"certificate/{owner.id}"] * 2
    changed = read(world.rows[change_at(told[-1].sequence)], Changed)
    assert subjects_of([changed]) == {"certificate": {owner.id}}
    assert replay.faults(world.rows) == []


async def test_as_many_as_a_tenant_may_have_are_all_changed_in_one_transaction(acme: Directory) -> None:
    for letter in "ab":
        all_of_them = [
            TenantCertificate(f"{letter}{it}", dns=f"{letter}{it}.example") for it in range(MOST_CERTIFICATES)
        ]
        assert len((await acme.certificates.put("acme", all_of_them, ACT)).certificates) == MOST_CERTIFICATES


async def test_a_name_of_one_tenant_is_no_others_before_it_is_given_up(
    two: Directory, world: MemoryTable
) -> None:
    await two.certificates.put("acme", [OWN], ACT)
    before = dict(world.rows)
    with pytest.raises(InUse, match="the tenant 'acme', as uri"):
        await two.certificates.put("beta", [replace(OWN, name="theirs")], ACT)
    assert world.rows == before
    await two.certificates.put("acme", [], ACT)
    await two.certificates.put("beta", [replace(OWN, name="theirs")], ACT)
    assert await mapped(two, OWN.identity) == [("beta", "theirs")]


async def test_of_two_who_claim_a_name_at_once_one_has_it(two: Directory, world: MemoryTable) -> None:
    claims = (two.certificates.put(tenant, [OWN], ACT) for tenant in ("acme", "beta"))
    came_of_it = await asyncio.gather(*claims, return_exceptions=True)
    assert [type(it) for it in came_of_it].count(InUse) == 1
    assert len(await mapped(two, OWN.identity)) == 1
    assert replay.faults(world.rows) == []


async def test_a_tenant_that_is_closed_gets_no_new_one_and_none_is_of_a_tenant_that_is_not_there(
    two: Directory,
) -> None:
    await two.certificates.put("acme", [OWN], ACT)
    await two.tenants.do("acme", "close", act=ACT, closes_us=NOW)
    with pytest.raises(Invalid):
        await two.certificates.put("acme", [OWN, OTHER], ACT)
    await two.certificates.put("acme", [], ACT)
    with pytest.raises(NotFound):
        await two.certificates.put("nobody", [OWN], ACT)


@pytest.mark.parametrize("damage", ["{", '{"v":1,"tenant_id":"t_another","certificates":[]}', None])
async def test_what_is_damaged_or_dangling_maps_nothing(
    two: Directory, world: MemoryTable, damage: str | None
) -> None:
    owner = (await two.certificates.put("acme", [OWN], ACT)).tenant_id
    for at in (certificates_at(owner), identity_at(OWN.identity)):
        row = world.rows[at]
        _damage(world, at, damage)
        assert await mapped(two, OWN.identity) == []
        world.rows[at] = row
    assert await mapped(two, OWN.identity) == [("acme", "ingest")]


def _damage(world: MemoryTable, at: Key, text: str | None) -> None:
    if text is None:
        del world.rows[at]
    else:
        world.rows[at] = Row(at, text.encode(), world.rows[at].version)


# Documents

ACME = (
    f'kind: Tenant\nname: acme\nplan: team\ncertificates: [{{name: ingest, uri: "{URI}", models: [digits]}}]'
)
BETA = ACME.replace("name: acme", "name: beta")


async def test_a_diff_tells_what_becomes_of_each_and_silence_changes_none(
    directory: Directory, world: MemoryTable
) -> None:
    await apply(directory, ACME, PLAN)
    without = ACME.partition("certificates")[0]
    assert not (await apply(directory, without)).changes
    other = ACME.replace("name: ingest", "name: batch").replace(", models: [digits]", "")
    outline = await look(directory, other)
    assert [dict(it.fields) for it in outline.differences] == [
        {
            "certificates.ingest": ({"uri": URI, "models": ("digits",)}, None),
            "certificates.batch": (None, {"uri": URI}),
        }
    ]
    await apply(directory, other)
    found = (await directory.certificates.find("acme")).value
    assert found.certificates == (TenantCertificate("batch", uri=URI),)
    await apply(directory, f"{without}certificates: []")
    assert await directory.certificates.mapped([OWN.identity]) == ()
    assert replay.faults(world.rows) == []


async def test_what_two_documents_claim_or_another_has_is_a_fault_in_its_line(
    directory: Directory, world: MemoryTable
) -> None:
    said = f"certificates[0].uri: '{URI}' is"
    (fault,) = await refused(directory, PLAN, ACME, BETA)
    assert fault.endswith(f"{said} declared in a.yaml:6 already")
    await apply(directory, PLAN, ACME)
    given_up = ACME.partition("certificates")[0] + "certificates: []"
    for documents in ((BETA,), (given_up, BETA)):
        (fault,) = await refused(directory, *documents)
        assert fault.endswith(
            f"{said} that of the tenant 'acme', which must give it up first, by an apply of its own"
        )
    await apply(directory, given_up)
    await apply(directory, BETA)
    owner = await directory.tenants.show("beta")
    assert [it.tenant_id for it in await directory.certificates.mapped([OWN.identity])] == [owner.id]
    assert replay.faults(world.rows) == []


async def test_what_is_exported_is_applied_to_the_same(directory: Directory) -> None:
    await apply(directory, PLAN, ACME, BETA.partition("certificates")[0])
    text = written(map(tree, await declare.everything(directory)))
    assert text.count("certificates:") == 1
    again = parse([Source("b.yaml", "/", text.encode())])
    assert not (await declare.apply(directory, again, ACT)).changes
