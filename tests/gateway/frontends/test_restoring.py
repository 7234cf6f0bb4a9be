"""What a client of a reversible privacy is told over HTTP: restored, with sizes that are true; what is kept of it meanwhile is bounded."""

import json
from collections.abc import Callable

import pytest

from gateway.errors import Code, GatewayError
from gateway.frontends import restoring
from gateway.frontends.http_downstream import HttpDownstream
from gateway.frontends.restoring import MOST_GATHERED_BYTES, over_http
from gateway.privacy.mask import NotRestored, Screen
from gateway.wire.restored import elements, tensor_of
from tenants.privacy import Privacy
from tests.gateway.frontends.test_oip_rest import Said
from tests.gateway.frontends.worlds import Heard
from tests.gateway.wire.test_restored import MAIL, events, said, screen

JSON = b'{"outputs":[{"name":"o","datatype":"BYTES","shape":[1],"data":["to [EMAIL_1]"]}]}'
BINARY = b"application/octet-stream"


def held(_: int) -> None:
    """There is room for everything."""


async def heard_of(reply: Said, hold: Callable[[int], None] = held) -> Heard:
    heard = Heard()
    restores = over_http(screen(), hold)
    assert restores is not None
    listener = restores(HttpDownstream(heard, "r1"))
    await listener.start(reply, ())
    for piece in reply.body:
        listener.take(piece)
    assert await listener.end() == reply.status
    return heard


def cut(data: bytes, width: int) -> tuple[bytes, ...]:
    return tuple(data[at : at + width] for at in range(0, len(data), width))


def binary(datatype: str, tensor: bytes, width: int, **more: str) -> Said:
    output = {
        "name": "o",
        "datatype": datatype,
        "shape": [1],
        "parameters": {"binary_data_size": len(tensor)},
    }
    head = json.dumps({"outputs": [output], **more}).encode()
    return Said(head_length=b"%d" % len(head), content_type=BINARY, body=cut(head + tensor, width))


def parts(heard: Heard) -> tuple[dict[str, object], bytes]:
    """Head and tensors of a whole reply whose lengths are true."""
    length = int(heard.headers[b"inference-header-content-length"])
    assert int(heard.headers[b"content-length"]) == len(heard.body)
    assert heard.is_whole
    return json.loads(heard.body[:length]), heard.body[length:]


def test_who_masks_nothing_that_can_be_restored_has_nothing_before_the_downstream() -> None:
    assert over_http(None, held) is None
    for reversible in (True, False):
        plain = Screen(Privacy("p", mask=("email",), reversible=reversible))
        assert plain.text("x" if reversible else MAIL)
        assert over_http(plain, held) is None


@pytest.mark.parametrize("width", [1, 7, 1000])
async def test_json_with_a_length_is_told_with_another(width: int) -> None:
    heard = await heard_of(Said(body=cut(JSON, width)))
    assert json.loads(heard.body)["outputs"][0]["data"] == [f"to {MAIL}"]
    assert int(heard.headers[b"content-length"]) == len(heard.body)
    assert heard.is_whole


@pytest.mark.parametrize("width", [1, 7, 1000])
async def test_json_without_a_length_and_events_go_on_as_they_come(width: int) -> None:
    heard = await heard_of(Said(body=cut(b'{"text_output":"to [EMAIL_1]"}', width), is_chunked=True))
    assert json.loads(heard.body) == {"text_output": f"to {MAIL}"}
    assert b"content-length" not in heard.headers
    stream = events("to [EM", "AIL_1] [")
    heard = await heard_of(Said(content_type=b"text/event-stream", body=cut(stream, width), is_chunked=True))
    assert [it["text_output"] for it in said(heard.body)] == ["to ", f"{MAIL} ", "["]
    assert heard.is_whole


@pytest.mark.parametrize("width", [1, 50, 1000])
async def test_binary_texts_are_told_behind_a_head_with_their_sizes(width: int) -> None:
    heard = await heard_of(binary("BYTES", tensor_of([b"to [EMAIL_1]", b"x"]), width, id="[EMAIL_1]"))
    head, tensors = parts(heard)
    assert head["id"] == MAIL
    assert list(elements(tensors)) == [f"to {MAIL}".encode(), b"x"]


