"""What a process knows of the directory, how soon it learns of a change, and what it does when it cannot."""

import secrets

import pytest

from gateway.auth.api_key import ApiKeys
from gateway.auth.known import Known
from gateway.errors import Code, GatewayError
from tenants.acts import Act
from tenants.directory import Directory, Minted
from tenants.errors import TableUnavailable
from tenants.fleet import Fleet
from tenants.keys import Secret, digest, mint
from tenants.model import Model
from tenants.plans import Limits, Plan
from tests.worlds.table import MemoryTable

NOW_US = 1_700_000_000_000_000


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class World:
    """A directory with tenant acme, and what one process knows of it."""

    def __init__(self, most_keys: int = 100) -> None:
        self.table, self.clock, self.now_us = MemoryTable(), Clock(), NOW_US
        self.directory = Directory(self.table, secrets.token_bytes)
        self.known = Known(self.directory, self.clock, most_keys=most_keys)
        self.keys = ApiKeys(self.known, lambda: self.now_us)

    async def open(self) -> "World":
        await self.directory.values.put(Plan("team", 1, Limits(body_bytes=10)), act=Act("test", NOW_US))
        await self.directory.values.put(Fleet("local"), act=Act("test", NOW_US))
        await self.directory.tenants.create("acme", "team", act=Act("test", NOW_US))
        await self.known.reread()
        return self

    async def key(self, **given: int) -> Minted:
        return await self.directory.keys.create("acme", act=Act("test", NOW_US), **given)  # type: ignore[arg-type]

    async def refused(self, secret: Secret | None) -> Code:
        with pytest.raises(GatewayError) as caught:
            await self.keys.authenticate(secret)
        return caught.value.code


async def test_a_warm_key_costs_no_look_up() -> None:
    world = await World().open()
    key = (await world.key()).secret
    first = await world.keys.authenticate(key)
    world.table.gone = True
    assert await world.keys.authenticate(key) is first


async def test_what_cannot_be_a_key_is_refused_before_any_look_up() -> None:
    world = await World().open()
    world.table.gone = True
    good = mint(secrets.token_bytes(40)).reveal()
    for text in (
        "",
        "gw_live_",
        good[:-1],
        good[:-1] + ("0" if good[-1] != "0" else "1"),
        good + "0",
        f" {good}",
        "ey.jwt.x",
    ):
        assert await world.refused(Secret(text)) is Code.UNAUTHENTICATED
    assert await world.refused(None) is Code.UNAUTHENTICATED


@pytest.mark.parametrize("end", ["revoked", "closed"])
async def test_a_key_that_ended_stops_with_the_next_reread(end: str) -> None:
    world = await World().open()
    minted = await world.key()
    await world.keys.authenticate(minted.secret)
    if end == "revoked":
        await world.directory.keys.revoke("acme", minted.key.id, act=Act("test", NOW_US))
    else:
        await world.directory.tenants.do("acme", "close", act=Act("test", NOW_US))
    await world.known.reread()
    assert await world.refused(minted.secret) is Code.UNAUTHENTICATED


async def test_a_changed_plan_reaches_a_known_key_with_the_next_reread() -> None:
    world = await World().open()
    key = (await world.key()).secret
    await world.keys.authenticate(key)
    await world.directory.values.put(Plan("team", 1, Limits(body_bytes=99)), act=Act("test", NOW_US))
    await world.known.reread()
    assert (await world.keys.authenticate(key)).plan.limits.body_bytes == 99


async def test_a_key_expires_to_the_microsecond_without_any_reread() -> None:
    world = await World().open()
    key = (await world.key(expires_us=NOW_US + 10)).secret
    world.now_us = NOW_US + 9
    await world.keys.authenticate(key)
    world.now_us = NOW_US + 10
    assert await world.refused(key) is Code.UNAUTHENTICATED


async def test_known_keys_go_on_while_the_table_is_gone_until_they_are_stale_and_then_the_door_closes() -> (
    None
):
    world = await World().open()
    key = (await world.key()).secret
    await world.keys.authenticate(key)
    world.table.gone = True
    world.clock.now += 59
    with pytest.raises(TableUnavailable):
        await world.known.reread()
    await world.keys.authenticate(key)
    world.clock.now += 2
    assert await world.refused(key) is Code.DIRECTORY_UNAVAILABLE
    world.table.gone = False
    await world.known.reread()
    await world.keys.authenticate(key)


async def test_an_unknown_key_while_the_table_is_gone_is_503_and_not_401() -> None:
    world = await World().open()
    world.table.gone = True
    assert await world.refused(mint(secrets.token_bytes(40))) is Code.DIRECTORY_UNAVAILABLE


async def test_an_unknown_key_is_looked_up_at_most_once_in_five_seconds() -> None:
    world = await World().open()
    stranger = mint(secrets.token_bytes(40))
    assert await world.refused(stranger) is Code.UNAUTHENTICATED
    world.table.gone = True
    world.clock.now += 4.9
    assert await world.refused(stranger) is Code.UNAUTHENTICATED
    world.clock.now += 0.2
    assert await world.refused(stranger) is Code.DIRECTORY_UNAVAILABLE


async def test_a_key_that_was_tried_before_it_existed_works_within_five_seconds() -> None:
    world = await World().open()
    minted = await world.key()
    hashed = digest(minted.secret.reveal())
    assert hashed is not None
    rows = dict(world.table.rows)
    world.table.rows.clear()
    assert await world.refused(minted.secret) is Code.UNAUTHENTICATED
    world.table.rows.update(rows)
    world.clock.now += 5.1
    assert (await world.keys.authenticate(minted.secret)).key_id == minted.key.id


async def test_what_is_known_is_bounded() -> None:
    world = await World(most_keys=3).open()
    keys = [(await world.key()).secret for _ in range(5)]
    for key in keys:
        await world.keys.authenticate(key)
        await world.refused(mint(secrets.token_bytes(40)))
    assert len(world.known._principals) == len(world.known._seen) == 3
    assert len(world.known._unknown) <= 3


async def test_a_model_that_was_taken_from_all_tenants_is_not_known() -> None:
    world = await World().open()
    await world.directory.values.put_model(Model("", "digits", "/models", "*"), act=Act("test", NOW_US))
    await world.known.reread()
    assert world.known.model("digits") is not None
    await world.directory.values.put_model(Model("", "digits", "/models", ()), act=Act("test", NOW_US))
    await world.known.reread()
    assert world.known.model("digits") is None


async def test_the_models_that_somebody_has_and_all_fleets_are_as_they_were_reread_and_the_same_mappings_until_they_change() -> (
    None
):
    world = await World().open()
    mine = await world.directory.values.put_model(
        Model("", "digits", "/models", "*"), act=Act("test", NOW_US)
    )
    await world.directory.values.put_model(Model("", "nobodys", "/models", ()), act=Act("test", NOW_US))
    assert world.known.models() == {}
    await world.known.reread()
    assert world.known.models() == {"digits": mine}
    assert world.known.fleets() == {"local": Fleet("local")}
    models, fleets = world.known.models(), world.known.fleets()
    await world.known.reread()
    assert (world.known.models() is models, world.known.fleets() is fleets) == (True, True)
    await world.directory.values.put(Fleet("local", idle_seconds=5), act=Act("test", NOW_US))
    await world.known.reread()
    assert world.known.fleets() == {"local": Fleet("local", idle_seconds=5)}
    assert world.known.models() is models
