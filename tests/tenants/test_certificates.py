"""A name in certificates is an exact one, and documents say whose it is."""

import pytest
from msgspec.structs import replace

from tenants import declare
from tenants.acts import Act
from tenants.certificates import (
    MOST_CERTIFICATES,
    TenantCertificate,
    faults,
    list_faults,
)
from tenants.directory import Directory
from tenants.documents import Source, parse
from tenants.writing import tree, written
from tests.tenants import replay
from tests.tenants.conftest import BY, NOW
from tests.tenants.test_declare_tenants import PLAN, apply, look, refused
from tests.worlds.table import MemoryTable

ACT = Act(BY, NOW + 1)
URI = "spiffe://acme.example/ingest"
OWN = TenantCertificate("ingest", uri=URI)
OTHER = TenantCertificate("batch", dns="batch.acme.example", models=("digits",))


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
    assert found.entries == (TenantCertificate("batch", uri=URI),)
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
