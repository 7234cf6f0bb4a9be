"""How many unknown keys a client network may have looked up, and whom that never holds up."""

import asyncio
import secrets

import pytest

from gateway.auth.networks import Networks, network_of
from gateway.errors import Code, GatewayError
from tenants.keys import mint
from tenants.plans import Rate
from tests.gateway.auth.world import Clock, World

LIMIT = Rate(rate=2, burst=3)


async def guess(world: World, address: str) -> Code:
    return await world.refused(mint(secrets.token_bytes(40)), address)


async def test_a_network_that_guesses_is_refused_without_a_look_up_until_it_has_waited_as_long_as_it_was_told() -> (
    None
):
    world = await World(limit=LIMIT).open()
    assert [await guess(world, f"192.0.2.{host}") for host in range(3)] == [Code.UNAUTHENTICATED] * 3
    world.table.looked_up()
    with pytest.raises(GatewayError) as refused:
        await world.keys.authenticate(mint(secrets.token_bytes(40)), "192.0.2.9")
    assert refused.value.code is Code.RATE_LIMITED
    assert refused.value.retry_after_seconds == pytest.approx(0.5)
    assert (world.table.looked_up(), world.networks.refused) == ([], 1)
    assert await guess(world, "192.0.3.1") is Code.UNAUTHENTICATED
    world.clock.now += 0.5
    assert await guess(world, "192.0.2.9") is Code.UNAUTHENTICATED
    assert await guess(world, "192.0.2.9") is Code.RATE_LIMITED


async def test_a_warm_key_is_served_from_a_network_that_guesses() -> None:
    world = await World(limit=LIMIT).open()
    minted = await world.warm()
    for _ in range(5):
        await guess(world, "192.0.2.1")
    assert (await world.called(minted.secret, "192.0.2.1")).id == minted.key.id


async def test_keys_that_exist_cost_their_network_nothing() -> None:
    world = await World(limit=LIMIT).open()
    for _ in range(20):
        await world.called((await world.key()).secret)
    assert [await guess(world, "192.0.2.1") for _ in range(4)][2:] == [
        Code.UNAUTHENTICATED,
        Code.RATE_LIMITED,
    ]


async def test_a_look_up_without_an_answer_costs_its_network_nothing() -> None:
    world = await World(limit=LIMIT).open()
    world.table.gone = True
    assert {await guess(world, "192.0.2.1") for _ in range(10)} == {Code.DIRECTORY_UNAVAILABLE}
    world.table.gone = False
    assert await guess(world, "192.0.2.1") is Code.UNAUTHENTICATED


async def test_one_key_that_many_try_at_once_costs_one_look_up() -> None:
    world = await World(limit=LIMIT).open()
    unknown = mint(secrets.token_bytes(40))
    assert set(await asyncio.gather(*(world.refused(unknown) for _ in range(50)))) == {Code.UNAUTHENTICATED}
    assert world.networks.refused == 0


async def test_without_a_limit_nobody_is_held_back() -> None:
    world = await World(limit=None).open()
    assert {await guess(world, "192.0.2.1") for _ in range(200)} == {Code.UNAUTHENTICATED}


def test_the_networks_that_are_known_are_bounded_and_the_one_that_asked_longest_ago_goes_first() -> None:
    clock = Clock()
    networks = Networks(Rate(rate=1, burst=1), clock, most=2)
    for address in ("192.0.1.1", "192.0.2.1", "192.0.3.1"):
        networks.take(address)
    networks.take("192.0.1.1")
    with pytest.raises(GatewayError):
        networks.take("192.0.3.1")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.254", True),
        ("192.0.2.1", "192.0.3.1", False),
        ("192.0.2.1", "::ffff:192.0.2.77", True),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::1", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("::1", "0.0.0.1", False),
        ("unix:", "unix:", True),
        ("", "unix:", False),
    ],
)
def test_a_network_is_a_24_of_ipv4_and_a_64_of_ipv6(one: str, other: str, *, same: bool) -> None:
    assert (network_of(one) == network_of(other)) is same
