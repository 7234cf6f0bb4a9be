"""A body is read only as far as it may be, and its memory is given back whatever becomes of it."""

import gzip
import json
from collections.abc import MutableMapping
from typing import Any

import pytest

from gateway.call import Outgoing, Take
from gateway.errors import Code, GatewayError
from gateway.frontends.http_body import GenerateBody, InferBody, JsonMemory
from gateway.privacy.mask import Screen
from tenants.privacy import Privacy
from tests.worlds.bodies import whole

HEAD = b'{"inputs":[]}'


def tensors(size: int) -> bytes:
    """A JSON head that promises so many bytes of tensors."""
    tensor = {"name": "in", "shape": [size], "datatype": "UINT8", "parameters": {"binary_data_size": size}}
    return json.dumps({"inputs": [tensor]}).encode()


class Sender:
    """The client's end: gives the pieces one by one, then the end, or leaves."""

    def __init__(self, *pieces: bytes, leaves: bool = False) -> None:
        self.pieces, self.leaves, self.asked = list(pieces), leaves, 0
        self.is_gone = self.is_paused = False

    async def receive(self) -> MutableMapping[str, Any]:
        self.asked += 1
        if not self.pieces:
            return {"type": "http.disconnect"}
        body = self.pieces.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(self.pieces) or self.leaves}

    async def pour(self, take: Take) -> None:
        while self.pieces and not take(self.pieces.pop(0)):
            pass
        self.is_gone = self.leaves

    def pause(self) -> None:
        self.is_paused = True

    def resume(self) -> None:
        self.is_paused = False


def memory(budget: int = 10_000, most: int = 1_000) -> JsonMemory:
    return JsonMemory(budget_bytes=budget, most_bytes=most)


async def refused(body: InferBody, limit_bytes: int = 10**9, tenant: str = "t") -> Code:
    with pytest.raises(GatewayError) as caught:
        await body.judge(limit_bytes, tenant, None)
    return caught.value.code


async def rest_of(outgoing: Outgoing) -> bytes:
    return bytes(outgoing.first) + (await whole(outgoing.rest) if outgoing.rest else b"")


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_tensors_pass_byte_for_byte_however_the_body_is_cut_and_the_head_is_ours(size: int) -> None:
    head = tensors(300)
    body = head + bytes(range(256)) + bytes(44)
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    outgoing = await InferBody(Sender(*pieces), len(body), len(head), memory()).judge(10**9, "t", None)
    assert await rest_of(outgoing) == bytes(range(256)) + bytes(44)
    assert (outgoing.tensor_bytes, outgoing.binary) == (300, True)
    assert json.loads(outgoing.head) == json.loads(head)


async def test_tensors_are_not_read_before_somebody_wants_them() -> None:
    head = tensors(200)
    sender = Sender(head, bytes(100), bytes(100))
    outgoing = await InferBody(sender, len(head) + 200, len(head), memory()).judge(10**9, "t", None)
    assert sender.asked == 1
    assert await rest_of(outgoing) == bytes(200)


async def test_a_chunked_body_is_collected_and_gets_a_length() -> None:
    head = tensors(20)
    outgoing = await InferBody(Sender(head[:9], head[9:], bytes(20)), None, len(head), memory()).judge(
        10**9, "t", None
    )
    assert (outgoing.tensor_bytes, outgoing.rest, outgoing.first) == (20, None, bytes(20))


async def test_a_json_body_has_no_tensors_and_no_head_length() -> None:
    outgoing = await InferBody(Sender(HEAD[:3], HEAD[3:]), len(HEAD), None, memory()).judge(10**9, "t", None)
    assert outgoing == Outgoing(head=HEAD)


async def test_a_head_of_length_0_is_a_raw_binary_request() -> None:
    outgoing = await InferBody(Sender(bytes(50)), 50, 0, memory()).judge(10**9, "t", None)
    assert (outgoing.head, outgoing.tensor_bytes, outgoing.binary) == (b"", 50, True)
    assert await rest_of(outgoing) == bytes(50)


