"""What a client is told under an Idempotency-Key is whole, and kept, before it hears of it; and told again it is the same to the byte."""

import asyncio
from collections.abc import Sequence

import pytest

from gateway.call import Quota
from gateway.errors import Code, GatewayError
from gateway.frontends.answering import Held, declared_class, idempotency_key
from gateway.frontends.http_downstream import HttpDownstream
from gateway.kept.answer import MOST_BYTES, Answer
from tests.gateway.frontends.test_oip_rest import Said
from tests.gateway.frontends.worlds import Heard

STANDING = (Quota("concurrency", 5, 4),)
EVENTS = Said(content_type=b"text/event-stream; charset=utf-8", body=(b'data: {"a":1}\n\n',), is_chunked=True)
LARGE = (b"a" * MOST_BYTES, b"b")


async def relayed(said: Said) -> tuple[Heard, HttpDownstream, list[int]]:
    """What the client has heard of a whole reply that may be held, and the bytes that were on its account."""
    heard, held = Heard(), list[int]()
    downstream = HttpDownstream(heard, "r1")
    downstream.hold(held.append)
    await downstream.start(said, STANDING)
    for piece in said.body:
        downstream.take(piece)
    await downstream.end()
    return heard, downstream, held


@pytest.mark.parametrize(
    ("said", "status", "body"),
    [
        (Said(), 200, b"hello"),
        (Said(body=(b"he", b"llo")), 200, b"hello"),
        (Said(body=(b"he", b"llo, w", b"orld"), is_chunked=True), 200, b"hello, world"),
        (Said(body=()), 200, b""),
        (Said(body=LARGE[:1]), 200, LARGE[0]),
        (Said(400, body=(b'{"error":"shape"}',)), 400, b'{"error":"shape"}'),
        (Said(body=(b'{"error":"not one reply"}',), is_chunked=True), 200, b'{"error":"not one reply"}'),
    ],
)
async def test_nothing_is_told_before_the_answer_is_whole_and_let_out(
    said: Said, status: int, body: bytes
) -> None:
    heard, downstream, held = await relayed(said)
    told = downstream.told
    assert told is not None
    assert (told.status, told.body) == (status, body)
    assert (heard.messages, heard.goes_on, sum(held)) == ([], True, len(body))
    await downstream.release(60.0)
    assert (heard.status, heard.body, heard.is_whole) == (status, body, True)
    assert heard.headers[b"content-length"] == b"%d" % len(body)
    assert heard.headers[b"ratelimit"] == b'"concurrency";r=4'


@pytest.mark.parametrize(
    "said",
    [
        Said(),
        Said(content_type=b"application/octet-stream", head_length=b"3"),
        Said(400, body=(b'{"error":"shape"}',)),
    ],
)
async def test_what_is_told_again_differs_in_nothing_but_what_each_call_has_of_its_own(said: Said) -> None:
    first, downstream, _ = await relayed(said)
    told = downstream.told
    assert told is not None
    await downstream.release(60.0)
    again = Heard()
    later = HttpDownstream(again, "r2")
    later.hold(lambda _: None)
    assert await later.replay(told, (Quota("concurrency", 5, 3),)) == told.status
    own = {b"x-request-id": b"r2", b"ratelimit": b'"concurrency";r=3', b"idempotent-replayed": b"true"}
    assert (again.status, again.headers, again.body) == (first.status, first.headers | own, first.body)
    assert (again.is_whole, later.told) == (True, None)


@pytest.mark.parametrize("said", [EVENTS, Said(body=LARGE), Said(body=(b"a", *LARGE), is_chunked=True)])
async def test_what_is_not_kept_is_told_as_it_comes(said: Said) -> None:
    heard, downstream, held = await relayed(said)
    assert (heard.body, heard.is_whole) == (b"".join(said.body), True)
    assert (downstream.told, downstream.started, heard.goes_on) == (None, True, False)
    assert sum(held) <= MOST_BYTES
    before = list(heard.messages)
    await downstream.release(60.0)
    assert heard.messages == before


