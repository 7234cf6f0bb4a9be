"""Whose a client's certificate is: one tenant's by one name, no longer than it holds, and not five seconds longer than it is mapped."""

from dataclasses import replace
from typing import Final

import pytest

from gateway.auth.certificates import AMBIGUOUS
from gateway.auth.known import FRESH_SECONDS
from gateway.auth.presented import Certificate
from gateway.errors import Code, GatewayError
from tenants.certificates import TenantCertificate
from tenants.keys import Secret
from tenants.restrictions import Restrictions
from tests.gateway.auth.world import ACT, HERE, NOW_US, World

INGEST: Final = TenantCertificate("ingest", uri="spiffe://acme.example/ingest", models=("digits",))
BATCH: Final = TenantCertificate("batch", dns="batch.example")
SHOWN: Final = Certificate("ab" * 32, (INGEST.identity, ("dns", "else")), 0, NOW_US + 10_000_000)


@pytest.fixture
async def world() -> World:
    made = await World().open()
    await made.directory.certificates.put("acme", [INGEST], ACT)
    await made.directory.certificates.put("globex", [BATCH], ACT)
    await made.seen()
    return made


async def refusal(world: World, shown: Certificate) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        await world.keys.authenticate(shown, HERE)
    return caught.value


async def test_who_shows_it_is_the_tenants_without_a_role_and_has_the_models_that_it_names(
    world: World,
) -> None:
    who = await world.keys.authenticate(SHOWN, HERE)
    assert (who.tenant_name, who.plan.name, who.name, who.id[:2]) == ("acme", "team", "ingest", "p_")
    assert (who.subject.models, who.subject.role) == (frozenset({"digits"}), None)
    assert (who.certificate, who.expires_us) == (SHOWN.fingerprint, SHOWN.ends_us)
    renewed = await world.keys.authenticate(replace(SHOWN, fingerprint="cd" * 32), HERE)
    assert (renewed.id, renewed.certificate) == (who.id, "cd" * 32)
    assert world.keys.used == {}  # no key was


async def test_the_digest_of_a_certificate_is_that_of_no_text(world: World) -> None:
    await world.keys.authenticate(SHOWN, HERE)
    assert await world.refused(Secret(SHOWN.digest)) is Code.UNAUTHENTICATED
    assert await world.refused(Secret(SHOWN.fingerprint)) is Code.UNAUTHENTICATED


@pytest.mark.parametrize(
    "shown",
    [
        replace(SHOWN, identities=(("dns", INGEST.identity[1]),)),
        replace(SHOWN, identities=()),
        replace(SHOWN, why="it is signed over a weak hash"),
        replace(SHOWN, begins_us=NOW_US + 1),
        replace(SHOWN, ends_us=NOW_US),
    ],
)
async def test_of_another_sort_unsound_or_out_of_its_time_it_is_nobodys(
    world: World, shown: Certificate
) -> None:
    assert (await refusal(world, shown)).code is Code.UNAUTHENTICATED


async def test_its_end_is_looked_at_with_each_call(world: World) -> None:
    await world.keys.authenticate(SHOWN, HERE)
    world.now_us = SHOWN.ends_us
    assert (await refusal(world, SHOWN)).code is Code.UNAUTHENTICATED


async def test_names_of_two_mappings_are_nobodys_and_it_is_said_also_where_the_second_comes_later(
    world: World,
) -> None:
    both = replace(SHOWN, identities=(INGEST.identity, BATCH.identity))
    refused = await refusal(world, both)
    assert (refused.code, refused.sentence) == (Code.UNAUTHENTICATED, AMBIGUOUS)
    await world.keys.authenticate(SHOWN, HERE)
    await world.directory.certificates.put("globex", [TenantCertificate("batch", dns="else")], ACT)
    await world.feed.look()
    assert (await refusal(world, SHOWN)).sentence == AMBIGUOUS


async def test_one_that_is_taken_away_ends_with_the_next_look_which_a_call_waits_for(world: World) -> None:
    await world.keys.authenticate(SHOWN, HERE)
    await world.directory.certificates.put("acme", [], ACT)
    world.clock.now += FRESH_SECONDS
    assert (await refusal(world, SHOWN)).code is Code.UNAUTHENTICATED


async def test_a_tenants_networks_plan_and_end_hold_for_it(world: World) -> None:
    await world.keys.authenticate(SHOWN, HERE)
    await world.directory.tenants.move("acme", "big", act=ACT)
    await world.feed.look()
    assert (await world.keys.authenticate(SHOWN, HERE)).plan.name == "big"
    await world.directory.tenants.restrict("acme", Restrictions(networks=("203.0.113.0/24",)), act=ACT)
    await world.feed.look()
    assert (await refusal(world, SHOWN)).code is Code.FORBIDDEN
    await world.directory.tenants.do("acme", "close", act=ACT, closes_us=NOW_US)
    await world.feed.look()
    assert (await refusal(world, SHOWN)).code is Code.UNAUTHENTICATED


async def test_a_tenant_that_is_suspended_is_seen_to_be_so_also_by_a_certificate_that_was_known(
    world: World,
) -> None:
    await world.keys.authenticate(SHOWN, HERE)
    await world.directory.tenants.do("acme", "suspend", act=ACT)
    world.clock.now += FRESH_SECONDS
    for shown in (SHOWN, replace(SHOWN, fingerprint="cd" * 32)):
        assert (await world.keys.authenticate(shown, HERE)).subject.tenant_state == "suspended"


async def test_a_name_that_went_to_another_tenant_is_that_ones_with_the_next_look(world: World) -> None:
    before = await world.keys.authenticate(SHOWN, HERE)
    await world.directory.certificates.put("acme", [], ACT)
    await world.directory.certificates.put("globex", [INGEST], ACT)
    world.clock.now += FRESH_SECONDS
    who = await world.keys.authenticate(SHOWN, HERE)
    assert (before.tenant_name, who.tenant_name) == ("acme", "globex")
    assert who.id != before.id


async def test_one_that_is_known_is_looked_up_once(world: World) -> None:
    await world.keys.authenticate(SHOWN, HERE)
    before = len(world.table.reads)
    for _ in range(3):
        await world.keys.authenticate(SHOWN, HERE)
    assert len(world.table.reads) == before
