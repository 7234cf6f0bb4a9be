"""A keyring over AWS KMS: a tenant's disabled key closes that tenant alone, and an outage is bridged as long as keys may be kept."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from random import Random

import pytest

from gateway.envelope.keyring import Keyring
from gateway.envelope.ports import KeyRefused, KeysUnavailable
from gateway.loops import Spawn, jobs
from gateway.stores.kms_aws import AwsKms
from tenants.acts import Act
from tenants.directory import Directory
from tenants.plans import Limits, Plan, Rate
from tests.worlds.kms import KmsWorld, arn, kms_world
from tests.worlds.table import MemoryTable


@dataclass
class Place:
    kms: KmsWorld
    service: AwsKms
    spawn: Spawn
    now: float = 1_700_000_000.0
    rows: MemoryTable = field(default_factory=MemoryTable)
    wrapped: MemoryTable = field(default_factory=MemoryTable)

    def __post_init__(self) -> None:
        self.directory = Directory(self.rows, Random(2).randbytes, has_kms=True)

    def keyring(self) -> Keyring:
        """As of a process that was just started; its feed tells all at once."""
        entropy = Random(3).randbytes
        return Keyring(
            Directory(self.rows, entropy).data_keys,
            self.wrapped,
            self.service,
            clock=lambda: self.now,
            confirmed_at=lambda: self.now,
            now_us=lambda: int(self.now * 1_000_000),
            entropy=entropy,
            spawn=self.spawn,
        )

    async def tenant(self, name: str, kms_key: str | None = None) -> str:
        return (await self.directory.tenants.create(name, "team", Act("cli:test", 1), kms_key=kms_key)).id


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    async with kms_world() as kms:
        service = AwsKms(arn(1), 5.0, kms.url)
        service._session.set_credentials("test", "test")
        async with service, jobs() as spawn:
            found = Place(kms, service, spawn)
            plan = Plan("team", 2, Limits(1000, Rate(50.0, 100), 20))
            await found.directory.values.put(plan, act=Act("cli:test", 1))
            yield found


async def test_a_tenants_own_key_wraps_its_data_keys_and_no_others(place: Place) -> None:
    acme, own = await place.tenant("acme"), await place.tenant("own", arn(2))
    keyring = place.keyring()
    await keyring.key(acme, "audit")
    await keyring.key(own, "audit")
    assert [(key, context["tenant"]) for key, context in place.kms.acts] == [(arn(1), acme), (arn(2), own)]


async def test_a_tenants_disabled_key_closes_that_tenant_alone_within_the_caches_limit(place: Place) -> None:
    acme, own = await place.tenant("acme"), await place.tenant("own", arn(2))
    keyring = place.keyring()
    keys = {tenant: await keyring.key(tenant, "audit") for tenant in (acme, own)}
    place.kms.states[arn(2)] = "Disabled"
    assert await keyring.key(own, "audit") == keys[own]  # known, and not yet asked again
    place.now += keyring.knobs.cache_seconds
    for call in (keyring.key(own, "audit"), keyring.opening(own, keys[own].id)):
        with pytest.raises(KeyRefused, match="DisabledException"):
            await call
    assert (await keyring.key(acme, "audit")).id == keys[acme].id
    place.kms.states[arn(2)] = "Enabled"
    place.now += keyring.knobs.retry_seconds
    assert (await keyring.key(own, "audit")).material.reveal() == keys[own].material.reveal()


async def test_a_disabled_key_is_noticed_by_the_refresh_of_a_key_that_is_used(place: Place) -> None:
    own = await place.tenant("own", arn(2))
    keyring = place.keyring()
    await keyring.key(own, "audit")
    place.kms.states[arn(2)] = "PendingDeletion"
    place.now += keyring.knobs.refresh_seconds
    await keyring.refresh()
    assert keyring.held(own, "audit") is None
    with pytest.raises(KeyRefused, match="KMSInvalidStateException"):
        await keyring.key(own, "audit")


async def test_an_outage_is_bridged_until_the_caches_limit_and_asked_once_an_interval(place: Place) -> None:
    acme, other = await place.tenant("acme"), await place.tenant("other")
    keyring = place.keyring()
    known = await keyring.key(acme, "audit")
    place.kms.fault = (500, "KMSInternalException")
    made = place.kms.calls
    place.now += keyring.knobs.cache_seconds - 1
    await keyring.refresh()
    assert place.kms.calls == made + 1
    assert await keyring.key(acme, "audit") == known
    place.now += keyring.knobs.retry_seconds
    made = place.kms.calls
    for _ in range(2):
        calls = [keyring.key(tenant, "audit") for tenant in (acme, other) for _ in range(100)]
        found = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(it) for it in found} == {KeysUnavailable}
    assert place.kms.calls == made + 2  # one a key
    place.now += keyring.knobs.retry_seconds
    with pytest.raises(KeysUnavailable):
        await keyring.key(acme, "audit")
    assert place.kms.calls == made + 3
    place.kms.fault = ""
    place.now += keyring.knobs.retry_seconds
    assert (await keyring.key(acme, "audit")).material.reveal() == known.material.reveal()


async def test_an_answer_that_was_lost_after_the_act_leaves_no_key_behind_and_the_next_call_makes_one(
    place: Place,
) -> None:
    acme = await place.tenant("acme")
    keyring = place.keyring()
    place.kms.fault = "lost"
    with pytest.raises(KeysUnavailable):
        await keyring.key(acme, "audit")
    assert len(place.kms.acts) == 1
    assert not await place.directory.data_keys.of(acme)
    place.kms.fault = ""
    place.now += keyring.knobs.retry_seconds
    key = await keyring.key(acme, "audit")
    assert list(await place.directory.data_keys.of(acme)) == [key.id]


async def test_a_process_that_starts_in_an_outage_serves_no_key_and_opens_all_of_them_after_it(
    place: Place,
) -> None:
    acme = await place.tenant("acme")
    key = await place.keyring().key(acme, "replies")
    place.kms.fault = "cut"
    started = place.keyring()
    with pytest.raises(KeysUnavailable):
        await started.opening(acme, key.id)
    place.kms.fault = ""
    place.now += started.knobs.retry_seconds
    assert (await started.opening(acme, key.id)).material.reveal() == key.material.reveal()
