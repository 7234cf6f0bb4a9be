"""Documents say what tenants have and nobody else: issuers as certificates, each one's own and given up before another gets it."""

from dataclasses import dataclass
from random import Random
from typing import Any

import pytest

from tenants import declare
from tenants.acts import Act
from tenants.certificates import TenantCertificate
from tenants.directory import Directory
from tenants.documents import Source, parse
from tenants.issuers import TenantIssuer
from tenants.writing import tree, written
from tests.tenants import replay
from tests.tenants.conftest import BY, NOW
from tests.tenants.test_declare_tenants import PLAN, apply, look, refused
from tests.worlds.table import MemoryTable

ACT = Act(BY, NOW + 1)
URL = "https://login.acme.example"
URI = "spiffe://acme.example/ingest"


@dataclass(frozen=True, slots=True)
class Case:
    """One sort: how documents say an entry and `other` in its stead, what a diff tells of that, and what a fault calls the first."""

    many: str
    own: str
    other: str
    differences: dict[str, tuple[object, object]]
    entry: Any
    path: str
    fault: str

    def document(self, tenant: str, own: str | None = None) -> str:
        return f"kind: Tenant\nname: {tenant}\nplan: team\n{self.many}: [{self.own if own is None else own}]"

    async def had(self, directory: Directory, tenant: str) -> tuple[Any, ...]:
        entries: tuple[Any, ...] = (await getattr(directory, self.many).find(tenant)).value.entries
        return entries


CASES = (
    Case(
        "issuers",
        f'{{issuer: "{URL}", audience: gateway, roles_claim: roles}}',
        f'{{issuer: "{URL}", audience: else, roles_claim: groups, insecure: true}}',
        {
            f"issuers.{URL} gateway": ({"roles_claim": "roles"}, None),
            f"issuers.{URL} else": (None, {"roles_claim": "groups", "insecure": True}),
        },
        TenantIssuer(URL, "else", roles_claim="groups", insecure=True),
        "issuers[0]",
        f"the issuer '{URL}' with the audience 'gateway'",
    ),
    Case(
        "certificates",
        f'{{name: ingest, uri: "{URI}", models: [digits]}}',
        f'{{name: batch, uri: "{URI}"}}',
        {
            "certificates.ingest": ({"uri": URI, "models": ("digits",)}, None),
            "certificates.batch": (None, {"uri": URI}),
        },
        TenantCertificate("batch", uri=URI),
        "certificates[0].uri",
        f"'{URI}'",
    ),
)
sorts = pytest.mark.parametrize("case", CASES, ids=lambda case: case.many)


@sorts
async def test_a_diff_tells_what_becomes_of_each_and_silence_changes_none(
    directory: Directory, world: MemoryTable, case: Case
) -> None:
    await apply(directory, PLAN, case.document("acme"))
    silent = case.document("acme").partition(case.many)[0]
    assert not (await apply(directory, silent)).changes
    assert len(await case.had(directory, "acme")) == 1
    (difference,) = (await look(directory, case.document("acme", case.other))).differences
    assert difference.fields == case.differences
    await apply(directory, case.document("acme", case.other))
    assert await case.had(directory, "acme") == (case.entry,)
    await apply(directory, case.document("acme", ""))
    assert await case.had(directory, "acme") == ()
    assert replay.faults(world.rows) == []


@sorts
async def test_what_two_documents_claim_or_another_has_is_a_fault_in_its_line(
    directory: Directory, world: MemoryTable, case: Case
) -> None:
    acme, beta = case.document("acme"), case.document("beta")
    assert await refused(directory, PLAN, acme, beta) == [
        f"a.yaml:14: {case.path}: {case.fault} is declared in a.yaml:6 already"
    ]
    assert world.rows == {}
    await apply(directory, PLAN, acme)
    before = dict(world.rows)
    given_up = case.document("acme", "")
    taken = f"{case.path}: {case.fault} is that of the tenant 'acme', which must give it up first, by an apply of its own"
    assert await refused(directory, beta) == [f"a.yaml:4: {taken}"]
    assert await refused(directory, given_up, beta) == [f"a.yaml:9: {taken}"]
    assert world.rows == before
    await apply(directory, given_up)
    await apply(directory, beta)
    assert len(await case.had(directory, "beta")) == 1
    assert replay.faults(world.rows) == []


@sorts
async def test_what_is_exported_is_applied_elsewhere_to_the_same(directory: Directory, case: Case) -> None:
    await apply(directory, PLAN, case.document("acme"), case.document("beta", ""))
    exported = await declare.everything(directory)
    text = written(map(tree, exported))
    assert text.count(f"{case.many}:") == (2 if case.many == "issuers" else 1)  # none is said, or silence is
    declared = parse([Source("a.yaml", "/", text.encode())])
    other = Directory(MemoryTable(), Random(3).randbytes)
    await declare.apply(other, declared, ACT)
    assert await declare.everything(other) == exported
    assert not (await declare.apply(directory, declared, ACT)).changes