@pytest.mark.parametrize(
    ("declared", "head_length", "pieces", "code"),
    [
        (2000, None, [bytes(1)], Code.JSON_TOO_LARGE),  # refused by its promise, unread
        (2000, 1001, [bytes(1)], Code.JSON_TOO_LARGE),
        (None, None, [bytes(600), bytes(600)], Code.JSON_TOO_LARGE),
        (None, 10, [bytes(600), bytes(600)], Code.JSON_TOO_LARGE),
        (None, None, [bytes(1001)], Code.JSON_TOO_LARGE),
        (5, 1001, [bytes(5)], Code.BAD_REQUEST),
        (5, 6, [bytes(5)], Code.BAD_REQUEST),
        (None, 6, [bytes(5)], Code.BAD_REQUEST),
        (0, None, [b""], Code.BAD_REQUEST),
        (13, None, [b'{"inputs":[}}'], Code.BAD_REQUEST),
    ],
)
async def test_what_is_wrong_with_a_body_is_the_clients_fault_and_costs_no_memory(
    declared: int | None, head_length: int | None, pieces: list[bytes], code: Code
) -> None:
    room = memory()
    body = InferBody(Sender(*pieces), declared, head_length, room)
    assert await refused(body) is code
    body.close()
    assert room.taken_bytes == 0


async def test_a_chunked_body_over_the_plans_limit_is_refused_as_soon_as_it_is_over() -> None:
    sender = Sender(bytes(60), bytes(60), bytes(60), bytes(60))
    assert await refused(InferBody(sender, None, None, memory()), limit_bytes=100) is Code.BODY_TOO_LARGE
    assert sender.asked == 2


async def test_all_heads_together_take_no_more_than_the_budget_and_a_closed_one_gives_its_part_back() -> None:
    room = memory(budget=len(HEAD) * 2)
    first, second, third = (InferBody(Sender(HEAD), len(HEAD), None, room) for _ in range(3))
    await first.judge(10**9, "t", None)
    await second.judge(10**9, "t", None)
    assert await refused(third) is Code.OVERLOADED
    third.close()
    first.close()
    first.close()
    await InferBody(Sender(HEAD), len(HEAD), None, room).judge(10**9, "t", None)


async def test_one_tenant_takes_no_more_than_a_quarter_and_another_is_served() -> None:
    head = HEAD.ljust(1_000)
    room = memory(budget=8_000)
    greedy = [InferBody(Sender(head), len(head), None, room) for _ in range(3)]
    for body in greedy[:2]:
        await body.judge(10**9, "greedy", None)
    assert await refused(greedy[2], tenant="greedy") is Code.TOO_MANY_AT_ONCE
    await InferBody(Sender(head), len(head), None, room).judge(10**9, "modest", None)
    for body in greedy:
        body.close()
    assert room.taken_bytes == len(head)
    await InferBody(Sender(head), len(head), None, room).judge(10**9, "greedy", None)


async def test_a_client_that_leaves_within_its_body_ends_the_call() -> None:
    assert (
        await refused(InferBody(Sender(HEAD[:5], leaves=True), len(HEAD), None, memory()))
        is Code.CLIENT_CLOSED
    )
    head = tensors(100)
    outgoing = await InferBody(Sender(head, leaves=True), len(head) + 100, len(head), memory()).judge(
        10**9, "t", None
    )
    with pytest.raises(GatewayError) as caught:
        await rest_of(outgoing)
    assert caught.value.code is Code.CLIENT_CLOSED


# Compressed bodies


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_a_compressed_body_is_sent_on_as_it_is_inside(size: int) -> None:
    head = tensors(300)
    packed = gzip.compress(head + bytes(300))
    pieces = [packed[at : at + size] for at in range(0, len(packed), size)]
    body = InferBody(Sender(*pieces), len(packed), len(head), memory(), b"gzip")
    outgoing = await body.judge(10**9, "t", None)
    assert (bytes(outgoing.first), outgoing.rest) == (bytes(300), None)
    assert (outgoing.tensor_bytes, body.received_bytes) == (300, len(packed))
    assert json.loads(outgoing.head) == json.loads(head)


async def test_what_a_compressed_body_holds_counts_against_every_limit() -> None:
    packed = gzip.compress(b" " * 900 + HEAD)

    def body(of: JsonMemory) -> InferBody:
        return InferBody(Sender(packed), len(packed), None, of, b"gzip")

    assert await refused(body(memory(most=899))) is Code.BODY_TOO_LARGE
    assert await refused(body(memory()), limit_bytes=900) is Code.BODY_TOO_LARGE
    full = memory()
    for tenant in ("a", "b", "c", "d"):
        full.take(tenant, 2_400)
    assert await refused(body(full)) is Code.OVERLOADED
    taken = memory()
    fits = body(taken)
    await fits.judge(10**9, "t", None)
    assert taken.taken_bytes == 900 + len(HEAD)
    fits.close()
    assert taken.taken_bytes == 0


