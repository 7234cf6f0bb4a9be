"""Keyrings of several processes over one directory: who may use which key, for how long, and what happens when nobody answers."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from math import ceil

import pytest

from gateway.envelope.keyring import CONFIRM_SECONDS, MOST_AT_ONCE, KeyDestroyed, Keyring
from gateway.envelope.keys import Context, Material
from gateway.envelope.ports import KeyRefused, KeysUnavailable
from tests.gateway.envelope.world import World, secret, tenant_id
from tests.worlds.key_service import MemoryKeyService
from tests.worlds.table import Fault

DAY = 86_400


async def test_a_thousand_callers_make_one_call_and_get_one_key(world: World) -> None:
    keyring, acme = world.keyring(), await tenant_id(world)
    found = await asyncio.gather(*(keyring.key(acme, "audit") for _ in range(1000)))
    assert len({(it.id, secret(it)) for it in found}) == 1
    assert world.service.calls == 1


async def test_a_thousand_callers_in_an_outage_make_one_call_until_it_may_be_made_again(world: World) -> None:
    keyring, acme = world.keyring(), await tenant_id(world)
    world.service.gone = True
    found = await asyncio.gather(*(keyring.key(acme, "audit") for _ in range(1000)), return_exceptions=True)
    assert {type(it) for it in found} == {KeysUnavailable}
    assert world.service.calls == 1
    world.now += 1.5
    with pytest.raises(KeysUnavailable) as told:
        await keyring.key(acme, "audit")
    assert told.value.retry_after_seconds == keyring.knobs.retry_seconds - 1.5
    world.now += told.value.retry_after_seconds
    world.service.gone = False
    assert await keyring.key(acme, "audit")


@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize("table", ["rows", "wrapped"])
async def test_a_thousand_callers_over_a_table_that_fails_make_one_call_until_it_may_be_made_again(
    world: World, table: str, fault: Fault
) -> None:
    keyring, acme = world.keyring(), await tenant_id(world)
    getattr(world, table).write_faults.extend([fault] * 1000)
    found = await asyncio.gather(*(keyring.key(acme, "audit") for _ in range(1000)), return_exceptions=True)
    assert {type(it) for it in found} == {KeysUnavailable}
    with pytest.raises(KeysUnavailable):
        await keyring.key(acme, "audit")
    assert world.service.calls == 1
    world.now += keyring.knobs.retry_seconds
    getattr(world, table).write_faults.clear()
    assert await keyring.key(acme, "audit")


async def test_a_thousand_callers_over_a_directory_that_is_gone_read_it_once(world: World) -> None:
    keyring, acme = world.keyring(), await tenant_id(world)
    key = await keyring.key(acme, "audit")
    world.now += keyring.knobs.cache_seconds
    world.rows.throttled = 1
    found = await asyncio.gather(
        *(keyring.opening(acme, key.id) for _ in range(1000)), return_exceptions=True
    )
    assert {type(it) for it in found} == {KeysUnavailable}
    world.now += keyring.knobs.retry_seconds
    assert await keyring.opening(acme, key.id)


async def test_a_call_goes_on_when_who_asked_first_is_gone(world: World) -> None:
    keyring, acme = world.keyring(), await tenant_id(world)
    world.service.go.clear()
    for _ in range(10):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(keyring.key(acme, "audit"), 0.01)
    waiting = asyncio.create_task(keyring.key(acme, "audit"))
    world.service.go.set()
    assert await waiting == keyring.held(acme, "audit")
    assert world.service.calls == 1


async def test_a_call_that_fails_in_a_way_nobody_foresaw_is_unavailable_and_ends_no_process(
    world: World,
) -> None:
    keyring, acme = world.keyring(), await tenant_id(world)
    keyring.entropy = lambda _: b"too short"
    with pytest.raises(KeysUnavailable, match="ValueError"):
        await keyring.key(acme, "audit")


async def test_two_processes_that_make_a_key_at_once_use_the_same_one_and_the_other_leaves_nothing(
    world: World,
) -> None:
    acme = await tenant_id(world)
    one, other = await asyncio.gather(*(world.keyring(seed).key(acme, "audit") for seed in (3, 4)))
    assert (one.id, secret(one)) == (other.id, secret(other))
    assert [key.sort for key in world.wrapped.rows] == [one.id]


@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize("table", ["rows", "wrapped"])
async def test_no_key_is_given_whose_rows_may_not_be_durable(world: World, table: str, fault: Fault) -> None:
    keyring, acme = world.keyring(), await tenant_id(world)
    getattr(world, table).write_faults.append(fault)
    with pytest.raises(KeysUnavailable):
        await keyring.key(acme, "audit")
    world.now += keyring.knobs.retry_seconds
    key = await keyring.key(acme, "audit")
    assert secret(await world.keyring(9).opening(acme, key.id)) == secret(key)


async def test_a_cached_key_serves_an_outage_until_its_limit_and_no_longer(world: World) -> None:
    keyring, acme = world.keyring(), await tenant_id(world)
    key = await keyring.key(acme, "audit")
    world.service.gone = True
    world.now += keyring.knobs.cache_seconds - 1
    assert (await keyring.key(acme, "audit")) == key
    world.now += 1
    with pytest.raises(KeysUnavailable):
        await keyring.opening(acme, key.id)


async def test_a_disabled_key_ends_what_it_wrapped_at_the_next_refresh(world: World) -> None:
    keyring, acme = world.keyring(), await tenant_id(world)
    await keyring.key(acme, "audit")
    world.service.states[None] = "Disabled"
    world.now += keyring.knobs.refresh_seconds - 1
    assert keyring.held(acme, "audit")
    world.now += 1
    assert await world.directory.data_keys.of(acme)
    assert await keyring.key(acme, "audit")
    await keyring.refresh()
    assert keyring.held(acme, "audit") is None
    with pytest.raises(KeyRefused):
        await keyring.key(acme, "audit")


async def test_a_destroyed_key_leaves_the_memory_of_a_process_that_nobody_asks_for_it(world: World) -> None:
    keyring, acme = world.keyring(), await tenant_id(world)
    keyring.confirmed_at = lambda: world.now
    key = await keyring.key(acme, "audit")
    await world.directory.data_keys.destroy("acme", key.id, world.act(), wait_seconds=0, backup_days=7)
    keyring.changed([acme])
    await keyring.refresh()
    assert len(keyring) == 0


async def test_after_a_rotation_another_key_seals_and_the_old_one_opens(world: World) -> None:
    keyring, acme = world.keyring(), await tenant_id(world)
    old = await keyring.key(acme, "audit")
    await world.directory.data_keys.rotate("acme", world.act(), purpose="audit")
    keyring.changed([acme])
    assert (await keyring.key(acme, "audit")).id != old.id
    assert secret(await keyring.opening(acme, old.id)) == secret(old)


async def test_a_destroyed_key_opens_nothing_a_minute_later_in_a_process_that_hears_of_nothing(
    world: World,
) -> None:
    keyring, acme = world.keyring(), await tenant_id(world)
    key = await keyring.key(acme, "audit")
    await world.directory.data_keys.destroy("acme", key.id, world.act(), wait_seconds=0, backup_days=7)
    world.now += CONFIRM_SECONDS
    assert keyring.held(acme, "audit") is None
    with pytest.raises(KeyDestroyed):
        await keyring.opening(acme, key.id)
    assert (await keyring.key(acme, "audit")).id != key.id


async def test_a_destruction_that_waits_comes_at_its_microsecond_and_can_be_taken_back_until_then(
    world: World,
) -> None:
    keyring, acme, keys = world.keyring(), await tenant_id(world), world.directory.data_keys
    key = await keyring.key(acme, "audit")
    await keys.destroy("acme", key.id, world.act(), wait_seconds=DAY, backup_days=7)
    keyring.changed([acme])
    assert await keyring.opening(acme, key.id)
    assert (await keys.keep("acme", key.id, world.act())).state == "retired"
    await keys.destroy("acme", key.id, world.act(), wait_seconds=DAY, backup_days=7)
    world.now += DAY
    keyring.changed([acme])
    with pytest.raises(KeyDestroyed):
        await keyring.opening(acme, key.id)


@dataclass
class SlowService(MemoryKeyService):
    """A KeyService that answers nobody by itself: `over` ends all calls that are under way, well or not."""

    under_way: list[tuple["asyncio.Future[None]", Context]] = field(default_factory=list)
    most: int = 0
    asked: Counter[str] = field(default_factory=Counter)
    is_slow: bool = False

    async def unwrap(self, wrapped: bytes, context: Context, with_key: str | None = None) -> Material:
        if self.is_slow:
            answered = asyncio.get_running_loop().create_future()
            self.under_way.append((answered, context))
            self.most = max(self.most, len(self.under_way))
            self.asked[context.record] += 1
            await answered
        return await super().unwrap(wrapped, context, with_key)

    def over(self, fault: Exception | None) -> None:
        for answered, _ in self.under_way:
            answered.set_exception(fault) if fault else answered.set_result(None)
        self.under_way.clear()


MANY = 120
ANSWER_SECONDS = 5.0


async def many_keys(world: World, keyring: Keyring) -> list[str]:
    """The ids of as many keys of one tenant, each of which is used."""
    acme = await tenant_id(world)
    for _ in range(MANY):
        await keyring.key(acme, "audit")
        await world.directory.data_keys.rotate("acme", world.act(), purpose="audit")
        keyring.changed([acme])
    keys = await world.directory.data_keys.of(acme)
    for key_id in keys:
        await keyring.opening(acme, key_id)
    return sorted(keys)


async def refreshed(world: World, keyring: Keyring, service: SlowService, fault: Exception | None) -> None:
    """A refresh in which each call takes that long, and ends so."""
    refresh = asyncio.create_task(keyring.refresh())
    while not refresh.done():
        for _ in range(100):
            await asyncio.sleep(0)
        if service.under_way:
            world.now += ANSWER_SECONDS
            service.over(fault)
    await refresh


@pytest.mark.parametrize("fault", [None, KeysUnavailable("no answer in 5 s")], ids=["slow", "silent"])
async def test_many_keys_of_a_slow_key_service_are_renewed_in_time_and_each_is_asked_for_once(
    world: World, fault: Exception | None
) -> None:
    service = world.service = SlowService()
    keyring, acme = world.keyring(is_told=True), await tenant_id(world)
    keys = await many_keys(world, keyring)
    world.now += keyring.knobs.refresh_seconds
    service.is_slow, began = True, world.now
    await refreshed(world, keyring, service, fault)
    assert service.most == MOST_AT_ONCE
    assert service.asked == dict.fromkeys(keys, 1)
    assert world.now - began == ANSWER_SECONDS * ceil(MANY / MOST_AT_ONCE)
    if fault is not None:  # an outage that ends before the cache's limit: nobody has noticed
        await refreshed(world, keyring, service, None)
    service.is_slow = False
    made = service.calls
    for key_id in keys:
        await keyring.opening(acme, key_id)
    assert service.calls == made
    assert keyring.knobs.cache_seconds > world.now - began


async def test_the_key_that_is_here_for_longest_is_renewed_first(world: World) -> None:
    service = world.service = SlowService()
    keyring, acme = world.keyring(), await tenant_id(world)
    keys = await many_keys(world, keyring)
    late = keys[: MANY // 2]
    world.now += keyring.knobs.refresh_seconds
    service.is_slow = True
    for key_id in late:  # used last, and so behind all others in the order of use
        await keyring.opening(acme, key_id)
    keyring._held[acme, late[-1]].since -= 1
    refresh = asyncio.create_task(keyring.refresh())
    while not service.under_way:
        await asyncio.sleep(0)
    assert service.under_way[0][1].record == late[-1]
    while not refresh.done():
        service.over(None)
        await asyncio.sleep(0)
    await refresh
