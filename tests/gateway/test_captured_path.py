"""What a tenant has captured is what its models were asked and replied, sealed; it costs nobody a call, and whoever has it off nothing."""

import asyncio
import json
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs

from gateway.call import GRPC, GRPC_STREAM, Outgoing
from gateway.envelope.sealed import unseal
from gateway.errors import GatewayError
from gateway.kept.capture import MOST_BYTES, Captured, Head, read
from gateway.kept.capturing import MEMORY_BYTES, Captures, context_of
from gateway.kept.expiry import Expiry
from gateway.pipeline import Cut
from tenants.acts import Act
from tenants.plans import Limits, Rate
from tenants.privacy import Privacy, Sampled
from tests.gateway.frontends import test_openai as behind_triton
from tests.gateway.frontends import test_openai_passed as passed
from tests.gateway.frontends.grpc_worlds import door as grpc_door
from tests.gateway.frontends.grpc_worlds import infer
from tests.gateway.frontends.test_openai import request
from tests.gateway.house import NOW_US, Body, Client, House, capturing, house
from tests.worlds.blobs import BlobWorld, Fault
from tests.worlds.keyring import KeyringWorld
from tests.worlds.triton import ANSWER, EVENT, Mood, TritonWorld

ACT = Act("test", NOW_US)
DAY = "20231114"
MAIL = "ann@example.com"
ROOMY = Limits(body_bytes=8_000_000, requests_per_second=Rate(rate=1000, burst=1000), concurrent_requests=5)

HEAD = Head(
    request="r",
    model="digits",
    protocol="test",
    endpoint="infer",
    asked_us=NOW_US,
    ended_us=NOW_US,
    ending="done",
    http_status=200,
)


def texts(*said: str) -> dict[str, Any]:
    return {"inputs": [{"name": "in", "datatype": "BYTES", "shape": [len(said)], "data": list(said)}]}


async def capture(here: House, how: Any = "on", **more: Any) -> None:
    await here.directory.values.put(Privacy("watched", capture=how, **more), act=ACT)
    await here.directory.tenants.change("acme", ACT, privacy="watched")
    await here.feed.look()


async def found(here: House, number: int = 1) -> list[Captured]:
    """All that is stored, opened as whoever has the key can."""
    async with asyncio.timeout(10):
        await here.captured(number)
    opened = []
    for name, sealed in sorted(here.blobs.held.items()):
        kind, tenant, day, record = name.split("/")
        assert (kind, day) == ("capture", DAY)
        key = here.capture_keys.made(tenant, "capture")
        opened.append(read(unseal(key, context_of(tenant, record), sealed)))
        assert opened[-1].head.request == record
    return opened


# What is kept


async def test_request_and_reply_are_kept_and_said_to_be_of_which_call() -> None:
    async with TritonWorld() as triton, house(triton) as here:
        await capture(here)
        await here.pipeline.serve(here.call(), Client())
        ((head, asked, replied),) = await found(here)
    assert (asked, replied) == (b'{"inputs":[]}', ANSWER)
    assert (head.request, head.model, head.model_version) == ("request-1", "digits", "3")
    assert (head.protocol, head.endpoint, head.ending) == ("test", "infer", "done")
    assert (head.http_status, head.reply_status, head.reply_type) == (200, 200, "application/json")
    assert (head.asked_us, head.ended_us) == (NOW_US, NOW_US)
    assert (head.is_request_cut, head.is_reply_cut) == (False, False)
    assert here.captures.held_bytes == 0


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v2/models/digits/generate", {"text_input": f"to {MAIL}"}),
        ("/v2/models/digits/generate_stream", {"text_input": f"to {MAIL}"}),
        ("/v1/completions", {"model": "digits", "prompt": f"to {MAIL}"}),
        ("/v1/completions", {"model": "digits", "prompt": f"to {MAIL}", "stream": True}),
    ],
)
async def test_what_is_kept_is_what_the_model_saw_and_said_through_each_door(
    path: str, body: dict[str, Any]
) -> None:
    async with behind_triton.opened(limits=ROOMY) as (triton, here, world):
        await capture(here, mask=("email",))
        wire = await world.connect()
        await wire.send(request(here, path, body))
        async with asyncio.timeout(10):
            assert b" 200 " in await wire.reader.readuntil(b"\r\n\r\n")
        ((head, asked, replied),) = await found(here)
        assert triton.asked == [asked]
        assert b"[EMAIL]" in asked
        assert b"example.com" not in asked
        assert head.endpoint == ("generate" if path.endswith("generate") else "generate_stream")
        assert replied == (ANSWER if head.endpoint == "generate" else EVENT * 2)


