"""What a client is told of a reply that comes bit by bit: as it comes, never as if a cut one were whole, and without insides."""

import json

import pytest

from gateway.errors import Code, GatewayError
from gateway.frontends.http_downstream import HttpDownstream
from tests.gateway.frontends.test_oip_rest import Said
from tests.gateway.frontends.worlds import Heard

LETTER = b'data: {"text_output":"a"}\n\n'
FAULT = b'data: {"error":"boom at /srv/x"}\n\n'
CUT = GatewayError(Code.UPSTREAM_FAILED, private="secret")
SSE = b"text/event-stream; charset=utf-8"


async def begun(*pieces: bytes, status: int = 200, kind: bytes = SSE) -> tuple[HttpDownstream, Heard]:
    heard = Heard()
    downstream = HttpDownstream(heard, "r1")
    said = Said(status, kind, body=pieces, is_chunked=True)
    await downstream.start(said, ())
    for piece in pieces:
        downstream.take(piece)
    return downstream, heard


async def test_each_event_is_sent_as_it_comes_and_the_end_is_told_only_at_the_end() -> None:
    downstream, heard = await begun(LETTER, LETTER)
    assert [message["body"] for message in heard.messages[1:]] == [LETTER, LETTER]
    assert not heard.is_whole
    assert await downstream.end() == 200
    assert heard.is_whole
    assert heard.headers[b"content-type"] == SSE
    assert heard.headers[b"cache-control"] == b"no-cache"
    assert b"content-length" not in heard.headers


async def test_nothing_is_told_before_there_is_an_event() -> None:
    downstream, heard = await begun(LETTER[:-1])
    assert not downstream.started
    assert heard.messages == []
    downstream.take(LETTER[-1:])
    assert downstream.started


async def test_a_stream_without_an_event_is_whole() -> None:
    downstream, heard = await begun()
    assert await downstream.end() == 200
    assert (heard.body, heard.is_whole) == (b"", True)


async def test_an_error_within_a_stream_keeps_the_servers_insides() -> None:
    downstream, heard = await begun(LETTER, FAULT)
    await downstream.end()
    assert heard.body == LETTER + b'data: {"error":"boom at (internal)"}\n\n'
    assert downstream.has_failed


async def test_an_error_before_the_first_event_has_its_status_and_stays_an_event() -> None:
    downstream, heard = await begun(FAULT, LETTER, status=400)
    assert await downstream.end() == 400
    assert (heard.status, heard.body) == (400, b'data: {"error":"boom at (internal)"}\n\n')
    assert heard.headers[b"content-type"] == SSE


async def test_a_stream_that_is_cut_says_so_and_never_ends() -> None:
    downstream, heard = await begun(LETTER)
    downstream.cut(CUT)
    assert heard.body == LETTER + b'data: {"error":"the model server failed while it had this request"}\n\n'
    assert not heard.is_whole


async def test_a_stream_that_is_cut_within_an_event_sends_no_part_of_it() -> None:
    downstream, heard = await begun(LETTER + LETTER[:9])
    downstream.cut(CUT)
    assert heard.body.startswith(LETTER + b'data: {"error":')


async def test_a_large_event_that_is_cut_has_nothing_written_into_it() -> None:
    large = b'data: {"text_output":"' + b"x" * 600_000
    downstream, heard = await begun(large)
    downstream.cut(CUT)
    assert large.startswith(heard.body)
    assert heard.body


@pytest.mark.parametrize("size", [1, 5, 1000])
async def test_an_error_that_bears_the_status_of_success_keeps_the_servers_insides(size: int) -> None:
    error = b'{"error":"boom at /srv/x"}'
    pieces = [error[at : at + size] for at in range(0, len(error), size)]
    downstream, heard = await begun(*pieces, kind=b"application/json")
    assert await downstream.end() == 200
    assert json.loads(heard.body) == {"error": "boom at (internal)"}
    assert downstream.has_failed


@pytest.mark.parametrize("size", [1, 5, 1000])
@pytest.mark.parametrize("reply", [b'{"model_name":"m","out":[1]}', b"{}", b""])
async def test_a_generated_reply_passes_as_it_is(reply: bytes, size: int) -> None:
    pieces = [reply[at : at + size] for at in range(0, len(reply), size)]
    downstream, heard = await begun(*pieces, kind=b"application/json")
    assert await downstream.end() == 200
    assert (heard.body, heard.is_whole, downstream.has_failed) == (reply, True, False)


async def test_a_compressed_reply_says_what_it_is_compressed_with() -> None:
    heard = Heard()
    await HttpDownstream(heard, "r1").start(Said(content_encoding=b"gzip", body=()), ())
    assert heard.headers[b"content-encoding"] == b"gzip"
