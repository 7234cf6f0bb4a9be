"""Caretakers of several processes over one table of wrapped keys: what is removed, what is wrapped anew, and what must be left alone."""

import asyncio
from typing import get_args

import pytest
from msgspec.structs import replace

from gateway.envelope import wrapped
from gateway.envelope.caretaker import MOST_AT_ONCE, ORPHAN_SECONDS, SWEEP_SECONDS, missing
from gateway.envelope.keyring import KeyDestroyed
from gateway.envelope.keys import Purpose
from gateway.envelope.wrapped import Wrapped, wrapped_at
from tenants.data_keys import DataKeyRecord
from tenants.ports import Put, Row
from tenants.rows import encoded, read, tenant_at
from tenants.tenant import Tenant
from tests.gateway.envelope.world import World, secret, tenant_id
from tests.worlds.kms import arn
from tests.worlds.table import Fault, Pause

DAY = 86_400


async def known(world: World, key_id: str) -> DataKeyRecord:
    return await world.directory.data_keys.show("acme", key_id)


async def destroyed_by_its_people(world: World, wait_seconds: float = 0) -> str:
    """The id of a key whose end has been asked for."""
    key = await world.keyring(8).key(await tenant_id(world), "audit")
    await world.directory.data_keys.destroy(
        "acme", key.id, world.act(), wait_seconds=wait_seconds, backup_days=7
    )
    return key.id


async def test_of_a_destroyed_key_no_bytes_are_left_and_of_one_that_waits_all(world: World) -> None:
    key_id, caretaker = await destroyed_by_its_people(world, DAY), world.caretaker()
    await caretaker.look()
    assert [at.sort for at in world.wrapped.rows] == [key_id]
    world.now += DAY
    await caretaker.look()
    assert not world.wrapped.rows
    assert (await known(world, key_id)).state == "destroyed"
    assert not await world.directory.data_keys.due()
    assert (caretaker.destroyed, caretaker.failures) == (1, 0)


@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize("table", ["rows", "wrapped"])
async def test_a_destruction_that_is_cut_off_is_ended_by_the_next_look_of_anybody(
    world: World, table: str, fault: Fault
) -> None:
    key_id, caretaker = await destroyed_by_its_people(world), world.caretaker()
    getattr(world, table).write_faults.append(fault)
    await caretaker.look()
    assert caretaker.failures == 1
    assert (await known(world, key_id)).state == "destroyed" or await world.directory.data_keys.due()
    await world.caretaker(6).look()
    assert not world.wrapped.rows
    assert (await known(world, key_id)).state == "destroyed"
    assert not await world.directory.data_keys.due()


async def test_nothing_is_said_to_be_destroyed_while_its_bytes_are_there(world: World) -> None:
    key_id, caretaker = await destroyed_by_its_people(world), world.caretaker()
    world.wrapped.gone = True
    await caretaker.look()
    assert (await known(world, key_id)).state == "destroying"
    assert caretaker.failures == 2  # the sweep too


async def test_a_key_that_is_kept_in_the_last_moment_keeps_its_bytes(world: World) -> None:
    key_id = await destroyed_by_its_people(world, DAY)
    world.now += DAY - 1
    await world.directory.data_keys.keep("acme", key_id, world.act())
    world.now += DAY
    await world.caretaker().look()
    assert await world.keyring(9).opening(await tenant_id(world), key_id)


def brings(world: World, acme: str, kms_key: str) -> None:
    """The tenant's own key is this one now."""
    row = world.rows.rows[tenant_at(acme)]
    after = encoded(replace(read(row, Tenant), kms_key=kms_key))
    world.rows.rows[row.key] = Row(row.key, after, row.version + 1)


async def wrapped_with(world: World, acme: str) -> list[str | None]:
    keys = await world.directory.data_keys.of(acme)
    return [wrapped.read(world.wrapped.rows[wrapped_at(acme, key_id)]).with_key for key_id in sorted(keys)]