async def test_of_a_reversible_privacy_placeholders_alone_are_kept() -> None:
    async with behind_triton.opened() as (triton, here, world):
        await capture(here, mask=("email",), reversible=True)
        body = {"model": "digits", "prompt": f"to {MAIL}"}
        assert (await world.ask(request(here, "/v1/completions", body))).status == 200
        ((_, asked, _),) = await found(here)
        assert triton.asked == [asked]
        assert b"example.com" not in asked


async def test_tensors_that_stream_are_seen_as_they_go_by() -> None:
    data = [b"abcd" * 1000, b"efgh" * 60_000]
    given = {"name": "in", "datatype": "FP32", "shape": [61_000], "parameters": {"binary_data_size": 244_000}}
    said = json.dumps({"inputs": [given]}).encode()
    async with behind_triton.opened(limits=ROOMY) as (triton, here, world):
        await capture(here)
        sent = request(here, "/v2/models/digits/infer", said + b"".join(data))
        head_length = b"Inference-Header-Content-Length: %d\r\nContent-Length" % len(said)
        sent = sent.replace(b"Content-Length", head_length)
        half = sent.index(data[1])
        wire = await world.connect()
        answer = asyncio.ensure_future(wire.ask(sent[:half], sent[half:]))
        assert (await answer).status == 200
        ((head, asked, _),) = await found(here)
        assert triton.asked == [asked]
    assert asked[head.request_head_bytes :] == b"".join(data)
    assert head.request_bytes == head.request_kept == len(asked)


async def test_of_a_body_that_breaks_off_what_came_is_kept() -> None:
    given = {"name": "in", "datatype": "FP32", "shape": [1000], "parameters": {"binary_data_size": 4000}}
    said = json.dumps({"inputs": [given]}).encode()
    async with behind_triton.opened(limits=ROOMY) as (triton, here, world):
        await capture(here)
        sent = request(here, "/v2/models/digits/infer", said + bytes(4000))
        head_length = b"Inference-Header-Content-Length: %d\r\nContent-Length" % len(said)
        wire = await world.connect()
        await wire.send(sent.replace(b"Content-Length", head_length)[:-3000])
        while not (held := here.captures.held_bytes):
            await asyncio.sleep(0.001)
        await wire.send(bytes(2000))
        while here.captures.held_bytes == held:  # it goes by, so the model is being asked
            await asyncio.sleep(0.001)
        wire.writer.close()
        ((head, asked, replied),) = await found(here)
        assert triton.asked == []
    assert (head.ending, head.reply_status, replied) == ("cancelled", 0, b"")
    assert asked[head.request_head_bytes :] == bytes(3000)


async def test_an_id_of_a_sequence_is_the_clients() -> None:
    body = texts("x") | {"parameters": {"sequence_id": 4711, "sequence_start": True, "sequence_end": True}}
    async with behind_triton.opened() as (_, here, world):
        await capture(here)
        assert (await world.ask(request(here, "/v2/models/digits/infer", body))).status == 200
        ((_, asked, _),) = await found(here)
    assert json.loads(asked)["parameters"]["sequence_id"] == 4711


async def test_of_a_server_that_speaks_openais_api_itself_too() -> None:
    async with passed.opened() as (server, here, world):
        await capture(here)
        assert (await world.ask(passed.chat(here))).status == 200
        ((head, asked, replied),) = await found(here)
        assert [it.body for it in server.asked] == [asked]
        assert (head.endpoint, head.model) == ("chat/completions", "far")
        assert b'"choices"' in replied


async def test_over_grpc_and_of_each_message_of_a_stream() -> None:
    async with grpc_door() as door:
        await capture(door.here)
        await door.call("ModelInfer", infer(id="one"))
        stream = door.stream()
        for name in ("two", "three"):
            await stream.write(infer(id=name))
            await stream.read()
        await stream.done_writing()
        assert await stream.read() is not None
        await asyncio.wait_for(door.here.captured(3), 10)
        of = {it.head.request: it for it in await found(door.here, 3)}
        assert sorted(of) == ["request-1", "request-2-1", "request-2-2"]
        assert {it.head.protocol for it in of.values()} == {GRPC, GRPC_STREAM}
        assert [of[name].request for name in sorted(of)] == door.upstream.asked
        for name, said in zip(sorted(of), (b"one", b"two", b"three"), strict=True):
            assert said in of[name].reply


