"""What the request path promises, whatever happens on it."""

# long because every step of the path has its cases here

import asyncio
import dataclasses

import msgspec
import pytest
from msgspec import structs

from gateway.audit.ledger import Knobs
from gateway.audit.record import DenialBody, DenialsBody, IntentBody
from gateway.call import InferenceCall
from gateway.errors import TABLE, Code, GatewayError
from gateway.pipeline import Cut
from tenants.acts import Act
from tenants.conditions import Terms
from tenants.keys import Secret, mint
from tenants.model import Model
from tenants.plans import Limits, Rate
from tenants.ports import Put
from tenants.rows import tenant_at
from tests.gateway.house import NOW_US, Body, Client, House, house
from tests.worlds.segments import Fault
from tests.worlds.triton import ANSWER, EVENT, Mood, TritonWorld


async def refusal(here: House, call: InferenceCall) -> GatewayError:
    client = Client()
    with pytest.raises(GatewayError) as caught:
        await here.pipeline.serve(call, client)
    assert client.events == []
    return caught.value


async def test_a_call_is_answered_and_its_intent_and_outcome_say_who_what_and_how_much() -> None:
    async with TritonWorld() as triton, house(triton) as here:
        client = Client()
        await here.pipeline.serve(here.call(), client)
        await here.settled()
        (intent,), (outcome,) = here.records("intent"), here.records("outcome")
    assert (client.status, client.body, client.events[-1]) == (200, ANSWER, "end")
    assert triton.asked == [b'{"inputs":[]}']
    assert intent.entry.request == outcome.entry.request == "request-1"
    assert (intent.entry.tenant, intent.entry.key, intent.entry.model) == (
        outcome.entry.tenant,
        outcome.entry.key,
        outcome.entry.model,
    )
    assert (outcome.entry.model_version, outcome.entry.replica) == ("3", "replica-0")
    assert (outcome.entry.requests, outcome.entry.bytes) == (1, len(ANSWER) + len(b'{"inputs":[]}'))
    body = msgspec.json.decode(intent.present, type=IntentBody)
    assert (body.tenant_name, body.address, body.policies) == ("acme", "192.0.2.1", ("tenant-has-model",))


async def test_no_byte_of_a_reply_leaves_before_its_intent_is_durable_though_triton_has_answered() -> None:
    async with TritonWorld() as triton, house(triton) as here, asyncio.TaskGroup() as group:
        here.segments.faults.append(Fault.SLOW)
        client = Client()
        group.create_task(here.pipeline.serve(here.call(), client))
        await triton.arrived.wait()
        await here.segments.has_held.wait()
        slot = await here.pipeline.throttler.acquire("digits")
        for _ in range(10):  # what was answered before these is here when they are
            await slot.client.ask("GET", "/v2")
        assert client.events == []
        here.segments.release()
    assert client.events[-1] == "end"


@pytest.mark.parametrize("fault", [Fault.LOST_BEFORE, Fault.LOST_AFTER, Fault.TORN])
async def test_after_a_sink_fault_what_was_in_flight_gets_503_and_unknown_and_nothing_new_is_forwarded(
    fault: Fault,
) -> None:
    knobs = Knobs(retry_seconds=1e6)  # the door stays closed
    async with TritonWorld() as triton, house(triton, knobs=knobs) as here:
        here.segments.faults.append(fault)
        assert (await refusal(here, here.call())).code is Code.AUDIT_UNAVAILABLE
        forwarded = len(triton.asked)
        error = await refusal(here, here.call())
        assert (error.rendering.http, error.retry_after_seconds) == (503, 1)
        assert len(triton.asked) == forwarded
    assert "unknown" in here.outcomes()
    assert "done" not in here.outcomes()


async def test_a_call_whose_intent_was_durable_gets_503_when_the_log_fails_before_its_reply() -> None:
    async with TritonWorld(mood="holds") as triton, house(triton) as here, asyncio.TaskGroup() as group:
        first = group.create_task(refusal(here, here.call()))
        await triton.arrived.wait()
        await here.settled_intents(1)
        here.segments.faults.append(Fault.LOST_BEFORE)
        second = group.create_task(refusal(here, here.call()))
        await here.lost()
        triton.released.set()
    assert first.result().code is second.result().code is Code.AUDIT_UNAVAILABLE


async def test_the_door_opens_again_once_a_fresh_segment_is_durable() -> None:
    async with TritonWorld() as triton, house(triton) as here:
        here.segments.faults.append(Fault.LOST_BEFORE)
        await refusal(here, here.call())
        while not here.pipeline.ledger.is_open:
            await asyncio.sleep(0.001)
        client = Client()
        await here.pipeline.serve(here.call(), client)
    assert client.events[-1] == "end"