async def test_a_tenants_new_kms_key_wraps_all_of_its_data_keys_with_the_next_look(world: World) -> None:
    acme, keyring = await tenant_id(world), world.keyring()
    made = [await keyring.key(acme, purpose) for purpose in get_args(Purpose)]
    for kms_key in (arn(2), arn(3), None):
        world.now += 1
        await world.directory.tenants.change("acme", world.act(), kms_key=kms_key)
        await world.caretaker().look()
        assert await wrapped_with(world, acme) == [kms_key] * len(made)
        assert not await world.directory.data_keys.due()
        later = world.keyring(9)
        assert [secret(await later.opening(acme, key.id)) for key in made] == [secret(key) for key in made]


@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize("table", ["rows", "wrapped"])
async def test_a_change_of_the_kms_key_that_is_cut_off_is_ended_by_the_next_look_of_anybody(
    world: World, table: str, fault: Fault
) -> None:
    acme, keyring = await tenant_id(world), world.keyring()
    for purpose in get_args(Purpose):
        await keyring.key(acme, purpose)
    world.now += 1
    await world.directory.tenants.change("acme", world.act(), kms_key=arn(2))
    getattr(world, table).write_faults.append(fault)
    await world.caretaker().look()
    assert await world.directory.data_keys.due()
    await world.caretaker(6).look()
    assert set(await wrapped_with(world, acme)) == {arn(2)}
    assert not await world.directory.data_keys.due()


async def test_while_the_key_before_refuses_the_data_keys_stay_as_they_were(world: World) -> None:
    acme = await tenant_id(world)
    await world.directory.tenants.change("acme", world.act(), kms_key=arn(2))
    await world.keyring().key(acme, "audit")
    world.service.states[arn(2)] = "Disabled"
    world.now += 1
    await world.directory.tenants.change("acme", world.act(), kms_key=arn(3))
    caretaker = world.caretaker()
    await caretaker.look()
    assert (await wrapped_with(world, acme), caretaker.failures) == ([arn(2)], 1)
    world.service.states[arn(2)] = "Enabled"
    await caretaker.look()
    assert await wrapped_with(world, acme) == [arn(3)]


async def test_what_is_due_is_done_some_at_a_time_and_a_slow_key_service_holds_up_no_other(
    world: World,
) -> None:
    acme, keyring = await tenant_id(world), world.keyring()
    for number in range(3 * MOST_AT_ONCE):
        await keyring.key(acme, "audit")
        await world.directory.data_keys.rotate("acme", world.act(), purpose="audit")
        keyring.changed([acme])
        assert len(await world.directory.data_keys.of(acme)) == number + 1
    world.now += 1
    await world.directory.tenants.change("acme", world.act(), kms_key=arn(2))
    made = world.service.calls
    world.service.go.clear()
    looking = asyncio.create_task(world.caretaker().look())
    await settled(world, made + MOST_AT_ONCE)
    assert world.service.calls == made + MOST_AT_ONCE
    world.service.go.set()
    await looking
    assert set(await wrapped_with(world, acme)) == {arn(2)}


async def settled(world: World, calls: int) -> None:
    """Until so many are under way, and then for as long as others would take to begin."""
    while world.service.calls < calls:
        await asyncio.sleep(0)
    for _ in range(1000):
        await asyncio.sleep(0)


async def test_a_key_is_wrapped_anew_with_the_tenants_present_key_and_stays_the_same(world: World) -> None:
    acme, keys = await tenant_id(world), world.directory.data_keys
    key = await world.keyring().key(acme, "audit")
    world.now += 1
    brings(world, acme, "theirs")
    await keys.rewrap("acme", key.id, world.act())
    world.now += 1
    await world.caretaker().look()
    assert wrapped.read(world.wrapped.rows[wrapped_at(acme, key.id)]).with_key == "theirs"
    record = await known(world, key.id)
    assert (record.rewrap_us, record.wrapped_us, record.wrapped_with) == (None, world.act().at_us, "theirs")
    assert secret(await world.keyring(9).opening(acme, key.id)) == secret(key)


