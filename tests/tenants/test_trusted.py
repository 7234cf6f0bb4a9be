"""An issuer with one audience is a tenant's or the platform's, whoever asks at once; and a gateway trusts what is stored wholly."""

import asyncio
from collections.abc import Sequence
from random import Random

import pytest
from msgspec.structs import replace

from gateway.cluster.feed import subjects_of
from tenants.acts import Act
from tenants.directory import Directory, Trusted
from tenants.errors import InUse, NotFound
from tenants.events import Changed, tenants_of
from tenants.issuers import Issuer, TenantIssuer, id_of
from tenants.ports import MOST_KEYS, Key, Page, Row
from tenants.rows import (
    OwnerPointer,
    change_at,
    encoded,
    held_at,
    issuer_at,
    member_at,
    plan_at,
    read,
    tenant_at,
)
from tests.tenants import replay
from tests.tenants.api.worlds import BusyTable
from tests.tenants.conftest import BY, NOW, TEAM, actions, damage
from tests.worlds.table import MemoryTable

ACT = Act(BY, NOW + 1)
URL = "https://login.acme.example"
OWN = TenantIssuer(URL, "gateway", roles_claim="roles")
SHARED = Issuer("https://login.example", "gateway", tenant_claim="tenant")


# Changing


async def test_as_many_shared_ones_as_are_taken_at_once_fit_in_one_transaction(directory: Directory) -> None:
    many = [Issuer(f"https://{name}.example", "gateway", tenant_claim="t") for name in "abcdef"]
    await directory.values.put(*many[:5], act=ACT)
    await directory.values.put(*(replace(it, audience="else") for it in many[:5]), act=ACT)
    with pytest.raises(ValueError, match="at most 5"):
        await directory.values.put(*many, act=ACT)


async def test_what_one_has_no_other_gets_before_it_is_given_up(two: Directory, world: MemoryTable) -> None:
    await two.issuers.put("acme", [OWN], ACT)
    await two.values.put(SHARED, act=ACT)
    before = dict(world.rows)
    taken = TenantIssuer(SHARED.issuer, SHARED.audience)
    with pytest.raises(InUse, match="the tenant 'acme'"):
        await two.issuers.put("beta", [OWN], ACT)
    with pytest.raises(InUse, match="the tenant 'acme'"):
        await two.values.put(Issuer(URL, "gateway", tenant_claim="tenant"), act=ACT)
    with pytest.raises(InUse, match="the platform"):
        await two.issuers.put("beta", [taken], ACT)
    assert world.rows == before
    elsewhere = [replace(OWN, audience="beta"), replace(taken, audience="beta")]
    await two.issuers.put("beta", elsewhere, ACT)  # with another audience it is another
    await two.values.remove(Issuer, SHARED.id, ACT)
    await two.issuers.put("acme", [], ACT)
    await two.issuers.put("beta", [*elsewhere, OWN, taken], ACT)
    assert replay.faults(world.rows) == []


async def test_a_shared_one_with_another_audience_gives_the_first_up(
    two: Directory, world: MemoryTable
) -> None:
    await two.values.put(SHARED, act=ACT)
    await two.values.put(replace(SHARED, audience="else"), act=ACT)
    assert held_at(SHARED.held) not in world.rows
    assert held_at(replace(SHARED, audience="else").held) in world.rows
    assert [it for it in actions(world) if it.startswith("issuer")] == ["issuer.changed", "issuer.created"]
    with pytest.raises(NotFound):
        await two.values.find(Issuer, id_of("https://nobody.example"))
    with pytest.raises(NotFound):
        await two.values.find(Issuer, SHARED.issuer)


