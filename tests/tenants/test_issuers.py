"""An issuer is one that can be trusted as it is written, and a token's claims give what its document says and nothing else."""

from typing import Any

import pytest
from msgspec.structs import replace

from tenants.issuers import (
    MOST_ISSUERS,
    MOST_ROW_BYTES,
    Issuer,
    TenantIssuer,
    faults,
    id_of,
    list_faults,
    role_of,
    tenant_of,
)

URL = "https://login.acme.example"
OWN = TenantIssuer(URL, "gateway", roles_claim="roles")
SHARED = Issuer("https://login.example", "gateway", roles_claim="roles", tenant_claim="tenant")
OPERATORS = Issuer("https://staff.example", "gateway", roles_claim="groups", operators=True)
MAPPED = TenantIssuer(
    URL, "gateway", roles_claim="groups", roles={"gw-admins": "admin", "gw-money": "billing"}
)
DUTY = Issuer(
    "https://staff.example", "gateway", roles_claim="groups", operators=True, roles={"on-call": "operator"}
)


@pytest.mark.parametrize(
    "issuer", [OWN, SHARED, OPERATORS, MAPPED, DUTY, TenantIssuer(URL, "gateway")], ids=str
)
def test_what_is_right_has_no_fault(issuer: TenantIssuer | Issuer) -> None:
    assert list(faults(issuer)) == []


@pytest.mark.parametrize(
    ("issuer", "fields", "paths"),
    [
        (OWN, {"issuer": "http://login.acme.example"}, ["issuer"]),
        (OWN, {"issuer": f"{URL}?a=b"}, ["issuer"]),
        (OWN, {"issuer": f"{URL}#a"}, ["issuer"]),
        (OWN, {"issuer": "https://ann@login.acme.example"}, ["issuer"]),
        (OWN, {"issuer": "https://10.0.0.1"}, ["issuer"]),
        (OWN, {"issuer": "http://127.0.0.1:9", "insecure": True, "jwks_url": "http://127.0.0.1:9/keys"}, []),
        (OWN, {"jwks_url": "http://login.acme.example/jwks"}, ["jwks_url"]),
        (OWN, {"jwks_url": "https://login.acme.example/jwks?tenant=1"}, []),
        (OWN, {"audience": "gate\nway"}, ["audience"]),
        (OWN, {"roles_claim": "ro\0les"}, ["roles_claim"]),
        (SHARED, {"tenant_claim": "a\tb"}, ["tenant_claim"]),
        (OWN, {"roles": {"a": "admin"}, "roles_claim": None}, ["roles"]),
        (OWN, {"roles": {}}, ["roles"]),
        (OWN, {"roles": {"a\n": "admin"}}, ["roles"]),
        (OWN, {"roles": {"": "admin"}}, ["roles"]),
        (OWN, {"roles": {"a" * 256: "admin"}}, ["roles"]),
        (SHARED, {"roles": {"root": "operator"}}, ["roles.root"]),
        (OPERATORS, {"roles": {"root": "admin"}}, ["roles.root"]),
        (SHARED, {"tenant_claim": None}, ["tenant_claim"]),
        (OPERATORS, {"tenant_claim": "tenant"}, ["tenant_claim"]),
        (OPERATORS, {"roles_claim": None}, ["roles_claim"]),
    ],
    ids=str,
)
def test_what_is_wrong_is_named_at_its_place(issuer: Any, fields: dict[str, Any], paths: list[str]) -> None:
    assert [fault.path for fault in faults(replace(issuer, **fields))] == paths


def test_a_tenant_has_no_pair_twice_not_too_many_and_not_more_than_a_row_holds() -> None:
    other = TenantIssuer(URL, "else")
    assert [it.path for it in list_faults([OWN, other, replace(OWN, roles_claim=None)])] == ["issuers[2]"]
    many = [TenantIssuer(URL, f"a{number}") for number in range(MOST_ISSUERS + 1)]
    assert list(list_faults(many[:-1])) == []
    assert [it.path for it in list_faults(many)] == ["issuers"]
    roles: dict[str, Any] = {f"{number:03}" + "\N{SNOWMAN}" * 252: "viewer" for number in range(50)}
    large = [TenantIssuer(URL, f"a{number}", roles_claim="r", roles=roles) for number in range(4)]
    assert [it.reason for it in list_faults(large)] == [
        f"is too large: more than {MOST_ROW_BYTES} bytes as they are stored"
    ]
    assert [it.path for it in list_faults([replace(OWN, issuer="ftp://a")])] == ["issuers[0].issuer"]


