"""What is long is not done while others wait, and what is large is on its tenant's account until its client has read it."""

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from gateway.call import Source, Take
from gateway.errors import Code, GatewayError
from gateway.frontends.http_downstream import HttpDownstream
from gateway.frontends.openai_downstream import OpenAiDownstream
from gateway.wire.openai import CompletionRequest, EmbeddingsRequest
from gateway.wire.openai_readings import Embedded, Streamed, Whole
from gateway.wire.openai_replies import Answering
from tenants.openai import Generate, Infer
from tests.gateway.frontends.test_openai import COMPLETION, opened, request
from tests.gateway.frontends.worlds import Heard
from tests.gateway.wire.test_openai_to_oip import infer_reply, said
from tests.worlds.triton import Mood

LONG = "word " * 20_000
SAYS = Answering("completion", "r1", 1, "story")
# It knows the prompts of `test_openai` and not what the model answers: there it raises, as it has no word for what it does not know.
DULL = {
    "version": "1.0",
    "added_tokens": [],
    "pre_tokenizer": {"type": "Whitespace"},
    "model": {"type": "WordLevel", "vocab": {"hi": 0}, "unk_token": "[UNK]"},
}


class Given:
    """A reply, as far as a downstream looks at it before its body."""

    status, length_bytes, content_encoding = 200, -1, b""

    def __init__(self, content_type: bytes, head_length: bytes = b"") -> None:
        self.content_type, self.head_length = content_type, head_length

    async def pour(self, take: Take) -> None:
        raise AssertionError("it is handed over by the test")

    def pause(self) -> None:
        pass

    def resume(self) -> None:
        pass


class Threads:
    """A tokenizer that remembers where it was asked."""

    def __init__(self) -> None:
        self.used: list[int] = []

    def __call__(self, text: str) -> int:
        self.used.append(threading.get_ident())
        return len(text.split())


async def ended(reading: Any, body: bytes, head_length: bytes = b"") -> tuple[Heard, list[int]]:
    """What the client hears of this reply, and what was held for it."""
    heard, held = Heard(), list[int]()
    downstream = OpenAiDownstream(heard, "r1")
    downstream.expect(reading, held.append)
    await downstream.start(Given(reading.content_type, head_length), ())
    for at in range(0, len(body), 100_000):
        downstream.take(body[at : at + 100_000])
    assert await downstream.end() == 200
    return heard, held


@pytest.mark.parametrize("kind", [Whole, Streamed])
@pytest.mark.parametrize(("text", "elsewhere"), [("a few words", False), (LONG, True)])
async def test_the_tokens_of_a_long_answer_are_counted_beside_the_loop(
    kind: type[Whole] | type[Streamed], text: str, *, elsewhere: bool
) -> None:
    count = Threads()
    reading = kind(Generate(max_tokens=10**6), CompletionRequest(model="story", prompt="a"), SAYS, 1, count)
    _, held = await ended(reading, said(text))
    assert reading.tokens == 1 + len(text.split())
    assert [it != threading.get_ident() for it in count.used] == [elsewhere]
    assert sum(held) >= 4 * len(text)


@pytest.mark.parametrize("form", ["float", "base64"])
async def test_what_embeddings_take_as_json_is_held_before_they_are_made(form: Any) -> None:
    rows = [[-1.1754943508222875e-38] * 1000] * 30
    length, body = infer_reply(rows)
    asked = EmbeddingsRequest(model="e", input=["a"] * 30, encoding_format=form)
    heard, held = await ended(Embedded(Infer(), asked, 1, counted=False), body, length)
    assert heard.is_whole
    assert sum(held) >= len(body) + len(heard.body)
    assert len(json.loads(heard.body)["data"]) == 30


async def test_large_embeddings_are_made_beside_the_loop() -> None:
    length, body = infer_reply([[0.5] * 1000] * 30)
    downstream = OpenAiDownstream(heard := Heard(), "r1")
    asked = EmbeddingsRequest(model="e", input=["a"] * 30)
    downstream.expect(reading := Embedded(Infer(), asked, 1, counted=False), lambda _: None)
    await downstream.start(Given(reading.content_type, length), ())
    downstream.take(body)
    ending = asyncio.ensure_future(downstream.end())
    await asyncio.sleep(0)
    assert heard.messages == []  # on the loop it would be over by now
    assert await ending == 200
    assert heard.is_whole


async def test_embeddings_for_which_there_is_no_room_are_not_made() -> None:
    length, body = infer_reply([[0.5] * 1000])
    downstream = OpenAiDownstream(heard := Heard(), "r1")
    full = GatewayError(Code.OVERLOADED)

    def hold(size: int) -> None:
        if size > len(body):
            raise full

    reading = Embedded(Infer(), EmbeddingsRequest(model="e", input="a"), 1, counted=False)
    downstream.expect(reading, hold)
    await downstream.start(Given(reading.content_type, length), ())
    downstream.take(body)
    with pytest.raises(GatewayError) as caught:
        await downstream.end()
    assert (caught.value, heard.messages) == (full, [])


class Slow(Heard):
    """A client that reads when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = asyncio.Event()

    async def writable(self) -> None:
        if self.messages:
            await self.reads.wait()

    def follow(self, source: Source) -> None:
        pass


async def test_a_large_answer_is_given_out_no_faster_than_it_is_read() -> None:
    slow, body = Slow(), bytes(range(256)) * 4096
    answering = asyncio.ensure_future(HttpDownstream(slow, "r1").answer(200, body))
    while len(slow.messages) < 2:
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not answering.done()
    assert len(slow.body) < len(body) // 2
    slow.reads.set()
    await answering
    assert (slow.body, slow.is_whole, slow.headers[b"content-length"]) == (body, True, b"1048576")


@pytest.mark.parametrize("size", [0, 1, 256 * 1024, 256 * 1024 + 1])
async def test_an_answer_of_any_size_is_whole(size: int) -> None:
    heard = Heard()
    await HttpDownstream(heard, "r1").answer(200, bytes(size))
    assert (heard.body, heard.is_whole) == (bytes(size), True)


@pytest.mark.parametrize(
    ("mood", "streamed", "outcome"),
    [
        ("answers", False, "done"),
        ("answers", True, "done"),
        ("closes within", False, "failed"),
        ("closes within", True, "partial"),
    ],
)
async def test_a_tokenizer_that_fails_leaves_no_call_without_its_outcome_and_counts_nothing(
    mood: Mood, outcome: str, tmp_path: Path, *, streamed: bool
) -> None:
    pytest.importorskip("tokenizers")
    (tmp_path / "digits").mkdir()
    (tmp_path / "digits" / "tokenizer.json").write_text(json.dumps(DULL))
    async with opened(mood, repository=tmp_path) as (_, here, world):
        wire = await world.connect()
        await wire.send(request(here, "/v1/completions", COMPLETION | {"stream": streamed}))
        if outcome == "done" and not streamed:
            told = json.loads((await wire.answer()).body)
            assert told["choices"][0]["text"] == "aa"
            assert told["usage"]["estimated"] is True
        else:
            assert await wire.reader.readuntil(b"data: " if streamed else b"\r\n\r\n")
        await here.settled_outcomes(1)
        assert here.outcomes() == [outcome]
        (record,) = here.records("outcome")
        assert record.entry.tokens == 0