@pytest.mark.parametrize("seed", range(8))
async def test_of_many_who_claim_one_pair_at_once_one_has_it(seed: int) -> None:
    """Tenants and the platform, each at a gateway of its own, by turns in another order."""
    world = BusyTable()
    first = Directory(world, Random(seed).randbytes)
    await first.values.put(TEAM, act=Act(BY, NOW))
    names = [f"t{number}" for number in range(4)]
    for name in names:
        await first.tenants.create(name, "team", Act(BY, NOW))

    async def claim(name: str, number: int) -> object:
        there = Directory(world, Random(f"{seed}/{number}").randbytes)
        for _ in range(Random(f"{number}/{seed}").randrange(6)):
            await asyncio.sleep(0)
        if not name:
            return await there.values.put(Issuer(URL, "gateway", tenant_claim="tenant"), act=ACT)
        return await there.issuers.put(name, [OWN, TenantIssuer(URL, name)], ACT)

    claims = [claim(name, number) for number, name in enumerate([*names, "", ""])]
    told = await asyncio.gather(*claims, return_exceptions=True)
    assert all(isinstance(it, InUse) for it in told if isinstance(it, BaseException))
    trusted = [it for it in await first.issuers.trusted(URL) if it.issuer.audience == "gateway"]
    assert len(trusted) == 1
    won = [it for it in told if not isinstance(it, BaseException)]
    assert len(won) == (2 if trusted[0].tenant_id is None else 1)  # the platform asked twice for the same
    assert replay.faults(world.rows) == []


# What a gateway asks


async def test_an_issuer_is_trusted_for_whom_it_is_stored_and_for_nobody_else(two: Directory) -> None:
    acme, beta = await two.tenants.show("acme"), await two.tenants.show("beta")
    theirs = TenantIssuer(URL, "beta")
    await two.issuers.put("acme", [OWN, TenantIssuer("https://other.example", "gateway")], ACT)
    await two.issuers.put("beta", [theirs], ACT)
    both = Issuer(URL, "all", tenant_claim="tenant")
    await two.values.put(both, SHARED, act=ACT)
    found = await two.issuers.trusted(URL)
    assert sorted(found, key=lambda it: it.issuer.audience) == [
        Trusted(both, None),
        Trusted(theirs, beta.id),
        Trusted(OWN, acme.id),
    ]
    for url in (
        f"{URL}/",
        URL.upper(),
        "",
        "\ud800",
        "é" * 9,
        "https://" + "a" * 2000,
        "https://nobody.example",
    ):
        assert await two.issuers.trusted(url) == ()


async def test_whose_an_issuer_is_can_be_read_in_two_looks(two: Directory, world: MemoryTable) -> None:
    await two.issuers.put("acme", [OWN], ACT)

    class Counting(MemoryTable):
        looks = 0

        async def get_many(self, keys: Sequence[Key]) -> dict[Key, Row]:
            self.looks += 1
            return await MemoryTable.get_many(self, keys)

        async def list(
            self, partition: str, prefix: str = "", after: str | None = None, limit: int = MOST_KEYS
        ) -> Page:
            self.looks += 1
            return await MemoryTable.list(self, partition, prefix, after, limit)

        async def get(self, key: Key) -> Row | None:
            self.looks += 1
            return await MemoryTable.get(self, key)

    table = Counting(rows=world.rows)
    assert len(await Directory(table, Random(1).randbytes).issuers.trusted(URL)) == 1
    assert table.looks == 2


@pytest.mark.parametrize("what", ["pointer", "row", "both", "a tenant's", "no row", "no pointer", "another"])
async def test_a_shared_issuer_whose_rows_are_damaged_or_do_not_agree_is_not_trusted(
    two: Directory, world: MemoryTable, what: str
) -> None:
    acme = await two.tenants.show("acme")
    await two.issuers.put("acme", [OWN], ACT)
    await two.values.put(SHARED, act=ACT)
    pointer, row = held_at(SHARED.held), issuer_at(SHARED.id)
    match what:
        case "pointer":
            damage(world, pointer)
        case "row":
            damage(world, row)
        case "both":
            damage(world, pointer)
            damage(world, row)
        case "a tenant's":
            damage(world, pointer, encoded(OwnerPointer(acme.id)))
        case "no row":
            del world.rows[row]
        case "no pointer":
            del world.rows[pointer]
        case _:
            damage(world, row, encoded(replace(SHARED, audience="else")))
    assert await two.issuers.trusted(SHARED.issuer) == ()