@pytest.mark.parametrize(
    ("issuer", "claims", "role"),
    [
        (OWN, {"roles": "admin"}, "admin"),
        (OWN, {"roles": ["viewer", "developer", "nothing"]}, "developer"),
        (OWN, {"roles": ["billing", "viewer"]}, "viewer"),
        (OWN, {"roles": ["billing"]}, "billing"),
        (OWN, {"roles": ["Admin", " admin", ""]}, None),
        (OWN, {"roles": []}, None),
        (OWN, {}, None),
        (OWN, {"roles": ["operator"]}, None),
        (SHARED, {"roles": ["operator"]}, None),
        (MAPPED, {"groups": ["gw-money", "staff"]}, "billing"),
        (MAPPED, {"groups": ["gw-money", "gw-admins"]}, "admin"),
        (MAPPED, {"groups": ["admin"]}, None),
        (MAPPED, {"roles": ["gw-admins"]}, None),
        (OPERATORS, {"groups": ["operator"]}, "operator"),
        (OPERATORS, {"groups": ["admin"]}, None),
        (DUTY, {"groups": "on-call"}, "operator"),
        (DUTY, {"groups": "operator"}, None),
        (TenantIssuer(URL, "gateway"), {"roles": "admin"}, None),
    ],
    ids=str,
)
def test_a_token_gives_the_strongest_role_that_it_says_and_none_that_its_issuer_may_not_give(
    issuer: Any, claims: dict[str, object], role: str | None
) -> None:
    assert role_of(issuer, claims) == role


@pytest.mark.parametrize(
    "said",
    [None, True, 1, 1.5, {"admin": "admin"}, ["admin", 1], ["admin", None], [["admin"]], {}, ("admin",)],
    ids=str,
)
def test_a_claim_of_another_type_gives_no_role_and_no_tenant(said: object) -> None:
    claims = {"roles": said, "tenant": said, "groups": said}
    assert [role_of(it, claims) for it in (OWN, SHARED, OPERATORS, MAPPED, DUTY)] == [None] * 5
    assert tenant_of(SHARED, claims) is None


def test_a_mapping_to_operator_that_was_stored_somehow_makes_nobody_one() -> None:
    assert role_of(replace(SHARED, roles={"a": "operator"}), {"roles": "a"}) is None
    assert role_of(replace(OPERATORS, roles={"a": "admin"}), {"groups": "a"}) is None


@pytest.mark.parametrize(
    ("name", "claims", "role"),
    [
        ("realm_access.roles", {"realm_access": {"roles": ["viewer"]}}, "viewer"),
        (
            "realm_access.roles",
            {"realm_access.roles": "admin", "realm_access": {"roles": ["viewer"]}},
            "admin",
        ),
        ("realm_access.roles", {"realm_access.roles": None, "realm_access": {"roles": ["viewer"]}}, None),
        ("https://acme.example/roles", {"https://acme.example/roles": ["viewer"]}, "viewer"),
        ("a.b.c", {"a": {"b": {"c": "viewer"}}}, "viewer"),
        ("a.b.c", {"a": {"b": "viewer"}}, None),
        ("a.b", {"a": ["b"]}, None),
        ("a..b", {"a": {"": {"b": "viewer"}}}, "viewer"),
    ],
)
def test_a_claim_is_found_by_its_very_name_first_and_then_by_its_path(
    name: str, claims: dict[str, object], role: str | None
) -> None:
    assert role_of(TenantIssuer(URL, "gateway", roles_claim=name), claims) == role


@pytest.mark.parametrize(
    ("issuer", "claims", "tenant"),
    [
        (SHARED, {"tenant": "acme"}, "acme"),
        (replace(SHARED, tenant_claim="org.name"), {"org": {"name": "acme"}}, "acme"),
        (SHARED, {"tenant": ["acme"]}, None),
        (SHARED, {"tenant": "Acme"}, None),
        (SHARED, {"tenant": "a" * 64}, None),
        (SHARED, {"tenant": ""}, None),
        (SHARED, {"tenant": "acme\n"}, None),
        (SHARED, {}, None),
        (OPERATORS, {"tenant": "acme"}, None),
        (replace(OPERATORS, tenant_claim="tenant"), {"tenant": "acme"}, None),
        (OWN, {"tenant": "acme"}, None),
    ],
    ids=str,
)
def test_a_token_of_a_shared_issuer_names_its_tenant_and_of_another_issuer_it_does_not(
    issuer: Any, claims: dict[str, object], tenant: str | None
) -> None:
    assert tenant_of(issuer, claims) == tenant


def test_an_id_is_made_of_the_url_alone() -> None:
    assert id_of("https://login.example") == "ced4229bf4ad3faa114c" == SHARED.id