@pytest.mark.parametrize("width", [1, 50, 1000])
async def test_numbers_go_on_as_they_come_behind_a_head_that_is_restored(width: int) -> None:
    taken: list[int] = []
    numbers = b"[EMAIL_1]" * 1_000
    heard = await heard_of(binary("FP32", numbers, width, id="[EMAIL_1]"), taken.append)
    head, tensors = parts(heard)
    assert (head["id"], tensors) == (MAIL, numbers)
    assert sum(taken) < 4_000
    assert len(heard.messages) > len(numbers) // width


@pytest.mark.parametrize(
    "reply",
    [
        Said(body=cut(JSON, 7)),
        Said(body=cut(b'{"text_output":"to [EMAIL_1]"}', 7), is_chunked=True),
        binary("BYTES", tensor_of([b"to [EMAIL_1]", b"x"]), 50),
        binary("FP32", b"12345678", 50, id="[EMAIL_1]"),
    ],
    ids=["sized", "unsized", "texts", "numbers"],
)
async def test_what_an_idempotency_key_keeps_is_what_was_restored_and_it_is_told_again_to_the_byte(
    reply: Said,
) -> None:
    first, again = Heard(), Heard()
    restores, downstream = over_http(screen(), held), HttpDownstream(first, "r1")
    assert restores is not None
    downstream.hold(held)
    listener = restores(downstream)
    await listener.start(reply, ())
    await reply.pour(listener.take)
    await listener.end()
    told = downstream.told
    assert told is not None
    assert (MAIL.encode() in told.body, b"EMAIL" in told.body, first.messages) == (True, False, [])
    await downstream.release(1.0)
    later = HttpDownstream(again, "r1")
    await later.replay(told, ())
    assert again.headers == first.headers | {b"idempotent-replayed": b"true"}
    assert (again.body, again.is_whole) == (first.body, True)
    if reply.head_length:
        parts(again)


async def test_an_error_stays_in_the_models_words() -> None:
    error = b'{"error":"no [EMAIL_1]"}'
    heard = await heard_of(Said(status=400, body=(error,)))
    assert (heard.status, heard.body) == (400, error)
    heard = await heard_of(Said(body=(error,), is_chunked=True))
    assert heard.body == error


async def test_what_is_gathered_is_on_the_account_and_bounded() -> None:
    taken: list[int] = []
    reply = binary("BYTES", tensor_of([b"[EMAIL_1]" * 100]), 99)
    heard = await heard_of(reply, taken.append)
    assert sum(taken) >= sum(map(len, reply.body)) + len(heard.body)

    def full(size: int) -> None:
        if size > 10_000:
            raise GatewayError(Code.TOO_MANY_AT_ONCE)

    with pytest.raises(GatewayError, match="too_many_at_once"):
        await heard_of(binary("BYTES", tensor_of([b"x" * 20_000]), 15_000), full)
    too_large = Said(body=(b"x" * (MOST_GATHERED_BYTES + 1),))
    with pytest.raises(NotRestored, match="at most"):
        await heard_of(too_large)


async def test_a_reply_that_is_compressed_or_lies_about_its_sizes_is_not_told() -> None:
    with pytest.raises(NotRestored, match="compressed"):
        await heard_of(Said(content_encoding=b"gzip"))
    heard = Heard()
    listener = restoring.RestoredHttp(HttpDownstream(heard, "r1"), screen(), held)
    lying = binary("BYTES", b"\x09\x00\x00\x00[", 1000)
    await listener.start(lying, ())
    listener.take(lying.body[0])
    with pytest.raises(NotRestored):
        await listener.end()
    assert heard.messages == []


async def test_a_large_reply_is_given_out_as_fast_as_the_client_reads() -> None:
    heard = await heard_of(Said(body=(b'["' + b"[EMAIL_1]" * 100_000 + b'"]',)))
    assert json.loads(heard.body) == [MAIL * 100_000]
    assert max(len(it.get("body", b"")) for it in heard.messages) <= 256 * 1024