async def test_a_tenant_whose_key_changes_during_a_rewrap_has_the_last_one_in_the_end(world: World) -> None:
    acme, keys = await tenant_id(world), world.directory.data_keys
    key = await world.keyring().key(acme, "audit")
    world.now += 1
    await keys.rewrap("acme", key.id, world.act())
    world.service.go.clear()
    slow = asyncio.create_task(world.caretaker().look())
    await until_called(world)
    brings(world, acme, "theirs")
    world.service.go.set()
    await slow
    await world.caretaker(6).look()
    assert wrapped.read(world.wrapped.rows[wrapped_at(acme, key.id)]).with_key == "theirs"
    assert (await known(world, key.id)).wrapped_with == "theirs"


@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize("table", ["rows", "wrapped"])
async def test_a_rewrap_that_is_cut_off_is_ended_by_the_next_look_and_wraps_no_more_than_it_must(
    world: World, table: str, fault: Fault
) -> None:
    acme, keys = await tenant_id(world), world.directory.data_keys
    key = await world.keyring().key(acme, "audit")
    world.now += 1
    await keys.rewrap("acme", key.id, world.act())
    getattr(world, table).write_faults.append(fault)
    calls = world.service.calls
    for seed in (5, 6):
        await world.caretaker(seed).look()
    assert (await known(world, key.id)).rewrap_us is None
    again = table == "wrapped" and fault is Fault.LOST_BEFORE
    assert world.service.calls == calls + (4 if again else 2)
    assert secret(await world.keyring(9).opening(acme, key.id)) == secret(key)


async def test_a_key_that_is_destroyed_while_it_is_wrapped_anew_does_not_come_back(world: World) -> None:
    acme, keys = await tenant_id(world), world.directory.data_keys
    key = await world.keyring().key(acme, "audit")
    caretaker = world.caretaker()
    await caretaker.look()  # so that the next one sweeps nothing
    world.now += 1
    await keys.rewrap("acme", key.id, world.act())
    world.service.go.clear()
    slow = asyncio.create_task(caretaker.look())
    await until_called(world)
    await keys.destroy("acme", key.id, world.act(), wait_seconds=0, backup_days=7)
    await world.caretaker(6).look()
    world.service.go.set()
    await slow
    assert not world.wrapped.rows
    with pytest.raises(KeyDestroyed):
        await world.keyring(9).opening(acme, key.id)


async def until_called(world: World) -> None:
    calls = world.service.calls
    while world.service.calls == calls:
        await asyncio.sleep(0)


async def test_many_caretakers_at_once_wrap_anew_and_destroy_once(world: World) -> None:
    acme, keys = await tenant_id(world), world.directory.data_keys
    key = await world.keyring().key(acme, "replies")
    key_id = await destroyed_by_its_people(world)
    world.now += 1
    await keys.rewrap("acme", key.id, world.act())
    caretakers = [world.caretaker(seed) for seed in range(20, 25)]
    await asyncio.gather(*(it.look() for it in caretakers))
    assert [at.sort for at in world.wrapped.rows] == [key.id]
    assert (await known(world, key_id)).state == "destroyed"
    assert (await known(world, key.id)).rewrap_us is None
    assert not any(it.failures for it in caretakers)
    assert secret(await world.keyring(9).opening(acme, key.id)) == secret(key)


async def test_a_rewrap_that_fails_holds_up_no_destruction(world: World) -> None:
    acme, keys = await tenant_id(world), world.directory.data_keys
    key = await world.keyring().key(acme, "replies")
    key_id = await destroyed_by_its_people(world)
    world.now += 1
    await keys.rewrap("acme", key.id, world.act())
    world.service.states[None] = "Disabled"
    caretaker = world.caretaker()
    await caretaker.look()
    assert caretaker.failures == 1
    assert (await known(world, key_id)).state == "destroyed"
    world.service.states[None] = "Enabled"
    await caretaker.look()
    assert (await known(world, key.id)).rewrap_us is None


