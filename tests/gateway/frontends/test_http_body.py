"""A body is read only as far as it may be, and its memory is given back whatever becomes of it."""

import gzip
import json
from collections.abc import MutableMapping
from typing import Any

import pytest

from gateway.call import Outgoing, Take
from gateway.errors import Code, GatewayError
from gateway.frontends.http_body import GenerateBody, InferBody, JsonMemory
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
