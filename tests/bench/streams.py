"""Many streams at once: how much later a token is here through the gateway than from Triton itself.

The model stamps each token with the host's monotonic clock, so that a token's lag is known in the process that reads it.
"""

import asyncio
import json
import statistics
import time
from dataclasses import dataclass

import msgspec

from tests.bench.hops import Hop

MODEL = "ticker"
STREAMS, TOKENS, MILLISECONDS = 500, 64, 250
MOST_LAG_MS = 2.0
_SPREAD_SECONDS = 2.0  # over which the streams begin


@dataclass(frozen=True, slots=True)
class Lags:
    """Of one hop; `cut` streams did not end as they should."""

    hop: str
    median_ms: float
    p99_ms: float
    tokens: int
    cut: int


class _Said(msgspec.Struct):
    text_output: str


_said = msgspec.json.Decoder(_Said)


async def _stream(hop: Hop, lags: list[int]) -> bool:
    """Read one stream to its end; whether it was whole."""
    reader, writer = await asyncio.open_connection("127.0.0.1", hop.port)
    body = json.dumps({"text_input": "", "tokens": TOKENS, "milliseconds": MILLISECONDS})
    key = f"Authorization: Bearer {hop.key}\r\n" if hop.key else ""
    writer.write(
        f"POST /v2/models/{MODEL}/generate_stream HTTP/1.1\r\nHost: a\r\n{key}Content-Length: {len(body)}\r\n\r\n{body}".encode()
    )
    tokens = 0
    try:
        if b" 200 " not in await reader.readline():
            return False
        while (line := await reader.readline()) not in (b"0\r\n", b""):
            if line.startswith(b"data: "):
                given = _said.decode(line[6:]).text_output
                lags.append(time.monotonic_ns() - int(given))
                tokens += 1
        return line == b"0\r\n" and tokens == TOKENS
    finally:
        writer.close()


async def _all(hop: Hop, streams: int) -> Lags:
    lags: list[int] = []

    async def later(number: int) -> bool:
        await asyncio.sleep(_SPREAD_SECONDS * number / streams)
        return await _stream(hop, lags)

    whole = await asyncio.gather(*(later(number) for number in range(streams)))
    lags.sort()
    p99 = lags[int(len(lags) * 0.99)] if lags else 0
    median = statistics.median(lags) if lags else 0.0
    return Lags(hop.name, median / 1e6, p99 / 1e6, len(lags), whole.count(False))


def measure(hop: Hop, streams: int = STREAMS) -> Lags:
    """All the streams through one hop, some eighteen seconds of them."""
    return asyncio.run(_all(hop, streams))
