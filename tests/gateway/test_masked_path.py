"""What a tenant has masked reaches no model, by none of the doors; what cannot be masked is refused, and nobody else hears of it."""

import asyncio
import json
from typing import Any

import pytest
from tritonclient.grpc import service_pb2 as official

from gateway.privacy.mask import MOST_CHARACTERS, Screen
from gateway.wire.restored import elements, restored_json, tensor_of
from gateway.wire.screened import masked_json
from tenants.acts import Act
from tenants.plans import Limits, Rate
from tenants.privacy import Privacy
from tests.gateway.frontends import test_openai as behind_triton
from tests.gateway.frontends import test_openai_passed as passed
from tests.gateway.frontends.grpc_worlds import door as grpc_door
from tests.gateway.frontends.grpc_worlds import infer
from tests.gateway.frontends.test_openai import request
from tests.gateway.house import NOW_US, ROOT, House

ACT = Act("test", NOW_US)
MAIL = "ann@example.com"
ROOMY = Limits(body_bytes=4_000_000, requests_per_second=Rate(rate=1000, burst=1000), concurrent_requests=5)
MUCH = b'{"text_input":[' + b'"",' * (MOST_CHARACTERS // 4 + 1) + b'""]}'
LONG = 20_000
"""Characters that are looked through beside the loop."""


async def protect(here: House, **more: Any) -> None:
    await here.directory.values.put(Privacy("discreet", **({"mask": ("email",)} | more)), act=ACT)
    await here.directory.tenants.change("acme", ACT, privacy="discreet")
    await here.feed.look()


def texts(*said: str) -> dict[str, Any]:
    return {"inputs": [{"name": "in", "datatype": "BYTES", "shape": [len(said)], "data": list(said)}]}


@pytest.mark.parametrize("filler", [0, LONG])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v2/models/digits/infer", texts(f"to {MAIL}", "x")),
        ("/v2/models/digits/generate", {"text_input": f"to {MAIL}", "parameters": {"who": MAIL}}),
        ("/v2/models/digits/generate_stream", {"text_input": [f"to {MAIL}"], "who": MAIL}),
        ("/v1/completions", {"model": "digits", "prompt": f"to {MAIL}"}),
        (
            "/v1/chat/completions",
            {"model": "digits", "messages": [{"role": "user", "content": f"to {MAIL}"}]},
        ),
    ],
)
async def test_a_model_sees_placeholders(path: str, body: dict[str, Any], filler: int) -> None:
    async with behind_triton.opened(limits=ROOMY) as (triton, here, world):
        await protect(here)
        sent = json.dumps(body).replace("to ann", "to " + "x " * filler + "ann").encode()
        wire = await world.connect()
        await wire.send(request(here, path, sent))
        async with asyncio.timeout(10):
            assert b" 200 " in await wire.reader.readuntil(b"\r\n\r\n")
        await here.settled_outcomes(1)
        (asked,) = triton.asked
        assert b"[EMAIL]" in asked
        assert b"example.com" not in asked


async def test_a_server_that_speaks_openais_api_sees_placeholders() -> None:
    async with passed.opened() as (server, here, world):
        await protect(here)
        parts = [{"type": "text", "text": MAIL}]
        tool = {"type": "function", "function": {"name": "f", "parameters": {"description": MAIL}}}
        messages = [{"role": "system", "content": MAIL}, {"role": "user", "content": parts}]
        answer = await world.ask(passed.chat(here, messages=messages, tools=[tool], stop=[MAIL]))
        assert answer.status == 200
        (asked,) = server.asked
        assert asked.body.count(b"[EMAIL]") == 4
        assert b"example.com" not in asked.body


@pytest.mark.parametrize("stream", [False, True])
async def test_what_a_server_that_speaks_openais_api_says_is_restored(*, stream: bool) -> None:
    said = f"to {MAIL} and [EMAIL_1] or [EMAIL_"
    messages = [{"role": "user", "content": said}]
    async with passed.opened() as (server, here, world):
        await protect(here, reversible=True)
        sent = passed.chat(here, messages=messages, stream=stream)
        if stream:
            events, _ = await behind_triton.stream(await world.connect(), sent)
            choices = [it["choices"][0] for it in events]
            told = "".join(it["delta"].get("content", "") for it in choices).strip()
        else:
            told = json.loads((await world.ask(sent)).body)["choices"][0]["message"]["content"]
        assert told == said
        (asked,) = server.asked
        assert b"example.com" not in asked.body


async def test_over_grpc_a_reply_is_restored_and_its_memory_given_back() -> None:
    tensor = {
        "name": "in",
        "datatype": "BYTES",
        "shape": [1],
        "contents": {"bytes_contents": [MAIL.encode()]},
    }

    async def echo(request: Any, _: Any) -> bytes:
        said: bytes = official.ModelInferResponse(
            model_name=request.model_name,
            id=request.id,
            outputs=[{"name": "out", "datatype": "BYTES", "shape": [1]}],
            raw_output_contents=[tensor_of(request.inputs[0].contents.bytes_contents)],
        ).SerializeToString()
        return said

    async with grpc_door() as door:
        await protect(door.here, reversible=True)
        door.upstream.infer = echo
        told = official.ModelInferResponse.FromString(
            await door.call("ModelInfer", infer(inputs=[tensor], id=MAIL))
        )
        assert (told.id, list(elements(told.raw_output_contents[0]))) == (MAIL, [MAIL.encode()])
        stream = door.stream()
        await stream.write(infer(inputs=[tensor], id=MAIL))
        await stream.done_writing()
        (answer,) = [it async for it in stream]
        assert answer.infer_response.id == MAIL
        assert all(b"example.com" not in asked for asked in door.upstream.asked)
        await door.here.settled_outcomes(2)
        assert door.memory.taken_bytes == 0


