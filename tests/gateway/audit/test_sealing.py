"""What is of a tenant's requests is in the log only sealed; the log is right without any key."""

import asyncio
import hashlib
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

import msgspec
import pytest

from gateway.audit import sealing
from gateway.audit.ledger import Intent, IntentBody, Ledger, Outcome
from gateway.audit.sealing import Sealers
from gateway.audit.segment import StoredRecord
from gateway.audit.verify import verify
from gateway.envelope.ports import KeyRefused, KeysUnavailable
from gateway.envelope.series import Series, segment_of, series_key
from tests.gateway.audit.support import DONE, NOW_US, QUICK, denial, new_id, records, until, until_open
from tests.worlds.keyring import KeyringWorld
from tests.worlds.segments import Fault, SegmentWorld

BODY = IntentBody(tenant_name="acme", key_name="ci", address="192.0.2.7", action="infer", protocol="oip")


def ledger_over(world: SegmentWorld, keys: KeyringWorld) -> AbstractAsyncContextManager[Ledger]:
    return Ledger.open(world, clock=lambda: NOW_US, new_id=new_id, knobs=QUICK, keyring=keys)


async def announced(ledger: Ledger, request: str, tenant: str = "t_a") -> Intent:
    return ledger.intend(
        request=request, tenant=tenant, key="k", model="m", model_version="1", now_us=NOW_US, body=BODY,
        sealer=await ledger.sealer(tenant),
    )  # fmt: skip


def opened(keys: KeyringWorld, record: StoredRecord) -> bytes:
    entry = record.entry
    key = keys.made(entry.tenant or "", "audit")
    assert entry.sealed_with == key.id
    body = record.body or b""
    return series_key(key, entry.tenant or "", segment_of(body)).open(body, entry.record)


async def test_what_is_of_a_request_is_sealed_and_the_log_verifies_without_a_key() -> None:
    world, keys = SegmentWorld(), KeyringWorld()
    async with ledger_over(world, keys) as ledger:
        intent = await announced(ledger, "r1")
        ledger.settle(intent, DONE, now_us=NOW_US)
        for _ in range(12):  # ten are single, two are counted
            ledger.deny(denial(tenant="t_a"), now_us=NOW_US)
    found = {
        kind: [it for it in records(world) if it.entry.kind == kind]
        for kind in ("intent", "outcome", "denial", "denials")
    }
    assert [len(found[kind]) for kind in found] == [1, 1, 10, 1]
    assert msgspec.json.decode(opened(keys, found["intent"][0]), type=IntentBody) == BODY
    for record in [it for those in found.values() for it in those]:
        assert opened(keys, record).startswith(b"{")
    for data in world.everything().values():
        for planted in (b"192.0.2.7", b'"acme"', b'"http_status"'):
            assert planted not in data
    assert verify(world.everything()).fault is None
    assert keys.fetches == 1


async def test_an_outcome_is_sealed_as_its_intent_was_and_new_intents_with_the_newest_key() -> None:
    world, keys = SegmentWorld(), KeyringWorld()
    async with ledger_over(world, keys) as ledger:
        first = await announced(ledger, "r1")
        keys.number = 2
        second = await announced(ledger, "r2")
        for intent in (first, second):
            ledger.settle(intent, DONE, now_us=NOW_US)
    said = {
        (it.entry.request, it.entry.kind): it.entry.sealed_with for it in records(world) if it.entry.request
    }
    assert {said["r1", kind] for kind in ("intent", "outcome")} == {"d_t_a_audit_1"}
    assert {said["r2", kind] for kind in ("intent", "outcome")} == {"d_t_a_audit_2"}


@pytest.mark.parametrize("fault", [Fault.LOST_BEFORE, Fault.LOST_AFTER, Fault.TORN])
async def test_what_lands_in_a_later_segment_still_opens_and_no_position_comes_twice(fault: Fault) -> None:
    world, keys = SegmentWorld(torn_bytes=100), KeyringWorld()
    async with ledger_over(world, keys) as ledger, asyncio.TaskGroup() as group:
        committer = group.create_task(ledger.run())
        served = await announced(ledger, "r1")
        await served.durable()
        world.faults.append(fault)
        ledger.settle(served, DONE, now_us=NOW_US)
        await until(lambda: bool(ledger.counters.failures))
        await until_open(ledger)
        await (await announced(ledger, "r2")).durable()
        committer.cancel()
    sealed = [it for it in records(world) if it.entry.sealed_with]
    assert all(opened(keys, it) for it in sealed)
    bodies = {it.entry.record: it.body or b"" for it in sealed}
    assert len({segment_of(body) for body in bodies.values()}) == 2
    by_body = {hashlib.sha256(body).digest(): record for record, body in bodies.items()}
    places = {body[: 2 + body[1] + 8] for body in bodies.values()}
    assert len(places) == len(by_body) == len(set(by_body.values()))


