"""What is exported reads the same again, and changes nothing where it is applied, whatever texts are in it."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenants import declare
from tenants.acts import Act
from tenants.catalogue import Declared, Value, name_of
from tenants.customer import Member, TenantDocument
from tenants.directory import Directory
from tenants.documents import Document, Documents, Source, parse
from tenants.fleet import Fleet
from tenants.issuers import Given, Issuer, TenantIssuer
from tenants.model import Canary, CanaryInput, Model
from tenants.openai import Generate, Infer, PassThrough
from tenants.outline import Stored, as_declared, outlined
from tenants.plans import Limits, Plan
from tenants.tenant import State
from tenants.writing import tree, written
from tests.tenants.conftest import BY, NOW
from tests.tenants.test_declare import worlds
from tests.tenants.test_written import DECLARED
from tests.worlds.table import MemoryTable

HOSTILE = [
    *("on", "no", "y", "~", "null", "true", "010", "0o7", "0x1F", "1e3", "1_000", "1.", ".5", "12:30:45"),
    *(
        "2024-01-01",
        "-",
        "---",
        "...",
        "!x",
        "&a",
        "*a",
        "%YAML",
        "@",
        "`",
        "|",
        ">",
        "'",
        '"',
        "a: b",
        "a #b",
    ),
    *("", " ", " a", "a ", "\t", "a\nb", "\na", "a\n", "a\n\n b\n", "a\\nb", "{a}", "[a]", "a,b", "<<", "="),
    *("é", "\u00a0", "\u2028", "\u0085", "\ufeff", "\U0001f600", "\u202e", "\x7f", "x" * 400, "a b " * 99),
]


def again(values: list[Declared]) -> Documents:
    return parse([Source("a.yaml", "/elsewhere", written(map(tree, values)).encode())])


def texts(*values: str) -> Model:
    inputs = (CanaryInput("in", "BYTES", (len(values),), tuple(values)),)
    return Model("m_1", "digits", "/srv/m", "*", canary=Canary(inputs))


@settings(deadline=None)
@given(st.lists(DECLARED, max_size=4, unique_by=name_of))
def test_what_is_exported_changes_nothing_where_it_is_applied(values: list[Declared]) -> None:
    stored = [as_declared(it, None) if isinstance(it, TenantDocument) else it for it in values]
    declared = again(stored)
    assert declared.faults == ()
    there = {name_of(it): it for it in stored}
    plans = {
        ("Plan", it.plan): Plan(it.plan, 1, Limits(1)) for it in stored if isinstance(it, TenantDocument)
    }
    fleets = {
        ("Fleet", it.fleet): Fleet(it.fleet, memory_bytes=2**50) for it in stored if isinstance(it, Model)
    }
    tenants: dict[str, State] = {
        it.name: it.state or "active" for it in stored if isinstance(it, TenantDocument)
    }
    compared = {name: it for name, it in declared_values(declared).items() if name[0] != "Model"}
    documents = tuple(it for it in declared.documents if name_of(it.value) in compared)
    assert not outlined(Documents(documents), Stored(0, plans | fleets | there, tenants)).changes
    assert {name: it for name, it in declared_values(declared).items() if name[0] == "Model"} == {
        name: it for name, it in there.items() if name[0] == "Model"
    }


def declared_values(declared: Documents) -> dict[tuple[str, str], Declared]:
    return {name_of(it.value): it.value for it in declared.documents}


@pytest.mark.parametrize("text", HOSTILE)
def test_a_text_is_the_same_text_again(text: str) -> None:
    (document,) = again([texts(text, text)]).documents
    assert isinstance(document.value, Model)
    assert document.value.canary == texts(text, text).canary


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=40), min_size=1, max_size=5))
def test_any_text_is_the_same_text_again(found: list[str]) -> None:
    (document,) = again([texts(*found)]).documents
    assert isinstance(document.value, Model)
    assert document.value.canary == texts(*found).canary


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=5))
def test_any_number_is_the_same_number_again(found: list[float]) -> None:
    canary = Canary((CanaryInput("in", "FP64", (len(found),), tuple(found)),))
    (document,) = again([Model("", "digits", "/srv/m", "*", canary=canary)]).documents
    assert isinstance(document.value, Model)
    assert document.value.canary == canary


def test_documents_are_short_and_as_people_write_them() -> None:
    values: list[Declared] = [
        Fleet("local"),
        Model("m_1", "digits", "/srv/on", ("acme", "010"), description="two\nlines"),
        Model("m_2", "gpt", "", "*", "", openai=PassThrough("127.0.0.1:9000")),
        Model("m_3", "chat", "/srv/m", "*", openai=Generate()),
        Model("m_4", "embed", "/srv/m", "*", openai=Infer(batched=True)),
        TenantDocument(
            "acme", "team", (Member("b@acme.example", "viewer"), Member("a@acme.example", "admin"))
        ),
        TenantDocument("beta", "team", ()),
    ]
    assert (
        written(map(tree, values))
        == """\
