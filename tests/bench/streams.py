"""Many streams at once: how much later a token is here through the gateway than from Triton itself.

The model stamps each token with the host's monotonic clock, so that a token's lag is known in the process that reads it.
"""

import asyncio
import json
import statistics
import time
from dataclasses import dataclass

import msgspec

from tests.bench.hops import STREAMED, Failed, Hop
from tests.bench.report import Bar

STREAMS, TOKENS, MILLISECONDS = 500, 64, 250
ROUNDS = 2
SECONDS = 25  # that one round of one hop takes at most
_MOST_LAG_MS = 2.0
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
        f"POST /v2/models/{STREAMED}/generate_stream HTTP/1.1\r\nHost: a\r\n{key}Content-Length: {len(body)}\r\n\r\n{body}".encode()
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


def measure(hop: Hop, streams: int) -> Lags:
    """All the streams through one hop, some eighteen seconds of them."""
    return asyncio.run(_all(hop, streams))


def measured(direct: Hop, gateway: Hop, streams: int) -> tuple[Lags, ...]:
    """In turn, after one stream that starts the model. Raises Failed when Triton itself does not keep up."""
    if not streams:
        return ()
    if measure(gateway, 1).cut:
        raise Failed("the gateway does not stream")
    found = tuple(measure(hop, streams) for _ in range(ROUNDS) for hop in (direct, gateway))
    if any(lags.cut for lags in found if lags.hop == direct.name):
        raise Failed("Triton itself cut streams")
    return found


def stream_bars(found: tuple[Lags, ...], streams: int) -> tuple[Bar, ...]:
    if not found:
        return ()
    ours, theirs = (
        [lags for lags in found if (lags.hop == "gateway") is is_ours] for is_ours in (True, False)
    )
    median_ms = [statistics.median(lags.median_ms for lags in of) for of in (ours, theirs)]
    return (
        Bar(
            what=f"{streams} streams of {TOKENS} tokens: ms that the gateway adds to the median lag",
            figure=median_ms[0] - median_ms[1],
            most=_MOST_LAG_MS,
        ),
        Bar(what=f"{streams} streams: cut", figure=sum(lags.cut for lags in ours), most=0),
    )