@pytest.mark.parametrize(
    ("mood", "ending", "status", "kept"),
    [
        ("raises", "refused", 500, b"ValueError: 7"),
        ("closes before", "failed", 0, b""),
        ("closes within", "partial", 200, ANSWER[:-10]),
    ],
)
async def test_a_call_that_fails_or_breaks_off_says_how_it_ended(
    mood: Mood, ending: str, status: int, kept: bytes
) -> None:
    async with TritonWorld(mood=mood) as triton, house(triton) as here:
        await capture(here)
        client = Client(started=ending == "partial")
        try:
            await here.pipeline.serve(here.call(), client)
        except (GatewayError, Cut):
            assert ending != "refused"
        ((head, asked, replied),) = await found(here)
    assert (head.ending, head.reply_status, asked) == (ending, status, b'{"inputs":[]}')
    assert kept in replied
    assert bool(head.reason) == (ending != "refused")


async def test_of_a_client_that_leaves_it_is_kept_what_was_asked() -> None:
    async with TritonWorld(mood="holds") as triton, house(triton) as here:
        await capture(here)
        serving = asyncio.ensure_future(here.pipeline.serve(here.call(), Client()))
        await triton.arrived.wait()
        serving.cancel()
        ((head, asked, replied),) = await found(here)
        assert serving.cancelled()
    assert (head.ending, asked, replied, head.reply_status) == ("cancelled", b'{"inputs":[]}', b"", 0)


async def test_of_a_call_that_no_model_was_asked_nothing_is_kept() -> None:
    async with house() as here:
        await capture(here)
        with pytest.raises(GatewayError):
            await here.pipeline.serve(here.call(seconds=0.05), Client())
        with pytest.raises(GatewayError):
            await here.pipeline.serve(here.call("nothing"), Client())
        assert (here.captures.held_bytes, here.captures.lost.total(), here.blobs.held) == (0, 0, {})


async def test_what_is_long_is_cut_and_says_how_long_it_was() -> None:
    content = b'{"inputs":[]}' + b" " * MOST_BYTES
    async with TritonWorld() as triton, house(triton, limits=ROOMY) as here:
        await capture(here)
        await here.pipeline.serve(here.call(payload=Body(content)), Client())
        ((head, asked, replied),) = await found(here)
    assert (asked, replied) == (content[:MOST_BYTES], ANSWER)
    assert (head.request_kept, head.request_bytes) == (MOST_BYTES, len(content))
    assert (head.is_request_cut, head.is_reply_cut) == (True, False)


# Which calls


@pytest.mark.parametrize("privacy", [None, "off"])
async def test_without_a_capture_nothing_is_kept(privacy: str | None) -> None:
    async with TritonWorld() as triton, house(triton) as here:
        if privacy:
            await capture(here, "off")
        await here.pipeline.serve(here.call(), Client())
        assert (here.captures.stored, here.captures.lost.total(), here.blobs.calls) == (0, 0, 0)


@pytest.mark.parametrize(("drawn", "stored"), [(0.0, 1), (0.2499, 1), (0.25, 0), (0.99, 0)])
async def test_a_sample_is_drawn_once_for_each_call(drawn: float, stored: int) -> None:
    draws: list[float] = []

    def draw() -> float:
        draws.append(drawn)
        return drawn

    async with TritonWorld() as triton, house(triton) as here:
        blobs = BlobWorld()
        captures = capturing(KeyringWorld(), blobs, draw)
        await capture(here, Sampled(0.25))
        async with captures.writing():
            await replace(here.pipeline, captures=captures).serve(here.call(), Client())
    assert (len(blobs.held), len(draws)) == (stored, 1)


async def test_a_description_of_a_model_is_no_request_to_it() -> None:
    async with TritonWorld() as triton, house(triton) as here:
        await capture(here)
        await here.pipeline.serve(here.call(endpoint="metadata"), Client())
        assert (here.captures.held_bytes, here.captures.stored, here.blobs.calls) == (0, 0, 0)


# For how long


