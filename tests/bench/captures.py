"""What capturing costs a request, in microseconds of this process's processor time: calls of the whole path with it off and on, in turns,
and apart from that what is done on the request's own time. Triton and the store are small worlds in this process and cost the same in both.

.venv/bin/python -m tests.bench.captures
"""

import asyncio
from itertools import cycle
from statistics import median
from time import perf_counter, process_time
from typing import Final

from gateway.call import Outgoing
from gateway.passage import Passage, captured
from tenants.acts import Act
from tenants.plans import Limits, Rate
from tenants.privacy import Privacy
from tests.gateway.house import NOW_US, Client, House, capturing, house
from tests.worlds.blobs import BlobWorld
from tests.worlds.keyring import KeyringWorld
from tests.worlds.triton import ANSWER, TritonWorld

ROUNDS: Final = 40
CALLS: Final = 100
TIMES: Final = 50_000
_LIMITS: Final = Limits(10_000, Rate(rate=1e6, burst=1_000_000), 5)


async def path_microseconds() -> dict[str, float]:
    """Of a call, with its capture's sealing and putting: the median of the rounds of each kind."""
    async with TritonWorld() as triton, house(triton, limits=_LIMITS) as here:
        await here.directory.values.put(Privacy("a"), Privacy("b", capture="on"), act=Act("bench", NOW_US))
        found: dict[str, list[float]] = {"without a privacy": [], "off": [], "on": []}
        for kind, _ in zip(cycle(found), range(len(found) * ROUNDS), strict=False):
            privacy = {"off": "a", "on": "b"}.get(kind)
            await here.directory.tenants.change("acme", Act("bench", NOW_US), privacy=privacy)
            await here.feed.look()
            await _calls(here, 20)
            before = process_time()
            await _calls(here, CALLS)
            while here.captures.held_bytes:
                await asyncio.sleep(0)
            found[kind].append((process_time() - before) / CALLS * 1e6)
            here.blobs.held.clear()
    return {kind: median(rounds) for kind, rounds in found.items()}


async def _calls(here: House, number: int) -> None:
    for _ in range(number):
        await here.pipeline.serve(here.call(), Client())


async def own_microseconds() -> float:
    """On the request's own time: from the draw to where it waits for a writer."""
    async with TritonWorld() as triton, house(triton) as here:
        passage = Passage(here.call(), 0.0, forwarded_us=NOW_US)
    outgoing, total = Outgoing(head=b'{"inputs":[]}' * 20), 0.0
    captures = capturing(KeyringWorld(), BlobWorld())
    for number in range(TIMES):
        if not number % 10_000:  # what waits is let go with it, before the memory is full
            captures = capturing(KeyringWorld(), BlobWorld())
        began = perf_counter()
        one = captures.drawn("t_a", 1.0)
        if one is not None:
            one.asked(outgoing)
            one.replied(lambda _: None)(ANSWER)
            one.settled(captured(passage, NOW_US))
            total += perf_counter() - began
    return total / TIMES * 1e6


if __name__ == "__main__":
    for kind, cost in asyncio.run(path_microseconds()).items():
        print(f"a call {kind}: {cost:.0f} µs")
    print(f"of a captured one, on its own time: {asyncio.run(own_microseconds()):.1f} µs")