BEHIND = b'{"inputs":[{"name":"in","datatype":"BYTES","shape":[1],"parameters":{"binary_data_size":%d}}]}'
SAYS = {"model_name": "digits", "model_version": "3", "text_output": "to [EMAIL_1]"}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v2/models/digits/infer", texts(MAIL)),
        ("/v2/models/digits/infer", tensor_of([MAIL.encode()])),
        ("/v2/models/digits/generate", {"text_input": MAIL}),
        ("/v2/models/digits/generate_stream", {"text_input": MAIL}),
        ("/v1/completions", {"model": "digits", "prompt": MAIL}),
        ("/v1/completions", {"model": "digits", "prompt": MAIL, "stream": True}),
    ],
    ids=["infer", "infer, binary", "generate", "generate_stream", "openai", "openai, stream"],
)
async def test_over_http_a_reply_is_restored_at_each_door_and_what_is_kept_for_it_given_back(
    path: str, body: dict[str, Any] | bytes
) -> None:
    async with behind_triton.opened() as (triton, here, world):
        await protect(here, reversible=True)
        triton.answer = json.dumps(SAYS).encode()
        triton.event = b"data: " + triton.answer + b"\n\n"
        if isinstance(body, bytes):
            head = BEHIND % len(body)
            size = b"Host: a\r\nInference-Header-Content-Length: %d\r\n" % len(head)
            sent = request(here, path, head + body).replace(b"Host: a\r\n", size)
        else:
            sent = request(here, path, body)
        if path.endswith("stream") or b'"stream"' in sent:
            wire = await world.connect()
            await wire.send(sent)
            told = b""
            while not told.endswith(b"\r\n0\r\n\r\n"):
                told += await wire.reader.read(65536)
        else:
            told = (await world.ask(sent)).body
        assert b"to ann@example.com" in told
        await here.settled_outcomes(1)
        (asked,) = triton.asked
        assert b"[EMAIL_1]" in asked
        assert b"example.com" not in asked


async def test_who_has_no_privacy_is_served_as_it_was_said() -> None:
    async with behind_triton.opened() as (triton, here, world):
        for mask in (None, ()):
            if mask is not None:
                await protect(here, mask=mask)
            assert (await world.ask(request(here, "/v2/models/digits/infer", texts(MAIL)))).status == 200
        assert all(MAIL.encode() in asked for asked in triton.asked)


async def test_over_grpc_a_model_sees_placeholders() -> None:
    async with grpc_door() as door:
        await protect(door.here)
        tensor = {
            "name": "in",
            "datatype": "BYTES",
            "shape": [1],
            "contents": {"bytes_contents": [MAIL.encode()]},
        }
        await door.call("ModelInfer", infer(inputs=[tensor]))
        (asked,) = door.upstream.asked
        assert b"[EMAIL]" in asked
        assert b"example.com" not in asked


async def test_a_raw_request_and_too_much_text_are_refused_and_recorded() -> None:
    async with behind_triton.opened(limits=ROOMY) as (triton, here, world):
        await protect(here)
        raw = request(here, "/v2/models/digits/infer", b"1234").replace(
            b"Content-Length", b"Inference-Header-Content-Length: 0\r\nContent-Length"
        )
        much = request(here, "/v2/models/digits/generate", MUCH)
        for sent, sentence in ((raw, "raw binary"), (much, "more than")):
            answer = await world.ask(sent)
            assert answer.status == 400
            assert sentence in answer.error
        await here.settled()
        assert triton.asked == []
        assert here.denials() == ["not_masked"] * 2


async def test_the_readmes_example_is_what_the_model_sees() -> None:
    readme = (ROOT / "gateway" / "README.md").read_text()
    sent, seen = (
        readme.partition(f"<!-- masked: {name} -->\n```json\n")[2].partition("\n```")[0]
        for name in ("sent", "seen")
    )
    async with behind_triton.opened() as (triton, here, world):
        await protect(here, mask=("email", "payment_card"))
        await world.ask(request(here, "/v2/models/digits/generate", sent.encode()))
    (asked,) = triton.asked
    assert json.loads(asked) == json.loads(seen)


def test_the_readmes_reply_is_restored_to_what_it_says() -> None:
    readme = (ROOT / "gateway" / "README.md").read_text()
    sent, told = (
        readme.partition(f"<!-- restored: {name} -->\n```json\n")[2].partition("\n```")[0]
        for name in ("sent", "told")
    )
    screen = Screen(Privacy("discreet", mask=("email",), reversible=True))
    seen = json.loads(masked_json(sent.encode(), screen))["text_input"]
    said, restored = told.encode().split(b"\n")
    assert seen in json.loads(said)["text_output"]
    assert restored_json(said, screen) == restored