async def test_a_compressed_body_that_ends_early_or_holds_too_little_is_refused() -> None:
    packed = gzip.compress(HEAD)
    cut = InferBody(Sender(packed[:-1]), len(packed) - 1, None, memory(), b"gzip")
    assert await refused(cut) is Code.BAD_REQUEST
    short = InferBody(Sender(packed), len(packed), len(HEAD) + 1, memory(), b"gzip")
    assert await refused(short) is Code.BAD_REQUEST


async def test_a_generate_body_is_collected_whole_and_judged() -> None:
    body = GenerateBody(Sender(b'{"text_in', b'put":"a","timeout":1}'), 30, b"", memory())
    assert (await body.judge(10**9, "t", None)).head == b'{"text_input":"a"}'
    large = GenerateBody(Sender(b" " * 1_001), 1_001, b"", memory())
    with pytest.raises(GatewayError) as caught:
        await large.judge(10**9, "t", None)
    assert caught.value.code is Code.JSON_TOO_LARGE


async def test_numbers_behind_a_masked_head_stream_and_texts_are_collected_on_their_tenants_account() -> None:
    screen, room = Screen(Privacy("discreet", mask=("email",))), memory()
    head = tensors(200)
    sender = Sender(head, bytes(100), bytes(100))
    outgoing = await InferBody(sender, len(head) + 200, len(head), room).judge(10**9, "t", screen)
    assert (sender.asked, outgoing.tensor_bytes, room.taken_bytes) == (1, 200, len(head))
    before = room.taken_bytes
    texts = (15).to_bytes(4, "little") + b"ann@example.com"
    head = tensors(len(texts)).replace(b"UINT8", b"BYTES")
    body = InferBody(Sender(head, texts[:9], texts[9:]), len(head) + len(texts), len(head), room)
    outgoing = await body.judge(10**9, "u", screen)
    assert await rest_of(outgoing) == (7).to_bytes(4, "little") + b"[EMAIL]"
    assert (outgoing.rest, outgoing.tensor_bytes) == (None, 11)
    assert room.taken_bytes == before + len(head) + len(texts)
    assert json.loads(outgoing.head)["inputs"][0]["parameters"] == {"binary_data_size": 11}


async def fingerprint(*pieces: bytes, head_length: int | None = None, coding: bytes = b"") -> bytes:
    """Of a judged body under an Idempotency-Key, all of which is here then."""
    size = sum(map(len, pieces))
    body = InferBody(Sender(*pieces), size, head_length, memory(), coding, with_key=True)
    outgoing = await body.judge(10**9, "t", None)
    assert outgoing.rest is None
    return body.fingerprint


async def test_a_body_with_a_key_has_the_fingerprint_of_what_is_in_it_however_it_comes() -> None:
    head = tensors(20)
    whole_body, packed = head + bytes(20), gzip.compress(head + bytes(20))
    found = await fingerprint(whole_body, head_length=len(head))
    assert len(found) == 32
    assert await fingerprint(head[:9], head[9:], bytes(20), head_length=len(head)) == found
    assert await fingerprint(packed[:30], packed[30:], head_length=len(head), coding=b"gzip") == found
    others = [
        await fingerprint(head + bytes(19) + b"\1", head_length=len(head)),
        await fingerprint(HEAD),
        await fingerprint(HEAD + b" "),
        await fingerprint(HEAD, head_length=len(HEAD)),
    ]
    assert len({found, *others}) == 5


async def test_a_body_without_a_key_has_no_fingerprint_and_streams_as_ever() -> None:
    head = tensors(20)
    body = InferBody(Sender(head, bytes(20)), len(head) + 20, len(head), memory())
    outgoing = await body.judge(10**9, "t", None)
    assert (outgoing.rest, body.fingerprint) == (body, b"")


@pytest.mark.parametrize("declared", [2_000, None])
async def test_a_body_with_a_key_that_is_too_large_to_be_collected_says_so(declared: int | None) -> None:
    head = tensors(1_900)
    body = InferBody(Sender(head, *[bytes(475)] * 4), declared, len(head), memory(), with_key=True)
    with pytest.raises(GatewayError) as caught:
        await body.judge(10**9, "t", None)
    assert caught.value.code is Code.JSON_TOO_LARGE
    assert "Idempotency-Key has at most 1000 bytes" in caught.value.sentence


async def test_what_is_held_of_an_answer_is_on_the_account_until_the_call_is_over() -> None:
    room = memory()
    body = GenerateBody(Sender(b'{"text_input":"a"}'), 18, b"", room, with_key=True)
    await body.judge(10**9, "t", None)
    body.account(20_000)
    assert room.taken_bytes == 20_018
    body.close()
    assert room.taken_bytes == 0
