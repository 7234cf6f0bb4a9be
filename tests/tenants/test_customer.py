"""A tenant's document says who belongs to it: nobody twice, nobody whom no mail reaches, and not more than a row can hold."""

import pytest

from tenants.customer import MOST_MEMBERS, Member, TenantDocument, faults
from tenants.documents import Source, parse


def paths(*emails: str) -> list[str]:
    document = TenantDocument("acme", "team", tuple(Member(email, "viewer") for email in emails))
    return [fault.path for fault in faults(document)]


def test_one_person_in_two_spellings_is_one_person() -> None:
    assert paths("Ann@acme.example", "bo@acme.example", "ann@ACME.example") == ["members[2].email"]
    assert paths("ann@acme.example", "ann@beta.example") == []


def test_an_address_is_kept_as_it_was_written() -> None:
    assert Member("Ann@acme.example", "admin").email == "Ann@acme.example"
    assert Member("Ann@acme.example", "admin").key == "ann@acme.example"


@pytest.mark.parametrize(("many", "faulty"), [(MOST_MEMBERS, []), (MOST_MEMBERS + 1, ["members"])])
def test_there_is_a_most_to_how_many_belong_to_a_tenant(many: int, faulty: list[str]) -> None:
    members = "".join(f"- {{email: n{n}@acme.example, role: viewer}}\n" for n in range(many))
    text = f"kind: Tenant\nname: acme\nplan: team\nmembers:\n{members}"
    assert [it.path for it in parse([Source("a.yaml", "/", text.encode())]).faults] == faulty


def test_a_document_that_does_not_speak_of_members_leaves_them_and_an_empty_list_does_not() -> None:
    said = "kind: Tenant\nname: a\nplan: team\n---\nkind: Tenant\nname: b\nplan: team\nmembers: []"
    silent, empty = (it.value for it in parse([Source("a.yaml", "/", said.encode())]).documents)
    assert (silent, empty) == (TenantDocument("a", "team", None), TenantDocument("b", "team", ()))