kind: Fleet
name: local
---
kind: Model
name: digits
repository: /srv/on
tenants: [acme, "010"]
description: "two\\nlines"
---
kind: Model
name: gpt
tenants: "*"
openai: {backend: pass-through, address: "127.0.0.1:9000"}
---
kind: Model
name: chat
repository: /srv/m
tenants: "*"
openai: {backend: generate}
---
kind: Model
name: embed
repository: /srv/m
tenants: "*"
openai: {backend: infer, batched: true}
---
kind: Tenant
name: acme
plan: team
members:
- {email: a@acme.example, role: admin}
- {email: b@acme.example, role: viewer}
issuers: []
---
kind: Tenant
name: beta
plan: team
members: []
issuers: []
"""
    )


def test_issuers_are_written_as_people_write_them() -> None:
    own = TenantIssuer("https://login.acme.example", "gateway", roles_claim="roles")
    roles: dict[str, Given] = {"gw operators": "operator"}
    values: list[Declared] = [
        TenantDocument("beta", "team", (), issuers=(own,)),
        Issuer("https://login.example", "gateway", roles_claim="groups", roles=roles, operators=True),
    ]
    assert (
        written(map(tree, values))
        == """\
kind: Tenant
name: beta
plan: team
members: []
issuers:
- {issuer: "https://login.acme.example", audience: gateway, roles_claim: roles}
---
kind: Issuer
issuer: "https://login.example"
audience: gateway
roles_claim: groups
roles: {"gw operators": operator}
operators: true
"""
    )


@settings(deadline=None)  # a directory in memory takes as long as the machine is busy
@given(worlds())
async def test_a_directory_is_exported_whole_and_finds_itself_unchanged(values: list[Value]) -> None:
    directory = Directory(MemoryTable(), Random(7).randbytes)
    team: list[Declared] = [Plan("team", 1, Limits(1)), TenantDocument("acme", "team", None, "suspended")]
    made = Documents(tuple(map(Document, [*values, *team])))
    await declare.apply(directory, made, Act(BY, NOW))
    stored = await declare.everything(directory)
    declared = again(stored)
    assert (len(stored), declared.faults) == (len(values) + 2, ())
    assert not (await declare.apply(directory, declared, Act(BY, NOW))).changes


async def test_closed_tenants_keys_and_ids_are_not_exported(acme: Directory) -> None:
    minted = await acme.keys.create("acme", act=Act(BY, NOW))
    await acme.tenants.create("beta", "team", Act(BY, NOW))
    await acme.tenants.do("beta", "close", Act(BY, NOW))
    text = written(map(tree, await declare.everything(acme)))
    assert "beta" not in text
    for secret in (minted.key.id, minted.key.hint, minted.key.tenant_id, "m_", "k_", "id:"):
        assert secret not in text