async def test_what_is_told_as_it_comes_is_paused_by_who_reads_it() -> None:
    class Followed(Heard):
        def __init__(self) -> None:
            super().__init__()
            self.sources: list[object] = []

        def follow(self, source: object) -> None:
            self.sources.append(source)

    for said, follows in ((EVENTS, True), (Said(), False)):
        heard = Followed()
        downstream = HttpDownstream(heard, "r1")
        downstream.hold(lambda _: None)
        await downstream.start(said, ())
        for piece in said.body:
            downstream.take(piece)
        assert heard.sources == [said] * follows


@pytest.mark.parametrize("said", [EVENTS, Said(body=LARGE)])
async def test_what_nobody_is_there_to_hear_and_nobody_keeps_ends(said: Said) -> None:
    heard = Heard()
    downstream = HttpDownstream(heard, "r1")
    downstream.hold(lambda _: None)
    await downstream.start(said, ())
    heard.is_gone = True
    with pytest.raises(GatewayError) as caught:
        downstream.take(b"".join(said.body))
    assert caught.value.code is Code.CLIENT_CLOSED
    assert downstream.started  # it has run, and is priced


async def test_who_does_not_read_what_was_held_is_cut_off_after_a_while() -> None:
    class Stalled(Heard):
        async def writable(self) -> None:
            if self.messages:
                await asyncio.Event().wait()

    heard = Stalled()
    downstream = HttpDownstream(heard, "r1")
    downstream.hold(lambda _: None)
    reply = Said(body=(bytes(MOST_BYTES),))
    await downstream.start(reply, ())
    await reply.pour(downstream.take)
    assert heard.messages == []
    async with asyncio.timeout(5):
        await downstream.release(0.01)
    assert (heard.status, heard.is_whole) == (200, False)


async def test_what_is_told_again_is_on_its_tenants_account() -> None:
    held = list[int]()
    downstream = HttpDownstream(Heard(), "r1")
    downstream.hold(held.append)
    await downstream.replay(Answer(200, (), b"hello"), ())
    assert held == [5]


async def test_a_reply_that_breaks_off_is_a_refusal_to_who_was_told_nothing() -> None:
    heard = Heard()
    downstream = HttpDownstream(heard, "r1")
    downstream.hold(lambda _: None)
    await downstream.start(Said(body=(b"half of it", b"lost")), ())
    downstream.take(b"half of it")
    assert not downstream.started
    await downstream.refuse(GatewayError(Code.UPSTREAM_FAILED))
    assert (heard.status, heard.is_whole, downstream.told) == (502, True, None)
    assert b"half" not in heard.body


async def test_an_answer_may_begin_anew_while_it_is_held() -> None:
    held = Held(Heard(), lambda _: None)
    kind = (b"content-type", b"application/json")
    held.begin(200, [kind])
    held.write(b"half of it", more_body=True)
    held.begin(400, [kind, (b"x-request-id", b"r1"), (b"ratelimit-policy", b"p")])
    held.write(b"why", more_body=False)
    assert held.told == Answer(400, (kind,), b"why")


@pytest.mark.parametrize("key", ["a", " ", "~" * 255, 'the "first" of May'])
def test_a_key_is_printable_ascii(key: str) -> None:
    assert idempotency_key([key.encode()]) == key


@pytest.mark.parametrize(
    "given", [[b""], [b"a" * 256], [b"a\x7f"], [b"a\tb"], ["é".encode()], [b"a", b"b"], [b"a", b"a"]]
)
def test_a_key_that_two_readers_could_read_in_two_ways_is_refused(given: Sequence[bytes]) -> None:
    with pytest.raises(GatewayError) as caught:
        idempotency_key(given)
    assert (caught.value.code, "Idempotency-Key" in str(caught.value.sentence)) == (Code.BAD_REQUEST, True)


@pytest.mark.parametrize("given", [(), (b"interactive",)])
def test_a_call_that_declares_nothing_is_interactive(given: Sequence[bytes]) -> None:
    assert declared_class(given) == "interactive"
    assert declared_class([b"batch"]) == "batch"


@pytest.mark.parametrize(
    "given", [[b""], [b"Batch"], [b"flex"], [b"batch", b"batch"], [b"batch, interactive"]]
)
def test_a_class_that_there_is_not_is_refused_and_not_guessed(given: Sequence[bytes]) -> None:
    with pytest.raises(GatewayError) as caught:
        declared_class(given)
    assert (caught.value.code, "x-gateway-class" in str(caught.value.sentence)) == (Code.BAD_REQUEST, True)
