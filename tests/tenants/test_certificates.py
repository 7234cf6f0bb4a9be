"""A name in certificates is an exact one, and documents say whose it is."""

import pytest
from msgspec.structs import replace

from tenants.acts import Act
from tenants.certificates import (
    MOST_CERTIFICATES,
    TenantCertificate,
    faults,
    list_faults,
)
from tests.tenants.conftest import BY, NOW

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