async def test_a_wrapped_key_of_nobody_goes_after_a_day_and_not_before_whoever_looks(world: World) -> None:
    acme = await tenant_id(world)
    key = await world.keyring().key(acme, "audit")
    await world.wrapped.transact(Put(wrapped_at(acme, "d_lost"), wrapped.encoded(Wrapped(b"x", 1)), 0))
    await world.caretaker().look()
    world.now += ORPHAN_SECONDS - 1
    await world.caretaker(6).look()
    assert len(world.wrapped.rows) == 2
    world.now += 1
    await world.caretaker(7).look()
    assert [at.sort for at in world.wrapped.rows] == [key.id]


async def test_a_key_whose_metadata_came_back_is_no_longer_counted_as_nobodys(world: World) -> None:
    acme, caretaker = await tenant_id(world), world.caretaker()
    key = await world.keyring().key(acme, "audit")
    before = dict(world.wrapped.rows)
    whole = dict(world.rows.rows)
    world.rows.rows = {at: row for at, row in whole.items() if key.id not in at.sort}  # an old copy
    await caretaker.look()
    assert world.wrapped.rows != before
    world.rows.rows = whole
    world.now += ORPHAN_SECONDS
    await caretaker.look()
    assert wrapped.read(world.wrapped.rows[wrapped_at(acme, key.id)]).orphan_us is None


async def test_a_destroyed_key_that_came_back_with_an_old_copy_goes_with_the_next_sweep(world: World) -> None:
    key_id, caretaker = await destroyed_by_its_people(world), world.caretaker()
    copy = dict(world.wrapped.rows)
    await caretaker.look()
    world.wrapped.rows = copy
    with pytest.raises(KeyDestroyed):
        await world.keyring(9).opening(await tenant_id(world), key_id)
    world.now += SWEEP_SECONDS
    await caretaker.look()
    assert not world.wrapped.rows


async def test_a_key_that_came_back_wrapped_as_before_is_wrapped_with_the_tenants_present_key(
    world: World,
) -> None:
    acme, key = await tenant_id(world), await world.keyring().key(await tenant_id(world), "audit")
    copy = dict(world.wrapped.rows)
    world.now += 1
    await world.directory.tenants.change("acme", world.act(), kms_key=arn(2))
    await world.caretaker().look()
    assert await wrapped_with(world, acme) == [arn(2)]
    world.wrapped.rows = copy  # as a restore puts it
    world.now += DAY
    later = world.caretaker(6)
    for _ in range(2):  # the sweep finds it, and the next look wraps it
        await later.look()
    assert (await wrapped_with(world, acme), later.rewrapped, later.failures) == ([arn(2)], 1, 0)
    assert (await known(world, key.id)).rewrap_us is None
    assert secret(await world.keyring(9).opening(acme, key.id)) == secret(key)
    world.now += SWEEP_SECONDS
    await later.look()
    assert not await world.directory.data_keys.due()


async def test_a_key_that_is_made_while_the_sweep_looks_is_not_taken_for_nobodys(world: World) -> None:
    acme, pause = await tenant_id(world), Pause()
    world.wrapped.pauses_before.append(pause)
    sweep = asyncio.create_task(world.caretaker().look())
    await pause.came.wait()
    key = await world.keyring().key(acme, "audit")
    pause.go.set()
    await sweep
    assert wrapped.read(world.wrapped.rows[wrapped_at(acme, key.id)]).orphan_us is None


async def test_a_directory_that_is_gone_is_a_failure_and_no_end(world: World) -> None:
    key_id, caretaker = await destroyed_by_its_people(world), world.caretaker()
    world.rows.gone = True
    await caretaker.look()
    assert caretaker.failures == 1
    world.rows.gone = False
    await caretaker.look()
    assert (await known(world, key_id)).state == "destroyed"


async def test_keys_without_their_wrapped_bytes_are_counted_and_destroyed_ones_are_not(world: World) -> None:
    keys = world.directory.data_keys
    await destroyed_by_its_people(world)
    await world.caretaker().look()
    acme = await tenant_id(world)
    keyring = world.keyring()
    await keyring.key(acme, "audit")
    await keyring.key(acme, "replies")
    assert await missing(keys, world.wrapped) == 0
    world.wrapped.rows.clear()
    assert await missing(keys, world.wrapped) == 2
