"""What requests are given to seal with is at any moment what the keyring says, though it is asked once a lease."""

import random
from contextlib import suppress

import pytest

from gateway.audit.sealing import Sealers
from gateway.envelope.keyring import CONFIRM_SECONDS, Keyring
from gateway.envelope.ports import KeyRefused, KeysUnavailable
from gateway.envelope.series import PURPOSE
from gateway.loops import jobs
from tests.gateway.envelope.world import World, made, tenant_id

_STEPS = [
    "wait",
    "wait",
    "fetch",
    "fetch",
    "fetch",
    "refresh",
    "rotate",
    "destroy",
    "service",
    "forget",
    "look",
]


async def stepped(step: str, world: World, keyring: Keyring, sealers: Sealers, dice: random.Random) -> None:
    acme, keys = await tenant_id(world), world.directory.data_keys
    match step:
        case "wait":
            world.now += dice.choice((0.001, 5, 10, 20, 40, CONFIRM_SECONDS))
        case "fetch":
            with suppress(KeyRefused, KeysUnavailable):
                await sealers.fetched(acme)
        case "refresh":
            await keyring.refresh()
        case "rotate":
            if key := keyring.held(acme, PURPOSE):
                await keys.rotate("acme", world.act(), purpose=PURPOSE)
                keyring.changed(dice.choice(([acme], None)))
        case "destroy":
            if key := keyring.held(acme, PURPOSE):
                await keys.destroy(
                    "acme", key.id, world.act(), wait_seconds=dice.choice((0, 40)), backup_days=7
                )
                keyring.changed([acme])
        case "service":
            world.service.gone = dice.random() < 0.3
            world.service.states[None] = "Disabled" if dice.random() < 0.3 else "Enabled"
        case "forget":
            sealers.forget()
        case "look":
            await sealers.look()


@pytest.mark.parametrize("is_told", [False, True])
async def test_what_is_leased_is_what_the_keyring_holds_through_rotations_refusals_and_time(
    *,
    is_told: bool,
) -> None:
    asked = leased = 0
    for seed in range(10):
        print(f"seed {seed}")
        dice = random.Random(seed)
        async with jobs() as spawn:
            world = await made(spawn)
            keyring, acme = world.keyring(is_told=is_told), await tenant_id(world)
            sealers = Sealers(keyring, lambda: "s1")
            for _ in range(300):
                await stepped(dice.choice(_STEPS), world, keyring, sealers, dice)
                asked += 1
                given, held = sealers.held(acme), keyring.held(acme, PURPOSE)
                assert (given and given.data_key) == (held and held.id)
                leased += given is not None and sealers.held(acme) is given
    assert leased > asked / 4, "the leases were never tried"


async def test_a_request_of_a_warm_tenant_asks_the_keyring_nothing() -> None:
    async with jobs() as spawn:
        world = await made(spawn)
        keyring, acme = world.keyring(), await tenant_id(world)
        sealers = Sealers(keyring, lambda: "s1")
        given = await sealers.fetched(acme)
        assert sealers.held(acme) is given
        uses = keyring._held[acme, given.data_key].uses
        for _ in range(1000):
            assert sealers.now(acme, sealers.held(acme)) is given
        assert keyring._held[acme, given.data_key].uses == uses