async def test_a_request_that_may_have_run_is_never_sent_twice() -> None:
    async with TritonWorld(mood="closes before") as triton, house(triton) as here:
        error = await refusal(here, here.call())
        await here.settled()
        assert error.rendering.http == 502
        assert len(triton.asked) == 1
        assert here.outcomes() == ["failed"]


async def test_a_request_that_cannot_have_run_goes_to_another_replica() -> None:
    async with TritonWorld() as one, TritonWorld() as two, house(one, two) as here:
        await here.pipeline.serve(here.call(), Client())
        one.asked.clear()
        slot = await here.pipeline.throttler.acquire("digits")
        here.pipeline.throttler.release(slot, "none")
        one.die()  # and nobody knows yet
        while any(connection.usable for connection in slot.client._idle):
            await asyncio.sleep(0.001)
        client = Client()
        await here.pipeline.serve(here.call(), client)
    assert client.events[-1] == "end"
    assert (len(one.asked), len(two.asked)) == (0, 1)


async def test_a_reply_that_breaks_off_is_a_cut_and_never_a_clean_end() -> None:
    async with TritonWorld(mood="closes within") as triton, house(triton) as here:
        client = Client()
        with pytest.raises(Cut):
            await here.pipeline.serve(here.call(), client)
        await here.settled()
        assert "end" not in client.events
        assert here.outcomes() == ["partial"]


async def test_a_call_ends_at_its_deadline_and_triton_is_told() -> None:
    async with TritonWorld(mood="holds") as triton, house(triton) as here:
        await here.pipeline.throttler.acquire("digits")
        error = await refusal(here, here.call(seconds=0.1))
        async with asyncio.timeout(5):
            await triton.departed.wait()
        await here.settled()
        assert error.code is Code.DEADLINE_EXCEEDED
        assert here.outcomes() == ["failed"]


@pytest.mark.parametrize(
    "stage", ["reading the body", "starting Triton", "waiting for Triton", "waiting for the disk", "relaying"]
)
async def test_a_cancelled_call_gives_everything_back_wherever_it_stood(stage: str) -> None:
    limits = Limits(body_bytes=1000, requests_per_second=Rate(rate=1000, burst=1000), concurrent_requests=1)
    mood: Mood = "holds" if stage == "waiting for Triton" else "answers"
    async with TritonWorld(mood=mood) as triton, house(triton, limits=limits) as here:
        if stage != "starting Triton":
            await here.pipeline.throttler.acquire("digits")
        if stage == "waiting for the disk":
            here.segments.faults.append(Fault.SLOW)
        body = Body(held=asyncio.Event() if stage == "reading the body" else None)
        client = Client(reads=asyncio.Event() if stage == "relaying" else None)
        task = asyncio.get_running_loop().create_task(here.pipeline.serve(here.call(payload=body), client))
        await reached(stage, here, triton, client)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        here.segments.release()
        triton.mood = "answers"
        await here.pipeline.serve(here.call(), after := Client())
        await here.settled()
        assert after.events[-1] == "end"  # the only place at once was free again
        assert here.outcomes() == (["done"] if stage == "reading the body" else ["cancelled", "done"])
        if stage == "waiting for Triton":
            async with asyncio.timeout(5):
                await triton.departed.wait()


async def reached(stage: str, here: House, triton: TritonWorld, client: Client) -> None:
    match stage:
        case "waiting for Triton":
            await triton.arrived.wait()
        case "waiting for the disk":
            await here.segments.has_held.wait()
        case "relaying":
            while client.events != ["start"]:
                await asyncio.sleep(0.001)
        case _:
            await asyncio.sleep(0)


@pytest.mark.parametrize(
    "bad", ["absent", "malformed", "unknown", "expired", "revoked", "of a closed tenant"]
)
async def test_every_bad_key_is_the_same_refusal_and_only_counted(bad: str) -> None:
    async with TritonWorld() as triton, house(triton) as here:
        call = here.call(key=await bad_key(here, bad))
        if bad == "absent":
            call = structs.replace(call, credential=None)
        error = await refusal(here, call)
        assert (error.code, error.sentence, error.standing) == (
            Code.UNAUTHENTICATED,
            TABLE[Code.UNAUTHENTICATED].sentence,
            (),
        )
        assert triton.asked == []
        assert here.denials() == []
    (counted,) = here.records("denials")
    assert msgspec.json.decode(counted.present, type=DenialsBody).reasons == {"unauthenticated": 1}


