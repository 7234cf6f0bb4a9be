"""One tenant's large messages, many at once, neither fill the gateway's memory nor keep the other tenants from being served."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2 as official

from gateway.state import clock
from tests.e2e.hoarder import Hoarder
from tests.e2e.world import MODELS, new_tenant, serving

pytestmark = pytest.mark.triton

MIB = 2**20
BUDGET_BYTES, MESSAGE_BYTES, NUMBER = 128 * MIB, 16 * MIB, 150
LIMITS = {"GATEWAY_GRPC_MEMORY_BYTES": str(BUDGET_BYTES), "GATEWAY_GRPC_MESSAGE_BYTES": str(MESSAGE_BYTES)}
# What comes in from one look to the next: the loop is held up by every message that becomes whole.
BETWEEN_LOOKS_BYTES = 384 * MIB
UNARY, STREAM = (f"/inference.GRPCInferenceService/{name}" for name in ("ModelInfer", "ModelStreamInfer"))


def infer(size: int) -> bytes:
    given = {"name": "in", "datatype": "FP32", "shape": [size // 4]}
    message: bytes = official.ModelInferRequest(
        model_name="echo_fp32", inputs=[given], raw_input_contents=[bytes(size)]
    ).SerializeToString()
    return message


def bearer(key: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {key}"),)


async def sent(channel: Any, method: str, message: bytes, key: str) -> str:
    """One message and how it was answered."""
    call = channel.stream_stream(method)(metadata=bearer(key))
    try:
        await call.write(message)
        await call.done_writing()
        reply = await call.read()
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):  # it was ended while it was sent
        return "refused"
    if reply is grpc.aio.EOF:
        return str((await call.code()).name)
    text = official.ModelStreamInferResponse.FromString(reply).error_message if method == STREAM else ""
    return "refused" if text else "served"


@pytest.mark.parametrize("method", [UNARY, STREAM], ids=["unary", "streams"])
def test_large_messages_of_one_tenant_leave_room_for_the_others(tmp_path: Path, method: str) -> None:
    state = tmp_path / "state"
    greedy, modest = (new_tenant(state, name).secret.reveal() for name in ("greedy", "modest"))
    sizes: list[int] = []

    async def main(address: str, pid: int) -> tuple[Counter[str], list[str]]:
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        async with (
            grpc.aio.insecure_channel(address, options) as first,
            grpc.aio.insecure_channel(address, [*options, ("grpc.use_local_subchannel_pool", 1)]) as other,
        ):
            assert await sent(other, UNARY, infer(8), modest) == "served"
            sizes.append(resident_bytes(pid))
            large = infer(MESSAGE_BYTES - MIB)
            flood = asyncio.gather(*(sent(first, method, large, greedy) for _ in range(NUMBER)))
            small = []
            while not flood.done():
                small.append(await sent(other, UNARY, infer(8), modest))
                sizes.append(resident_bytes(pid))
                await asyncio.sleep(0.005)
            return Counter(await flood), small

    with serving(state, MODELS, **LIMITS) as demo:
        large, small = asyncio.run(main(demo.grpc, demo.process.pid))
    assert set(small) == {"served"}
    assert large["served"] > 0
    assert NUMBER - large["served"] > 0  # more came than there was room for
    assert max(sizes) - sizes[0] < BUDGET_BYTES + BETWEEN_LOOKS_BYTES, f"{large}, {max(sizes) / MIB:.0f} MiB"


@pytest.mark.parametrize("method", [UNARY, STREAM], ids=["unary", "streams"])
def test_messages_that_never_end_are_cut_before_they_fill_the_memory(tmp_path: Path, method: str) -> None:
    """None of them is ever whole, so that none is ever counted."""
    state, sizes = tmp_path / "state", [0]
    greedy, modest = (new_tenant(state, name).secret.reveal() for name in ("greedy", "modest"))

    async def served(address: str) -> str:
        async with grpc.aio.insecure_channel(address) as channel:
            return await sent(channel, UNARY, infer(8), modest)

    with serving(state, MODELS, **LIMITS) as demo:
        assert asyncio.run(served(demo.grpc)) == "served"
        start = resident_bytes(demo.process.pid)
        hoarder = Hoarder(demo.grpc, greedy, method, streams=NUMBER, message_bytes=MESSAGE_BYTES)
        deadline = clock() + 30

        def goes_on() -> bool:
            sizes.append(resident_bytes(demo.process.pid))
            return clock() < deadline and len(hoarder.ended) < NUMBER - 2

        hoarder.hoard(goes_on)
        assert asyncio.run(served(demo.grpc)) == "served"
    assert len(hoarder.ended) >= NUMBER - 2, f"{hoarder.sent / MIB:.0f} MiB"
    assert max(sizes) - start < BUDGET_BYTES + BETWEEN_LOOKS_BYTES, f"{max(sizes) / MIB:.0f} MiB"


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
