"""Who has no key to seal with is served nothing, and nobody else hears of it."""

import pytest

from gateway.errors import Code, GatewayError
from gateway.pipeline import Pipeline
from tests.gateway.house import Client, house
from tests.worlds.keyring import KeyringWorld
from tests.worlds.triton import TritonWorld


async def test_a_call_is_served_and_its_records_are_sealed_with_its_tenants_key() -> None:
    keys = KeyringWorld()
    async with TritonWorld() as triton, house(triton, keyring=keys) as here:
        client = Client()
        await here.pipeline.serve(here.call(), client)
        await here.settled()
        (intent,), (outcome,) = here.records("intent"), here.records("outcome")
    assert client.events[-1] == "end"
    key = keys.made(intent.entry.tenant or "", "audit").id
    assert intent.entry.sealed_with == outcome.entry.sealed_with == key
    assert keys.fetches == 1


@pytest.mark.parametrize("why", ["unavailable", "refused"])
async def test_without_a_key_the_tenant_gets_503_nothing_is_forwarded_and_nothing_is_written_in_the_clear(
    why: str,
) -> None:
    keys = KeyringWorld(retry_after_seconds=4.0)
    async with TritonWorld() as triton, house(triton, keyring=keys) as here:
        tenant = await here.directory.tenants.show("acme")
        getattr(keys, why).add(tenant.id)

        async def refused(attempt: object) -> GatewayError:
            with pytest.raises(GatewayError) as caught:
                await attempt  # type: ignore[misc]
            return caught.value

        path: Pipeline = here.pipeline
        errors = [
            await refused(path.serve(here.call(), Client())),
            await refused(path.examine(here.call(), None)),
            await refused(path.configure(here.call())),
        ]
        await here.settled()
        denials = here.records("denial")
    assert {error.code for error in errors} == {Code.SEALING_UNAVAILABLE}
    assert {(error.rendering.http, error.retry_after_seconds) for error in errors} == {(503, 4.0)}
    assert triton.asked == []
    assert [(it.body, it.entry.tenant) for it in denials] == [(b"", tenant.id)] * 3


async def test_a_call_that_waits_for_a_key_ends_at_its_deadline() -> None:
    keys = KeyringWorld()
    async with TritonWorld() as triton, house(triton, keyring=keys) as here:
        keys.silent.add((await here.directory.tenants.show("acme")).id)
        path: Pipeline = here.pipeline
        with pytest.raises(GatewayError) as of_serve:
            await path.serve(here.call(seconds=0.05), Client())
        with pytest.raises(GatewayError) as of_examine:
            await path.examine(here.call(seconds=0.05), None)
    assert (of_serve.value.code, of_examine.value.code) == (Code.DEADLINE_EXCEEDED, Code.DEADLINE_EXCEEDED)