async def test_who_belongs_to_a_tenant_is_found_by_its_id_and_by_its_name(
    two: Directory, world: MemoryTable
) -> None:
    ann = await two.members.invite("acme", "Ann@Acme.Example", "admin", ACT)
    ben = await two.members.invite("acme", "ben@acme.example", "viewer", ACT)
    await two.members.invite("beta", "cat@beta.example", "viewer", ACT)
    acme = await two.tenants.show("acme")
    by_id = await two.issuers.belonging(tenant_id=acme.id)
    assert by_id == await two.issuers.belonging(name="acme")
    assert by_id is not None
    assert (by_id.tenant, by_id.plan) == (acme, TEAM)
    assert by_id.members == {"ann@acme.example": ann, "ben@acme.example": ben}
    assert by_id.member("ANN@acme.EXAMPLE") == ann
    for nobody in ("", "ann", "cat@beta.example", " ann@acme.example", "ann@acme.example\0"):
        assert by_id.member(nobody) is None
    damage(world, member_at(acme.id, ann.id))
    left = await two.issuers.belonging(name="acme")
    assert left is not None
    assert left.members == {"ben@acme.example": ben}


async def test_an_address_of_other_letters_is_not_that_of_a_member(acme: Directory) -> None:
    await acme.members.invite("acme", "kim@acme.example", "admin", ACT)
    jo = await acme.members.invite("acme", "JÖ@acme.example", "viewer", ACT)
    belonging = await acme.issuers.belonging(name="acme")
    assert belonging is not None
    assert "\N{KELVIN SIGN}im@acme.example".lower() == "kim@acme.example"
    assert belonging.member("\N{KELVIN SIGN}im@acme.example") is None
    assert belonging.member("jö@acme.example") == jo


@pytest.mark.parametrize("what", ["plan", "no plan", "tenant", "no tenant"])
async def test_nobody_belongs_to_a_tenant_that_cannot_be_read_nor_its_plan(
    acme: Directory, world: MemoryTable, what: str
) -> None:
    at = tenant_at((await acme.tenants.show("acme")).id)
    match what:
        case "plan":
            damage(world, plan_at("team"))
        case "no plan":
            del world.rows[plan_at("team")]
        case "tenant":
            damage(world, at)
        case "no tenant":
            del world.rows[at]
    assert await acme.issuers.belonging(name="acme") is None
    assert await acme.issuers.belonging(tenant_id=at.partition.removeprefix("tenant/")) is None


@pytest.mark.parametrize("name", ["", "Acme", "acme/../beta", "a" * 5000, "\ud800", "nobodys", None])
async def test_a_name_that_no_tenant_has_is_nobody(acme: Directory, name: str | None) -> None:
    assert await acme.issuers.belonging(name=name) is None
    assert await acme.issuers.belonging(name=name, tenant_id=None) is None


# What a gateway hears of


async def test_whose_change_it_was_is_told_with_every_change(two: Directory, world: MemoryTable) -> None:
    acme = await two.tenants.show("acme")

    async def last() -> tuple[list[str], set[str]]:
        record = read(world.rows[change_at(await two.journal.sequence())], Changed)
        return list(record.subjects), tenants_of(record)

    ann = await two.members.invite("acme", "ann@acme.example", "admin", ACT)
    assert await last() == ([f"member/{ann.id}"], {acme.id})
    await two.issuers.put("acme", [OWN], ACT)
    assert await last() == ([f"issuer/{acme.id}"], {acme.id})
    await two.values.put(SHARED, act=ACT)
    assert await last() == ([f"issuer/{SHARED.id}"], set())
    record = read(world.rows[change_at(await two.journal.sequence())], Changed)
    assert subjects_of([record]) == {"issuer": {SHARED.id}}
