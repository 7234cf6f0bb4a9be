"""What a tenant has for itself is its alone, whoever asks at once; what is not stored wholly is nobody's: issuers as certificates."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from msgspec import Struct

from gateway.cluster.feed import subjects_of
from tenants.acts import Act
from tenants.certificates import MOST_CERTIFICATES, TenantCertificate, TenantCertificates
from tenants.directory import Directory
from tenants.errors import InUse, Invalid, NotFound, Stale
from tenants.events import Changed
from tenants.issuers import MOST_ISSUERS, TenantIssuer, TenantIssuers
from tenants.rows import OwnerPointer, change_at, encoded, held_at, holding_at, read
from tests.tenants import replay
from tests.tenants.conftest import BY, NOW, damage, events
from tests.worlds.table import MemoryTable

ACT = Act(BY, NOW + 1)
URL = "https://login.acme.example"
Entry = Any
"""A TenantIssuer or a TenantCertificate."""


@dataclass(frozen=True, slots=True)
class Case:
    """One sort. `other` is stored before `one`, of which `known` is what a gateway finds; `number` gives as many as are wanted."""

    many: str
    stored: Callable[..., Struct]
    other: Entry
    one: Entry
    taken: str
    most: int
    number: Callable[[str], Entry]
    known: Callable[[Directory], Awaitable[list[tuple[str | None, Entry]]]]

    def of(self, directory: Directory) -> Any:
        return getattr(directory, self.many)


async def _trusted(directory: Directory) -> list[tuple[str | None, Entry]]:
    return [(it.tenant_id, it.issuer) for it in await directory.issuers.trusted(URL)]


async def _mapped(directory: Directory) -> list[tuple[str | None, Entry]]:
    found = await directory.certificates.mapped([("uri", "spiffe://acme.example/ingest"), ("email", URL)])
    return [(it.tenant_id, it.certificate) for it in found]


CASES = (
    Case(
        "issuers",
        TenantIssuers,
        TenantIssuer("https://a.example", "x"),
        TenantIssuer(URL, "gateway", roles_claim="roles"),
        "the tenant 'acme', with the audience 'gateway'",
        MOST_ISSUERS,
        lambda name: TenantIssuer(URL, name),
        _trusted,
    ),
    Case(
        "certificates",
        TenantCertificates,
        TenantCertificate("batch", dns="batch.acme.example", models=("digits",)),
        TenantCertificate("ingest", uri="spiffe://acme.example/ingest"),
        "the tenant 'acme', as uri",
        MOST_CERTIFICATES,
        lambda name: TenantCertificate(name, dns=f"{name}.example"),
        _mapped,
    ),
)
sorts = pytest.mark.parametrize("case", CASES, ids=lambda case: case.many)


@sorts
async def test_all_of_a_tenant_are_put_as_one_and_told_as_one(
    two: Directory, world: MemoryTable, case: Case
) -> None:
    owner, them = await two.tenants.show("acme"), case.of(two)
    assert (await them.find("acme")).version == 0
    put = await them.put("acme", [case.one, case.other], ACT, expected=0)
    assert put == case.stored(owner.id, (case.other, case.one))
    assert await them.put("acme", [case.other, case.one], ACT) == put  # in another order it is the same
    found = await them.find("acme")
    assert (found.value, found.version) == (put, 1)
    with pytest.raises(Stale):
        await them.put("acme", [], ACT, expected=0)
    assert await case.known(two) == [(owner.id, case.one)]
    await them.put("acme", [case.other], ACT, expected=1)
    assert await case.known(two) == []
    assert held_at(case.one.held) not in world.rows
    told = [it for it in events(world) if it.action.endswith(".assigned")]
    sort = case.one.held.sort
    assert [(it.action, it.subject) for it in told] == [(f"{sort}.assigned", f"{sort}/{owner.id}")] * 2
    changed = read(world.rows[change_at(told[-1].sequence)], Changed)
    assert subjects_of([changed]) == {sort: {owner.id}}
    assert replay.faults(world.rows) == []


@sorts
async def test_as_many_as_a_tenant_may_have_are_all_changed_in_one_transaction(
    acme: Directory, case: Case
) -> None:
    for letter in "ab":
        them = [case.number(f"{letter}{number}") for number in range(case.most)]
        assert (await case.of(acme).put("acme", them, ACT)).entries == tuple(them)
    with pytest.raises(Invalid, match="a tenant may have"):
        await case.of(acme).put("acme", [*them, case.one], ACT)


@sorts
async def test_what_one_tenant_has_no_other_gets_before_it_is_given_up(
    two: Directory, world: MemoryTable, case: Case
) -> None:
    await case.of(two).put("acme", [case.one], ACT)
    before = dict(world.rows)
    with pytest.raises(InUse, match=f"is in use by {case.taken}"):
        await case.of(two).put("beta", [case.one], ACT)
    assert world.rows == before
    await case.of(two).put("acme", [], ACT)
    await case.of(two).put("beta", [case.one], ACT)
    assert await case.known(two) == [((await two.tenants.show("beta")).id, case.one)]
    assert replay.faults(world.rows) == []


@sorts
async def test_of_two_who_claim_the_same_at_once_one_has_it(
    two: Directory, world: MemoryTable, case: Case
) -> None:
    claims = (case.of(two).put(tenant, [case.one], ACT) for tenant in ("acme", "beta"))
    came_of_it = await asyncio.gather(*claims, return_exceptions=True)
    assert [type(it) for it in came_of_it].count(InUse) == 1
    assert len(await case.known(two)) == 1
    assert replay.faults(world.rows) == []


@sorts
@pytest.mark.parametrize("closes_us", [None, NOW + 1_000_000], ids=["closed", "closing"])
async def test_a_closing_tenant_keeps_its_own_until_it_is_taken_from_it_and_gets_no_more(
    two: Directory, closes_us: int | None, case: Case
) -> None:
    await case.of(two).put("acme", [case.one], ACT)
    await two.tenants.do("acme", "close", ACT, closes_us=closes_us)
    with pytest.raises(InUse):
        await case.of(two).put("beta", [case.one], ACT)
    with pytest.raises(Invalid, match="is clos"):
        await case.of(two).put("acme", [case.one, case.other], ACT)
    await case.of(two).put("acme", [], ACT)
    await case.of(two).put("beta", [case.one], ACT)


@sorts
async def test_nothing_is_of_a_tenant_that_is_not_there(two: Directory, case: Case) -> None:
    with pytest.raises(NotFound):
        await case.of(two).put("nobody", [case.one], ACT)
    with pytest.raises(NotFound):
        await case.of(two).find("nobody")


@sorts
@pytest.mark.parametrize(
    "what", ["pointer", "row", "another's", "nobody's", "no row", "no pointer", "another row"]
)
async def test_what_is_damaged_dangling_or_does_not_agree_is_of_nobody(
    two: Directory, world: MemoryTable, case: Case, what: str
) -> None:
    acme, beta = await two.tenants.show("acme"), await two.tenants.show("beta")
    await case.of(two).put("acme", [case.one], ACT)
    pointer, row = held_at(case.one.held), holding_at(acme.id, case.many)
    match what:
        case "pointer":
            damage(world, pointer)
        case "row":
            damage(world, row)
        case "another's":
            damage(world, pointer, encoded(OwnerPointer(beta.id)))
        case "nobody's":
            damage(world, pointer, encoded(OwnerPointer(None)))
        case "no row":
            del world.rows[row]
        case "no pointer":
            del world.rows[pointer]
        case _:
            damage(world, row, encoded(case.stored(beta.id, (case.one,))))
    assert await case.known(two) == []
