"""A disk that hangs closes the door while it does: behind the real HTTP door and the real ledger."""

import asyncio
from itertools import count
from pathlib import Path

from gateway.audit.ledger import Knobs
from gateway.audit.segment import scan
from gateway.audit.verify import verify
from gateway.frontends.http import HttpDoor, Readiness, other_paths
from gateway.frontends.http_body import JsonMemory
from gateway.frontends.oip_rest import OipRest
from gateway.stores.files import FileSegments
from tests.gateway.frontends.test_door import BODY, INFER, Door
from tests.gateway.house import House, house
from tests.worlds.disk import DiskWorld
from tests.worlds.triton import ANSWER, TritonWorld

FOLDER = Path("/state/audit")
KNOBS = Knobs(stall_seconds=0.1, retry_seconds=0.01)


def door_of(here: House) -> Door:
    oip = OipRest(here.pipeline, JsonMemory(10**6, 10**6), 60.0)
    ids = count(1)
    ready = Readiness(ready=True, state="ok")

    def readiness() -> Readiness:
        return ready if here.pipeline.ledger.is_open else Readiness(ready=False, state="closed")

    return Door(here, HttpDoor(oip, other_paths(oip, readiness), lambda: f"{next(ids):032x}"), ready)


async def test_while_the_disk_hangs_no_reply_leaves_and_nothing_is_forwarded_and_then_all_goes_on() -> None:
    world = DiskWorld()
    async with (
        TritonWorld() as triton,
        FileSegments(FOLDER, 8_000, disk=world.process()) as store,
        house(triton, knobs=KNOBS, store=store) as here,
    ):
        door = door_of(here)
        first = await door.ask(INFER, BODY)
        world.hang("write_through")
        caught = await door.ask(INFER, BODY)  # its inference may have begun
        assert (caught.status, ANSWER in caught.body) == (503, False)
        forwarded = len(triton.asked)
        for _ in range(20):
            refused = await door.ask(INFER, BODY)
            assert refused.status == 503
            assert "audit" in refused.error
        assert len(triton.asked) == forwarded
        assert (await door.ask("/readyz", key=None)).status == 503
        world.hang()
        async with asyncio.timeout(5):
            while (await door.ask("/readyz", key=None)).status != 200:
                await asyncio.sleep(0)
        last = await door.ask(INFER, BODY)
        assert (first.status, last.status) == (200, 200)
        world.cut()  # what was answered is in the log, whatever comes
    async with FileSegments(FOLDER, 8_000, disk=world.process()) as left:
        segments = {segment: await left.read(segment) for segment, _ in await left.stored()}
    assert verify(segments, unfinished=segments.keys()).fault is None
    found = [commit for segment, data in segments.items() for commit in scan(segment, data).commits]
    intents = {entry.request for commit in found for entry, _ in commit.records if entry.kind == "intent"}
    assert {answer.header(b"x-request-id").decode() for answer in (first, last)} <= intents