async def bad_key(here: House, bad: str) -> Secret:
    directory = here.directory
    match bad:
        case "malformed":
            return Secret("gw_live_x")
        case "unknown":
            return mint(bytes(range(40)))
        case "of a closed tenant":
            secret = (await directory.keys.create("other", act=Act("test", NOW_US))).secret
            await directory.tenants.do("other", "close", act=Act("test", NOW_US))
            return secret
        case "revoked":
            minted = await directory.keys.create("acme", act=Act("test", NOW_US))
            await directory.keys.revoke("acme", minted.key.id, act=Act("test", NOW_US))
            return minted.secret
    return (await directory.keys.create("acme", expires_us=NOW_US, act=Act("test", NOW_US - 1))).secret


async def test_the_deadline_covers_the_reading_of_the_body() -> None:
    async with TritonWorld() as triton, house(triton) as here:
        error = await refusal(here, here.call(payload=Body(held=asyncio.Event()), seconds=0.05))
        await here.settled()
        assert error.code is Code.DEADLINE_EXCEEDED
        assert here.denials() == ["deadline_exceeded"]
        assert triton.asked == []


@pytest.mark.parametrize("mood", ["closes before", "no server"])
async def test_what_we_fail_is_not_priced(mood: str) -> None:
    async with TritonWorld(mood="closes before") as triton, house(triton) as here:
        if mood == "no server":
            here.scaler.fails = "no memory"
        await refusal(here, here.call())
        await here.settled()
        (outcome,) = here.records("outcome")
    assert not outcome.entry.is_priced
    assert (outcome.entry.interval_us is None) == (outcome.entry.replica is None) == (mood == "no server")


async def test_a_client_that_leaves_pays_for_what_triton_was_given() -> None:
    async with TritonWorld(mood="holds") as triton, house(triton) as here:
        task = asyncio.get_running_loop().create_task(here.pipeline.serve(here.call(), Client()))
        await triton.arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await here.settled()
        (outcome,) = here.records("outcome")
    assert (outcome.entry.requests, outcome.entry.bytes) == (1, len(b'{"inputs":[]}'))


async def test_a_foreign_model_and_one_that_does_not_exist_are_not_told_apart() -> None:
    async with TritonWorld() as triton, house(triton) as here:
        foreign, absent = await refusal(here, here.call("private")), await refusal(here, here.call("absent"))
        await here.settled()
        assert (
            (foreign.code, foreign.sentence)
            == (absent.code, absent.sentence)
            == (Code.MODEL_NOT_FOUND, absent.sentence)
        )
        assert here.denials() == ["model_not_found"] * 2
        assert triton.asked == []


async def test_a_model_that_this_key_may_not_use_is_forbidden() -> None:
    async with TritonWorld() as triton, house(triton) as here:
        await here.directory.values.put(Model("", "story", "/models", "*"), act=Act("test", NOW_US))
        limited = await here.directory.keys.create("acme", models=("story",), act=Act("test", NOW_US))
        assert (await refusal(here, here.call(key=limited.secret))).rendering.http == 403
        await here.settled()
        (denied,) = here.records("denial")
        assert msgspec.json.decode(denied.present, type=DenialBody).policies == ("key-is-limited",)


async def test_a_key_that_is_used_from_elsewhere_is_denied_under_its_name() -> None:
    async with TritonWorld() as triton, house(triton) as here:
        terms = Terms(networks=("198.51.100.0/24",))
        bound = await here.directory.keys.create("acme", act=Act("test", NOW_US), terms=terms)
        assert (await refusal(here, here.call(key=bound.secret))).code is Code.FORBIDDEN
        await here.settled()
        (denied,) = here.records("denial")
        assert (denied.entry.key, denied.entry.tenant) == (bound.key.id, bound.key.tenant_id)


async def test_a_suspended_tenant_is_forbidden_and_not_told_that_its_models_are_gone() -> None:
    async with TritonWorld() as triton, house(triton) as here:
        acme = await here.directory.tenants.show("acme")
        suspended = msgspec.json.encode(structs.replace(acme, state="suspended"))
        await here.directory.journal.table.transact(Put(tenant_at(acme.id), suspended, None))
        assert (await refusal(here, here.call())).code is Code.FORBIDDEN
        await here.settled()
        (denied,) = here.records("denial")
        assert msgspec.json.decode(denied.present, type=DenialBody).policies == ("tenant-is-not-active",)