async def test_a_capture_goes_when_its_days_are_over_and_not_before() -> None:
    async def days_of(_: str) -> int:
        return 7

    async with TritonWorld() as triton, house(triton) as here:
        await capture(here)
        await here.pipeline.serve(here.call(), Client())
        await found(here)
        now = NOW_US / 1e6
        expiry = Expiry(here.blobs, days_of, 24, lambda: now)
        for days, left in ((7, 1), (8, 0)):
            now = NOW_US / 1e6 + days * 86_400
            await expiry.look()
            assert len(here.blobs.held) == left


# What cannot be kept


@pytest.mark.parametrize(("fault", "is_there"), [(Fault.LOST_BEFORE, False), (Fault.LOST_AFTER, True)])
async def test_a_store_that_fails_costs_a_capture_and_no_call(
    fault: Fault, *, is_there: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async with TritonWorld() as triton, house(triton) as here:
        await capture(here)
        here.blobs.faults.extend([fault, fault])
        for _ in range(2):
            client = Client()
            await here.pipeline.serve(here.call(), client)
            assert client.body == ANSWER
        assert len(await found(here, 2)) == 2 * is_there
        assert (here.captures.stored, dict(here.captures.lost)) == (0, {"store": 2})
        assert here.captures.held_bytes == 0
        await here.pipeline.serve(here.call(), Client())
        await here.captured(3)
        assert here.captures.stored == 1
    assert sum("captures are lost" in it.message for it in caplog.records) == 1


@pytest.mark.parametrize("why", ["unavailable", "refused"])
async def test_without_a_key_nothing_is_stored_and_the_call_is_served(why: str) -> None:
    async with TritonWorld() as triton, house(triton) as here:
        await capture(here)
        tenant = (await here.directory.tenants.show("acme")).id
        getattr(here.capture_keys, why).add(tenant)
        for _ in range(2):
            client = Client()
            await here.pipeline.serve(here.call(), client)
            assert client.body == ANSWER
        await here.captured(2)
        assert (here.blobs.calls, dict(here.captures.lost)) == (0, {"key": 2})
        getattr(here.capture_keys, why).clear()
        await here.pipeline.serve(here.call(), Client())
        assert len(await found(here, 3)) == 1


async def test_what_waits_at_the_end_is_stored_and_what_takes_too_long_is_lost_and_counted() -> None:
    for silent, stored in ((set[str](), 5), ({"t_a"}, 0)):
        blobs = BlobWorld()
        captures = capturing(KeyringWorld(silent=silent), blobs)
        async with captures.writing(drain_seconds=0.05 if silent else 10.0):
            for number in range(5):
                settle(captures, "t_a", f"r{number}")
        assert (len(blobs.held), captures.stored) == (stored, stored)
        assert (captures.lost["stopped"], captures.held_bytes) == (5 - stored, 0)


async def test_the_memory_of_captures_is_bounded_for_each_tenant_and_for_all() -> None:
    blobs = BlobWorld()
    captures = capturing(KeyringWorld(), blobs)
    many = MEMORY_BYTES // MOST_BYTES
    for tenant in ("t_a", "t_b", "t_c"):  # nobody writes yet
        for number in range(many):
            settle(captures, tenant, f"r{number}", size=2 * MOST_BYTES)
            assert captures.held_bytes <= MEMORY_BYTES
    assert captures.lost["memory"] > many
    assert len(captures.lost) == 1
    async with captures.writing():
        pass
    held = Counter(name.split("/")[1] for name in blobs.held)
    assert held["t_a"] == held["t_b"] == many // 2 - 1  # what each takes besides its bodies is counted
    assert held.total() == captures.stored == 3 * many - captures.lost.total()
    assert captures.held_bytes == 0


async def test_a_body_in_many_small_pieces_takes_no_more_than_one_in_few() -> None:
    captures = capturing(KeyringWorld(), BlobWorld())
    made = captures.drawn("t_a", 1.0)
    assert made is not None
    take = made.replied(lambda _: None)
    for piece in (b"a", b"b" * 5000, b"c", b"d"):
        take(piece)
    assert [len(it) for it in made.reply.pieces] == [1, 5000, 2]
    assert b"".join(made.reply.pieces) == b"a" + b"b" * 5000 + b"cd"


def settle(captures: Captures, tenant: str, name: str, size: int = 10) -> None:
    made = captures.drawn(tenant, 1.0)
    assert made is not None
    made.asked(Outgoing(head=b"x" * size))
    made.settled(structs.replace(HEAD, request=name))