@pytest.mark.parametrize("why", ["unavailable", "refused"])
async def test_without_a_key_nothing_of_the_tenant_is_taken_in_and_its_denial_has_no_body(why: str) -> None:
    world, keys = SegmentWorld(), KeyringWorld()
    getattr(keys, why).add("t_a")
    async with ledger_over(world, keys) as ledger:
        with pytest.raises((KeysUnavailable, KeyRefused)):
            await announced(ledger, "r1")
        with pytest.raises(KeysUnavailable):
            ledger.intend(
                request="r1", tenant="t_a", key="k", model="m", model_version="1", now_us=NOW_US, body=BODY
            )
        ledger.deny(denial(tenant="t_a"), now_us=NOW_US)
        await announced(ledger, "r2", "t_b")
        assert ledger.counters.withheld == 1
    (denied,) = [it for it in records(world) if it.entry.kind == "denial"]
    assert (denied.body, denied.entry.sealed_with, denied.entry.tenant) == (b"", None, "t_a")
    assert [it.entry.tenant for it in records(world) if it.entry.kind == "intent"] == ["t_b"]


async def test_a_call_that_is_open_across_the_destruction_of_its_key_writes_nothing_under_it_and_keeps_nothing_that_opens() -> (
    None
):
    now = 0.0
    world, keys = SegmentWorld(), KeyringWorld(clock=lambda: now)
    async with ledger_over(world, keys) as ledger:
        alone, both = await announced(ledger, "r1"), await announced(ledger, "r2")
        late = await ledger.sealer("t_a")
        await ledger.close_destroyed()
        keys.destroyed.add("d_t_a_audit_1")
        keys.warm.clear()
        now += 61
        await ledger.close_destroyed()
        assert all(isinstance(it.sealer, Series) and it.sealer.is_closed for it in (alone, both))
        ledger.settle(alone, DONE, now_us=NOW_US)
        ledger.deny(denial(tenant="t_a"), now_us=NOW_US, sealer=late)
        assert ledger.counters.withheld == 2
        keys.number = 2
        with pytest.raises(KeysUnavailable):
            ledger.intend(
                request="r3", tenant="t_a", key="k", model="m", model_version="1", now_us=NOW_US, body=BODY,
                sealer=late,
            )  # fmt: skip
        await ledger.sealer("t_a")
        ledger.settle(both, DONE, now_us=NOW_US)
    said = {
        (it.entry.request, it.entry.kind): (it.entry.sealed_with, bool(it.body))
        for it in records(world)
        if it.entry.tenant
    }
    assert said == {
        ("r1", "intent"): ("d_t_a_audit_1", True),
        ("r2", "intent"): ("d_t_a_audit_1", True),
        ("r1", "outcome"): (None, False),
        ("q", "denial"): (None, False),
        ("r2", "outcome"): ("d_t_a_audit_2", True),
    }
    assert [it.entry.bytes for it in records(world) if it.entry.kind == "outcome"] == [DONE.bytes] * 2
    assert verify(world.everything()).fault is None


async def test_a_destroyed_key_ends_with_the_time_that_the_directory_gave_it_though_nobody_has_looked() -> (
    None
):
    now = 0.0
    world, keys = SegmentWorld(), KeyringWorld(clock=lambda: now)
    async with ledger_over(world, keys) as ledger:
        first, second = await announced(ledger, "r1"), await announced(ledger, "r2")
        keys.warm.clear()
        keys.destroyed.add("d_t_a_audit_1")
        now += 59
        ledger.settle(first, DONE, now_us=NOW_US)
        now += 1
        ledger.settle(second, DONE, now_us=NOW_US)
    outcomes = [it for it in records(world) if it.entry.kind == "outcome"]
    assert [it.entry.sealed_with for it in outcomes] == ["d_t_a_audit_1", None]