async def test_a_refusal_by_a_limit_says_when_to_come_back_and_where_one_stands() -> None:
    limits = Limits(body_bytes=1000, requests_per_second=Rate(rate=0.5, burst=2))
    async with TritonWorld() as triton, house(triton, limits=limits) as here:
        for left in (1, 0):
            await here.pipeline.serve(here.call(), client := Client())
            assert client.standing[0].remaining == left
        error = await refusal(here, here.call())
        assert error.code is Code.RATE_LIMITED
        assert error.standing[0].remaining == 0
        assert error.retry_after_seconds == pytest.approx(2, abs=0.5)


async def test_a_body_over_the_plan_is_refused_before_it_is_read() -> None:
    async with TritonWorld() as triton, house(triton) as here:
        body = Body(declared_bytes=1001, held=asyncio.Event())
        assert (await refusal(here, here.call(payload=body))).rendering.http == 413


async def test_a_revoked_key_stops_working_with_the_next_look() -> None:
    async with TritonWorld() as triton, house(triton) as here:
        await here.pipeline.serve(here.call(), Client())
        (key,) = (await here.directory.keys.list("acme")).values
        await here.directory.keys.revoke("acme", key.id, act=Act("test", NOW_US))
        await here.feed.look()
        assert (await refusal(here, here.call())).rendering.http == 401


# Streams


async def test_a_stream_is_relayed_event_by_event_and_settled_at_its_end() -> None:
    async with TritonWorld() as triton, house(triton) as here:
        client = Client()
        await here.pipeline.serve(here.call(endpoint="generate_stream"), client)
        await here.settled()
    assert (client.body, client.events[-1]) == (EVENT * 2, "end")
    assert here.outcomes() == ["done"]


async def test_a_stream_that_triton_cuts_is_cut_and_audited_as_partial() -> None:
    async with TritonWorld(mood="closes within") as triton, house(triton) as here:
        client = Client()
        with pytest.raises(Cut) as cut:
            await here.pipeline.serve(here.call(endpoint="generate_stream"), client)
        await here.settled()
    assert cut.value.error.code is Code.UPSTREAM_FAILED
    assert (client.body, "end" in client.events) == (EVENT, False)
    assert here.outcomes() == ["partial"]


async def test_a_stream_that_stands_still_is_cut_and_its_place_is_free() -> None:
    async with TritonWorld(mood="stops within") as triton, house(triton) as here:
        pipeline = dataclasses.replace(here.pipeline, stream_idle_seconds=0.05)
        client = Client()
        with pytest.raises(Cut) as cut:
            await pipeline.serve(here.call(endpoint="generate_stream"), client)
        async with asyncio.timeout(5):
            await triton.departed.wait()
        await here.settled()
    assert (cut.value.error.code, cut.value.error.sentence) == (
        Code.DEADLINE_EXCEEDED,
        "the stream stood still for too long",
    )
    assert here.outcomes() == ["partial"]
    assert pipeline.throttler.registry.demand("digits").in_flight == 0


async def test_a_tenants_statistics_count_what_went_to_a_server_and_how_it_ended() -> None:
    async with TritonWorld() as triton, house(triton) as here:
        for _ in range(2):
            await here.pipeline.serve(here.call(), Client())
        await here.pipeline.serve(here.call(endpoint="metadata"), Client())
        triton.mood = "raises"
        await here.pipeline.serve(here.call(), Client())
        with pytest.raises(GatewayError):
            await here.pipeline.serve(here.call("unheard-of"), Client())
        tenant = (await here.pipeline.examine(here.call(endpoint="metadata"), "describe")).tenant_id
        (row,) = msgspec.json.decode(here.pipeline.shares.statistics(tenant, "digits", ""))["model_stats"]
    assert (row["version"], row["inference_count"]) == ("3", 2)
    assert row["inference_stats"]["fail"]["count"] == 1


async def test_versions_that_there_are_not_are_not_counted() -> None:
    async with TritonWorld() as triton, house(triton) as here:
        await here.pipeline.serve(here.call(), Client())
        for version in ("7", "07", "999999999"):
            with pytest.raises(GatewayError) as refused:
                await here.pipeline.serve(structs.replace(here.call(), version=version), Client())
            assert refused.value.code is Code.MODEL_NOT_FOUND
        tenant = (await here.pipeline.examine(here.call(endpoint="metadata"), "describe")).tenant_id
        assert [row.version for row in here.pipeline.shares.rows(tenant, "digits", "")] == ["3"]


async def test_a_reply_that_told_of_an_error_is_not_done() -> None:
    async with TritonWorld() as triton, house(triton) as here:
        client = Client(has_failed=True)
        await here.pipeline.serve(here.call(endpoint="generate_stream"), client)
        await here.settled()
        assert here.outcomes() == ["partial"]