async def test_a_long_call_keeps_its_outcome_while_the_key_service_is_away_and_behind_an_outage_of_the_directory() -> (
    None
):
    now = 0.0
    world, keys = SegmentWorld(), KeyringWorld(clock=lambda: now)
    async with ledger_over(world, keys) as ledger:
        calls = [await announced(ledger, f"r{number}") for number in range(4)]
        keys.warm.clear()
        keys.unavailable.add("t_a")
        for _ in range(100):
            now += 59
            await ledger.close_destroyed()
        ledger.settle(calls[0], DONE, now_us=NOW_US)
        keys.gone = True
        now += 59
        await ledger.close_destroyed()
        ledger.settle(calls[1], DONE, now_us=NOW_US)
        now += 1
        await ledger.close_destroyed()
        ledger.settle(calls[2], DONE, now_us=NOW_US)  # nobody can tell whether its key is destroyed
        keys.gone = False
        ledger.settle(calls[3], DONE, now_us=NOW_US)
    outcomes = [it for it in records(world) if it.entry.kind == "outcome"]
    assert [it.entry.sealed_with is not None for it in outcomes] == [True, True, False, True]
    assert all(opened(keys, it) for it in outcomes if it.entry.sealed_with)


async def test_a_series_that_is_closed_seals_nothing_and_its_name_does_not_come_again() -> None:
    keys = KeyringWorld(warm={"t_a"})
    sealers = Sealers(keys, lambda: "s1")
    first = sealers.held("t_a")
    assert first is not None
    keys.destroyed.add(first.data_key)
    await sealers.look()
    with pytest.raises(ValueError, match="closed"):
        first.seal("r", b"{}")
    keys.destroyed.clear()  # as by a clock that was ahead
    again = sealers.now("t_a", first)
    assert again is not None
    assert segment_of(again.seal("r", b"")) == "s1-1"


async def test_an_outcome_that_json_cannot_hold_is_sealed_too() -> None:
    world, keys = SegmentWorld(), KeyringWorld()
    async with ledger_over(world, keys) as ledger:
        ledger.settle(await announced(ledger, "r1"), Outcome(status="failed", reason="\ud800"), now_us=NOW_US)
    (outcome,) = [it for it in records(world) if it.entry.kind == "outcome"]
    assert b"malformed" in opened(keys, outcome)


async def test_what_seals_with_a_key_that_is_given_no_more_is_soon_forgotten_and_the_rest_is_not() -> None:
    world, keys = SegmentWorld(), KeyringWorld(warm={"t_a"})
    knobs = replace(QUICK, series_seconds=0.001)
    async with Ledger.open(world, clock=lambda: NOW_US, new_id=new_id, knobs=knobs, keyring=keys) as ledger:
        sealers = ledger._sealers
        assert sealers
        first = await announced(ledger, "r1")
        keys.number = 2
        await until(lambda: not any(key == "d_t_a_audit_1" for _, key in sealers._series))
        ledger.settle(first, DONE, now_us=NOW_US)
        ledger.settle(await announced(ledger, "r2"), DONE, now_us=NOW_US)
        await until(lambda: not sealers._series)
        keys.number = 1  # it is given again: no position comes twice
        ledger.settle(await announced(ledger, "r3"), DONE, now_us=NOW_US)
    sealed = [it for it in records(world) if it.entry.sealed_with == "d_t_a_audit_1"]
    assert len({it.present[: 2 + it.present[1] + 8] for it in sealed}) == len(sealed) == 4
    assert all(opened(keys, it) for it in sealed)


def test_what_is_given_again_and_again_is_not_made_anew() -> None:
    sealers = Sealers(KeyringWorld(warm={"t_a"}), lambda: "s1")
    first = sealers.held("t_a")
    for _ in range(3):
        sealers.forget()
        assert sealers.held("t_a") is first
    sealers.forget()
    sealers.forget()
    assert sealers.held("t_a") is not first


def test_of_very_many_tenants_no_series_is_made_twice() -> None:
    tenants = [f"t_{number}" for number in range(sealing.MOST_SERIES + 1)]
    keys = KeyringWorld(warm=set(tenants))
    segments = ["s1"]
    sealers = Sealers(keys, lambda: segments[-1])
    first = [sealers.held(tenant) for tenant in tenants]
    assert all(first)
    again = sealers.held(tenants[0])
    assert again is not first[0]
    assert again is not None
    assert segment_of(again.seal("r", b"")) == "s1-1"
    segments.append("s2")
    later = sealers.held(tenants[0])
    assert later is not None
    assert segment_of(later.seal("r", b"")) == "s2"
